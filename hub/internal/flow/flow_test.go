package flow_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	durable "github.com/dapr/durabletask-go/workflow"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/internal/engine"
	"github.com/budecosystem/budcluster/hub/internal/event"
	"github.com/budecosystem/budcluster/hub/internal/flow"
	"github.com/budecosystem/budcluster/hub/internal/page"
	"github.com/budecosystem/budcluster/hub/internal/store"
	"github.com/budecosystem/budcluster/hub/internal/store/storetest"
	"github.com/budecosystem/budcluster/hub/internal/store/taskhub"
	"github.com/budecosystem/budcluster/hub/internal/workflow"
	"github.com/budecosystem/budcluster/internal/id"
)

// book is a Book of functions.
type book struct {
	steps map[string]flow.Step
	undo  func(ctx context.Context, w *workflow.Workflow, e workflow.Effect) (workflow.Outcome, error)
}

func (b *book) Step(_ workflow.Kind, name string) (flow.Step, bool) {
	s, ok := b.steps[name]
	return s, ok
}

func (b *book) Undo(workflow.EffectKind) (flow.Undo, bool) {
	return flow.Undo{Do: b.undo, Remedy: func(_ *workflow.Workflow, e workflow.Effect) string { return "`rm " + e.Name + "`" }}, b.undo != nil
}

// bundle is a hub's workflows: the record, two engines and two dispatchers, as
// two replicas have them.
type bundle struct {
	*workflow.Service
	store   *store.Store
	pool    *pgxpool.Pool
	engine  *engine.Engine // of one of them
	cluster uuid.UUID

	mu      sync.Mutex // guards results
	results []string
}

func setup(t *testing.T, steps flow.Book) *bundle {
	t.Helper()
	st, pool := storetest.NewWithPool(t)
	b := &bundle{store: st, pool: pool, cluster: id.New()}
	log := slog.New(slog.DiscardHandler)
	var err error
	b.Service, err = workflow.New(workflow.Config{Store: st, Logger: log, Notify: func(_ context.Context, _ *workflow.Workflow, n workflow.Notice) error {
		if n.Event == workflow.NoticeResults {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.results = append(b.results, string(n.Status))
		}
		return nil
	}})
	require.NoError(t, err)
	events, err := event.New(event.Config{Store: st, Logger: log})
	require.NoError(t, err)
	runner, err := flow.New(flow.Config{Record: b, Book: steps, Logger: log})
	require.NoError(t, err)
	for range 2 {
		hub, err := taskhub.Open(t.Context(), taskhub.Config{Pool: pool, Log: log, Lease: 3 * time.Second, Poll: 20 * time.Millisecond})
		require.NoError(t, err)
		registry := durable.NewRegistry()
		require.NoError(t, runner.Register(registry))
		e, err := engine.NewEmbedded(engine.EmbeddedConfig{Hub: hub, Registry: registry, Log: log})
		require.NoError(t, err)
		b.engine = e
		d, err := workflow.NewDispatcher(workflow.DispatcherConfig{
			Store: st, Engine: flow.Door{Engine: e}, Feed: events, Logger: log, Sweep: 20 * time.Millisecond, Silence: 300 * time.Millisecond,
		})
		require.NoError(t, err)
		require.NoError(t, d.Dispatch(t.Context())) // from now on it follows the events
		var running sync.WaitGroup
		ctx, stop := context.WithCancel(t.Context())
		running.Go(func() { _ = e.Run(ctx) })
		running.Go(func() { _ = d.Run(ctx) })
		t.Cleanup(func() {
			stop()
			running.Wait()
			hub.Close()
		})
	}
	return b
}

func (b *bundle) begin(t *testing.T, steps ...string) *workflow.Workflow {
	t.Helper()
	req := workflow.Request{Kind: workflow.RegisterCluster, ClusterID: b.cluster, ClusterName: "frankfurt", Exclusive: true}
	for _, name := range steps {
		req.Steps = append(req.Steps, workflow.Step{Name: name, Title: name})
	}
	w, err := b.Start(t.Context(), "ann", req)
	require.NoError(t, err)
	return w
}

// reach waits until the workflow is as said.
func (b *bundle) reach(t *testing.T, w *workflow.Workflow, as func(*workflow.Workflow) bool) *workflow.Workflow {
	t.Helper()
	var now *workflow.Workflow
	require.Eventually(t, func() bool {
		var err error
		now, err = b.Get(t.Context(), w.ID.String())
		require.NoError(t, err)
		return as(now)
	}, time.Minute, 20*time.Millisecond)
	return now
}

func over(w *workflow.Workflow) bool { return w.Status.Terminal() }

func (b *bundle) told() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.results
}

func completes(context.Context, *workflow.Turn) (workflow.Outcome, error) {
	return workflow.Completed("done"), nil
}

