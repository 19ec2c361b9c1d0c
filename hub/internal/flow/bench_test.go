package flow_test

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	durable "github.com/dapr/durabletask-go/workflow"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/internal/engine"
	"github.com/budecosystem/budcluster/hub/internal/event"
	"github.com/budecosystem/budcluster/hub/internal/flow"
	"github.com/budecosystem/budcluster/hub/internal/pg"
	"github.com/budecosystem/budcluster/hub/internal/pg/pgtest"
	"github.com/budecosystem/budcluster/hub/internal/store"
	"github.com/budecosystem/budcluster/hub/internal/store/taskhub"
	"github.com/budecosystem/budcluster/hub/internal/workflow"
	"github.com/budecosystem/budcluster/internal/id"
	"github.com/budecosystem/budcluster/internal/run"
)

// fleet is clusters whose agents take a moment to do what a step asks for, and
// then report it.
type fleet struct {
	store   *store.Store
	record  *workflow.Service
	running sync.WaitGroup
}

// agentTakes is how long an agent takes: it is quicker here than any real
// installation.
func agentTakes() time.Duration {
	return 2*time.Second + rand.N(4*time.Second)
}

var _ flow.Book = (*fleet)(nil)

// Step asks the agent, and is done when that has reported.
func (f *fleet) Step(_ workflow.Kind, name string) (flow.Step, bool) {
	return flow.Step{Do: func(ctx context.Context, t *workflow.Turn) (workflow.Outcome, error) {
		if t.Step.Evaluations > 1 {
			return workflow.Completed("ready"), nil
		}
		of := t.Workflow.ClusterID
		err := f.record.RecordEffect(ctx, t.Workflow.ID, workflow.Effect{Kind: workflow.EffectRelease, Name: name, ClusterID: of})
		f.running.Go(func() { f.report(context.WithoutCancel(ctx), of, name) })
		return workflow.Waiting("installing", time.Time{}, "release/"+name), err
	}}, true
}

func (f *fleet) report(ctx context.Context, of uuid.UUID, name string) {
	<-time.After(agentTakes())
	_ = f.store.AppendEvents(ctx, event.Event{At: time.Now(), Type: event.ReleaseStatus, ClusterID: of, Subject: name, Actor: "agent"})
}

// Undo has nothing to do.
func (f *fleet) Undo(workflow.EffectKind) (flow.Undo, bool) { return flow.Undo{}, false }

// ends is a record that tells of the end of each workflow.
type ends struct {
	*workflow.Service

	mu    sync.Mutex // guards ended
	ended map[uuid.UUID]chan struct{}
}

func (e *ends) of(w uuid.UUID) chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ended[w] == nil {
		e.ended[w] = make(chan struct{})
	}
	return e.ended[w]
}

func (e *ends) Finish(ctx context.Context, of uuid.UUID) (*workflow.Workflow, error) {
	w, err := e.Service.Finish(ctx, of)
	if err == nil {
		close(e.of(of))
	}
	return w, err
}

// production runs a Postgres that waits for its disk, which that of the other
// tests does not, and returns its URL.
func production(b *testing.B) string {
	b.Helper()
	dir, err := os.MkdirTemp("", "bench") //nolint:usetesting // short: a socket's path has at most 107 bytes
	require.NoError(b, err)
	require.NoError(b, os.Chmod(dir, 0o755)) // the server runs as another user
	dev, err := pg.NewDev(filepath.Join(dir, "pg"), slog.New(slog.DiscardHandler))
	require.NoError(b, err)
	ctx, cancel := context.WithCancel(context.WithoutCancel(b.Context()))
	ended := make(chan error, 1)
	go func() { ended <- dev.Run(ctx) }()
	b.Cleanup(func() {
		cancel()
		require.NoError(b, <-ended)
		_ = os.RemoveAll(dir)
	})
	<-dev.Ready()
	return dev.URL()
}

