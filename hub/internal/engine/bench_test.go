package engine_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dapr/durabletask-go/backend"
	"github.com/dapr/durabletask-go/backend/postgres"
	durable "github.com/dapr/durabletask-go/workflow"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/budecosystem/budcluster/hub/internal/engine"
	"github.com/budecosystem/budcluster/hub/internal/engine/enginetest"
	"github.com/budecosystem/budcluster/hub/internal/pg"
	"github.com/budecosystem/budcluster/hub/internal/pg/pgtest"
	"github.com/budecosystem/budcluster/hub/internal/store/taskhub"
)

// callers is how many start workflows at the same time.
const callers = 32

// oneActivity has the workflow "one", of one activity that does nothing.
func oneActivity(tb testing.TB) *durable.Registry {
	tb.Helper()
	r := durable.NewRegistry()
	require.NoError(tb, enginetest.Register(r, enginetest.New, ""))
	return r
}

// runAll starts b.N workflows and returns when none is on any more, as the
// query says.
func runAll(b *testing.B, pool *pgxpool.Pool, on string, start func(ctx context.Context, id string) error) {
	b.Helper()
	errs := make(chan error, callers)
	began := time.Now()
	for c := range callers {
		go func() {
			var err error
			for i := c; i < b.N && err == nil; i += callers {
				err = start(b.Context(), fmt.Sprint("w-", i))
			}
			errs <- err
		}()
	}
	for range callers {
		require.NoError(b, <-errs)
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for left := true; left; <-tick.C {
		require.NoError(b, pool.QueryRow(b.Context(), "SELECT EXISTS ("+on+")").Scan(&left))
	}
	b.ReportMetric(float64(b.N)/time.Since(began).Seconds(), "workflows/s")
}

// synced is a Postgres as in production: the one of pgtest does not wait for
// the disk, and to wait for it is most of the work.
type synced struct {
	url   string
	count int
}

func newSynced(tb testing.TB) *synced {
	tb.Helper()
	url, _ := serve(tb, folder(tb))
	return &synced{url: url}
}

// empty returns the URL of a new database.
func (s *synced) empty(tb testing.TB) string {
	tb.Helper()
	s.count++
	name := fmt.Sprint("bench_", s.count)
	_, err := pgtest.Pool(tb, s.url).Exec(tb.Context(), "CREATE DATABASE "+name)
	require.NoError(tb, err)
	return strings.Replace(s.url, "/budcluster?", "/"+name+"?", 1)
}

// migrated returns the URL of a new database with the current schema.
func (s *synced) migrated(tb testing.TB) string {
	tb.Helper()
	url := s.empty(tb)
	require.NoError(tb, pg.Migrate(tb.Context(), pgtest.Pool(tb, url)))
	return url
}

// BenchmarkOneActivity compares the embedded engine, in one process and in
// three, with the library's own Postgres backend in one.
func BenchmarkOneActivity(b *testing.B) {
	server := newSynced(b)
	b.Run("baseline", func(b *testing.B) { benchStock(b, pgtest.Pool(b, server.empty(b))) })
	b.Run("one", func(b *testing.B) {
		pool := pgtest.Pool(b, server.migrated(b))
		e := runEmbedded(b, pool, taskhub.Config{}, oneActivity(b))
		b.ResetTimer()
		runAll(b, pool, onSQL, func(ctx context.Context, id string) error { return e.Start(ctx, "one", id, nil) })
	})
	b.Run("three", func(b *testing.B) {
		url := server.migrated(b)
		pool := pgtest.Pool(b, url)
		d := enginetest.NewDirector(b)
		for range 3 {
			enginetest.Spawn(b, enginetest.Command(d, enginetest.New, envDatabase+"="+url))
		}
		e := client(b, pool)
		b.ResetTimer()
		runAll(b, pool, onSQL, func(ctx context.Context, id string) error { return e.Start(ctx, "one", id, nil) })
	})
}

// onSQL finds instances that have not ended, by an index: counting would cost
// more than what is measured.
const onSQL = "SELECT FROM wf.instances WHERE claim_at IS NOT NULL"

// runEmbedded runs an embedded engine for the time of the test.
func runEmbedded(tb testing.TB, pool *pgxpool.Pool, cfg taskhub.Config, r *durable.Registry) *engine.Engine {
	tb.Helper()
	log := slog.New(slog.DiscardHandler)
	wakes := pg.NewListener(pool, log)
	cfg.Pool, cfg.Log, cfg.Waker = pool, log, wakes
	hub, err := taskhub.Open(tb.Context(), cfg)
	require.NoError(tb, err)
	e, err := engine.NewEmbedded(engine.EmbeddedConfig{Hub: hub, Registry: r, Log: log})
	require.NoError(tb, err)
	ctx, cancel := context.WithCancel(context.WithoutCancel(tb.Context()))
	var running sync.WaitGroup
	running.Go(func() { _ = wakes.Run(ctx) })
	failed := make(chan error, 1)
	running.Go(func() { failed <- e.Run(ctx) })
	tb.Cleanup(func() {
		cancel()
		running.Wait()
		require.NoError(tb, <-failed)
		hub.Close()
	})
	<-e.Ready()
	return e
}

// client makes an embedded engine that runs nothing.
func client(tb testing.TB, pool *pgxpool.Pool) *engine.Engine {
	tb.Helper()
	log := slog.New(slog.DiscardHandler)
	hub, err := taskhub.Open(tb.Context(), taskhub.Config{Pool: pool, Log: log})
	require.NoError(tb, err)
	tb.Cleanup(hub.Close)
	e, err := engine.NewEmbedded(engine.EmbeddedConfig{Hub: hub, Registry: durable.NewRegistry(), Log: log})
	require.NoError(tb, err)
	return e
}

// quiet is the library's logger that says nothing.
type quiet struct{ backend.Logger }

func (quiet) Debug(...any)          {}
func (quiet) Debugf(string, ...any) {}
func (quiet) Info(...any)           {}
func (quiet) Infof(string, ...any)  {}
func (quiet) Warn(...any)           {}
func (quiet) Warnf(string, ...any)  {}
func (quiet) Error(...any)          {}
func (quiet) Errorf(string, ...any) {}

// benchStock runs the library's backend as its documents say: a gRPC executor
// behind a connection, and clients that are told when an instance began.
func benchStock(b *testing.B, pool *pgxpool.Pool) {
	b.Helper()
	cfg := pool.Config()
	cfg.MaxConns = 16
	be := postgres.NewPostgresBackend(&postgres.PostgresOptions{PgOptions: cfg, WorkflowLockTimeout: time.Minute, ActivityLockTimeout: time.Minute}, quiet{})
	executor, register := backend.NewGrpcExecutor(be, quiet{}, backend.WithSkipWaitForInstanceStart())
	server := grpc.NewServer()
	register(server)
	ln := bufconn.Listen(1 << 20)
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(ln) })
	worker := backend.NewTaskHubWorker(be,
		backend.NewWorkflowWorker(backend.WorkflowWorkerOptions{Backend: be, Executor: executor, Logger: quiet{}, AppID: "bench"}, backend.WithMaxParallelism(64)),
		backend.NewActivityTaskWorker(be, executor, quiet{}, backend.WithMaxParallelism(256)), quiet{})
	ctx, cancel := context.WithCancel(b.Context())
	require.NoError(b, worker.Start(ctx))
	conn, err := grpc.NewClient("passthrough:///stock", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return ln.DialContext(ctx) }))
	require.NoError(b, err)
	c := durable.NewClientWithLogger(conn, quiet{})
	require.NoError(b, c.StartWorker(ctx, oneActivity(b)))
	b.ResetTimer()
	runAll(b, pool, "SELECT FROM instances WHERE runtimestatus <> 'COMPLETED'", func(ctx context.Context, id string) error {
		_, err := c.ScheduleWorkflow(ctx, "one", durable.WithInstanceID(id))
		return err
	})
	b.StopTimer()
	cancel()
	_ = worker.Shutdown(context.WithoutCancel(b.Context()))
	_ = conn.Close()
	server.Stop()
	serving.Wait()
}