// messages lists what the events say.
func (b *bundle) messages(t *testing.T) (messages []string) {
	t.Helper()
	events, err := event.New(event.Config{Store: b.store, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	all, err := events.List(t.Context(), event.Filter{Limit: page.MaxLimit})
	require.NoError(t, err)
	for _, e := range all {
		messages = append(messages, e.Message)
	}
	return messages
}

// counter counts calls.
type counter struct {
	mu sync.Mutex // guards n
	n  int
}

func (c *counter) next() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
	return c.n
}

func TestStepsInOrderAndWoken(t *testing.T) {
	t.Parallel()
	var connected counter
	b := setup(t, &book{steps: map[string]flow.Step{
		"first": {Do: completes},
		"connect": {Do: func(context.Context, *workflow.Turn) (workflow.Outcome, error) {
			if connected.next() == 1 {
				return workflow.Waiting("waiting for the agent", time.Time{}, "cluster"), nil
			}
			return workflow.Completed("it is here"), nil
		}},
		"last": {Do: completes},
	}})
	w := b.begin(t, "first", "connect", "last")
	waiting := b.reach(t, w, func(w *workflow.Workflow) bool { return w.Steps[1].Status == workflow.StepWaiting })
	require.Equal(t, workflow.StepCompleted, waiting.Steps[0].Status)
	require.Equal(t, workflow.StepPending, waiting.Steps[2].Status)
	require.NoError(t, b.store.AppendEvents(t.Context(), event.Event{At: time.Now(), Type: event.ClusterConnected, ClusterID: b.cluster, Actor: "hub"}))
	done := b.reach(t, w, over)
	require.Equal(t, workflow.StatusCompleted, done.Status)
	require.Equal(t, 2, done.Steps[1].Evaluations, "woken once, by the event")
	require.Equal(t, []string{"Completed"}, b.told())
}

func TestFailureUndoesInReverse(t *testing.T) {
	t.Parallel()
	var (
		mu     sync.Mutex
		undone []string
		tries  counter
	)
	bk := &book{}
	b := setup(t, bk)
	makes := func(name string) flow.Step {
		return flow.Step{Do: func(ctx context.Context, turn *workflow.Turn) (workflow.Outcome, error) {
			return workflow.Completed(""), b.RecordEffect(ctx, turn.Workflow.ID, workflow.Effect{Kind: workflow.EffectRelease, Name: name, ClusterID: b.cluster})
		}}
	}
	bk.steps = map[string]flow.Step{
		"nfd": makes("nfd"), "gpu": makes("gpu"),
		"hami": {Do: func(context.Context, *workflow.Turn) (workflow.Outcome, error) {
			return workflow.Failed("ImagePullBackOff", "pod hami-x cannot pull its image"), nil
		}},
	}
	bk.undo = func(_ context.Context, _ *workflow.Workflow, e workflow.Effect) (workflow.Outcome, error) {
		if e.Name == "gpu" && tries.next() == 1 {
			return workflow.Waiting("going", time.Now().Add(10*time.Millisecond)), nil
		}
		mu.Lock()
		defer mu.Unlock()
		undone = append(undone, e.Name)
		return workflow.Completed(""), nil
	}
	w := b.reach(t, b.begin(t, "nfd", "gpu", "hami", "scaler"), over)
	require.Equal(t, workflow.StatusFailed, w.Status)
	require.Equal(t, "ImagePullBackOff", w.Reason)
	require.Equal(t, "hami: pod hami-x cannot pull its image", w.Message)
	require.Equal(t, workflow.StepSkipped, w.Steps[3].Status)
	mu.Lock()
	require.Equal(t, []string{"gpu", "nfd"}, undone)
	mu.Unlock()
	require.Equal(t, []string{"Failed"}, b.told())
}

func TestWhatCannotBeUndoneIsNamed(t *testing.T) {
	t.Parallel()
	var (
		mu     sync.Mutex
		undone []string
	)
	bk := &book{undo: func(_ context.Context, _ *workflow.Workflow, e workflow.Effect) (workflow.Outcome, error) {
		if e.Name == "gpu" || e.Name == "crd" {
			return workflow.Failed("Refused", "the agent may not"), nil
		}
		mu.Lock()
		defer mu.Unlock()
		undone = append(undone, e.Name)
		return workflow.Completed(""), nil
	}}
	b := setup(t, bk)
	bk.steps = map[string]flow.Step{"all": {Do: func(ctx context.Context, turn *workflow.Turn) (workflow.Outcome, error) {
		var errs []error
		for _, name := range []string{"crd", "nfd", "gpu", "hami"} {
			errs = append(errs, b.RecordEffect(ctx, turn.Workflow.ID, workflow.Effect{Kind: workflow.EffectRelease, Name: name, ClusterID: b.cluster}))
		}
		return workflow.Failed("X", "no"), errors.Join(errs...)
	}}}
	w := b.reach(t, b.begin(t, "all"), over)
	require.Equal(t, workflow.StatusFailed, w.Status)
	require.Equal(t, "all: no; left behind: release gpu (the agent may not; remove it with `rm gpu`); "+
		"left behind: release crd (the agent may not; remove it with `rm crd`)", w.Message)
	mu.Lock()
	require.Equal(t, []string{"hami", "nfd"}, undone, "one that stays keeps none of the others")
	mu.Unlock()
	require.Equal(t, []string{"Failed"}, b.told())
}

// The engine loses a workflow that waits: its tables are truncated, or somebody
// ends the instance there. It goes on where it was, and has one result.
func TestWhatTheEngineLosesGoesOn(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(ctx context.Context, b *bundle, w *workflow.Workflow) error{
		"truncated": func(ctx context.Context, b *bundle, _ *workflow.Workflow) error {
			_, err := b.pool.Exec(ctx, "TRUNCATE wf.instances, wf.history, wf.events, wf.activities")
			return err
		},
		"ended by hand": func(ctx context.Context, b *bundle, w *workflow.Workflow) error {
			return b.engine.Terminate(ctx, w.ID.String(), "by hand")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var first, second counter
			bk := &book{}
			b := setup(t, bk)
			bk.steps = map[string]flow.Step{
				"first": {Do: func(context.Context, *workflow.Turn) (workflow.Outcome, error) {
					first.next()
					return workflow.Completed(""), nil
				}},
				"second": {Do: func(context.Context, *workflow.Turn) (workflow.Outcome, error) {
					if second.next() == 1 {
						return workflow.Waiting("for the agent", time.Now().Add(time.Hour), "cluster"), nil
					}
					return workflow.Completed(""), nil
				}},
			}
			w := b.begin(t, "first", "second")
			b.reach(t, w, func(w *workflow.Workflow) bool { return w.Steps[1].Status == workflow.StepWaiting })
			require.NoError(t, lose(t.Context(), b, w))
			began := time.Now()
			done := b.reach(t, w, over)
			require.Less(t, time.Since(began), 20*time.Second, "long before it would look by itself")
			require.Equal(t, workflow.StatusCompleted, done.Status, done.Message)
			require.Equal(t, 2, first.next(), "looked at once")
			require.Equal(t, []string{"Completed"}, b.told())
		})
	}
}

