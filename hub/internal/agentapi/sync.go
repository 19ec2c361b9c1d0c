package agentapi

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/budecosystem/budcluster/hub/internal/cluster"
	"github.com/budecosystem/budcluster/hub/internal/release"
	"github.com/budecosystem/budcluster/internal/facts"
	"github.com/budecosystem/budcluster/internal/logkey"
	agentv1 "github.com/budecosystem/budcluster/proto/agent/v1"
)

const (
	// maxHave bounds what an agent may claim to hold.
	maxHave = 10_000
	// batch is how many releases with their values are in memory at once.
	batch = 16
)

type releaseServer struct {
	agentv1.UnimplementedReleaseServiceServer
	s *Server
}

// Sync brings an agent to the desired state and keeps it there.
func (r *releaseServer) Sync(stream grpc.BidiStreamingServer[agentv1.SyncRequest, agentv1.SyncResponse]) error {
	ctx := stream.Context()
	id, err := caller(ctx)
	if err != nil {
		return err
	}
	// Subscribed before the first read: a change in between wakes us.
	wake, cancel := r.s.cfg.WatchReleases(id)
	defer cancel()
	y := &syncing{s: r.s, id: id, stream: stream, sent: map[uuid.UUID]release.Desired{}}
	in := frames(ctx, stream.Recv)
	if err := y.begin(ctx, in); err != nil {
		return err
	}
	// Agents come in crowds; their polls should not.
	poll := time.NewTimer(r.s.cfg.Poll/2 + rand.N(r.s.cfg.Poll)) //nolint:gosec // spreads load, hides nothing
	defer poll.Stop()
	for {
		select {
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		case f := <-in:
			if errors.Is(f.err, io.EOF) {
				return nil
			}
			if f.err != nil {
				return f.err
			}
			err = y.heard(ctx, f.msg)
		case <-wake:
			err = y.bring(ctx)
		case <-poll.C:
			poll.Reset(r.s.cfg.Poll)
			err = y.bring(ctx)
		}
		if err != nil {
			return err
		}
	}
}

// syncing is one Sync stream. Only its own goroutine sends.
type syncing struct {
	s      *Server
	id     uuid.UUID
	stream grpc.BidiStreamingServer[agentv1.SyncRequest, agentv1.SyncResponse]
	// sent is what the agent has, as far as it said so or we sent it.
	sent map[uuid.UUID]release.Desired
	// retirement is what the agent was told last.
	retirement cluster.Retirement
	// agent is the generation of the agent's target that it was told last.
	agent int64
}

// begin reads Have, answers with the Snapshot and sends what is lacking.
func (y *syncing) begin(ctx context.Context, in <-chan frame[*agentv1.SyncRequest]) error {
	var first frame[*agentv1.SyncRequest]
	patience := time.NewTimer(y.s.cfg.Timeout)
	defer patience.Stop()
	select {
	case <-ctx.Done():
		return status.FromContextError(ctx.Err()).Err()
	case <-patience.C:
		return status.Errorf(codes.DeadlineExceeded, "no Have came within %s", y.s.cfg.Timeout)
	case first = <-in:
	}
	if first.err != nil {
		return first.err
	}
	have := first.msg.GetHave()
	if have == nil {
		return refuse(codes.FailedPrecondition, "HaveMissing", "the first message on the sync stream must be Have")
	}
	if len(have.GetReleases()) > maxHave {
		return refuse(codes.InvalidArgument, "TooManyReleases", "an agent may hold 10000 releases at most")
	}
	for _, ref := range have.GetReleases() {
		// An id that is none cannot be one of ours; the agent keeps it.
		if id, err := uuid.Parse(ref.GetId()); err == nil {
			y.sent[id] = release.Desired{ID: id, Generation: ref.GetGeneration(), Digest: ref.GetDigest()}
		}
	}
	desired, err := y.s.cfg.Releases.Desired(ctx, y.id)
	if err != nil {
		return y.s.fail(ctx, "read desired state", err)
	}
	snapshot := &agentv1.Snapshot{Releases: make([]*agentv1.ReleaseRef, 0, len(desired))}
	for _, d := range desired {
		snapshot.Releases = append(snapshot.Releases, &agentv1.ReleaseRef{Id: d.ID.String(), Generation: d.Generation, Digest: d.Digest})
	}
	if err := y.stream.Send(&agentv1.SyncResponse{Message: &agentv1.SyncResponse_Snapshot{Snapshot: snapshot}}); err != nil {
		return err
	}
	if len(y.s.cfg.Probes) > 0 {
		if err := y.stream.Send(&agentv1.SyncResponse{Message: &agentv1.SyncResponse_Probes{Probes: facts.ProbesToProto(y.s.cfg.Probes)}}); err != nil {
			return err
		}
	}
	if retiring, err := y.retire(ctx); retiring || err != nil {
		return err
	}
	if err := y.replace(ctx); err != nil {
		return err
	}
	return y.upsert(ctx, desired)
}

// retire tells the agent of a cluster that leaves the fleet. That is a
// tombstone for all that was ever wanted there, so nothing else is sent any
// more.
func (y *syncing) retire(ctx context.Context) (retiring bool, err error) {
	r, err := y.s.cfg.Clusters.Retirement(ctx, y.id)
	if err != nil {
		return false, y.s.fail(ctx, "read retirement", err)
	}
	if r.Generation == 0 || r == y.retirement {
		return r.Generation != 0, nil
	}
	y.s.log.InfoContext(ctx, "agent told to retire", slog.String(logkey.ClusterID, y.id.String()), slog.Int64(logkey.Generation, r.Generation))
	err = y.stream.Send(&agentv1.SyncResponse{Message: &agentv1.SyncResponse_Retire{Retire: &agentv1.Retire{
		Generation: r.Generation, Recorded: r.Recorded,
	}}})
	if err == nil {
		y.retirement = r
	}
	return true, err
}

