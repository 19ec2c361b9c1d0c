package enginetest

import (
	"context"
	"encoding/json"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/internal/engine"
)

// sequence: activities run one after the other, each once, in order, and the
// result of one is the input of the next.
func sequence(t *testing.T, s *suite) {
	s.Worker(t, Old)
	id := s.id("sequence")
	s.director.Direct(id, func(_ context.Context, c Call) Reply {
		var before string
		if err := json.Unmarshal(c.Value, &before); err != nil {
			return Reply{Error: err.Error()}
		}
		return Reply{Value: before + c.Step}
	})
	s.start(t, "steps", id, Input{Steps: []string{"a", "b", "c"}})
	s.completes(t, id, "abc")
	require.Equal(t, map[string]int{"a": 1, "b": 1, "c": 1}, s.director.Steps(id))
}

// fanOut: activities that a workflow begins at once are on at once, and the
// workflow gets all results, whatever the order in which they come.
func fanOut(t *testing.T, s *suite) {
	const n = 20
	s.Worker(t, Old)
	id := s.id("fan")
	var on atomic.Int64
	all := make(chan struct{})
	s.director.Direct(id, func(ctx context.Context, c Call) Reply {
		if on.Add(1) == n {
			close(all)
		}
		select {
		case <-all:
			return Reply{Value: c.Step}
		case <-ctx.Done():
			return Reply{Error: "alone"}
		}
	})
	s.start(t, "fan", id, Input{N: n})
	want := make([]string, n)
	for i := range want {
		want[i] = fmt.Sprint("branch ", i)
	}
	s.completes(t, id, want)
	for step, times := range s.director.Steps(id) {
		require.Equal(t, 1, times, step)
	}
}

// retryWithBackoff: a failed activity is tried again, later each time.
func retryWithBackoff(t *testing.T, s *suite) {
	s.Worker(t, Old)
	id := s.id("retry")
	var tries atomic.Int64
	s.director.Direct(id, func(context.Context, Call) Reply {
		if tries.Add(1) < 3 {
			return Reply{Error: "not yet"}
		}
		return Reply{Value: "at last"}
	})
	s.start(t, "retry", id, Input{N: 5})
	s.completes(t, id, "at last")
	calls := s.director.Calls(id)
	require.Len(t, calls, 3)
	require.GreaterOrEqual(t, calls[1].At.Sub(calls[0].At), 100*time.Millisecond)
	require.GreaterOrEqual(t, calls[2].At.Sub(calls[1].At), 200*time.Millisecond)

	// Enough is enough.
	id = s.id("retry")
	s.director.Direct(id, func(context.Context, Call) Reply { return Reply{Error: "never"} })
	s.start(t, "retry", id, Input{N: 2})
	st := s.end(t, id)
	require.Equal(t, engine.Failed, st.State)
	require.Contains(t, st.Failure, "never")
	require.Len(t, s.director.Calls(id), 2)
}

// permanentErrorStops: what workflow.Permanent marked in an activity is not
// tried again, although it was wrapped there.
func permanentErrorStops(t *testing.T, s *suite) {
	s.Worker(t, Old)
	id := s.id("permanent")
	s.director.Direct(id, func(context.Context, Call) Reply { return Reply{Error: "no such chart", Permanent: true} })
	s.start(t, "retry", id, Input{N: 5})
	st := s.end(t, id)
	require.Equal(t, engine.Failed, st.State)
	require.Contains(t, st.Failure, "step try: no such chart")
	require.Len(t, s.director.Calls(id), 1)
}

// panicIsAFailure: an activity that panics has failed, and its process lives.
func panicIsAFailure(t *testing.T, s *suite) {
	s.Worker(t, Old)
	id := s.id("panic")
	s.director.Direct(id, func(context.Context, Call) Reply { return Reply{Panic: true} })
	s.start(t, "steps", id, Input{Steps: []string{"a"}})
	require.Equal(t, engine.Failed, s.end(t, id).State)
	id = s.id("after")
	s.start(t, "steps", id, Input{Steps: []string{"a"}})
	s.completes(t, id, "a")
}

