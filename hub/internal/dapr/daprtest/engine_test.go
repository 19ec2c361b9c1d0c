package daprtest_test

import (
	"context"
	"log/slog"
	"os"
	"testing"

	durable "github.com/dapr/durabletask-go/workflow"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/internal/dapr/daprtest"
	"github.com/budecosystem/budcluster/hub/internal/engine"
	"github.com/budecosystem/budcluster/hub/internal/engine/enginetest"
	"github.com/budecosystem/budcluster/hub/internal/pg/pgtest"
	"github.com/budecosystem/budcluster/internal/secret"
)

// envSidecar tells a worker process where its sidecar is.
const envSidecar = "DAPRTEST_SIDECAR"

func TestMain(m *testing.M) { enginetest.Main(m, worker) }

// worker is what a worker process runs.
func worker(ctx context.Context, r *durable.Registry) (*engine.Engine, func(), error) {
	e, err := engine.NewDapr(ctx, engine.DaprConfig{
		Address: os.Getenv(envSidecar), Token: secret.New(daprtest.Token), Registry: r, Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	return e, func() {}, err
}

// TestEngine: the suite that the embedded engine passes, on the real Dapr. As
// in a cluster, each worker has a sidecar of its own.
func TestEngine(t *testing.T) {
	t.Parallel()
	for _, store := range []daprtest.Store{daprtest.Redis, daprtest.Postgres} {
		t.Run(string(store), func(t *testing.T) {
			t.Parallel()
			enginetest.Exercise(t, func(t *testing.T, d *enginetest.Director) *enginetest.Harness {
				t.Helper()
				cfg := daprtest.SidecarConfig{Store: store, Database: pgtest.Empty(t), AppID: "engine-" + uuid.NewString()} // Redis is that of the process, also for a second run
				client, err := engine.NewDapr(t.Context(), engine.DaprConfig{
					Address: daprtest.Start(t, cfg).GRPC(), Token: secret.New(daprtest.Token),
					Registry: durable.NewRegistry(), Log: slog.New(slog.DiscardHandler),
				})
				require.NoError(t, err)
				return &enginetest.Harness{
					Engine: client, Orphans: true,
					Worker: func(t *testing.T, version string) *enginetest.Process {
						t.Helper()
						return enginetest.Spawn(t, enginetest.Command(d, version, envSidecar+"="+daprtest.Start(t, cfg).GRPC()))
					},
				}
			})
		})
	}
}

// TestSidecarDies: the sidecar of the only worker is killed while an activity
// runs and an instance waits; both go on when it is back, and their client too.
func TestSidecarDies(t *testing.T) {
	t.Parallel()
	d := enginetest.NewDirector(t)
	cfg := daprtest.SidecarConfig{Store: daprtest.Redis, AppID: "engine-dies-" + uuid.NewString()}
	sidecar := daprtest.Start(t, cfg)
	enginetest.Spawn(t, enginetest.Command(d, enginetest.Old, envSidecar+"="+sidecar.GRPC()))
	client, err := engine.NewDapr(t.Context(), engine.DaprConfig{
		Address: sidecar.GRPC(), Token: secret.New(daprtest.Token), Registry: durable.NewRegistry(), Log: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	entered, proceed := make(chan enginetest.Call, 10), make(chan struct{})
	d.Direct("steps", func(ctx context.Context, c enginetest.Call) enginetest.Reply {
		entered <- c
		select {
		case <-proceed:
			return enginetest.Reply{Value: c.Step}
		case <-ctx.Done():
			return enginetest.Reply{Error: "gone"}
		}
	})
	require.NoError(t, client.Start(t.Context(), "steps", "steps", enginetest.Input{Steps: []string{"a"}}))
	require.Equal(t, "a", daprtest.Await(t, entered, "step a").Step)
	require.NoError(t, client.Start(t.Context(), "event", "event", enginetest.Input{}))

	sidecar.Restart(t)
	require.Equal(t, "a", daprtest.Await(t, entered, "step a, again").Step)
	close(proceed)
	require.NoError(t, client.Raise(t.Context(), "event", "go", "on"))
	ctx, cancel := context.WithTimeout(t.Context(), daprtest.Soon)
	defer cancel()
	for _, id := range []string{"steps", "event"} {
		st, err := client.Wait(ctx, id)
		require.NoError(t, err)
		require.Equal(t, engine.Completed, st.State, "%s: %s", id, st.Failure)
	}
}
