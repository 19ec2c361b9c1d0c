package link

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"

	"github.com/budecosystem/budcluster/internal/facts"
	"github.com/budecosystem/budcluster/internal/run"
	agentv1 "github.com/budecosystem/budcluster/proto/agent/v1"
)

// errStreamClosed ends a stream that the hub closed without a reason.
var errStreamClosed = errors.New("the hub closed the stream")

type syncStream = grpc.BidiStreamingClient[agentv1.SyncRequest, agentv1.SyncResponse]

// sync exchanges desired state and statuses until the stream ends. Sending is
// added last, so on a stop it goes first, flushes and closes our side; the hub
// then closes the other, which ends receiving.
func (c *connection) sync(ctx context.Context) error {
	streamCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stream, err := agentv1.NewReleaseServiceClient(c.cc).Sync(streamCtx)
	if err != nil {
		return fmt.Errorf("open release stream: %w", err)
	}
	have, err := c.link.cfg.Releases.Have(ctx)
	if err != nil {
		return fmt.Errorf("list releases: %w", err)
	}
	err = stream.Send(&agentv1.SyncRequest{Message: &agentv1.SyncRequest_Have{Have: &agentv1.Have{Releases: have}}})
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("send what we have: %w", err)
	}
	g := &run.Group{Grace: 2 * c.link.cfg.Farewell}
	g.Add("receive", func(ctx context.Context) error { return c.receiveReleases(ctx, stream, cancel) })
	g.Add("send", func(ctx context.Context) error { return c.sendStatuses(ctx, stream) })
	return g.Run(ctx)
}

// receiveReleases applies what comes, in its order. An apply that fails ends
// the stream: on the next one the hub compares what we have and sends it again.
func (c *connection) receiveReleases(ctx context.Context, stream syncStream, cancel context.CancelFunc) error {
	over := context.AfterFunc(ctx, func() {
		timer := time.NewTimer(c.link.cfg.Farewell)
		defer timer.Stop()
		select {
		case <-timer.C:
			cancel()
		case <-stream.Context().Done():
		}
	})
	defer over()
	for {
		m, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return errStreamClosed
		case err != nil:
			return fmt.Errorf("receive releases: %w", err)
		}
		if err := c.apply(ctx, m); err != nil {
			return err
		}
	}
}

func (c *connection) apply(ctx context.Context, m *agentv1.SyncResponse) error {
	releases := c.link.cfg.Releases
	switch x := m.GetMessage().(type) {
	case *agentv1.SyncResponse_Snapshot:
		if err := releases.ApplySnapshot(ctx, x.Snapshot.GetReleases()); err != nil {
			return fmt.Errorf("apply snapshot: %w", err)
		}
	case *agentv1.SyncResponse_Upsert:
		if err := releases.Upsert(ctx, x.Upsert); err != nil {
			return fmt.Errorf("store release %s: %w", x.Upsert.GetName(), err)
		}
	case *agentv1.SyncResponse_Forget:
		if err := releases.Forget(ctx, x.Forget.GetId()); err != nil {
			return fmt.Errorf("forget release %s: %w", x.Forget.GetId(), err)
		}
	case *agentv1.SyncResponse_Probes:
		c.link.cfg.Presence.Ask(facts.ProbesFromProto(x.Probes))
	case *agentv1.SyncResponse_Retire:
		c.retire(ctx, x.Retire)
	case *agentv1.SyncResponse_Agent:
		c.link.cfg.Upgrades.Want(x.Agent)
	default: // a later protocol's message
	}
	return nil
}

// retire passes the hub's decision on, unless somebody has given this agent a
// new join token since: then it is wanted again, as another cluster.
func (c *connection) retire(ctx context.Context, r *agentv1.Retire) {
	if !c.identity.Successor() {
		c.link.cfg.Retirement.Retire(r)
		return
	}
	c.link.log.InfoContext(ctx, "the hub has retired this cluster, but there is a new join token; joining again")
	c.identity.Distrust()
	select {
	case c.goAway <- errRejoin:
	default:
	}
}

// sendStatuses passes statuses on. The subscription outlives ctx: operations
// that were ended by a stop have just written their last statuses.
func (c *connection) sendStatuses(ctx context.Context, stream syncStream) error { //nolint:gocognit // one select over what there is to tell; in parts it would be no plainer
	subscription, cancel := context.WithCancel(context.WithoutCancel(ctx))
	statuses := c.link.cfg.Releases.Statuses(subscription)
	found, takeFound, stopFound := c.link.cfg.Presence.Watch()
	defer stopFound()
	retired, takeRetired, stopRetired := c.link.cfg.Retirement.Watch()
	defer stopRetired()
	upgraded, takeUpgraded, stopUpgraded := c.link.cfg.Upgrades.Watch()
	defer stopUpgraded()
	defer func() {
		cancel()
		for range statuses { // until the manager has let go
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return c.flush(stream, statuses)
		case <-stream.Context().Done():
			return nil // receiving says why
		case s, ok := <-statuses:
			if !ok {
				return errors.New("the release manager closed the statuses")
			}
			if err := c.sendStatus(stream, s); err != nil {
				return err
			}
		case <-found:
			if answers, fresh := takeFound(); fresh {
				if err := send(stream, &agentv1.SyncRequest{Message: &agentv1.SyncRequest_Presence{Presence: facts.PresenceToProto(answers)}}); err != nil {
					return err
				}
			}
		case <-upgraded:
			if m, fresh := takeUpgraded(); fresh {
				if err := send(stream, &agentv1.SyncRequest{Message: &agentv1.SyncRequest_Agent{Agent: m}}); err != nil {
					return err
				}
			}
		case <-retired:
			if m, fresh := takeRetired(); fresh && m != nil {
				if err := send(stream, &agentv1.SyncRequest{Message: &agentv1.SyncRequest_Retired{Retired: m}}); err != nil {
					return err
				}
			}
		}
	}
}

// flush sends what is still there, and stops at the first lull.
func (c *connection) flush(stream syncStream, statuses <-chan *agentv1.ReleaseStatus) error {
	const lull = 100 * time.Millisecond
	patience := time.NewTimer(lull)
	defer patience.Stop()
	for {
		select {
		case <-patience.C:
			return stream.CloseSend() //nolint:wrapcheck // always nil
		case s, ok := <-statuses:
			if !ok {
				return stream.CloseSend() //nolint:wrapcheck // always nil
			}
			if err := c.sendStatus(stream, s); err != nil {
				return err
			}
			patience.Reset(lull)
		}
	}
}

func (c *connection) sendStatus(stream syncStream, s *agentv1.ReleaseStatus) error {
	if err := send(stream, &agentv1.SyncRequest{Message: &agentv1.SyncRequest_Status{Status: s}}); err != nil {
		return err
	}
	c.link.metrics.statuses.Inc()
	return nil
}

func send(stream syncStream, m *agentv1.SyncRequest) error {
	if err := stream.Send(m); err != nil && !errors.Is(err, io.EOF) { // EOF: receiving has the reason
		return fmt.Errorf("send to the hub: %w", err)
	}
	return nil
}
