package workflow_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/internal/event"
	"github.com/budecosystem/budcluster/hub/internal/invalid"
	"github.com/budecosystem/budcluster/hub/internal/page"
	"github.com/budecosystem/budcluster/hub/internal/store"
	"github.com/budecosystem/budcluster/hub/internal/store/storetest"
	"github.com/budecosystem/budcluster/hub/internal/workflow"
	"github.com/budecosystem/budcluster/internal/id"
)

type bundle struct {
	*workflow.Service
	store   *store.Store
	events  *event.Service
	cluster uuid.UUID

	mu      sync.Mutex // guards now, notices, failing
	now     time.Time
	notices []workflow.Notice
	failing error
}

func (b *bundle) clock() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now = b.now.Add(time.Second)
	return b.now
}

func (b *bundle) told() (events []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, n := range b.notices {
		events = append(events, n.Event+" "+string(n.Status))
	}
	return events
}

func setup(tb testing.TB) *bundle {
	tb.Helper()
	b := &bundle{now: time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC), store: storetest.New(tb), cluster: id.New()}
	var err error
	b.Service, err = workflow.New(workflow.Config{
		Store: b.store, Logger: slog.New(slog.DiscardHandler), Now: b.clock,
		Notify: func(_ context.Context, _ *workflow.Workflow, n workflow.Notice) error {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.notices = append(b.notices, n)
			return b.failing
		},
	})
	require.NoError(tb, err)
	b.events, err = event.New(event.Config{Store: b.store, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(tb, err)
	return b
}

func (b *bundle) start(tb testing.TB) *workflow.Workflow {
	tb.Helper()
	w, err := b.Start(tb.Context(), "ann", b.request())
	require.NoError(tb, err)
	return w
}

func (b *bundle) request() workflow.Request {
	return workflow.Request{
		Kind: workflow.RegisterCluster, ClusterID: b.cluster, ClusterName: "frankfurt", Input: map[string]string{"name": "frankfurt"}, Exclusive: true,
		Steps: []workflow.Step{
			{Name: "connect", Title: "Waiting for the agent", Milestone: "verify_cluster_connection", Typical: 90 * time.Second},
			{Name: "nfd", Title: "Installing NFD", Milestone: "configure_cluster", Release: "nfd", Typical: time.Minute},
			{Name: "hami", Title: "Installing HAMi", Milestone: "configure_cluster", Typical: time.Minute},
		},
	}
}

// look begins a look at a step and settles it with o.
func (b *bundle) look(tb testing.TB, w *workflow.Workflow, step string, o workflow.Outcome) (again bool) {
	tb.Helper()
	turn, err := b.Begin(tb.Context(), w.ID)
	require.NoError(tb, err)
	require.Equal(tb, step, turn.Step.Name)
	_, again, err = b.Settle(tb.Context(), turn, 1, o)
	require.NoError(tb, err)
	return again
}

func (b *bundle) happens(tb testing.TB, kind event.Type, subject string) {
	tb.Helper()
	require.NoError(tb, b.store.AppendEvents(tb.Context(), event.Event{At: b.clock(), Type: kind, ClusterID: b.cluster, Subject: subject, Actor: "agent"}))
}

func TestLifeOfAWorkflow(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w := b.start(t)
	require.Equal(t, workflow.StatusPending, w.Status)
	require.Equal(t, 3*time.Minute+30*time.Second, w.ETA)

	require.False(t, b.look(t, w, "connect", workflow.Completed("connected")))
	require.Equal(t, []string{"verify_cluster_connection Completed", "eta Running"}, b.told())
	require.Equal(t, "2", b.notices[1].Message, "minutes")
	b.look(t, w, "nfd", workflow.Skipped("it was there before"))
	require.Len(t, b.told(), 2, "half a milestone is none")
	b.look(t, w, "hami", workflow.Outcome{Status: workflow.StepCompleted, Result: json.RawMessage(`{"id":"x"}`)})

	done, err := b.Finish(t.Context(), w.ID)
	require.NoError(t, err)
	require.Equal(t, workflow.StatusCompleted, done.Status)
	again, err := b.Finish(t.Context(), w.ID)
	require.NoError(t, err)
	require.Equal(t, done, again, "a finished workflow does not change")
	require.Equal(t, []string{"verify_cluster_connection Completed", "eta Running", "configure_cluster Completed", "results Completed"}, b.told())
	require.JSONEq(t, `{"id":"x"}`, string(b.notices[3].Result))

	stored, err := b.Get(t.Context(), w.ID.String())
	require.NoError(t, err)
	require.Equal(t, workflow.StepSkipped, stored.Steps[1].Status)
	require.NotNil(t, stored.FinishedAt)
}

func TestFailureSaysWhyOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w := b.start(t)
	b.look(t, w, "connect", workflow.Completed(""))
	for _, name := range []string{"nfd", "gpu", "hami"} {
		require.NoError(t, b.RecordEffect(t.Context(), w.ID, workflow.Effect{Kind: workflow.EffectRelease, Name: name, ClusterID: b.cluster}))
	}
	b.look(t, w, "nfd", workflow.Failed("ImagePullBackOff", "pod nfd-worker-x cannot pull its image"))
	require.NoError(t, b.Undo(t.Context(), w.ID))
	require.NoError(t, b.Undo(t.Context(), w.ID))
	running, err := b.Get(t.Context(), w.ID.String())
	require.NoError(t, err)
	require.Equal(t, workflow.StatusUndoing, running.Status)

	made, err := b.Made(t.Context(), w.ID)
	require.NoError(t, err)
	require.NoError(t, b.Leave(t.Context(), w.ID, made[0], "its pods hang"))
	require.NoError(t, b.Undone(t.Context(), w.ID, made[1]))
	require.NoError(t, b.Leave(t.Context(), w.ID, made[2], "the agent may not"))
	done, err := b.Finish(t.Context(), w.ID)
	require.NoError(t, err)
	require.Equal(t, workflow.StatusFailed, done.Status)
	require.Equal(t, "ImagePullBackOff", done.Reason)
	require.Equal(t, "Installing NFD: pod nfd-worker-x cannot pull its image; left behind: release hami (its pods hang); left behind: release nfd (the agent may not)", done.Message)
	require.Equal(t, []string{"verify_cluster_connection Completed", "eta Running", "configure_cluster Failed", "results Failed"}, b.told())
	require.Equal(t, workflow.StepSkipped, done.Steps[2].Status, "not reached")
}

