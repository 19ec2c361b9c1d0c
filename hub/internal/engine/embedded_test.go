package engine_test

import (
	"context"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	durable "github.com/dapr/durabletask-go/workflow"
	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/internal/engine"
	"github.com/budecosystem/budcluster/hub/internal/engine/enginetest"
	"github.com/budecosystem/budcluster/hub/internal/pg"
	"github.com/budecosystem/budcluster/hub/internal/pg/pgtest"
	"github.com/budecosystem/budcluster/hub/internal/store/taskhub"
)

// lease is the suite's: short, so that recovery is.
const lease = 3 * time.Second

// envDatabase tells a worker process its database.
const envDatabase = "ENGINE_TEST_DATABASE"

func TestMain(m *testing.M) {
	enginetest.Main(m, func(ctx context.Context, r *durable.Registry) (*engine.Engine, func(), error) {
		if address := os.Getenv(envSidecar); address != "" {
			return daprWorker(ctx, r, address)
		}
		return embeddedWorker(ctx, r)
	})
}

// embeddedWorker is what a worker process runs.
func embeddedWorker(ctx context.Context, r *durable.Registry) (*engine.Engine, func(), error) {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	pool, err := pg.Open(ctx, os.Getenv(envDatabase))
	if err != nil {
		return nil, nil, err
	}
	wakes := pg.NewListener(pool, log)
	hub, err := taskhub.Open(ctx, taskhub.Config{Pool: pool, Waker: wakes, Log: log, Lease: lease})
	if err != nil {
		return nil, nil, err
	}
	var listening sync.WaitGroup
	listen, stop := context.WithCancel(context.WithoutCancel(ctx))
	listening.Go(func() { _ = wakes.Run(listen) })
	e, err := engine.NewEmbedded(engine.EmbeddedConfig{Hub: hub, Registry: r, Log: log})
	return e, func() {
		stop()
		listening.Wait()
		hub.Close()
		pool.Close()
	}, err
}

func TestEmbedded(t *testing.T) {
	t.Parallel()
	enginetest.Exercise(t, func(t *testing.T, d *enginetest.Director) *enginetest.Harness {
		t.Helper()
		url := pgtest.Migrated(t)
		hub, err := taskhub.Open(t.Context(), taskhub.Config{Pool: pgtest.Pool(t, url), Log: slog.New(slog.DiscardHandler), Lease: lease})
		require.NoError(t, err)
		t.Cleanup(hub.Close)
		client, err := engine.NewEmbedded(engine.EmbeddedConfig{Hub: hub, Registry: durable.NewRegistry(), Log: slog.New(slog.DiscardHandler)})
		require.NoError(t, err)
		return &enginetest.Harness{
			Engine: client, Lease: lease, Tells: true,
			Worker: func(t *testing.T, version string) *enginetest.Process {
				t.Helper()
				return enginetest.Spawn(t, enginetest.Command(d, version, envDatabase+"="+url))
			},
		}
	})
}