// BenchmarkStepOverhead runs workflows of four steps on one hub, one alone and a
// hundred at once. Each step records an effect, asks an agent, waits for its report and
// ends. What is reported is the time of a step that its agent did not take.
func BenchmarkStepOverhead(b *testing.B) {
	url := production(b)
	pool := pgtest.Pool(b, url)
	require.NoError(b, pg.Migrate(b.Context(), pool))
	st, log := store.New(pool), slog.New(slog.DiscardHandler)
	wakes := pg.NewListener(pool, log)
	record, errRecord := workflow.New(workflow.Config{Store: st, Logger: log})
	events, errEvents := event.New(event.Config{Store: st, Logger: log})
	hub, errHub := taskhub.Open(b.Context(), taskhub.Config{Pool: pool, Log: log, Waker: wakes})
	require.NoError(b, errors.Join(errRecord, errEvents, errHub))
	clusters := &fleet{store: st, record: record}
	rec := &ends{Service: record, ended: map[uuid.UUID]chan struct{}{}}
	runner, err := flow.New(flow.Config{Record: rec, Book: clusters, Logger: log})
	require.NoError(b, err)
	registry := durable.NewRegistry()
	require.NoError(b, runner.Register(registry))
	e, err := engine.NewEmbedded(engine.EmbeddedConfig{Hub: hub, Registry: registry, Log: log})
	require.NoError(b, err)
	feed, stopFeed := wakes.Subscribe(store.ChannelEvents, "")
	defer stopFeed()
	wake, stopWake := wakes.Subscribe(store.ChannelWorkflows, "")
	defer stopWake()
	d, err := workflow.NewDispatcher(workflow.DispatcherConfig{Store: st, Engine: flow.Door{Engine: e}, Feed: events, Logger: log, Events: feed, Wake: wake})
	require.NoError(b, err)
	ctx, stop := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	var group run.Group
	group.Add("wakes", wakes.Run)
	group.Add("engine", e.Run)
	group.Add("dispatcher", d.Run)
	go func() { ended <- group.Run(ctx) }()
	<-e.Ready()

	b.Run("baseline", func(b *testing.B) { overheads(b, rec, 1) })
	b.Run("hundred", func(b *testing.B) { overheads(b, rec, 100) })
	stop()
	require.NoError(b, <-ended)
	clusters.running.Wait()
	hub.Close()
}

// overheads runs so many workflows at once, b.N times, and reports what their
// steps took beside their agents.
func overheads(b *testing.B, rec *ends, atOnce int) {
	b.Helper()
	errs, found := make(chan error, atOnce), make(chan []time.Duration, atOnce)
	var all []time.Duration
	for b.Loop() {
		for range atOnce {
			go func() {
				took, err := rec.carry(b.Context())
				found <- took
				errs <- err
			}()
		}
		for range atOnce {
			all = append(all, <-found...)
			require.NoError(b, <-errs)
		}
	}
	slices.Sort(all)
	b.ReportMetric(float64(all[len(all)/2].Microseconds())/1e3, "p50-ms")
	b.ReportMetric(float64(all[len(all)*95/100].Microseconds())/1e3, "p95-ms")
}

// carry runs one workflow to its end and returns the overheads of its steps.
func (e *ends) carry(ctx context.Context) (took []time.Duration, err error) {
	req := workflow.Request{Kind: workflow.RegisterCluster, ClusterID: id.New(), ClusterName: "frankfurt", Exclusive: true}
	for _, name := range []string{"nfd", "gpu", "hami", "monitoring"} {
		req.Steps = append(req.Steps, workflow.Step{Name: name, Title: name})
	}
	w, err := e.Start(ctx, "ann", req)
	if err != nil {
		return nil, err
	}
	<-e.of(w.ID)
	if w, err = e.Get(ctx, w.ID.String()); err != nil {
		return nil, err
	}
	for i := range w.Steps {
		took = append(took, w.Steps[i].Overhead())
	}
	return took, nil
}
