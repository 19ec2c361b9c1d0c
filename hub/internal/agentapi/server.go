package agentapi

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/budecosystem/budcluster/hub/internal/cluster"
	"github.com/budecosystem/budcluster/hub/internal/enroll"
	"github.com/budecosystem/budcluster/hub/internal/inventory"
	"github.com/budecosystem/budcluster/hub/internal/release"
	"github.com/budecosystem/budcluster/internal/facts"
	"github.com/budecosystem/budcluster/internal/pki"
	"github.com/budecosystem/budcluster/internal/tunnel"
	agentv1 "github.com/budecosystem/budcluster/proto/agent/v1"
)

// Defaults of Config.
const (
	DefaultHeartbeat = 10 * time.Second
	DefaultTimeout   = 25 * time.Second
	DefaultPoll      = 5 * time.Minute
)

// joinMessage bounds one message on the join lane, where nobody is known yet:
// a token and a certificate request need 10 KiB.
const joinMessage = 64 << 10

// Enroller gives identities; enroll.Service.
type Enroller interface {
	Enroll(ctx context.Context, r enroll.Request) (*enroll.Identity, error)
	Renew(ctx context.Context, peer *x509.Certificate, csr []byte) (*enroll.Identity, error)
	BundlePEM() []byte
}

// Clusters is the register; cluster.Service.
type Clusters interface {
	Get(ctx context.Context, ref string) (*cluster.Cluster, error)
	SetDegraded(ctx context.Context, id uuid.UUID, why []cluster.Degradation) error
	SetPresence(ctx context.Context, id uuid.UUID, answers []facts.Presence) error
	Retirement(ctx context.Context, id uuid.UUID) (cluster.Retirement, error)
	Retired(ctx context.Context, id uuid.UUID, generation int64, left []string) error
	AgentUpgrade(ctx context.Context, id uuid.UUID) (cluster.AgentUpgrade, error)
	ObserveAgent(ctx context.Context, id uuid.UUID, s cluster.AgentStatus) error
}

// Releases is the desired state; release.Service.
type Releases interface {
	Desired(ctx context.Context, clusterID uuid.UUID) ([]release.Desired, error)
	ByIDs(ctx context.Context, clusterID uuid.UUID, ids []uuid.UUID) ([]*release.Release, error)
	Observe(ctx context.Context, clusterID, id uuid.UUID, s release.Status) (forget bool, err error)
	ChartAllowed(ctx context.Context, clusterID uuid.UUID, digest string) (bool, error)
}

// Inventory is what clusters have; inventory.Service.
type Inventory interface {
	Summary(ctx context.Context, clusterID uuid.UUID, clusterDigest string, nodes map[string]string) (need []string, needCluster bool, err error)
	Apply(ctx context.Context, clusterID uuid.UUID, d inventory.Delta) error
}

// Charts holds packaged charts; chart.Service.
type Charts interface {
	Get(ctx context.Context, digest string) ([]byte, error)
}

// Link is the session of one control stream; the gateway's.
type Link interface {
	// Epoch is the session's number.
	Epoch() int64
	// Orders carries what the hub wants said: GoAway, RenewNow.
	Orders() <-chan *agentv1.ControlResponse
	// Close ends the session and its connection; reason is CamelCase.
	Close(ctx context.Context, reason string)
}

// Config is what a Server needs.
type Config struct {
	Enroller  Enroller
	Clusters  Clusters
	Releases  Releases
	Inventory Inventory
	Charts    Charts
	// Attach opens the session of the connection that ctx belongs to.
	Attach func(ctx context.Context, info cluster.SessionInfo) (Link, error)
	// WatchReleases wakes when the desired state of a cluster may have changed.
	WatchReleases func(clusterID uuid.UUID) (wake <-chan struct{}, cancel func())
	Logger        *slog.Logger
	Registerer    prometheus.Registerer
	// Probes is what every agent is asked to look for.
	Probes []facts.Probe
	// HubVersion is told to the agents.
	HubVersion string

	Now       func() time.Time
	Heartbeat time.Duration
	Timeout   time.Duration
	// Poll is the net below WatchReleases.
	Poll time.Duration
}

// Server serves the agents. It starts nothing by itself.
type Server struct {
	cfg     Config
	log     *slog.Logger
	metrics *metrics
	charts  *sharedCharts
}

