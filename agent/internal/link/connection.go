package link

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/budecosystem/budcluster/agent/internal/dial"
	"github.com/budecosystem/budcluster/agent/internal/health"
	"github.com/budecosystem/budcluster/internal/backoff"
	"github.com/budecosystem/budcluster/internal/logkey"
	"github.com/budecosystem/budcluster/internal/run"
	"github.com/budecosystem/budcluster/internal/tunnel"
	agentv1 "github.com/budecosystem/budcluster/proto/agent/v1"
)

// connection is one session with the hub and everything that needs it.
type connection struct {
	link     *Link
	identity Identity
	session  *tunnel.Session
	cc       *grpc.ClientConn
	welcomed chan struct{} // closed when Welcome has come
	renewNow chan struct{} // of size one
	goAway   chan error    // of size one

	// Written by control before welcomed is closed.
	welcomeAt time.Time
	heartbeat time.Duration
	liveness  time.Duration
}

// run lives until something ends the connection. Control is first in the
// group, so it is last to go: the final statuses still leave.
func (c *connection) run(ctx context.Context) error {
	defer c.link.up.CompareAndSwap(c, nil)
	g := &run.Group{Grace: 3 * c.link.cfg.Farewell}
	g.Add("session", c.watchSession)
	g.Add("control", c.control)
	g.Add("agent service", c.serve)
	g.Add("releases", c.onceUp(c.lasting("releases", c.sync)))
	g.Add("inventory", c.onceUp(c.lasting("inventory", c.report)))
	g.Add("renewal", c.onceUp(c.renew))
	g.Add("departure", c.depart)
	return g.Run(ctx)
}

// depart ends the group when the hub says GoAway. It is not control that ends:
// the hub closes the connection with the control stream, and the last statuses
// go before that.
func (c *connection) depart(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-c.goAway:
		return err
	}
}

// watchSession ends the group when the transport is gone, with its reason.
func (c *connection) watchSession(ctx context.Context) error {
	select {
	case <-ctx.Done():
	case <-c.session.Done():
	}
	return c.session.Err() // nil while it lives
}

// onceUp holds a task back until Welcome.
func (c *connection) onceUp(fn func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		select {
		case <-ctx.Done():
			return nil
		case <-c.welcomed:
			return fn(ctx)
		}
	}
}

// lasting opens a stream again when it ended by itself. What the hub refuses
// for good is tried again, but rarely: another hub may think otherwise.
func (c *connection) lasting(name string, stream func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		retry := backoff.New(time.Second, c.link.cfg.RetryCap)
		for {
			began := c.link.cfg.Now()
			err := dial.Judge(stream(ctx))
			if ctx.Err() != nil {
				return nil //nolint:nilerr // that is why it ended
			}
			if c.link.cfg.Now().Sub(began) > c.link.cfg.Steady {
				retry.Reset()
			}
			wait := retry.Next()
			if _, refused := errors.AsType[*dial.RefusedError](err); refused {
				wait += c.link.cfg.RetryCap
			}
			c.link.log.WarnContext(ctx, "stream ended, opening it again", slog.String(logkey.Stream, name),
				slog.Any(logkey.Error, err), slog.Duration(logkey.RetryAfter, wait))
			if err := sleep(ctx, wait); err != nil {
				return nil //nolint:nilerr // the only error is that ctx ended
			}
		}
	}
}

func (c *connection) renew(ctx context.Context) error {
	if err := c.identity.Keep(ctx, c.cc, c.renewNow); err != nil {
		return err
	}
	return errRenewed
}

type controlStream = grpc.BidiStreamingClient[agentv1.ControlRequest, agentv1.ControlResponse]

// control is the conversation that everything else hangs on.
func (c *connection) control(ctx context.Context) error {
	// The stream outlives ctx by the time of a farewell: a cancelled stream
	// looks to the hub like a lost connection.
	streamCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stream, err := agentv1.NewLinkServiceClient(c.cc).Control(streamCtx)
	if err != nil {
		return fmt.Errorf("open control stream: %w", dial.Judge(err))
	}
	if err := c.hello(ctx, stream); err != nil {
		return err
	}
	in := receive(stream.Recv)
	defer drain(in, cancel)
	if err := c.awaitWelcome(ctx, in); err != nil {
		return err
	}
	return c.converse(ctx, stream, in)
}

func (c *connection) hello(ctx context.Context, stream controlStream) error {
	// The hub notes what we say; it decides nothing by it. So the API server
	// being away is no reason not to connect.
	uid, err := c.link.cfg.ClusterUID(ctx)
	if err != nil {
		c.link.log.DebugContext(ctx, "hello without cluster uid", slog.Any(logkey.Error, err))
	}
	err = stream.Send(&agentv1.ControlRequest{Message: &agentv1.ControlRequest_Hello{Hello: &agentv1.Hello{
		Protocol:     agentv1.Version,
		AgentVersion: c.link.cfg.AgentVersion,
		ClusterUid:   uid,
		Instance:     c.link.cfg.Instance,
		StartedAt:    timestamppb.New(c.link.cfg.StartedAt),
	}}})
	if err != nil && !errors.Is(err, io.EOF) { // EOF: Recv has the reason
		return fmt.Errorf("say hello: %w", err)
	}
	return nil
}

