package agentapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/budecosystem/budcluster/hub/internal/cluster"
	"github.com/budecosystem/budcluster/internal/logkey"
	agentv1 "github.com/budecosystem/budcluster/proto/agent/v1"
)

// minProtocol is the oldest protocol that this hub still speaks.
const minProtocol = 1

const (
	// opens bounds what the store may take to open a session.
	opens = 10 * time.Second
	// writes bounds what it may take in between two heartbeats: an agent that
	// hears nothing would take the hub for dead, when only its store is.
	writes = 3 * time.Second
)

// Why a control stream ended; the gateway counts and records them.
const (
	reasonLeft   = "AgentLeft"
	reasonLost   = "ConnectionLost"
	reasonSilent = "Silent"
)

type linkServer struct {
	agentv1.UnimplementedLinkServiceServer
	s *Server
}

// Control is the life of a session: it opens with Hello, is up with Welcome,
// and ends when either side leaves or nothing was heard for the timeout.
func (l *linkServer) Control(stream grpc.BidiStreamingServer[agentv1.ControlRequest, agentv1.ControlResponse]) error {
	ctx := stream.Context()
	id, err := caller(ctx)
	if err != nil {
		return err
	}
	in := frames(ctx, stream.Recv)
	hello, err := l.hello(ctx, in)
	if err != nil {
		return err
	}
	// A store that hangs must not hang the agents with it.
	opening, done := context.WithTimeoutCause(ctx, opens, errors.New("open session: over 10s"))
	defer done()
	c, err := l.s.cfg.Clusters.Get(opening, id.String())
	if err != nil {
		return l.s.fail(ctx, "read cluster", err)
	}
	// An agent whose API server is away cannot say which cluster it is in.
	if uid := hello.GetClusterUid(); c.UID != "" && uid != "" && uid != c.UID {
		return refuse(codes.PermissionDenied, "ClusterUIDMismatch", fmt.Sprintf(
			"this identity belongs to cluster %s, whose kube-system namespace has another UID: it was copied from there; "+
				"delete the agent's identity secret and join with a token of its own", c.Name))
	}
	link, err := l.s.cfg.Attach(opening, cluster.SessionInfo{
		Instance:     cut(hello.GetInstance(), 253),
		RemoteAddr:   remoteAddr(ctx),
		AgentVersion: cut(hello.GetAgentVersion(), 64),
	})
	if err != nil {
		return l.s.fail(ctx, "open session", err)
	}
	conv := &conversation{s: l.s, id: id, stream: stream, link: link, in: in}
	reason, err := conv.run(ctx, l.welcome(c, link.Epoch()))
	// The stream's context is over when the connection broke; the end of the
	// session must be recorded all the same.
	closing, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), writes, errors.New("close session: over 3s"))
	defer cancel()
	link.Close(closing, reason)
	return err
}

// hello waits for the first message and judges it.
func (l *linkServer) hello(ctx context.Context, in <-chan frame[*agentv1.ControlRequest]) (*agentv1.Hello, error) {
	patience := time.NewTimer(l.s.cfg.Timeout)
	defer patience.Stop()
	select {
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	case <-patience.C:
		return nil, status.Errorf(codes.DeadlineExceeded, "no Hello came within %s", l.s.cfg.Timeout)
	case f := <-in:
		if f.err != nil {
			return nil, f.err
		}
		hello := f.msg.GetHello()
		if hello == nil {
			return nil, refuse(codes.FailedPrecondition, "HelloMissing", "the first message on the control stream must be Hello")
		}
		if hello.GetProtocol() < minProtocol {
			return nil, refuse(codes.FailedPrecondition, "ProtocolTooOld", fmt.Sprintf(
				"agent %s speaks protocol %d and this hub needs at least %d: upgrade the budcluster-agent chart",
				cut(hello.GetAgentVersion(), 64), hello.GetProtocol(), minProtocol))
		}
		return hello, nil
	}
}

