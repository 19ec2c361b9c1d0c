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
	mu        sync.Mutex // guards all
	started   []uuid.UUID
	raised    []string
	asked     []uuid.UUID
	restarted []uuid.UUID
	lost      bool // it has nothing
	err       error
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
	if r.lost {
		return workflow.ErrLost
	}
	return r.err
}

func (r *recorder) Has(_ context.Context, workflowID uuid.UUID) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked = append(r.asked, workflowID)
	return !r.lost, r.err
}

func (r *recorder) Restart(_ context.Context, w *workflow.Workflow) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.restarted = append(r.restarted, w.ID)
	return r.err
}

func (b *bundle) dispatcher(tb testing.TB, e workflow.Engine) *workflow.Dispatcher {
	tb.Helper()
	d, err := workflow.NewDispatcher(workflow.DispatcherConfig{
		Store: b.store, Engine: e, Feed: b.events, Logger: slog.New(slog.DiscardHandler), Now: b.clock, GiveUp: 10 * time.Minute,
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

	turn, err := b.Begin(t.Context(), w.ID)
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

// pass lets time go by.
func (b *bundle) pass(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now = b.now.Add(d)
}

// An engine lost what it was given: its tables were truncated, or the hub was
// switched to another engine. Nobody began those workflows again.
func TestDispatcherRestartsWhatTheEngineLost(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w := b.start(t)
	e := &recorder{}
	d := b.dispatcher(t, e)
	require.NoError(t, d.Dispatch(t.Context()))
	b.pass(workflow.DefaultSilence / 2)
	require.NoError(t, d.Dispatch(t.Context()))
	require.Empty(t, e.asked, "it was given a moment ago")
	b.pass(workflow.DefaultSilence)
	require.NoError(t, d.Dispatch(t.Context()))
	require.NoError(t, d.Dispatch(t.Context()))
	require.Equal(t, []uuid.UUID{w.ID}, e.asked, "silent for long, once")
	require.Empty(t, e.restarted, "the engine has it")

	b.pass(workflow.DefaultSilence)
	_, err := b.Begin(t.Context(), w.ID)
	require.NoError(t, err)
	require.NoError(t, d.Dispatch(t.Context()))
	require.Len(t, e.asked, 1, "a look is a sign of life")

	e.lost = true
	b.pass(2 * workflow.DefaultSilence)
	require.NoError(t, d.Dispatch(t.Context()))
	require.Equal(t, []uuid.UUID{w.ID}, e.restarted)
	for _, step := range []string{"connect", "nfd", "hami"} {
		b.look(t, w, step, workflow.Completed(""))
	}
	_, err = b.Finish(t.Context(), w.ID)
	require.NoError(t, err)
	b.pass(2 * workflow.DefaultSilence)
	require.NoError(t, d.Dispatch(t.Context()))
	require.Len(t, e.restarted, 1, "it is over")
}

// A wait that is over shows at once that the engine has lost who waits.
func TestDispatcherRestartsWhoCannotBeWoken(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w := b.start(t)
	e := &recorder{}
	d := b.dispatcher(t, e)
	require.NoError(t, d.Dispatch(t.Context()))
	b.look(t, w, "connect", workflow.Waiting("", b.clock().Add(time.Hour), "cluster"))
	e.lost = true
	b.happens(t, event.ClusterConnected, "frankfurt")
	require.NoError(t, d.Dispatch(t.Context()))
	require.Equal(t, []uuid.UUID{w.ID}, e.restarted)
}

// Dapr 1.18 may keep the work item of a sidecar that died: the workflow is on
// there, and nobody works on it. It begins anew after a long silence, in which
// all else went well.
func TestDispatcherGivesUpOnAnEngineThatDoesNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w := b.start(t)
	e := &recorder{}
	d := b.dispatcher(t, e)
	require.NoError(t, d.Dispatch(t.Context()))
	b.pass(9 * time.Minute)
	e.err = errors.New("engine away")
	require.ErrorIs(t, d.Dispatch(t.Context()), e.err)
	e.err = nil
	b.pass(9 * time.Minute)
	require.NoError(t, d.Dispatch(t.Context()))
	require.Len(t, e.asked, 2)
	require.Empty(t, e.restarted, "it had no chance before")
	b.pass(2 * time.Minute)
	require.NoError(t, d.Dispatch(t.Context()))
	require.Equal(t, []uuid.UUID{w.ID}, e.restarted)
}

// Two replicas ask for each silent workflow once between them.
func TestDispatchersShareTheSilent(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e := &recorder{lost: true}
	first, second := b.dispatcher(t, e), b.dispatcher(t, e)
	for range 20 {
		req := b.request()
		req.Exclusive = false
		_, err := b.Start(t.Context(), "ann", req)
		require.NoError(t, err)
	}
	require.NoError(t, errors.Join(first.Dispatch(t.Context()), second.Dispatch(t.Context())))
	b.pass(2 * workflow.DefaultSilence)
	var wg sync.WaitGroup
	for _, d := range []*workflow.Dispatcher{first, second} {
		wg.Go(func() { require.NoError(t, d.Dispatch(t.Context())) })
	}
	wg.Wait()
	require.Len(t, e.restarted, 20)
}

// What happened before a look was seen by it. The dispatcher, which follows the
// events at some distance, woke the look's wait by it all the same: each needless
// look delayed those that were due, in a hub with many clusters for seconds.
func TestDispatcherWakesNobodyByWhatWasSeen(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w := b.start(t)
	e := &recorder{}
	d := b.dispatcher(t, e)
	require.NoError(t, d.Dispatch(t.Context()))
	b.happens(t, event.ReleaseApplied, "nfd")
	require.False(t, b.look(t, w, "connect", workflow.Waiting("", b.clock().Add(time.Hour), "release/nfd")))
	require.NoError(t, d.Dispatch(t.Context()))
	require.Empty(t, e.raised)
	b.happens(t, event.ReleaseStatus, "nfd")
	require.NoError(t, d.Dispatch(t.Context()))
	require.Len(t, e.raised, 1)
}
