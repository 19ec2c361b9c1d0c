package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/budecosystem/budcluster/hub/hubapi"
	"github.com/budecosystem/budcluster/hub/internal/cluster"
	"github.com/budecosystem/budcluster/hub/internal/enroll"
	"github.com/budecosystem/budcluster/hub/internal/invalid"
	"github.com/budecosystem/budcluster/hub/internal/page"
	"github.com/budecosystem/budcluster/internal/logkey"
	"github.com/budecosystem/budcluster/internal/secret"
	agentv1 "github.com/budecosystem/budcluster/proto/agent/v1"
)

// inspectTimeout bounds asking an agent; agentRetry is when to ask again for
// one that is away: about the time that it takes to come back.
const (
	inspectTimeout = 10 * time.Second
	agentRetry     = 10
)

// body is an answer with nothing but a body.
type body[T any] struct{ Body T }

// PageInput chooses a page. What is embedded in an input is exported, since huma
// does not look into it otherwise.
type PageInput struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"Items of one page."`
	Cursor string `query:"cursor" doc:"next of the page before; leave it out for the first."`
}

func (p PageInput) page() page.Page { return page.Page{Limit: p.Limit, Cursor: p.Cursor} }

// ClusterInput names a cluster.
type ClusterInput struct {
	Cluster string `path:"cluster" doc:"The cluster's name or id."`
}

type listClustersInput struct {
	PageInput
	Retired bool `query:"retired" doc:"List those that left the fleet instead of those in it."`
}

func (s *Server) listClusters(ctx context.Context, in *listClustersInput) (*body[hubapi.List[hubapi.Cluster]], error) {
	list := s.cfg.Clusters.List
	if in.Retired {
		list = s.cfg.Clusters.ListRetired
	}
	clusters, next, err := list(ctx, in.page())
	if err != nil {
		return nil, err
	}
	now := s.now()
	return listed(clusters, next, func(c *cluster.Cluster) hubapi.Cluster { return clusterOut(c, now) }), nil
}

// listed makes a page of what a rule gave.
func listed[F, T any](items []F, next string, convert func(F) T) *body[hubapi.List[T]] {
	out := hubapi.List[T]{Items: make([]T, 0, len(items)), Next: next}
	for _, item := range items {
		out.Items = append(out.Items, convert(item))
	}
	return &body[hubapi.List[T]]{Body: out}
}

type createClusterInput struct {
	Body hubapi.CreateClusterRequest
	Address
}

func (s *Server) createCluster(ctx context.Context, in *createClusterInput) (*body[hubapi.CreatedCluster], error) {
	ttl, err := duration("tokenTTL", in.Body.TokenTTL)
	if err != nil {
		return nil, err
	}
	who := actor(ctx)
	c, err := s.cfg.Clusters.Create(ctx, who, in.Body.Name, in.Body.Labels)
	if err != nil {
		return nil, err
	}
	t, text, err := s.cfg.Tokens.CreateToken(ctx, who, c.ID, enroll.TokenOptions{TTL: ttl})
	if err != nil {
		// Without a token the cluster is of no use, and its name would be taken.
		undo := s.cfg.Clusters.Delete(context.WithoutCancel(ctx), who, c.ID.String(), false)
		if undo != nil {
			s.log.WarnContext(ctx, "cluster without a token was left behind", slog.String(logkey.Cluster, c.Name), slog.Any(logkey.Error, undo))
		}
		return nil, renamed(err, "ttl", "tokenTTL")
	}
	created, err := s.createdToken(t, text, in.Address)
	if err != nil {
		return nil, err
	}
	return &body[hubapi.CreatedCluster]{Body: hubapi.CreatedCluster{
		Cluster: clusterOut(c, s.now()), JoinToken: created.JoinToken, InstallCommand: created.InstallCommand,
	}}, nil
}

// renamed gives a field the name that it has in this request.
func renamed(err error, from, to string) error {
	for _, bad := range invalid.Of(err) {
		if bad.Field == from {
			bad.Field = to
		}
	}
	return err
}

func (s *Server) getCluster(ctx context.Context, in *ClusterInput) (*body[hubapi.Cluster], error) {
	c, err := s.cfg.Clusters.Get(ctx, in.Cluster)
	if err != nil {
		return nil, err
	}
	return &body[hubapi.Cluster]{Body: clusterOut(c, s.now())}, nil
}

type deleteClusterInput struct {
	ClusterInput
	Force bool `query:"force" doc:"Delete it although it has releases; what they installed stays where it is."`
}

func (s *Server) deleteCluster(ctx context.Context, in *deleteClusterInput) (*struct{}, error) {
	return nil, s.cfg.Clusters.Delete(ctx, actor(ctx), in.Cluster, in.Force)
}

func (s *Server) revokeCluster(ctx context.Context, in *ClusterInput) (*body[hubapi.Cluster], error) {
	if err := s.cfg.Clusters.Revoke(ctx, actor(ctx), in.Cluster); err != nil {
		return nil, err
	}
	return s.getCluster(ctx, in)
}

type retireClusterInput struct {
	ClusterInput
	Force bool `query:"force" doc:"Do not wait for the agent, as for a cluster that no longer answers. Should its agent come back, it is let in only to be told to remove what the hub put there."`
}

func (s *Server) retireCluster(ctx context.Context, in *retireClusterInput) (*body[hubapi.Cluster], error) {
	c, err := s.cfg.Clusters.Retire(ctx, actor(ctx), in.Cluster, in.Force)
	if err != nil {
		return nil, err
	}
	return &body[hubapi.Cluster]{Body: clusterOut(c, s.now())}, nil
}

func (s *Server) getPresence(ctx context.Context, in *ClusterInput) (*body[hubapi.ClusterPresence], error) {
	c, err := s.cfg.Clusters.Get(ctx, in.Cluster)
	if err != nil {
		return nil, err
	}
	p, err := s.cfg.Clusters.Presence(ctx, c.ID)
	if err != nil {
		return nil, err
	}
	out := hubapi.ClusterPresence{Cluster: clusterRef(c, s.now()), ObservedAt: p.At, Items: p.Answers}
	if out.Items == nil {
		out.Items = []hubapi.Presence{}
	}
	return &body[hubapi.ClusterPresence]{Body: out}, nil
}

func (s *Server) inspectAgent(ctx context.Context, in *ClusterInput) (*body[hubapi.Agent], error) {
	c, err := s.cfg.Clusters.Get(ctx, in.Cluster)
	if err != nil {
		return nil, err
	}
	if c.RevokedAt != nil {
		return nil, &hubapi.Problem{
			Status: http.StatusConflict, Code: hubapi.CodeConflict, LastSeen: c.LastSeen,
			Detail: fmt.Sprintf("Cluster %s is revoked, so its agent is not let in; make a join token and install the agent with it to take it back.", c.Name),
		}
	}
	conn, err := s.cfg.Agents.Conn(c.ID)
	if err != nil {
		return nil, s.away(c)
	}
	ctx, cancel := context.WithTimeout(ctx, inspectTimeout)
	defer cancel()
	start := s.now()
	a, err := agentv1.NewAgentServiceClient(conn).Inspect(ctx, &agentv1.InspectRequest{})
	if err != nil {
		return nil, s.inspectFailed(c, err)
	}
	end := s.now()
	return &body[hubapi.Agent]{Body: agentOut(c, a, end, end.Sub(start))}, nil
}

// inspectFailed tells a tunnel that broke from an agent that answers with an
// error.
func (s *Server) inspectFailed(c *cluster.Cluster, err error) error {
	switch status.Code(err) {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled:
		return s.away(c)
	default:
		return &hubapi.Problem{
			Status: http.StatusBadGateway, Code: hubapi.CodeUpstream,
			Detail: fmt.Sprintf("The agent of cluster %s answered with an error (%s); its log says more.", c.Name, status.Code(err)),
		}
	}
}

// away says that a cluster is not connected, and how old what is known is.
func (s *Server) away(c *cluster.Cluster) *hubapi.Problem {
	p := &hubapi.Problem{
		Status: http.StatusServiceUnavailable, Code: hubapi.CodeClusterAway, RetryAfterSeconds: agentRetry, LastSeen: c.LastSeen,
	}
	switch {
	case c.JoinedAt == nil:
		p.Detail = fmt.Sprintf("Cluster %s has never joined; run the install command that was printed with its join token.", c.Name)
	case c.LastSeen == nil:
		p.Detail = fmt.Sprintf("Cluster %s is not connected; try again, and if it stays away look at the agent's log there.", c.Name)
	default:
		p.Detail = fmt.Sprintf("Cluster %s is not connected, and was last seen %s ago; try again, and if it stays away look at the agent's log there.",
			c.Name, s.now().Sub(*c.LastSeen).Round(time.Second))
	}
	return p
}

// clusterRef names a cluster and says how old what is known of it can be.
func clusterRef(c *cluster.Cluster, now time.Time) hubapi.ClusterRef {
	return hubapi.ClusterRef{
		ID: c.ID.String(), Name: c.Name, State: hubapi.ClusterState(c.State(now)),
		LastSeen: c.LastSeen, AgeSeconds: age(c.LastSeen, now),
	}
}

func age(seen *time.Time, now time.Time) *int64 {
	if seen == nil {
		return nil
	}
	n := max(int64(now.Sub(*seen)/time.Second), 0)
	return &n
}

// refs looks up clusters for the items of one page, each once.
type refs struct {
	s    *Server
	seen map[uuid.UUID]hubapi.ClusterRef
}

func (s *Server) refs() *refs { return &refs{s: s, seen: make(map[uuid.UUID]hubapi.ClusterRef)} }

func (r *refs) get(ctx context.Context, id uuid.UUID) (hubapi.ClusterRef, error) {
	if ref, ok := r.seen[id]; ok {
		return ref, nil
	}
	ref := hubapi.ClusterRef{ID: id.String(), State: hubapi.ClusterUnknown}
	c, err := r.s.cfg.Clusters.Get(ctx, id.String())
	switch {
	case err == nil:
		ref = clusterRef(c, r.s.now())
	case !errors.Is(err, cluster.ErrNotFound): // deleted since the page was read
		return ref, fmt.Errorf("look up cluster of item: %w", err)
	}
	r.seen[id] = ref
	return ref, nil
}

func clusterOut(c *cluster.Cluster, now time.Time) hubapi.Cluster {
	out := hubapi.Cluster{
		ID: c.ID.String(), Name: c.Name, Labels: c.Labels, State: hubapi.ClusterState(c.State(now)),
		LastSeen: c.LastSeen, AgeSeconds: age(c.LastSeen, now), UID: c.UID, AgentVersion: c.AgentVersion,
		Facts: c.Facts, Nodes: c.Nodes, ReadyNodes: c.ReadyNodes,
		CreatedAt: c.CreatedAt, JoinedAt: c.JoinedAt, RevokedAt: c.RevokedAt,
		RetiringAt: c.RetiringAt, RetiredAt: c.RetiredAt, GoneAt: c.GoneAt, Left: c.Left,
	}
	for _, d := range c.Degraded {
		out.Degraded = append(out.Degraded, hubapi.Degradation(d))
	}
	if c.Session != nil && out.State == hubapi.ClusterConnected {
		out.Session = &hubapi.ClusterSession{
			Replica: c.Session.Replica, Instance: c.Session.Instance,
			RemoteAddr: c.Session.RemoteAddr, ConnectedAt: c.Session.ConnectedAt,
		}
	}
	return out
}

func agentOut(c *cluster.Cluster, a *agentv1.InspectResponse, now time.Time, took time.Duration) hubapi.Agent {
	ref := clusterRef(c, now)
	ref.State, ref.LastSeen, ref.AgeSeconds = hubapi.ClusterConnected, &now, age(&now, now)
	out := hubapi.Agent{
		Cluster: ref, Version: a.GetAgentVersion(), Instance: a.GetInstance(), Namespace: a.GetNamespace(),
		ResidentBytes: a.GetResidentBytes(), Goroutines: int(a.GetGoroutines()),
		Releases: int(a.GetReleases()), Nodes: int(a.GetNodes()),
		RoundTripMillis: float64(took.Microseconds()) / 1000, ObservedAt: now,
	}
	if t := a.GetStartedAt(); t.IsValid() {
		at := t.AsTime()
		out.StartedAt = &at
	}
	if t := a.GetCertificateNotAfter(); t.IsValid() {
		at := t.AsTime()
		out.CertificateNotAfter = &at
	}
	for _, d := range a.GetDegraded() {
		out.Degraded = append(out.Degraded, hubapi.Degradation{Reason: d.GetReason(), Message: d.GetMessage(), Since: d.GetSince().AsTime()})
	}
	return out
}

// createdToken shows a token's text, this once.
func (s *Server) createdToken(t enroll.Token, text secret.String, at Address) (hubapi.CreatedToken, error) {
	command, err := s.installCommand(text, at)
	if err != nil {
		return hubapi.CreatedToken{}, err
	}
	out := hubapi.CreatedToken{JoinToken: tokenOut(t, s.now()), InstallCommand: command}
	out.JoinToken.Token = text.Reveal()
	return out, nil
}