// durableTimer: a workflow's timer does not go off early, and soon when it is
// time.
func durableTimer(t *testing.T, s *suite) {
	s.Worker(t, Old)
	const wait = 700 * time.Millisecond
	id := s.id("timer")
	s.start(t, "timer", id, Input{N: int(wait.Milliseconds())})
	s.completes(t, id, nil)
	calls := s.director.Calls(id)
	require.Len(t, calls, 2)
	took := calls[1].At.Sub(calls[0].At)
	require.GreaterOrEqual(t, took, wait)
	t.Logf("a timer of %s went off %s late", wait, took-wait)
}

// externalEvent: an event wakes the workflow that waits for it, with its data.
func externalEvent(t *testing.T, s *suite) {
	s.Worker(t, Old)
	id := s.id("event")
	gate := newGate("waits")
	s.director.Direct(id, gate.handle)
	s.start(t, "event", id, Input{})
	await(t, gate.entered, "the workflow")
	gate.replies <- Reply{}
	require.NoError(t, s.Engine.Raise(t.Context(), id, "other", "not this"))
	require.NoError(t, s.Engine.Raise(t.Context(), id, "go", map[string]int{"n": 1}))
	s.completes(t, id, map[string]int{"n": 1})
	require.NoError(t, s.Engine.Raise(t.Context(), id, "go", nil), "an ended instance drops it")
}

// eventBeforeItsWait: events that come while the workflow does something else
// are kept, each for one wait, in order.
func eventBeforeItsWait(t *testing.T, s *suite) {
	s.Worker(t, Old)
	id := s.id("early")
	gate := newGate("busy")
	s.director.Direct(id, gate.handle)
	s.start(t, "early", id, Input{N: 3})
	await(t, gate.entered, "the workflow")
	for i := range 3 {
		require.NoError(t, s.Engine.Raise(t.Context(), id, "go", i))
	}
	gate.replies <- Reply{}
	s.completes(t, id, []int{0, 1, 2})
}

// eventTimesOut: waiting has an end.
func eventTimesOut(t *testing.T, s *suite) {
	s.Worker(t, Old)
	id := s.id("timeout")
	s.start(t, "timeout", id, Input{N: 200})
	s.completes(t, id, "too late")
	id = s.id("timeout")
	s.start(t, "timeout", id, Input{N: 60_000})
	require.NoError(t, s.Engine.Raise(t.Context(), id, "go", nil))
	s.completes(t, id, "in time")
}

// childWorkflow: a workflow runs another and gets its result.
func childWorkflow(t *testing.T, s *suite) {
	s.Worker(t, Old)
	id := s.id("parent")
	child := id + "-child"
	s.start(t, "parent", id, Input{Steps: []string{"a", "b"}, Child: child})
	s.completes(t, id, "b")
	s.completes(t, child, "b")
	require.Equal(t, map[string]int{"a": 1, "b": 1}, s.director.Steps(child))
}

// childFails: a child's failure is its parent's to deal with.
func childFails(t *testing.T, s *suite) {
	s.Worker(t, Old)
	id := s.id("parent")
	child := id + "-child"
	s.director.Direct(child, func(context.Context, Call) Reply { return Reply{Error: "out of disk"} })
	s.start(t, "parent", id, Input{Steps: []string{"a"}, Child: child})
	s.completes(t, id, "child: out of disk")
	require.Equal(t, engine.Failed, s.end(t, child).State)
}

// continueAsNew: a workflow begins anew with another input; events that it has
// not taken yet go with it.
func continueAsNew(t *testing.T, s *suite) {
	s.Worker(t, Old)
	id := s.id("rounds")
	gate := newGate("round 3")
	s.director.Direct(id, gate.handle)
	s.start(t, "rounds", id, Input{N: 3})
	await(t, gate.entered, "the workflow")
	for _, data := range []string{"x", "y", "z"} {
		require.NoError(t, s.Engine.Raise(t.Context(), id, "go", data))
	}
	gate.replies <- Reply{}
	s.completes(t, id, []string{"x", "y", "z"})
	require.Equal(t, map[string]int{"round 3": 1, "round 2": 1, "round 1": 1}, s.director.Steps(id))
}

// continueAsNewIsNew: what the former round began is not taken for what the
// new one did.
func continueAsNewIsNew(t *testing.T, s *suite) {
	s.Worker(t, Old)
	id := s.id("stale")
	s.start(t, "stale", id, Input{N: 500})
	s.completes(t, id, true)
}