// New checks the configuration.
func New(cfg Config) (*Server, error) {
	cfg.Heartbeat = cmp.Or(cfg.Heartbeat, DefaultHeartbeat)
	cfg.Timeout = cmp.Or(cfg.Timeout, DefaultTimeout)
	cfg.Poll = cmp.Or(cfg.Poll, DefaultPoll)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	var errs []error
	for name, missing := range map[string]bool{
		"enroller": cfg.Enroller == nil, "clusters": cfg.Clusters == nil, "releases": cfg.Releases == nil,
		"inventory": cfg.Inventory == nil, "charts": cfg.Charts == nil, "attach": cfg.Attach == nil,
		"watch releases": cfg.WatchReleases == nil, "logger": cfg.Logger == nil, "registerer": cfg.Registerer == nil,
	} {
		if missing {
			errs = append(errs, fmt.Errorf("agentapi needs %s", name))
		}
	}
	if cfg.Timeout <= cfg.Heartbeat {
		errs = append(errs, fmt.Errorf("liveness timeout %s must be longer than the heartbeat %s", cfg.Timeout, cfg.Heartbeat))
	}
	if len(cfg.Probes) > facts.MaxProbes {
		errs = append(errs, fmt.Errorf("there are %d probes; an agent takes %d", len(cfg.Probes), facts.MaxProbes))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return &Server{cfg: cfg, log: cfg.Logger, metrics: newMetrics(cfg.Registerer), charts: newSharedCharts(cfg.Charts)}, nil
}

// Options are the interceptors that every grpc.Server of this package needs.
func (s *Server) Options() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(s.countUnary, cleanUnary),
		grpc.ChainStreamInterceptor(s.countStream, cleanStream),
	}
}

// JoinOptions are the limits of the join lane's grpc.Server: whoever talks
// there may be anybody.
func (s *Server) JoinOptions() []grpc.ServerOption {
	return append(s.Options(), grpc.MaxRecvMsgSize(joinMessage), grpc.MaxConcurrentStreams(4),
		grpc.ConnectionTimeout(s.cfg.Timeout), grpc.MaxHeaderListSize(16<<10))
}

// RegisterTunnel adds what an agent with an identity may call.
func (s *Server) RegisterTunnel(r grpc.ServiceRegistrar) {
	agentv1.RegisterEnrollServiceServer(r, &enrollServer{s: s})
	agentv1.RegisterLinkServiceServer(r, &linkServer{s: s})
	agentv1.RegisterReleaseServiceServer(r, &releaseServer{s: s})
	agentv1.RegisterInventoryServiceServer(r, &inventoryServer{s: s})
}

// RegisterJoin adds what somebody without an identity may call.
func (s *Server) RegisterJoin(r grpc.ServiceRegistrar) {
	agentv1.RegisterEnrollServiceServer(r, &enrollServer{s: s, join: true})
}

// caller is the cluster that the connection's certificate names. The gateway
// has admitted it before.
func caller(ctx context.Context) (uuid.UUID, error) {
	cert, ok := tunnel.PeerCertificate(ctx)
	if !ok {
		return uuid.Nil, status.Error(codes.Unauthenticated, "the connection has no client certificate")
	}
	id, err := pki.IDOf(cert)
	if err != nil {
		return uuid.Nil, status.Error(codes.Unauthenticated, "the client certificate names no cluster")
	}
	clusterID, err := uuid.Parse(id.Name)
	if err != nil || id.Kind != pki.KindCluster {
		return uuid.Nil, status.Error(codes.PermissionDenied, "the client certificate is not that of a cluster")
	}
	return clusterID, nil
}

// frame is one received message, or the end of the stream.
type frame[T any] struct {
	msg T
	err error
}

// frames turns Recv into a channel, so that one select can hear the peer, the
// store and the clock. Its goroutine ends with the stream: gRPC cancels the
// context as soon as the handler returns, and Recv with it.
func frames[T any](ctx context.Context, recv func() (T, error)) <-chan frame[T] {
	out := make(chan frame[T])
	go func() {
		for {
			msg, err := recv()
			select {
			case out <- frame[T]{msg: msg, err: err}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return out
}
