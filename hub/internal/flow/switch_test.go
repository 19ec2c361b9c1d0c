package flow_test

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	durable "github.com/dapr/durabletask-go/workflow"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/internal/dapr/daprtest"
	"github.com/budecosystem/budcluster/hub/internal/engine"
	"github.com/budecosystem/budcluster/hub/internal/event"
	"github.com/budecosystem/budcluster/hub/internal/flow"
	"github.com/budecosystem/budcluster/hub/internal/pg/pgtest"
	"github.com/budecosystem/budcluster/hub/internal/store"
	"github.com/budecosystem/budcluster/hub/internal/store/taskhub"
	"github.com/budecosystem/budcluster/hub/internal/workflow"
	"github.com/budecosystem/budcluster/internal/id"
	"github.com/budecosystem/budcluster/internal/secret"
)

// The hub is switched to Dapr, and back, while a workflow waits: it goes on in
// the other engine where it was, and then in the first one again, which has not
// forgotten it.
func TestSwitchedToDaprAndBack(t *testing.T) {
	t.Parallel()
	sidecar := daprtest.Start(t, daprtest.SidecarConfig{Store: daprtest.Redis, AppID: "switch-" + uuid.NewString()})
	pool := pgtest.Pool(t, pgtest.Migrated(t))
	st, log := store.New(pool), slog.New(slog.DiscardHandler)
	record, err := workflow.New(workflow.Config{Store: st, Logger: log})
	require.NoError(t, err)
	events, err := event.New(event.Config{Store: st, Logger: log})
	require.NoError(t, err)
	wait := func(looks int) func(context.Context, *workflow.Turn) (workflow.Outcome, error) {
		return func(_ context.Context, t *workflow.Turn) (workflow.Outcome, error) {
			if t.Step.Evaluations <= looks {
				return workflow.Waiting("for the next engine", time.Now().Add(time.Hour), "cluster"), nil
			}
			return workflow.Completed(""), nil
		}
	}
	var first counter
	runner, err := flow.New(flow.Config{Record: record, Logger: log, Book: &book{steps: map[string]flow.Step{
		"first": {Do: func(context.Context, *workflow.Turn) (workflow.Outcome, error) {
			first.next()
			return workflow.Completed(""), nil
		}},
		"second": {Do: wait(1)}, "third": {Do: wait(1)}, "fourth": {Do: completes},
	}}})
	require.NoError(t, err)
	registry := durable.NewRegistry()
	require.NoError(t, runner.Register(registry))

	// on runs a hub with an engine until the workflow is as said.
	var w *workflow.Workflow
	on := func(e *engine.Engine, as func(*workflow.Workflow) bool) {
		d, err := workflow.NewDispatcher(workflow.DispatcherConfig{
			Store: st, Engine: flow.Door{Engine: e}, Feed: events, Logger: log, Sweep: 50 * time.Millisecond, Silence: 300 * time.Millisecond,
		})
		require.NoError(t, err)
		var running sync.WaitGroup
		ctx, stop := context.WithCancel(t.Context())
		running.Go(func() { _ = e.Run(ctx) })
		running.Go(func() { _ = d.Run(ctx) })
		require.Eventually(t, func() bool {
			w, err = record.Get(t.Context(), w.ID.String())
			require.NoError(t, err)
			return as(w)
		}, daprtest.Soon, 20*time.Millisecond)
		stop()
		running.Wait()
	}
	embedded := func() *engine.Engine {
		hub, err := taskhub.Open(t.Context(), taskhub.Config{Pool: pool, Log: log, Lease: 3 * time.Second, Poll: 20 * time.Millisecond})
		require.NoError(t, err)
		t.Cleanup(hub.Close)
		e, err := engine.NewEmbedded(engine.EmbeddedConfig{Hub: hub, Registry: registry, Log: log})
		require.NoError(t, err)
		return e
	}
	req := workflow.Request{Kind: workflow.RegisterCluster, ClusterID: id.New(), ClusterName: "frankfurt", Exclusive: true}
	for _, name := range []string{"first", "second", "third", "fourth"} {
		req.Steps = append(req.Steps, workflow.Step{Name: name, Title: name})
	}
	w, err = record.Start(t.Context(), "ann", req)
	require.NoError(t, err)
	waits := func(step int) func(*workflow.Workflow) bool {
		return func(w *workflow.Workflow) bool { return w.Steps[step].Status == workflow.StepWaiting }
	}
	on(embedded(), waits(1))
	dapr, err := engine.NewDapr(t.Context(), engine.DaprConfig{Address: sidecar.GRPC(), Token: secret.New(daprtest.Token), Registry: registry, Log: log})
	require.NoError(t, err)
	on(dapr, waits(2))
	on(embedded(), over)
	require.Equal(t, workflow.StatusCompleted, w.Status, w.Message)
	require.Equal(t, 2, first.next(), "looked at once")
}
