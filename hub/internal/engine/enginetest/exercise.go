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

// Harness is one engine with a store of its own, and a way to start workers.
type Harness struct {
	// Engine starts and looks, and runs nothing.
	Engine *engine.Engine
	// Worker starts a worker process in one of the versions of its functions,
	// by Command and Spawn.
	Worker func(t *testing.T, version string) *Process
	// Lease is how long the engine leaves a step with a worker that is gone: the
	// step begins again at most one second after that. Zero when the engine has
	// no leases; then it only has to begin again.
	Lease time.Duration
	// Orphans says that an item which the engine was about to give to a worker
	// that died may wait until a worker comes to the same place again. Dapr
	// 1.18.2 does so: a sidecar keeps such an item, met in one of 240 workflows.
	Orphans bool
	// Tells says that running activities hear of the end of their workflow.
	Tells bool
}

// Exercise runs the suite. Every test has a harness of its own.
func Exercise(t *testing.T, newHarness func(t *testing.T, d *Director) *Harness) {
	t.Helper()
	for name, test := range map[string]func(*testing.T, *suite){
		"Sequence":               sequence,
		"FanOut":                 fanOut,
		"RetryWithBackoff":       retryWithBackoff,
		"PermanentErrorStops":    permanentErrorStops,
		"PanicIsAFailure":        panicIsAFailure,
		"Timer":                  durableTimer,
		"Event":                  externalEvent,
		"EventBeforeItsWait":     eventBeforeItsWait,
		"EventTimesOut":          eventTimesOut,
		"Child":                  childWorkflow,
		"ChildFails":             childFails,
		"ContinueAsNew":          continueAsNew,
		"ContinueAsNewIsNew":     continueAsNewIsNew,
		"IdempotentStart":        idempotentStart,
		"Terminate":              terminate,
		"TerminateParent":        terminateParent,
		"UnknownInstance":        unknownInstance,
		"Purge":                  purge,
		"Version":                version,
		"Patch":                  patch,
		"UnknownToOneReplica":    unknownToOneReplica,
		"KillInAnActivity":       killInAnActivity,
		"StopInAnActivity":       stopInAnActivity,
		"LongActivity":           longActivity,
		"Fencing":                fencing,
		"TwoReplicas":            func(t *testing.T, s *suite) { replicas(t, s, 2) },
		"ThreeReplicas":          func(t *testing.T, s *suite) { replicas(t, s, 3) },
		"KillOneOfThreeReplicas": killOneOfThree,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := NewDirector(t)
			test(t, &suite{Harness: newHarness(t, d), director: d})
		})
	}
}

type suite struct {
	*Harness
	director *Director
	ids      atomic.Int64
}

// id makes an id for an instance of this test.
func (s *suite) id(name string) string { return fmt.Sprint(name, "-", s.ids.Add(1)) }

// start begins a workflow.
func (s *suite) start(t *testing.T, name, id string, in Input) {
	t.Helper()
	require.NoError(t, s.Engine.Start(t.Context(), name, id, in))
}

// end waits for an instance's end.
func (s *suite) end(t *testing.T, id string) engine.Status {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), Soon, fmt.Errorf("%s has not ended in %s", id, Soon))
	defer cancel()
	st, err := s.Engine.Wait(ctx, id)
	require.NoError(t, err)
	require.Equal(t, id, st.ID)
	return st
}

// completes waits for an instance's end, which has to be a good one, and
// compares its output.
func (s *suite) completes(t *testing.T, id string, want any) {
	t.Helper()
	st := s.end(t, id)
	require.Equal(t, engine.Completed, st.State, "%s: %s", id, st.Failure)
	if want == nil {
		return
	}
	raw, err := json.Marshal(want)
	require.NoError(t, err)
	require.JSONEq(t, string(raw), string(st.Output))
}

// gate is a Handler for one step: it tells that the step began, and holds it
// until it is opened. Other steps return their names.
type gate struct {
	step    string
	entered chan Call
	replies chan Reply
	stopped chan error // why a step did not wait for its reply
}

func newGate(step string) *gate {
	return &gate{step: step, entered: make(chan Call, 100), replies: make(chan Reply, 100), stopped: make(chan error, 100)}
}

func (g *gate) handle(ctx context.Context, c Call) Reply {
	if c.Step != g.step {
		return Reply{Value: c.Step}
	}
	g.entered <- c
	select {
	case r := <-g.replies:
		return r
	case <-ctx.Done():
		g.stopped <- context.Cause(ctx)
		return Reply{Error: context.Cause(ctx).Error()}
	}
}

// await gives the next value of a channel that has to have one soon.
func await[T any](t *testing.T, c <-chan T, what string) T {
	t.Helper()
	timer := time.NewTimer(Soon)
	defer timer.Stop()
	select {
	case v := <-c:
		return v
	case <-timer.C:
		t.Fatalf("waited %s for %s", Soon, what)
		panic("unreachable")
	}
}