func (l *linkServer) welcome(c *cluster.Cluster, epoch int64) *agentv1.Welcome {
	return &agentv1.Welcome{
		Protocol:          agentv1.Version,
		HubVersion:        l.s.cfg.HubVersion,
		ClusterId:         c.ID.String(),
		ClusterName:       c.Name,
		Epoch:             epoch,
		HeartbeatInterval: durationpb.New(l.s.cfg.Heartbeat),
		LivenessTimeout:   durationpb.New(l.s.cfg.Timeout),
		BundlePem:         l.s.cfg.Enroller.BundlePEM(),
	}
}

// conversation is one control stream after its Hello.
type conversation struct {
	s      *Server
	id     uuid.UUID
	stream grpc.BidiStreamingServer[agentv1.ControlRequest, agentv1.ControlResponse]
	link   Link
	in     <-chan frame[*agentv1.ControlRequest]

	sequence int64
	known    bool // degraded is what the store holds
	degraded []cluster.Degradation
}

// run says Welcome and talks until one side is gone.
func (c *conversation) run(ctx context.Context, welcome *agentv1.Welcome) (reason string, err error) {
	if err := c.stream.Send(&agentv1.ControlResponse{Message: &agentv1.ControlResponse_Welcome{Welcome: welcome}}); err != nil {
		return reasonLost, err
	}
	beat := time.NewTicker(c.s.cfg.Heartbeat)
	defer beat.Stop()
	silence := time.NewTimer(c.s.cfg.Timeout)
	defer silence.Stop()
	for {
		var out *agentv1.ControlResponse
		select {
		case f := <-c.in:
			if f.err != nil {
				return endOf(f.err), nil
			}
			silence.Reset(c.s.cfg.Timeout)
			c.heard(ctx, f.msg)
			continue
		case out = <-c.link.Orders():
		case <-beat.C:
			out = c.heartbeat()
		case <-silence.C:
			return reasonSilent, status.Errorf(codes.DeadlineExceeded, "nothing was heard from the agent for %s", c.s.cfg.Timeout)
		case <-ctx.Done():
			return reasonLost, status.FromContextError(ctx.Err()).Err()
		}
		if err := c.stream.Send(out); err != nil {
			return reasonLost, err
		}
	}
}

// endOf tells an agent that closed its stream from one whose connection broke.
func endOf(err error) string {
	if errors.Is(err, io.EOF) {
		return reasonLeft
	}
	return reasonLost
}

func (c *conversation) heartbeat() *agentv1.ControlResponse {
	c.sequence++
	return &agentv1.ControlResponse{Message: &agentv1.ControlResponse_Heartbeat{
		Heartbeat: &agentv1.HubHeartbeat{Sequence: c.sequence, SentAt: timestamppb.New(c.s.cfg.Now())},
	}}
}

// heard handles one message. A second Hello and kinds that this hub does not
// know are life signs and no more.
func (c *conversation) heard(ctx context.Context, m *agentv1.ControlRequest) {
	beat := m.GetHeartbeat()
	if beat == nil {
		return
	}
	c.s.metrics.heartbeats.Inc()
	now := c.s.cfg.Now()
	next := degradationsFromProto(beat.GetDegraded(), now)
	if c.known && slices.EqualFunc(c.degraded, next, sameDegradation) {
		return
	}
	writing, cancel := context.WithTimeoutCause(ctx, writes, errors.New("record degradation: over 3s"))
	defer cancel()
	if err := c.s.cfg.Clusters.SetDegraded(writing, c.id, next); err != nil {
		c.known = false // said again with the next heartbeat
		c.s.log.WarnContext(ctx, "degradation not recorded",
			slog.String(logkey.ClusterID, c.id.String()), slog.Any(logkey.Error, err))
		return
	}
	c.known, c.degraded = true, next
}

func sameDegradation(a, b cluster.Degradation) bool {
	return a.Reason == b.Reason && a.Message == b.Message
}

func remoteAddr(ctx context.Context) string {
	p, ok := peer.FromContext(ctx)
	if !ok || p.Addr == nil {
		return ""
	}
	return p.Addr.String()
}
