package workflow_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/internal/event"
	"github.com/budecosystem/budcluster/hub/internal/page"
	"github.com/budecosystem/budcluster/hub/internal/workflow"
)

// steps lists the messages of the events of steps.
func (b *bundle) steps(tb testing.TB) (messages []string) {
	tb.Helper()
	all, err := b.events.List(tb.Context(), event.Filter{Limit: page.MaxLimit})
	require.NoError(tb, err)
	for _, e := range all {
		if e.Type == event.WorkflowStep {
			messages = append(messages, e.Message)
		}
	}
	return messages
}

// A replica that was frozen amid a look wakes up after another has looked
// again. What it saw is old, and the engine waits for the other's sequence: its
// wait, in place of the other's, was woken in vain.
func TestALateLookCountsForNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w := b.start(t)
	frozen, err := b.Begin(t.Context(), w.ID)
	require.NoError(t, err)
	turn, err := b.Begin(t.Context(), w.ID)
	require.NoError(t, err)
	_, _, err = b.Settle(t.Context(), turn, 2, workflow.Waiting("new", b.clock().Add(time.Hour), "release/nfd"))
	require.NoError(t, err)

	_, again, err := b.Settle(t.Context(), frozen, 1, workflow.Waiting("old", b.clock().Add(time.Hour), "cluster"))
	require.NoError(t, err)
	require.True(t, again, "it does not know what is")
	_, again, err = b.Settle(t.Context(), frozen, 1, workflow.Failed("Late", "old"))
	require.NoError(t, err)
	require.True(t, again)

	stored, err := b.Get(t.Context(), w.ID.String())
	require.NoError(t, err)
	require.Equal(t, workflow.StepWaiting, stored.Steps[0].Status)
	require.Equal(t, "new", stored.Steps[0].Message)
	require.Equal(t, 2, stored.Steps[0].Evaluations)
	require.NoError(t, b.store.WaitWakeWorkflow(t.Context(), w.ID, b.clock()))
	due, err := b.store.WaitDue(t.Context(), b.clock(), b.clock(), 10)
	require.NoError(t, err)
	require.Equal(t, []workflow.Due{{WorkflowID: w.ID, Sequence: 2}}, due)
}

// The same for the waits of an undoing workflow, which has no steps to tell by.
func TestALateWaitDoesNotReplaceANewOne(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w := b.start(t)
	b.look(t, w, "connect", workflow.Failed("No", "no"))
	require.NoError(t, b.Undo(t.Context(), w.ID))
	turn, err := b.BeginUndo(t.Context(), w.ID)
	require.NoError(t, err)
	for _, sequence := range []int64{7, 8, 7} {
		_, err = b.Park(t.Context(), turn, sequence, workflow.Waiting("", b.clock().Add(time.Hour), "release/nfd"))
		require.NoError(t, err)
	}
	require.NoError(t, b.store.WaitWakeWorkflow(t.Context(), w.ID, b.clock()))
	due, err := b.store.WaitDue(t.Context(), b.clock(), b.clock(), 10)
	require.NoError(t, err)
	require.Equal(t, []workflow.Due{{WorkflowID: w.ID, Sequence: 8}}, due)
}

// A look that finds what the one before it found says nothing: a cluster that
// waits a day for its agent had two thousand events.
func TestALookThatFindsNothingNewSaysNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w := b.start(t)
	for _, message := range []string{"no agent", "no agent", "no agent", "two nodes"} {
		require.False(t, b.look(t, w, "connect", workflow.Waiting(message, b.clock().Add(time.Hour), "cluster")))
	}
	b.look(t, w, "connect", workflow.Completed("two nodes"))
	require.Equal(t, []string{
		"register_cluster of cluster frankfurt: Waiting for the agent: Waiting: no agent",
		"register_cluster of cluster frankfurt: Waiting for the agent: Waiting: two nodes",
		"register_cluster of cluster frankfurt: Waiting for the agent: Completed: two nodes",
	}, b.steps(t))
}

// What is made once the undoing has begun would be undone by nobody.
func TestAnEffectComesTooLate(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w := b.start(t)
	late := func() error {
		return b.RecordEffect(t.Context(), w.ID, workflow.Effect{Kind: workflow.EffectRelease, Name: "nfd", ClusterID: b.cluster})
	}
	b.look(t, w, "connect", workflow.Failed("No", "no"))
	require.NoError(t, b.Undo(t.Context(), w.ID))
	require.ErrorIs(t, late(), workflow.ErrFinished)
	_, err := b.Finish(t.Context(), w.ID)
	require.NoError(t, err)
	require.ErrorIs(t, late(), workflow.ErrFinished)
	made, err := b.Made(t.Context(), w.ID)
	require.NoError(t, err)
	require.Empty(t, made)
}

// picky is an engine that wants nothing to do with some workflows.
type picky struct {
	recorder

	refused map[uuid.UUID]bool
}

var errPicky = errors.New("not this one")

func (p *picky) Start(ctx context.Context, w *workflow.Workflow) error {
	if p.refused[w.ID] {
		return errPicky
	}
	return p.recorder.Start(ctx, w)
}

func (p *picky) Raise(ctx context.Context, id uuid.UUID, wait string) error {
	if p.refused[id] {
		return errPicky
	}
	return p.recorder.Raise(ctx, id, wait)
}

// One workflow that the engine does not take keeps no other from it.
func TestDispatcherGoesRoundWhatFails(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e := &picky{refused: map[uuid.UUID]bool{}}
	d := b.dispatcher(t, e)
	require.NoError(t, d.Dispatch(t.Context()))
	const n = 5
	for i := range n {
		req := b.request()
		req.Exclusive = false
		w, err := b.Start(t.Context(), "ann", req)
		require.NoError(t, err)
		e.refused[w.ID] = i%2 == 0
		b.look(t, w, "connect", workflow.Waiting("", b.clock().Add(time.Hour), "cluster"))
	}
	b.happens(t, event.ClusterConnected, "frankfurt")
	require.ErrorIs(t, d.Dispatch(t.Context()), errPicky)
	require.Len(t, e.started, n/2)
	require.Len(t, e.raised, n/2)
}

// A hub dies when a workflow waits and what it waits for has just happened. The
// next one begins to follow the events after that.
func TestDispatcherFindsWhatNobodyFollowed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w := b.start(t)
	require.False(t, b.look(t, w, "connect", workflow.Waiting("", b.clock().Add(time.Hour), "cluster")))
	b.happens(t, event.ClusterConnected, "frankfurt")
	e := &recorder{}
	require.NoError(t, b.dispatcher(t, e).Dispatch(t.Context()))
	require.Equal(t, []string{w.ID.String() + " " + workflow.WaitName(1)}, e.raised)
}