func (c *connection) awaitWelcome(ctx context.Context, in <-chan frame[*agentv1.ControlResponse]) error {
	patience := time.NewTimer(c.link.cfg.Liveness)
	defer patience.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-patience.C:
			return fmt.Errorf("wait for welcome: %w", &tunnel.SilentError{For: c.link.cfg.Liveness})
		case f := <-in:
			switch {
			case f.err != nil:
				return fmt.Errorf("wait for welcome: %w", dial.Judge(f.err))
			case f.msg.GetGoAway() != nil:
				return away(f.msg.GetGoAway())
			case f.msg.GetWelcome() != nil:
				c.greeted(ctx, f.msg.GetWelcome())
				return nil
			}
		}
	}
}

// greeted makes the connection count as up.
func (c *connection) greeted(ctx context.Context, w *agentv1.Welcome) {
	l := c.link
	c.heartbeat, c.liveness = DefaultHeartbeat, l.cfg.Liveness
	if d := w.GetHeartbeatInterval().AsDuration(); d > 0 {
		c.heartbeat = d
	}
	if d := w.GetLivenessTimeout().AsDuration(); d > c.heartbeat {
		c.liveness = d
	}
	c.welcomeAt = l.cfg.Now()
	close(c.welcomed)
	l.up.Store(c)
	l.said = ""
	l.metrics.connections.Inc()
	l.metrics.lastContact.Set(float64(c.welcomeAt.Unix()))
	l.cfg.Board.Clear(health.HubUnreachable, health.Revoked, health.Fenced)
	l.log.InfoContext(ctx, "connected to the hub", slog.String(logkey.Cluster, w.GetClusterName()),
		slog.String(logkey.ClusterID, w.GetClusterId()), slog.Int64(logkey.Epoch, w.GetEpoch()),
		slog.String(logkey.RemoteAddr, c.session.RemoteAddr().String()), slog.String(logkey.Version, w.GetHubVersion()))
	if err := l.cfg.Identities.Trust(ctx, w.GetBundlePem()); err != nil {
		l.log.WarnContext(ctx, "trust bundle not stored", slog.Any(logkey.Error, err))
	}
}

// converse sends heartbeats and hears the hub until one of the two leaves or
// the hub falls silent.
func (c *connection) converse(ctx context.Context, stream controlStream, in <-chan frame[*agentv1.ControlResponse]) error {
	beat := time.NewTicker(c.heartbeat)
	defer beat.Stop()
	silence := time.NewTimer(c.liveness)
	defer silence.Stop()
	board := c.link.cfg.Board
	for sequence := int64(1); ; {
		changed := board.Changed()
		if err := c.beat(stream, sequence); err != nil {
			return err
		}
		sequence++
		for waiting := true; waiting; {
			select {
			case <-ctx.Done():
				return c.farewell(stream, in)
			case <-beat.C:
				waiting = false
			case <-changed:
				waiting = false // the hub learns at once what is wrong
			case <-silence.C:
				return &tunnel.SilentError{For: c.liveness}
			case f := <-in:
				if err := c.heard(ctx, f); err != nil {
					return err
				}
				silence.Reset(c.liveness)
			}
		}
	}
}

func (c *connection) beat(stream controlStream, sequence int64) error {
	err := stream.Send(&agentv1.ControlRequest{Message: &agentv1.ControlRequest_Heartbeat{Heartbeat: &agentv1.AgentHeartbeat{
		Sequence: sequence, Degraded: c.link.cfg.Board.ToProto(), SentAt: timestamppb.New(c.link.cfg.Now()),
	}}})
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("send heartbeat: %w", err)
	}
	return nil
}

// heard handles one message; kinds that we do not know are signs of life.
func (c *connection) heard(ctx context.Context, f frame[*agentv1.ControlResponse]) error {
	if errors.Is(f.err, io.EOF) {
		return errors.New("the hub closed the control stream")
	}
	if f.err != nil {
		return fmt.Errorf("control stream: %w", dial.Judge(f.err))
	}
	c.link.metrics.lastContact.Set(float64(c.link.cfg.Now().Unix()))
	switch {
	case f.msg.GetGoAway() != nil:
		select {
		case c.goAway <- away(f.msg.GetGoAway()):
		default:
		}
	case f.msg.GetRenewNow() != nil:
		c.link.log.InfoContext(ctx, "the hub asks for renewal")
		select {
		case c.renewNow <- struct{}{}:
		default:
		}
	}
	return nil
}

// farewell closes our side and gives the hub a moment to take note.
func (c *connection) farewell(stream controlStream, in <-chan frame[*agentv1.ControlResponse]) error {
	_ = stream.CloseSend()
	patience := time.NewTimer(c.link.cfg.Farewell)
	defer patience.Stop()
	for {
		select {
		case <-patience.C:
			return nil
		case f := <-in:
			if f.err != nil {
				return nil
			}
		}
	}
}

func away(m *agentv1.GoAway) error {
	return &goAwayError{reason: m.GetReason(), message: m.GetMessage(), after: m.GetReconnectAfter().AsDuration()}
}
