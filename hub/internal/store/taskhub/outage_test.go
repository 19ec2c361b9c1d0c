package taskhub_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/internal/pg"
	"github.com/budecosystem/budcluster/hub/internal/pg/pgtest"
	"github.com/budecosystem/budcluster/hub/internal/store/taskhub"
)

// server is a Postgres of the test's own, which can be stopped.
type server struct {
	dev  *pg.DevServer
	stop func()
}

func newServer(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "wfpg") //nolint:usetesting // short: a socket's path has at most 107 bytes
	require.NoError(t, err)
	require.NoError(t, os.Chmod(dir, 0o755))
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir, "pg")
}

// run starts the server of a folder, or starts it again.
func serve(t *testing.T, dir string) *server {
	t.Helper()
	dev, err := pg.NewDev(dir, slog.New(slog.DiscardHandler), "fsync=off", "shared_buffers=32MB", "autovacuum=off")
	require.NoError(t, err)
	s := &server{dev: dev}
	s.stop = background(t, dev.Run)
	select {
	case <-dev.Ready():
	case <-soon(t).Done():
		t.Fatal("Postgres does not start")
	}
	return s
}

// Postgres restarts while a turn and an activity are under way: their results
// are committed when it is back, nothing is done twice, and the rest goes on.
func TestPostgresRestarts(t *testing.T) {
	t.Parallel()
	dir := newServer(t)
	s := serve(t, dir)
	pool := pgtest.Pool(t, s.dev.URL())
	require.NoError(t, pg.Migrate(t.Context(), pool))
	r := start(t, pool, taskhub.Config{Lease: time.Minute})
	create(t, r.Hub, "activity")
	r.turn(t, schedule(0))
	held := r.nextActivity(t)
	create(t, r.Hub, "turn")
	wi := r.nextTurn(t)
	apply(t, wi, schedule(0))

	s.stop()
	ctx, cancel := context.WithTimeout(t.Context(), pgtest.Soon)
	defer cancel()
	require.Error(t, r.CreateWorkflowInstance(ctx, started("refused", "e")), "who asks from outside is told")
	require.NoError(t, ctx.Err(), "and soon")
	errs := make(chan error, 2)
	go func() { errs <- r.CompleteActivityWorkItem(t.Context(), answer(held, "done")) }()
	go func() { errs <- r.CompleteWorkflowWorkItem(t.Context(), wi) }()
	serve(t, dir)
	require.NoError(t, <-errs)
	require.NoError(t, <-errs)

	require.Equal(t, []string{"done"}, seen(r.turn(t, end(completed))))
	require.NoError(t, r.CompleteActivityWorkItem(t.Context(), answer(r.nextActivity(t), "too")))
	require.Equal(t, []string{"too"}, seen(r.turn(t, end(completed))))
	create(t, r.Hub, "after")
	r.turn(t, end(completed))
}

// Every connection breaks, again and again, while workflows run: each of them
// ends, and no result is lost.
func TestConnectionsBreak(t *testing.T) {
	t.Parallel()
	url := pgtest.Migrated(t)
	pool := pgtest.Pool(t, url)
	r := start(t, pool, taskhub.Config{Lease: 2 * time.Second})
	const n = 60
	breaking := background(t, func(ctx context.Context) error {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for range 40 {
			_, _ = pool.Exec(ctx, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
				WHERE datname = current_database() AND application_name = 'budcluster-hub-workflows'`)
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
			}
		}
		return nil
	})
	background(t, func(ctx context.Context) error {
		for {
			wi, err := r.NextActivityWorkItem(ctx)
			if err != nil {
				return nil //nolint:nilerr // the test is over
			}
			if r.CompleteActivityWorkItem(ctx, answer(wi, "done")) != nil {
				_ = r.AbandonActivityWorkItem(ctx, wi) // the lease's end does it, too
			}
		}
	})
	for i := range n {
		for r.CreateWorkflowInstance(t.Context(), started(fmt.Sprint(i), "e")) != nil {
			require.NoError(t, t.Context().Err())
		}
	}
	ended := 0
	for ended < n {
		wi := r.nextTurn(t)
		if wi.State == nil { // not remembered, since a commit seemed to fail; the library's worker reads it, too
			var err error
			if wi.State, err = r.GetWorkflowRuntimeState(t.Context(), wi); err != nil {
				_ = r.AbandonWorkflowWorkItem(t.Context(), wi)
				continue
			}
		}
		last := len(seen(wi)) > 0
		if last {
			apply(t, wi, end(completed))
		} else {
			apply(t, wi, schedule(0))
		}
		if r.CompleteWorkflowWorkItem(t.Context(), wi) != nil { // also when only the answer was lost
			_ = r.AbandonWorkflowWorkItem(t.Context(), wi)
		}
		require.NoError(t, pool.QueryRow(t.Context(), "SELECT count(*) FROM wf.instances WHERE ended_at IS NOT NULL").Scan(&ended))
	}
	breaking()
	var done int
	require.NoError(t, pool.QueryRow(t.Context(), "SELECT count(*) FROM wf.instances WHERE status = 'Completed'").Scan(&done))
	require.Equal(t, n, done)
	require.Equal(t, 0, count(t, pool, "activities"))
	require.Equal(t, 0, count(t, pool, "events"))
}