// idempotentStart: an id is started once, whoever asks again, and whenever.
func idempotentStart(t *testing.T, s *suite) {
	s.Worker(t, Old)
	id := s.id("once")
	gate := newGate("a")
	s.director.Direct(id, gate.handle)
	s.start(t, "steps", id, Input{Steps: []string{"a"}})
	await(t, gate.entered, "the workflow")
	s.start(t, "steps", id, Input{Steps: []string{"b"}})
	gate.replies <- Reply{Value: "first"}
	s.completes(t, id, "first")
	s.start(t, "steps", id, Input{Steps: []string{"c"}})
	s.completes(t, id, "first")
	require.Equal(t, map[string]int{"a": 1}, s.director.Steps(id))
}

// terminate: a workflow ends where it is, and nothing of it begins any more.
func terminate(t *testing.T, s *suite) {
	s.Worker(t, Old)
	id := s.id("terminate")
	gate := newGate("a")
	s.director.Direct(id, gate.handle)
	s.start(t, "steps", id, Input{Steps: []string{"a", "b"}})
	await(t, gate.entered, "the workflow")
	require.NoError(t, s.Engine.Terminate(t.Context(), id, "not wanted"))
	st := s.end(t, id)
	require.Equal(t, engine.Terminated, st.State)
	require.JSONEq(t, `"not wanted"`, string(st.Output))
	if s.Tells {
		require.ErrorContains(t, await(t, gate.stopped, "the end of the activity's context"), engine.ErrLost.Error())
	} else {
		gate.replies <- Reply{}
	}
	require.NoError(t, s.Engine.Terminate(t.Context(), id, "again"), "it has ended")
	require.Equal(t, map[string]int{"a": 1}, s.director.Steps(id))
}

// terminateParent: children end with their parent.
func terminateParent(t *testing.T, s *suite) {
	s.Worker(t, Old)
	id := s.id("parent")
	child := id + "-child"
	gate := newGate("a")
	s.director.Direct(child, gate.handle)
	s.start(t, "parent", id, Input{Steps: []string{"a", "b"}, Child: child})
	await(t, gate.entered, "the child")
	require.NoError(t, s.Engine.Terminate(t.Context(), id, "not wanted"))
	require.Equal(t, engine.Terminated, s.end(t, id).State)
	require.Equal(t, engine.Terminated, s.end(t, child).State)
	gate.replies <- Reply{}
	require.Equal(t, map[string]int{"a": 1}, s.director.Steps(child))
}

// unknownInstance: what is not there is ErrNotFound, not silence.
func unknownInstance(t *testing.T, s *suite) {
	s.Worker(t, Old)
	_, err := s.Engine.Status(t.Context(), "nobody")
	require.ErrorIs(t, err, engine.ErrNotFound)
	_, err = s.Engine.Wait(t.Context(), "nobody")
	require.ErrorIs(t, err, engine.ErrNotFound)
	require.ErrorIs(t, s.Engine.Raise(t.Context(), "nobody", "go", nil), engine.ErrNotFound)
	require.ErrorIs(t, s.Engine.Terminate(t.Context(), "nobody", "why"), engine.ErrNotFound)
	require.NoError(t, s.Engine.Purge(t.Context(), "nobody"), "it is not there, as wanted")
}

// purge: an instance that has ended can be forgotten, with its children; then
// its id is free again. One that is on cannot.
func purge(t *testing.T, s *suite) {
	s.Worker(t, Old)
	id := s.id("purge")
	child := id + "-child"
	gate := newGate("a")
	s.director.Direct(child, gate.handle)
	s.start(t, "parent", id, Input{Steps: []string{"a"}, Child: child})
	await(t, gate.entered, "the child")
	require.ErrorIs(t, s.Engine.Purge(t.Context(), id), engine.ErrNotEnded)
	gate.replies <- Reply{Value: 1}
	s.completes(t, id, 1)
	require.NoError(t, s.Engine.Purge(t.Context(), id))
	for _, gone := range []string{id, child} {
		_, err := s.Engine.Status(t.Context(), gone)
		require.ErrorIs(t, err, engine.ErrNotFound, gone)
	}
	s.start(t, "steps", id, Input{Steps: []string{"b"}})
	s.completes(t, id, "b")
}
