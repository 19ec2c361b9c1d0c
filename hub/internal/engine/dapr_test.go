package engine_test

import (
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/dapr/durabletask-go/backend"
	durable "github.com/dapr/durabletask-go/workflow"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/budecosystem/budcluster/hub/internal/engine"
	"github.com/budecosystem/budcluster/hub/internal/engine/enginetest"
	"github.com/budecosystem/budcluster/hub/internal/pg"
	"github.com/budecosystem/budcluster/hub/internal/pg/pgtest"
	"github.com/budecosystem/budcluster/hub/internal/store/taskhub"
	"github.com/budecosystem/budcluster/internal/secret"
)

// envSidecar tells a worker process that it is one on Dapr, and where the
// sidecar is.
const envSidecar = "ENGINE_TEST_SIDECAR"

// apiToken is what the sidecar of the tests asks for.
const apiToken = "let me in"

// sidecar plays Dapr: it is the library's executor, as in Dapr's own sidecar,
// on a real gRPC connection, with our task hub where Dapr has its actors. The
// suite runs on the real one elsewhere; here it covers our end of the wire.
func sidecar(t *testing.T) (address string) {
	t.Helper()
	pool := pgtest.Pool(t, pgtest.Migrated(t))
	log := slog.New(slog.DiscardHandler)
	wakes := pg.NewListener(pool, log)
	hub, err := taskhub.Open(t.Context(), taskhub.Config{Pool: pool, Log: log, Waker: wakes})
	require.NoError(t, err)
	executor, register := backend.NewGrpcExecutor(hub, quiet{})
	server := grpc.NewServer(
		grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			if err := authorise(ctx); err != nil {
				return nil, err
			}
			return next(ctx, req)
		}),
		grpc.StreamInterceptor(func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
			if err := authorise(stream.Context()); err != nil {
				return err
			}
			return next(srv, stream)
		}))
	register(server)
	dir, err := os.MkdirTemp("", "sc") //nolint:usetesting // short: a socket's path has at most 107 bytes
	require.NoError(t, err)
	path := filepath.Join(dir, "s")
	ln, err := net.Listen("unix", path)
	require.NoError(t, err)
	turns := backend.NewWorkflowWorker(backend.WorkflowWorkerOptions{Backend: hub, Executor: executor, Logger: quiet{}, AppID: "hub"})
	activities := backend.NewActivityTaskWorker(hub, executor, quiet{})
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	for _, run := range []func(context.Context) error{wakes.Run, hub.Claim, hub.Keep} {
		running.Go(func() { _ = run(ctx) })
	}
	running.Go(func() { _ = server.Serve(ln) })
	turns.Start(ctx)
	activities.Start(ctx)
	t.Cleanup(func() {
		server.Stop()
		cancel()
		turns.StopAndDrain()
		activities.StopAndDrain()
		running.Wait()
		hub.Close()
		_ = os.RemoveAll(dir)
	})
	return "unix://" + path
}

func authorise(ctx context.Context) error {
	md, _ := metadata.FromIncomingContext(ctx)
	if got := md.Get("dapr-api-token"); len(got) != 1 || got[0] != apiToken {
		return status.Error(codes.Unauthenticated, "the token is not right")
	}
	return nil
}

// daprWorker is what a worker process on Dapr runs.
func daprWorker(ctx context.Context, r *durable.Registry, address string) (*engine.Engine, func(), error) {
	e, err := engine.NewDapr(ctx, engine.DaprConfig{
		Address: address, Token: secret.New(apiToken), Registry: r, Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	return e, func() {}, err
}

func TestDapr(t *testing.T) {
	t.Parallel()
	if raced {
		t.Skip("the library's own executor, which plays the sidecar here, races with itself when one of two streams ends " +
			"(durabletask-go v0.12.1, backend/executor.go:326 and :369); dapr/daprtest runs the same suite on a real sidecar, race detector included")
	}
	enginetest.Exercise(t, func(t *testing.T, d *enginetest.Director) *enginetest.Harness {
		t.Helper()
		address := sidecar(t)
		client, err := engine.NewDapr(t.Context(), engine.DaprConfig{
			Address: address, Token: secret.New(apiToken), Registry: durable.NewRegistry(), Log: slog.New(slog.DiscardHandler),
		})
		require.NoError(t, err)
		return &enginetest.Harness{
			Engine: client,
			Worker: func(t *testing.T, version string) *enginetest.Process {
				t.Helper()
				return enginetest.Spawn(t, enginetest.Command(d, version, envSidecar+"="+address))
			},
		}
	})
}
