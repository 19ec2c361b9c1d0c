package taskhub

import (
	"context"
	"fmt"
	"time"

	"github.com/dapr/durabletask-go/api"
	"github.com/dapr/durabletask-go/backend"
)

// activity is what the Hub knows of an activity that it handed out; it travels
// in the work item.
type activity struct {
	lease     *lease
	execution string // of the instance, that asked for it
	attempts  int
}

func activityOf(wi *backend.ActivityWorkItem) (*activity, error) {
	a, ok := wi.Properties[property].(*activity)
	if !ok {
		return nil, fmt.Errorf("activity %s was not claimed from this task hub", wi)
	}
	return a, nil
}

func newActivity(l *lease, execution string, attempts int, e *backend.HistoryEvent) *backend.ActivityWorkItem {
	return &backend.ActivityWorkItem{
		SequenceNumber: l.activity, InstanceID: api.InstanceID(l.instance), NewEvent: e,
		Properties: map[string]any{property: &activity{lease: l, execution: execution, attempts: attempts}},
	}
}

// NextActivityWorkItem waits for an activity. It fails only when ctx ends.
func (h *Hub) NextActivityWorkItem(ctx context.Context) (*backend.ActivityWorkItem, error) {
	return h.activities.next(ctx)
}

// Lost is closed when this process may not go on with an activity: its lease
// could not be renewed, or its workflow was terminated.
func (h *Hub) Lost(wi *backend.ActivityWorkItem) <-chan struct{} {
	if a, err := activityOf(wi); err == nil {
		return a.lease.lost
	}
	return nil
}

// Forget stops renewing the lease of an activity that does not end although it
// was told to. It stays this process's until the lease ends, so nobody begins
// it beside the one that still runs.
func (h *Hub) Forget(wi *backend.ActivityWorkItem) {
	if a, err := activityOf(wi); err == nil {
		h.drop(a.lease)
		h.activities.done()
	}
}

// CompleteActivityWorkItem gives the result of an activity to its workflow. It
// fails with ErrWorkItemLockLost when somebody else has claimed the activity
// meanwhile, and has then changed nothing. It does not end with ctx.
func (h *Hub) CompleteActivityWorkItem(ctx context.Context, wi *backend.ActivityWorkItem) error {
	a, err := activityOf(wi)
	if err != nil {
		return err
	}
	raw, err := marshal(wi.Result)
	if err != nil {
		return fmt.Errorf("encode result of %s: %w", wi, err)
	}
	a.lease.settle()
	op := &postOp{instance: a.lease.instance, execution: &a.execution, raw: raw, event: wi.Result, activity: a.lease}
	if err := h.posts.do(context.WithoutCancel(ctx), op, false, time.Now().Add(h.cfg.Lease)); err != nil {
		return fmt.Errorf("commit result of %s: %w", wi, err)
	}
	if !op.done && !a.lease.isGone() { // what was taken from this process is known already
		return fmt.Errorf("commit result of %s: %w", wi, backend.ErrWorkItemLockLost)
	}
	h.drop(a.lease)
	h.activities.done()
	return nil
}

// AbandonActivityWorkItem gives an activity back, to be tried again: at once
// when the hub stops, and otherwise the later the more often it was given back.
func (h *Hub) AbandonActivityWorkItem(ctx context.Context, wi *backend.ActivityWorkItem) error {
	a, err := activityOf(wi)
	if err != nil {
		return err
	}
	defer h.activities.done()
	h.drop(a.lease)
	back := putBack{lease: a.lease}
	if h.activities.isOpen() && !a.lease.isGone() {
		back.failed, back.delay = true, delayAfter(a.attempts)
	}
	if err := h.abandonActivities(ctx, []putBack{back}); err != nil {
		return fmt.Errorf("give back %s: %w", wi, err)
	}
	h.activities.lookAt(time.Now().Add(back.delay))
	return nil
}

func (l *lease) isGone() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.gone
}