func TestCancelEndsAWait(t *testing.T) {
	t.Parallel()
	b := setup(t, &book{steps: map[string]flow.Step{"connect": {Do: func(context.Context, *workflow.Turn) (workflow.Outcome, error) {
		return workflow.Waiting("waiting for the agent", time.Time{}, "cluster"), nil
	}}}})
	w := b.begin(t, "connect", "rest")
	b.reach(t, w, func(w *workflow.Workflow) bool { return w.Steps[0].Status == workflow.StepWaiting })
	_, err := b.Cancel(t.Context(), "bob", w.ID.String())
	require.NoError(t, err)
	w = b.reach(t, w, over)
	require.Equal(t, workflow.StatusCancelled, w.Status)
	require.Equal(t, "cancelled by bob", w.Message)
	require.Equal(t, []string{"Cancelled"}, b.told())
}

func TestErrorsAreTriedAgainAndShown(t *testing.T) {
	t.Parallel()
	var tries counter
	b := setup(t, &book{steps: map[string]flow.Step{
		"chart": {Limit: time.Minute, Do: func(context.Context, *workflow.Turn) (workflow.Outcome, error) {
			switch tries.next() {
			case 1:
				return workflow.Outcome{}, errors.New("the repository does not answer")
			case 2:
				panic("a bug")
			}
			return workflow.Completed(""), nil
		}},
		"slow": {Limit: time.Nanosecond, Do: func(context.Context, *workflow.Turn) (workflow.Outcome, error) {
			return workflow.Waiting("1 of 2 pods are ready", time.Time{}, "node"), nil
		}},
	}})
	w := b.begin(t, "chart", "slow", "unheard")
	b.reach(t, w, func(w *workflow.Workflow) bool {
		return w.Steps[0].Reason == "Retrying" && w.Steps[0].Message == "the repository does not answer; it is tried again in 2s"
	})
	w = b.reach(t, w, over)
	messages := b.messages(t)
	require.Contains(t, messages, "register_cluster of cluster frankfurt: chart: Waiting: the hub met a bug, please report it with its log: a bug; it is tried again in 4s")
	require.Equal(t, 3, w.Steps[0].Evaluations)
	require.Equal(t, "Timeout", w.Reason)
	require.Equal(t, "slow: not done after 1ns: 1 of 2 pods are ready", w.Message)
	w = b.reach(t, b.begin(t, "unheard"), over)
	require.Equal(t, "UnknownStep", w.Reason)
}

func TestALongWorkflowOutgrowsItsHistory(t *testing.T) {
	t.Parallel()
	var looks counter
	b := setup(t, &book{steps: map[string]flow.Step{"long": {Do: func(context.Context, *workflow.Turn) (workflow.Outcome, error) {
		if looks.next() <= 250 {
			return workflow.Waiting("again", time.Now()), nil
		}
		return workflow.Completed(""), nil
	}}}})
	w := b.reach(t, b.begin(t, "long"), over)
	require.Equal(t, workflow.StatusCompleted, w.Status)
	require.Equal(t, 251, w.Steps[0].Evaluations)
}