// bring sends what changed since.
func (y *syncing) bring(ctx context.Context) error {
	if retiring, err := y.retire(ctx); retiring || err != nil {
		return err
	}
	if err := y.replace(ctx); err != nil {
		return err
	}
	desired, err := y.s.cfg.Releases.Desired(ctx, y.id)
	if err != nil {
		return y.s.fail(ctx, "read desired state", err)
	}
	return y.upsert(ctx, desired)
}

// replace tells the agent which agent is wanted instead of it.
func (y *syncing) replace(ctx context.Context) error {
	u, err := y.s.cfg.Clusters.AgentUpgrade(ctx, y.id)
	if err != nil {
		return y.s.fail(ctx, "read the agent's upgrade", err)
	}
	if !u.Pending() || u.Target.Generation == y.agent {
		return nil
	}
	y.agent = u.Target.Generation
	return y.stream.Send(&agentv1.SyncResponse{Message: &agentv1.SyncResponse_Agent{Agent: &agentv1.AgentTarget{
		Generation: u.Target.Generation, AppVersion: u.Target.AppVersion, ConnectWithin: durationpb.New(u.Target.ConnectWithin),
		Chart: &agentv1.Chart{Digest: u.Target.Digest, Name: u.Target.Name, Version: u.Target.Version},
	}}})
}

// observeAgent records what became of that. What the rules refuse is dropped.
func (y *syncing) observeAgent(ctx context.Context, a *agentv1.AgentStatus) error {
	err := y.s.cfg.Clusters.ObserveAgent(ctx, y.id, cluster.AgentStatus{
		ObservedGeneration: a.GetObservedGeneration(), Phase: cluster.AgentPhase(a.GetPhase()), Reason: a.GetReason(), Message: a.GetMessage(),
		ChartVersion: a.GetChartVersion(), AgentVersion: a.GetAgentVersion(),
	})
	if err != nil && !isRefusal(err) {
		return y.s.fail(ctx, "record the agent's upgrade", err)
	}
	return nil
}

// upsert sends, in batches, every release whose generation or digest is not
// the one the agent has.
func (y *syncing) upsert(ctx context.Context, desired []release.Desired) error {
	var lacking []uuid.UUID
	for _, d := range desired {
		if have, ok := y.sent[d.ID]; !ok || have.Generation != d.Generation || have.Digest != d.Digest {
			lacking = append(lacking, d.ID)
		}
	}
	for len(lacking) > 0 {
		n := min(batch, len(lacking))
		releases, err := y.s.cfg.Releases.ByIDs(ctx, y.id, lacking[:n])
		if err != nil {
			return y.s.fail(ctx, "read releases", err)
		}
		lacking = lacking[n:]
		for _, r := range releases {
			if err := y.stream.Send(&agentv1.SyncResponse{Message: &agentv1.SyncResponse_Upsert{Upsert: releaseToProto(r)}}); err != nil {
				return err
			}
			y.s.metrics.upserts.Inc()
			y.sent[r.ID] = release.Desired{ID: r.ID, Generation: r.Generation, Digest: r.Digest}
		}
	}
	return nil
}

// heard records one message; kinds of a later protocol are passed over.
func (y *syncing) heard(ctx context.Context, m *agentv1.SyncRequest) error {
	switch x := m.GetMessage().(type) {
	case *agentv1.SyncRequest_Status:
		return y.observe(ctx, x.Status)
	case *agentv1.SyncRequest_Presence:
		if err := y.s.cfg.Clusters.SetPresence(ctx, y.id, facts.PresenceFromProto(x.Presence)); err != nil {
			return y.s.fail(ctx, "record presence", err)
		}
		return nil
	case *agentv1.SyncRequest_Agent:
		return y.observeAgent(ctx, x.Agent)
	case *agentv1.SyncRequest_Retired:
		if err := y.s.cfg.Clusters.Retired(ctx, y.id, x.Retired.GetGeneration(), x.Retired.GetLeft()); err != nil {
			return y.s.fail(ctx, "record retirement", err)
		}
		_, err := y.retire(ctx)
		return err
	default:
		return nil
	}
}

// observe records one status. One that the rules refuse is dropped and logged:
// it must not cost the other releases of the cluster their stream.
func (y *syncing) observe(ctx context.Context, s *agentv1.ReleaseStatus) error {
	id, err := uuid.Parse(s.GetId())
	if err != nil {
		y.drop(ctx, s, errors.New("the release id is no UUID"))
		return nil //nolint:nilerr // dropped
	}
	forget, err := y.s.cfg.Releases.Observe(ctx, y.id, id, statusFromProto(s))
	switch {
	case err != nil && isRefusal(err):
		y.drop(ctx, s, err)
		return nil
	case err != nil:
		return y.s.fail(ctx, "record release status", err)
	}
	y.s.metrics.statuses.WithLabelValues("recorded").Inc()
	if !forget {
		return nil
	}
	delete(y.sent, id)
	return y.stream.Send(&agentv1.SyncResponse{Message: &agentv1.SyncResponse_Forget{Forget: &agentv1.Forget{Id: id.String()}}})
}

func (y *syncing) drop(ctx context.Context, s *agentv1.ReleaseStatus, why error) {
	y.s.metrics.statuses.WithLabelValues("refused").Inc()
	y.s.log.WarnContext(ctx, "release status refused", slog.String(logkey.ClusterID, y.id.String()),
		slog.String(logkey.ReleaseID, cut(s.GetId(), 64)), slog.Any(logkey.Error, why))
}
