package engine_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/internal/engine"
	"github.com/budecosystem/budcluster/hub/internal/engine/enginetest"
	"github.com/budecosystem/budcluster/hub/internal/pg"
	"github.com/budecosystem/budcluster/hub/internal/pg/pgtest"
)

// folder makes a folder for a Postgres of a test's own.
func folder(tb testing.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp("", "wfpg") //nolint:usetesting // short: a socket's path has at most 107 bytes
	require.NoError(tb, err)
	require.NoError(tb, os.Chmod(dir, 0o755)) // the server runs as another user
	tb.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir, "pg")
}

// serve runs the Postgres of a folder until stop is called, at the latest at
// the end.
func serve(tb testing.TB, dir string, settings ...string) (url string, stop func()) {
	tb.Helper()
	dev, err := pg.NewDev(dir, slog.New(slog.DiscardHandler), settings...)
	require.NoError(tb, err)
	ctx, cancel := context.WithCancel(context.WithoutCancel(tb.Context()))
	ended := make(chan error, 1)
	go func() { ended <- dev.Run(ctx) }()
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			cancel()
			require.NoError(tb, <-ended)
		}
	}
	tb.Cleanup(stop)
	select {
	case <-dev.Ready():
	case err := <-ended:
		require.NoError(tb, err)
	}
	return dev.URL(), stop
}

// Postgres restarts while two replicas are amid many workflows. What was asked
// for before is done, what answered nothing meanwhile is done too, and nobody
// has to start anything again.
func TestPostgresRestarts(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	url, stop := serve(t, dir, "fsync=off")
	pool := pgtest.Pool(t, url)
	require.NoError(t, pg.Migrate(t.Context(), pool))
	d := enginetest.NewDirector(t)
	for range 2 {
		enginetest.Spawn(t, enginetest.Command(d, enginetest.New, envDatabase+"="+url))
	}
	const n = 40
	entered, away := make(chan struct{}, 2*n), make(chan struct{})
	e := client(t, pool)
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprint("w-", i)
		d.Direct(ids[i], func(ctx context.Context, c enginetest.Call) enginetest.Reply {
			if c.Step != "b" {
				return enginetest.Reply{Value: c.Step}
			}
			entered <- struct{}{}
			select {
			case <-away:
				return enginetest.Reply{Value: c.Step}
			case <-ctx.Done():
				return enginetest.Reply{Error: context.Cause(ctx).Error()}
			}
		})
		require.NoError(t, e.Start(t.Context(), "steps", ids[i], enginetest.Input{Steps: []string{"a", "b", "c"}}))
	}
	for range n / 2 {
		<-entered
	}
	stop()
	close(away) // their results find no database
	require.Error(t, e.Start(t.Context(), "steps", "refused", enginetest.Input{}))
	serve(t, dir, "fsync=off")

	twice := 0
	for _, id := range ids {
		s, err := e.Wait(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, engine.Completed, s.State, s.Failure)
		require.Equal(t, json.RawMessage(`"c"`), s.Output)
		for step, runs := range d.Steps(id) {
			require.LessOrEqual(t, runs, 2, "%s of %s", step, id)
			twice += runs - 1
		}
	}
	_, err := e.Status(t.Context(), "refused")
	require.ErrorIs(t, err, engine.ErrNotFound)
	t.Logf("%d of %d activities ran twice", twice, 3*n)
}
