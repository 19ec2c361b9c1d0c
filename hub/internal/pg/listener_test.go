package pg_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/internal/pg"
	"github.com/budecosystem/budcluster/hub/internal/pg/pgtest"
)

// listen runs a Listener for the time of the test.
func listen(t *testing.T, pool *pgxpool.Pool) *pg.Listener {
	t.Helper()
	l := pg.NewListener(pool, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
	return l
}

func woken(t *testing.T, wake <-chan struct{}, why string) {
	t.Helper()
	timer := time.NewTimer(pgtest.Soon)
	defer timer.Stop()
	select {
	case <-wake:
	case <-timer.C:
		t.Fatal("not woken: " + why)
	}
}

func asleep(t *testing.T, wake <-chan struct{}, why string) {
	t.Helper()
	select {
	case <-wake:
		t.Fatal("woken: " + why)
	default:
	}
}

func notify(t *testing.T, pool *pgxpool.Pool, channel, payload string) {
	t.Helper()
	_, err := pool.Exec(t.Context(), "SELECT pg_notify($1, $2)", channel, payload)
	require.NoError(t, err)
}

func TestListener(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.Empty(t))
	l := pg.NewListener(pool, slog.New(slog.DiscardHandler))
	early, cancelEarly := l.Subscribe("one", "a") // before Run
	defer cancelEarly()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	defer func() {
		cancel()
		require.NoError(t, <-done)
	}()
	woken(t, early, "listening began")

	// A channel that is new interrupts the wait, and the connection survives.
	all, cancelAll := l.Subscribe("two", "")
	defer cancelAll()
	woken(t, all, "listening to a second channel began")

	other, cancelOther := l.Subscribe("one", "b")
	defer cancelOther()
	for range 5 {
		notify(t, pool, "one", "a")
	}
	notify(t, pool, "two", "x") // comes after, so once it is here those are, too
	woken(t, all, "any payload")
	woken(t, early, "its payload")
	asleep(t, early, "five announcements are one wake-up")
	asleep(t, other, "another's payload")

	notify(t, pool, "one", "")
	woken(t, early, "an empty payload concerns everybody")
	woken(t, other, "an empty payload concerns everybody")

	cancelOther()
	notify(t, pool, "one", "b")
	notify(t, pool, "two", "x")
	woken(t, all, "any payload")
	asleep(t, other, "cancelled")
}

func TestListenerReconnects(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.Empty(t))
	l := listen(t, pool)
	wake, cancel := l.Subscribe("one", "a")
	defer cancel()
	woken(t, wake, "listening began")

	_, err := pool.Exec(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
		WHERE datname = current_database() AND pid <> pg_backend_pid() AND query LIKE 'LISTEN%'`)
	require.NoError(t, err)
	woken(t, wake, "after a reconnect nobody knows what was missed")
	notify(t, pool, "one", "a")
	woken(t, wake, "it listens again")
}