// A notice that cannot be written takes the change that it tells of with it.
func TestNoticeAndChangeAreOne(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w := b.start(t)
	for _, step := range []string{"connect", "nfd", "hami"} {
		b.look(t, w, step, workflow.Completed(""))
	}
	b.failing = errors.New("no space left")
	_, err := b.Finish(t.Context(), w.ID)
	require.ErrorIs(t, err, b.failing)
	stored, err := b.Get(t.Context(), w.ID.String())
	require.NoError(t, err)
	require.Equal(t, workflow.StatusRunning, stored.Status)
	require.Nil(t, stored.FinishedAt)
}

func TestOneLifeAtATimeForACluster(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w := b.start(t)
	_, err := b.Start(t.Context(), "bob", b.request())
	var busy *workflow.BusyError
	require.ErrorAs(t, err, &busy)
	require.Equal(t, w.ID, busy.Other)
	_, err = b.Finish(t.Context(), w.ID)
	require.NoError(t, err)
	b.start(t)
}

func TestBadRequestsAreRefused(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for name, call := range map[string]func(ctx context.Context) error{
		"kind": func(ctx context.Context) error {
			_, err := b.Start(ctx, "ann", workflow.Request{Kind: "dance"})
			return err
		},
		"list kind": func(ctx context.Context) error {
			_, _, err := b.List(ctx, workflow.Filter{Kind: "dance"}, page.Page{})
			return err
		},
		"status": func(ctx context.Context) error {
			_, _, err := b.List(ctx, workflow.Filter{Status: "Dancing"}, page.Page{})
			return err
		},
		"cursor": func(ctx context.Context) error {
			_, _, err := b.List(ctx, workflow.Filter{}, page.Page{Cursor: page.Cursor("yesterday", "x")})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.NotEmpty(t, invalid.Of(call(t.Context())))
		})
	}
	_, err := b.Get(t.Context(), "nonsense")
	require.ErrorIs(t, err, workflow.ErrNotFound)
	_, err = b.Get(t.Context(), id.New().String())
	require.ErrorIs(t, err, workflow.ErrNotFound)
}

func TestListIsNewestFirstInPages(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var want []uuid.UUID
	for range 5 {
		req := b.request()
		req.Exclusive = false
		w, err := b.Start(t.Context(), "ann", req)
		require.NoError(t, err)
		want = append([]uuid.UUID{w.ID}, want...)
	}
	var got []uuid.UUID
	p := page.Page{Limit: 2}
	for {
		found, next, err := b.List(t.Context(), workflow.Filter{ClusterID: &b.cluster, Active: true}, p)
		require.NoError(t, err)
		for _, w := range found {
			got = append(got, w.ID)
		}
		if p.Cursor = next; next == "" {
			break
		}
	}
	require.Equal(t, want, got)
}

