package link

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	agentv1 "github.com/budecosystem/budcluster/proto/agent/v1"
)

// batch is how many nodes one message carries: with all labels and eight
// devices a node is some 8 KiB.
const batch = 50

// reporter is one report stream.
type reporter struct {
	c        *connection
	stream   grpc.BidiStreamingClient[agentv1.ReportRequest, agentv1.ReportResponse]
	sequence int64
}

// report tells the hub what the cluster has: a summary of digests, whatever
// the hub then needs, and changes as they happen.
func (c *connection) report(ctx context.Context) error {
	inventory := c.link.cfg.Inventory
	if err := inventory.Await(ctx); err != nil {
		return err
	}
	streamCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := agentv1.NewInventoryServiceClient(c.cc).Report(streamCtx)
	if err != nil {
		return fmt.Errorf("open inventory stream: %w", err)
	}
	in := receive(stream.Recv)
	defer drain(in, cancel)
	// Watched before the summary is made: what changes in between is sent.
	wake, take, unwatch := inventory.Watch()
	defer unwatch()
	r := &reporter{c: c, stream: stream}
	if err := r.summary(); err != nil {
		return err
	}
	return r.run(ctx, in, wake, take)
}

func (r *reporter) run(ctx context.Context, in <-chan frame[*agentv1.ReportResponse], wake <-chan struct{}, take func() ([]string, bool, []*agentv1.NodeEvent)) error {
	digest := time.NewTicker(r.c.link.cfg.Summary)
	defer digest.Stop()
	// A change opens the gate's timer; what changes until it fires goes along.
	gate := time.NewTimer(0)
	defer gate.Stop()
	<-gate.C
	waiting := false
	for {
		var err error
		select {
		case <-ctx.Done():
			return nil
		case f := <-in:
			err = r.heard(f)
		case <-digest.C:
			err = r.summary()
		case <-wake:
			if !waiting {
				waiting = true
				gate.Reset(r.c.link.cfg.Debounce)
			}
		case <-gate.C:
			waiting = false
			nodes, cluster, events := take()
			err = errors.Join(r.deltas(nodes, cluster), r.events(events))
		}
		if err != nil {
			return err
		}
	}
}

func (r *reporter) heard(f frame[*agentv1.ReportResponse]) error {
	switch {
	case errors.Is(f.err, io.EOF):
		return errStreamClosed
	case f.err != nil:
		return fmt.Errorf("report inventory: %w", f.err)
	case f.msg.GetNeed() != nil:
		return r.deltas(f.msg.GetNeed().GetNodes(), f.msg.GetNeed().GetCluster())
	default: // acknowledgements, and a later protocol's messages
		return nil
	}
}

func (r *reporter) summary() error {
	r.c.link.metrics.summaries.Inc()
	return r.send(&agentv1.ReportRequest{Message: &agentv1.ReportRequest_Summary{Summary: r.c.link.cfg.Inventory.Summary()}})
}

// deltas sends the named nodes in batches, and the cluster with the first.
func (r *reporter) deltas(nodes []string, cluster bool) error {
	for part := range slices.Chunk(nodes, batch) {
		if err := r.delta(part, cluster); err != nil {
			return err
		}
		cluster = false
	}
	if cluster {
		return r.delta(nil, true)
	}
	return nil
}

func (r *reporter) delta(nodes []string, cluster bool) error {
	return r.sendDelta(r.c.link.cfg.Inventory.Delta(nodes, cluster))
}

// events sends what happened to nodes, some 1 KiB each.
func (r *reporter) events(events []*agentv1.NodeEvent) error {
	for part := range slices.Chunk(events, 2*batch) {
		if err := r.sendDelta(&agentv1.Delta{NodeEvents: part}); err != nil {
			return err
		}
	}
	return nil
}

func (r *reporter) sendDelta(d *agentv1.Delta) error {
	r.sequence++
	d.Sequence = r.sequence
	d.ObservedAt = timestamppb.New(r.c.link.cfg.Now())
	r.c.link.metrics.deltas.Inc()
	return r.send(&agentv1.ReportRequest{Message: &agentv1.ReportRequest_Delta{Delta: d}})
}

func (r *reporter) send(m *agentv1.ReportRequest) error {
	if err := r.stream.Send(m); err != nil && !errors.Is(err, io.EOF) { // EOF: Recv has the reason
		return fmt.Errorf("report inventory: %w", err)
	}
	return nil
}
