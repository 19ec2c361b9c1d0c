package workflow_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/internal/event"
	"github.com/budecosystem/budcluster/hub/internal/workflow"
)

// recorder is an engine that remembers what it was told.
type recorder struct {
	mu      sync.Mutex // guards all
	started []uuid.UUID
	raised  []string
	err     error
}

func (r *recorder) Start(_ context.Context, w *workflow.Workflow) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.started = append(r.started, w.ID)
	return r.err
}

func (r *recorder) Raise(_ context.Context, workflowID uuid.UUID, wait string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.raised = append(r.raised, workflowID.String()+" "+wait)
	return r.err
}

func (b *bundle) dispatcher(tb testing.TB, e workflow.Engine) *workflow.Dispatcher {
	tb.Helper()
	d, err := workflow.NewDispatcher(workflow.DispatcherConfig{
		Store: b.store, Engine: e, Feed: b.events, Logger: slog.New(slog.DiscardHandler), Now: b.clock,
	})
	require.NoError(tb, err)
	return d
}

func TestDispatcherSchedulesOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w := b.start(t)
	e := &recorder{err: errors.New("engine away")}
	d := b.dispatcher(t, e)
	require.ErrorIs(t, d.Dispatch(t.Context()), e.err)
	e.err = nil
	require.NoError(t, d.Dispatch(t.Context()))
	require.NoError(t, d.Dispatch(t.Context()))
	require.Equal(t, []uuid.UUID{w.ID, w.ID}, e.started, "after a failure again, after a success never")
}

func TestDispatcherWakesWhoWaitsForIt(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w := b.start(t)
	e := &recorder{}
	d := b.dispatcher(t, e)
	require.NoError(t, d.Dispatch(t.Context()))
	require.False(t, b.look(t, w, "connect", workflow.Waiting("", b.clock().Add(time.Hour), "release/nfd")))

	b.happens(t, event.ReleaseStatus, "other")
	require.NoError(t, b.store.AppendEvents(t.Context(), event.Event{At: b.clock(), Type: event.ReleaseStatus, ClusterID: b.cluster, Subject: "nfd", Transient: true}))
	require.NoError(t, d.Dispatch(t.Context()))
	require.Empty(t, e.raised, "neither another release nor mere progress")

	b.happens(t, event.ReleaseStatus, "nfd")
	require.NoError(t, d.Dispatch(t.Context()))
	told := w.ID.String() + " " + workflow.WaitName(1)
	require.Equal(t, []string{told}, e.raised)
	require.NoError(t, d.Dispatch(t.Context()))
	require.Len(t, e.raised, 1, "not again at once")
	for range 10 {
		b.clock()
	}
	require.NoError(t, d.Dispatch(t.Context()))
	require.Equal(t, []string{told, told}, e.raised, "again if nobody took it")

	turn, err := b.Begin(t.Context(), w.ID, "connect")
	require.NoError(t, err)
	require.Positive(t, turn.Step.Waited)
	for range 20 {
		b.clock()
	}
	require.NoError(t, d.Dispatch(t.Context()))
	require.Len(t, e.raised, 2, "it was taken")
}

func TestDispatcherKeepsDeadlines(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w := b.start(t)
	e := &recorder{}
	d := b.dispatcher(t, e)
	require.NoError(t, d.Dispatch(t.Context()))
	b.look(t, w, "connect", workflow.Waiting("", b.clock().Add(time.Minute), "cluster"))
	require.NoError(t, d.Dispatch(t.Context()))
	require.Empty(t, e.raised)
	for range 60 {
		b.clock()
	}
	require.NoError(t, d.Dispatch(t.Context()))
	require.Len(t, e.raised, 1)
}

// Two replicas share the work: no wait is told twice.
func TestDispatchersShare(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e := &recorder{}
	first, second := b.dispatcher(t, e), b.dispatcher(t, e)
	require.NoError(t, errors.Join(first.Dispatch(t.Context()), second.Dispatch(t.Context())))
	for range 20 {
		req := b.request()
		req.Exclusive = false
		w, err := b.Start(t.Context(), "ann", req)
		require.NoError(t, err)
		b.look(t, w, "connect", workflow.Waiting("", b.clock().Add(time.Hour), "cluster"))
	}
	require.NoError(t, first.Dispatch(t.Context())) // schedules all, and the clock goes on with each
	b.happens(t, event.ClusterConnected, "frankfurt")
	var wg sync.WaitGroup
	for _, d := range []*workflow.Dispatcher{first, second} {
		wg.Go(func() { require.NoError(t, d.Dispatch(t.Context())) })
	}
	wg.Wait()
	require.Len(t, e.raised, 20)
}
