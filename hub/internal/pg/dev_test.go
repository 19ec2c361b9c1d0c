package pg_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/internal/pg"
)

// childDir makes the test binary the parent of a private Postgres, to be
// killed by TestNoServerIsLeftAfterKill.
const childDir = "BUDCLUSTER_TEST_DEV_SERVER"

func TestMain(m *testing.M) {
	dir := os.Getenv(childDir)
	if dir == "" {
		os.Exit(m.Run())
	}
	if err := runChild(dir); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func runChild(dir string) error {
	dev, err := pg.NewDev(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- dev.Run(context.Background()) }()
	select {
	case err := <-done:
		return err
	case <-dev.Ready():
		_, err := fmt.Fprintln(os.Stdout, "ready")
		return errors.Join(err, <-done)
	}
}

// tempDir is one that the user postgres may get to, unlike t.TempDir.
func tempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "budpg") //nolint:usetesting // the parents of t.TempDir are closed to others
	require.NoError(t, err)
	require.NoError(t, os.Chmod(dir, 0o755))
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	return filepath.Join(dir, "pg")
}

func TestNoServerIsLeftAfterKill(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), childDir+"="+dir)
	out, err := child.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "ready\n", line)

	pidFile := filepath.Join(dir, "data", "postmaster.pid")
	text, err := os.ReadFile(pidFile)
	require.NoError(t, err)
	postmaster, err := strconv.Atoi(strings.SplitN(string(text), "\n", 2)[0])
	require.NoError(t, err)
	require.True(t, alive(postmaster))

	require.NoError(t, child.Process.Kill())
	_, _ = io.Copy(io.Discard, out)
	_ = child.Wait()

	deadline := time.NewTimer(30 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for alive(postmaster) {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("postmaster %d still runs after its parent was killed", postmaster)
		}
	}
	require.NoFileExists(t, pidFile, "it stopped in order")
}

// TestStartAtOnceAfterKill: a hub that was killed and started again at once
// found the lock file of the server that was still stopping, and gave up.
func TestStartAtOnceAfterKill(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	for range 3 {
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), childDir+"="+dir)
		out, err := child.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, child.Start())
		line, err := bufio.NewReader(out).ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, "ready\n", line)
		require.NoError(t, child.Process.Kill())
		_ = child.Wait()
	}
	// One that stops in order, so that the folder is at rest.
	dev, err := pg.NewDev(dir, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- dev.Run(ctx) }()
	<-dev.Ready()
	cancel()
	require.NoError(t, <-done)
}

// alive tells a running process from none, and from one that only waits to be
// reaped.
func alive(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, state, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(state, "Z")
}

func TestDevServer(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	for _, round := range []string{"first start", "second start"} {
		dev, err := pg.NewDev(dir, slog.New(slog.DiscardHandler), "fsync=off")
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- dev.Run(ctx) }()
		select {
		case <-dev.Ready():
		case err := <-done:
			require.NoError(t, err, round)
		}
		pool, err := pg.Open(ctx, dev.URL())
		require.NoError(t, err, round)
		require.NoError(t, pg.Migrate(ctx, pool))
		var listen string
		require.NoError(t, pool.QueryRow(ctx, "SHOW listen_addresses").Scan(&listen))
		require.Empty(t, listen, "no TCP port is opened")
		pool.Close()
		info, err := os.Stat(dir)
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o700), info.Mode().Perm(), "nobody else reaches the socket")

		if round == "first start" { // a second server in the same folder is refused, with Postgres's words
			twin, err := pg.NewDev(dir, slog.New(slog.DiscardHandler))
			require.NoError(t, err)
			require.ErrorContains(t, twin.Run(t.Context()), "postmaster.pid")
		}
		cancel()
		require.NoError(t, <-done, round)
		require.NoFileExists(t, filepath.Join(dir, "data", "postmaster.pid"))
	}
}

func TestDevServerWithALongPath(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(tempDir(t), strings.Repeat("long", 30))
	require.NoError(t, os.MkdirAll(filepath.Dir(dir), 0o755))
	dev, err := pg.NewDev(dir, slog.New(slog.DiscardHandler), "fsync=off")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- dev.Run(ctx) }()
	select {
	case <-dev.Ready():
	case err := <-done:
		require.NoError(t, err)
	}
	pool, err := pg.Open(ctx, dev.URL())
	require.NoError(t, err)
	pool.Close()
	cancel()
	require.NoError(t, <-done)
}

func TestDevServerInAClosedFolder(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root lends the server another user")
	}
	dev, err := pg.NewDev(filepath.Join(t.TempDir(), "pg"), slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	require.NoError(t, os.Chmod(filepath.Dir(t.TempDir()), 0o700))
	require.ErrorContains(t, dev.Run(t.Context()), "stateDir: user postgres, as whom the private Postgres runs, cannot get to")
}