func TestCancelWakesAndIsSeen(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w := b.start(t)
	require.False(t, b.look(t, w, "connect", workflow.Waiting("no agent yet", b.clock().Add(time.Hour), "cluster")))
	cancelled, err := b.Cancel(t.Context(), "bob", w.ID.String())
	require.NoError(t, err)
	require.Equal(t, "bob", cancelled.CancelledBy)
	_, err = b.Cancel(t.Context(), "eve", w.ID.String())
	require.NoError(t, err, "again is no error")

	due, err := b.store.WaitDue(t.Context(), b.clock(), b.clock(), 10)
	require.NoError(t, err)
	require.Equal(t, []workflow.Due{{WorkflowID: w.ID, Sequence: 1}}, due)
	turn, err := b.Begin(t.Context(), w.ID)
	require.NoError(t, err)
	require.True(t, turn.Cancelled)
	_, _, err = b.Settle(t.Context(), turn, 2, workflow.Outcome{Status: workflow.StepCancelled})
	require.NoError(t, err)
	done, err := b.Finish(t.Context(), w.ID)
	require.NoError(t, err)
	require.Equal(t, workflow.StatusCancelled, done.Status)
	require.Equal(t, "cancelled by bob", done.Message)
	_, err = b.Cancel(t.Context(), "bob", w.ID.String())
	require.ErrorIs(t, err, workflow.ErrFinished)
}

// A change between the look and the wait must not be lost.
func TestChangeDuringTheLookMeansAnotherLook(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w := b.start(t)
	for name, test := range map[string]struct {
		kind    event.Type
		subject string
		again   bool
	}{
		"the noun":       {event.ClusterConnected, "frankfurt", true},
		"the subject":    {event.ReleaseStatus, "nfd", true},
		"something else": {event.ReleaseStatus, "other", false},
	} {
		turn, err := b.Begin(t.Context(), w.ID)
		require.NoError(t, err)
		b.happens(t, test.kind, test.subject)
		_, again, err := b.Settle(t.Context(), turn, 1, workflow.Waiting("", b.clock().Add(time.Hour), "cluster", "release/nfd"))
		require.NoError(t, err)
		require.Equal(t, test.again, again, name)
	}
}

func TestSettledStepsStaySettled(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w := b.start(t)
	turn, err := b.Begin(t.Context(), w.ID)
	require.NoError(t, err)
	next, again, err := b.Settle(t.Context(), turn, 1, workflow.Completed("first"))
	require.NoError(t, err)
	require.False(t, again)
	require.Equal(t, "nfd", next.Step.Name, "the look at the next step is open")
	require.Equal(t, workflow.StepRunning, next.Step.Status)
	late, again, err := b.Settle(t.Context(), turn, 2, workflow.Failed("Late", "a replay"))
	require.NoError(t, err)
	require.Nil(t, late)
	require.True(t, again)
	stored, err := b.Get(t.Context(), w.ID.String())
	require.NoError(t, err)
	require.Equal(t, "first", stored.Steps[0].Message)
	require.Equal(t, workflow.StepRunning, stored.Steps[1].Status)

	next, _, err = b.Settle(t.Context(), next, 1, workflow.Failed("Broken", "no image"))
	require.NoError(t, err)
	require.Nil(t, next.Step, "nothing is begun after a failure")
	require.NotNil(t, next.Workflow.UndoingSince())
}

func TestEffectsAreListedLastFirst(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w := b.start(t)
	for _, name := range []string{"nfd", "hami", "nfd"} {
		require.NoError(t, b.RecordEffect(t.Context(), w.ID, workflow.Effect{Kind: workflow.EffectRelease, Name: name, ClusterID: b.cluster}))
	}
	made, err := b.Made(t.Context(), w.ID)
	require.NoError(t, err)
	require.Len(t, made, 2)
	require.Equal(t, "hami", made[0].Name)
	require.NoError(t, b.Undone(t.Context(), w.ID, made[0]))
	made, err = b.Made(t.Context(), w.ID)
	require.NoError(t, err)
	require.NotNil(t, made[0].UndoneAt)
	require.Equal(t, "nfd", made[1].Name)
	require.Nil(t, made[1].UndoneAt)
}
