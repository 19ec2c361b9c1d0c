package flow_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	durable "github.com/dapr/durabletask-go/workflow"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/internal/engine"
	"github.com/budecosystem/budcluster/hub/internal/event"
	"github.com/budecosystem/budcluster/hub/internal/flow"
	"github.com/budecosystem/budcluster/hub/internal/notify"
	"github.com/budecosystem/budcluster/hub/internal/page"
	"github.com/budecosystem/budcluster/hub/internal/pg"
	"github.com/budecosystem/budcluster/hub/internal/pg/pgtest"
	"github.com/budecosystem/budcluster/hub/internal/store"
	"github.com/budecosystem/budcluster/hub/internal/store/taskhub"
	"github.com/budecosystem/budcluster/hub/internal/workflow"
	"github.com/budecosystem/budcluster/internal/id"
	"github.com/budecosystem/budcluster/internal/run"
)

// What tells a worker process its database, whose workflow it dies of, and at
// which of that workflow's crash points. No point: it lives.
const (
	envDatabase = "FLOW_TEST_DATABASE"
	envWorkflow = "FLOW_TEST_WORKFLOW"
	envPoint    = "FLOW_TEST_POINT"
)

func TestMain(m *testing.M) {
	if url := os.Getenv(envDatabase); url != "" {
		if err := worker(context.Background(), url); err != nil {
			fmt.Fprintln(os.Stderr, "worker:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// killer dies at the n-th point of one workflow: before or after something
// that is written, as kill -9 does.
type killer struct {
	workflow uuid.UUID
	left     atomic.Int64
}

func newKiller() (*killer, error) {
	k := &killer{}
	point := os.Getenv(envPoint)
	if point == "" {
		return k, nil
	}
	n, err := strconv.ParseInt(point, 10, 64)
	k.left.Store(n)
	var errID error
	k.workflow, errID = uuid.Parse(os.Getenv(envWorkflow))
	return k, errors.Join(err, errID)
}

func (k *killer) point(of uuid.UUID) {
	if of == k.workflow && k.left.Add(-1) == 0 {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
}

// around runs fn between two points.
func around[T any](k *killer, of uuid.UUID, fn func() (T, error)) (T, error) {
	k.point(of)
	v, err := fn()
	k.point(of)
	return v, err
}

// mortal is a record with crash points around all that it writes.
type mortal struct {
	*workflow.Service

	k *killer
}

func (m mortal) Begin(ctx context.Context, of uuid.UUID) (*workflow.Turn, error) {
	return around(m.k, of, func() (*workflow.Turn, error) { return m.Service.Begin(ctx, of) })
}

func (m mortal) Settle(ctx context.Context, t *workflow.Turn, sequence int64, o workflow.Outcome) (next *workflow.Turn, again bool, err error) {
	next, err = around(m.k, t.Workflow.ID, func() (n *workflow.Turn, err error) {
		n, again, err = m.Service.Settle(ctx, t, sequence, o)
		return n, err
	})
	return next, again, err
}

func (m mortal) Undo(ctx context.Context, of uuid.UUID) error {
	_, err := around(m.k, of, func() (any, error) { return nil, m.Service.Undo(ctx, of) })
	return err
}

func (m mortal) Park(ctx context.Context, t *workflow.Turn, sequence int64, o workflow.Outcome) (bool, error) {
	return around(m.k, t.Workflow.ID, func() (bool, error) { return m.Service.Park(ctx, t, sequence, o) })
}

func (m mortal) Undone(ctx context.Context, of uuid.UUID, e workflow.Effect) error {
	_, err := around(m.k, of, func() (any, error) { return nil, m.Service.Undone(ctx, of, e) })
	return err
}

func (m mortal) Leave(ctx context.Context, of uuid.UUID, e workflow.Effect, why string) error {
	_, err := around(m.k, of, func() (any, error) { return nil, m.Service.Leave(ctx, of, e, why) })
	return err
}

func (m mortal) Finish(ctx context.Context, of uuid.UUID) (*workflow.Workflow, error) {
	return around(m.k, of, func() (*workflow.Workflow, error) { return m.Service.Finish(ctx, of) })
}

// mortalDoor has a crash point on both sides of the engine's own commit.
type mortalDoor struct {
	flow.Door

	k *killer
}

func (d mortalDoor) Start(ctx context.Context, w *workflow.Workflow) error {
	_, err := around(d.k, w.ID, func() (any, error) { return nil, d.Door.Start(ctx, w) })
	return err
}

// world is what the steps of the test make: rows of a table, as a cluster has
// releases.
type world struct {
	pool   *pgxpool.Pool
	record *workflow.Service
	k      *killer
}

var _ flow.Book = (*world)(nil)

// Step makes what it is named for, but for three: one waits first, one fails,
// and one asks for the workflow's end and waits for it.
func (b *world) Step(_ workflow.Kind, name string) (flow.Step, bool) {
	return flow.Step{Do: func(ctx context.Context, t *workflow.Turn) (workflow.Outcome, error) {
		switch name {
		case "wait":
			if t.Step.Evaluations == 1 {
				return workflow.Waiting("not yet", time.Now().Add(10*time.Millisecond)), nil
			}
			return workflow.Completed(""), nil
		case "fail":
			return workflow.Failed("No", "no"), nil
		case "idle":
			if _, err := around(b.k, t.Workflow.ID, func() (any, error) { return b.record.Cancel(ctx, "bob", t.Workflow.ID.String()) }); err != nil {
				return workflow.Outcome{}, err
			}
			return workflow.Waiting("for its end", time.Now().Add(50*time.Millisecond), "cluster"), nil
		}
		of := t.Workflow.ID
		if _, err := around(b.k, of, func() (any, error) {
			return nil, b.record.RecordEffect(ctx, of, workflow.Effect{Kind: workflow.EffectRelease, Name: name, ClusterID: t.Workflow.ClusterID})
		}); err != nil {
			return workflow.Outcome{}, err
		}
		_, err := around(b.k, of, func() (any, error) {
			return b.pool.Exec(ctx, "INSERT INTO made (workflow, name) VALUES ($1, $2) ON CONFLICT DO NOTHING", of, name)
		})
		return workflow.Completed(""), err
	}}, true
}

// Undo takes it away again.
func (b *world) Undo(workflow.EffectKind) (flow.Undo, bool) {
	return flow.Undo{Do: func(ctx context.Context, w *workflow.Workflow, e workflow.Effect) (workflow.Outcome, error) {
		gone, err := b.pool.Exec(ctx, "DELETE FROM made WHERE workflow = $1 AND name = $2", w.ID, e.Name)
		if err == nil && gone.RowsAffected() > 0 {
			return workflow.Waiting("going", time.Now().Add(10*time.Millisecond)), nil
		}
		return workflow.Completed(""), err
	}}, true
}

// worker is a hub's part in workflows.
func worker(ctx context.Context, url string) error {
	k, err := newKiller()
	if err != nil {
		return err
	}
	pool, err := pg.Open(ctx, url)
	if err != nil {
		return err
	}
	st, log := store.New(pool), slog.New(slog.NewTextHandler(os.Stderr, nil))
	wakes := pg.NewListener(pool, log)
	notices, errNotify := notify.New(notify.Config{Store: st})
	record, errRecord := workflow.New(workflow.Config{Store: st, Logger: log, Notify: notices.Notify})
	events, errEvents := event.New(event.Config{Store: st, Logger: log})
	hub, errHub := taskhub.Open(ctx, taskhub.Config{Pool: pool, Log: log, Waker: wakes, Lease: time.Second})
	if err := errors.Join(errNotify, errRecord, errEvents, errHub); err != nil {
		return err
	}
	runner, err := flow.New(flow.Config{Record: mortal{record, k}, Book: &world{pool: pool, record: record, k: k}, Logger: log})
	if err != nil {
		return err
	}
	registry := durable.NewRegistry()
	if err := runner.Register(registry); err != nil {
		return err
	}
	e, err := engine.NewEmbedded(engine.EmbeddedConfig{Hub: hub, Registry: registry, Log: log})
	if err != nil {
		return err
	}
	d, err := workflow.NewDispatcher(workflow.DispatcherConfig{
		Store: st, Engine: mortalDoor{flow.Door{Engine: e}, k}, Feed: events, Logger: log, Sweep: 50 * time.Millisecond,
	})
	if err != nil {
		return err
	}
	var group run.Group
	group.Add("wakes", wakes.Run)
	group.Add("engine", e.Run)
	group.Add("dispatcher", d.Run)
	return group.Run(ctx)
}

// The hub is killed at each point at which a workflow writes something, one
// life for each point, while the workflows that died before go on in the same
// process and may die of the next. When nobody is killed any more, each has
// ended once, made what it should have, and left nothing else.
func TestKilledAtEachPoint(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		steps  []string
		status workflow.Status
		made   int
	}{
		"completes": {steps: []string{"wait", "nfd", "gpu"}, status: workflow.StatusCompleted, made: 2},
		"fails":     {steps: []string{"nfd", "gpu", "fail", "never"}, status: workflow.StatusFailed},
		"cancelled": {steps: []string{"nfd", "idle", "never"}, status: workflow.StatusCancelled},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.Migrated(t)
			h := newHouse(t, url)
			points := 0
			for died := true; died; points++ {
				died = h.live(t, h.start(t, c.steps), points+1)
			}
			require.Greater(t, points, 10)
			h.spawn(t) // lives on
			for _, w := range h.started {
				h.verify(t, w, c.status, c.made)
			}
			t.Logf("killed at %d points", points-1)
		})
	}
}

// house is where hubs live one after the other.
type house struct {
	*workflow.Service

	url     string
	pool    *pgxpool.Pool
	store   *store.Store
	events  *event.Service
	started []*workflow.Workflow
}

func newHouse(t *testing.T, url string) *house {
	t.Helper()
	h := &house{url: url, pool: pgtest.Pool(t, url)}
	h.store = store.New(h.pool)
	_, err := h.pool.Exec(t.Context(), "CREATE TABLE made (workflow uuid, name text, PRIMARY KEY (workflow, name))")
	require.NoError(t, err)
	log := slog.New(slog.DiscardHandler)
	h.Service, err = workflow.New(workflow.Config{Store: h.store, Logger: log})
	require.NoError(t, err)
	h.events, err = event.New(event.Config{Store: h.store, Logger: log})
	require.NoError(t, err)
	return h
}

func (h *house) start(t *testing.T, steps []string) *workflow.Workflow {
	t.Helper()
	req := workflow.Request{
		Kind: workflow.RegisterCluster, ClusterID: id.New(), ClusterName: "frankfurt", Exclusive: true,
		Reply: json.RawMessage(`{"source_topic":"answers"}`),
	}
	for _, name := range steps {
		req.Steps = append(req.Steps, workflow.Step{Name: name, Title: name})
	}
	w, err := h.Start(t.Context(), "ann", req)
	require.NoError(t, err)
	h.started = append(h.started, w)
	return w
}

// spawn starts a hub, which is killed with the test at the latest.
func (h *house) spawn(t *testing.T, env ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^$")
	cmd.Env = append(append(os.Environ(), envDatabase+"="+h.url), env...)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd
}

// live runs a hub until it dies at a point of w, or w is over before that.
func (h *house) live(t *testing.T, w *workflow.Workflow, point int) (died bool) {
	t.Helper()
	cmd := h.spawn(t, envWorkflow+"="+w.ID.String(), fmt.Sprint(envPoint, "=", point))
	dead := make(chan struct{})
	go func() {
		defer close(dead)
		_ = cmd.Wait()
	}()
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for {
		select {
		case <-dead:
			require.Equal(t, "signal: killed", cmd.ProcessState.String())
			return true
		case <-look.C:
		}
		now, err := h.Get(t.Context(), w.ID.String())
		require.NoError(t, err)
		if !now.Status.Terminal() {
			continue
		}
		select { // the last point is after its end
		case <-dead:
			return true
		case <-time.After(500 * time.Millisecond):
		}
		_ = cmd.Process.Kill()
		<-dead
		return false
	}
}

func (h *house) verify(t *testing.T, w *workflow.Workflow, status workflow.Status, made int) {
	t.Helper()
	var now *workflow.Workflow
	require.Eventually(t, func() bool {
		var err error
		now, err = h.Get(t.Context(), w.ID.String())
		require.NoError(t, err)
		return now.Status.Terminal()
	}, pgtest.Soon, 20*time.Millisecond)
	require.Equal(t, status, now.Status, now.Message)
	var there, results int
	require.NoError(t, h.pool.QueryRow(t.Context(), "SELECT count(*) FROM made WHERE workflow = $1", w.ID).Scan(&there))
	require.Equal(t, made, there)
	require.NoError(t, h.pool.QueryRow(t.Context(), "SELECT count(*) FROM outbox WHERE stream = $1 AND body::text LIKE '%results%'", w.ID).Scan(&results))
	require.Equal(t, 1, results, "one result")
	finished := 0
	all, err := h.events.List(t.Context(), event.Filter{ClusterID: &w.ClusterID, Limit: page.MaxLimit})
	require.NoError(t, err)
	for _, e := range all {
		if e.Type == event.WorkflowFinished {
			finished++
		}
	}
	require.Equal(t, 1, finished, "one end")
	left, err := h.Made(t.Context(), w.ID)
	require.NoError(t, err)
	left = slices.DeleteFunc(left, func(e workflow.Effect) bool { return e.UndoneAt != nil })
	require.Len(t, left, made)
}
