package program_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/deploy/program"
)

// source is a module of one program that prints what it was linked with.
func source(t *testing.T) (root string, p program.Program) {
	t.Helper()
	root = t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(root, "greet"), 0o750))
	write(t, root, "go.mod", "module greet\n\ngo 1.26\n")
	write(t, root, "main.go", "package main\n\nvar said = \"nothing\"\n\nfunc main() { println(said) }\n")
	return root, program.Program{
		Name: "greet", Dir: "greet", Package: ".", Takes: "no time",
		LinkFlags: func(mod []byte) (string, error) {
			if !strings.HasPrefix(string(mod), "module greet") {
				return "", errors.New("another module")
			}
			return "-X main.said=hello", nil
		},
	}
}

func write(t *testing.T, root, name, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(root, "greet", name), []byte(text), 0o600))
}

// heard collects progress.
type heard struct {
	mu    sync.Mutex
	lines []string
}

func (h *heard) say(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lines = append(h.lines, fmt.Sprintf(format, args...))
}

func (h *heard) count(part string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return strings.Count(strings.Join(h.lines, "\n"), part)
}

func TestBuildsOnceForAllWhoAsk(t *testing.T) {
	t.Parallel()
	root, p := source(t)
	var h heard
	cfg := program.Config{Root: root, CacheDir: t.TempDir(), Progress: h.say}
	var wait sync.WaitGroup
	paths := make([]string, 3)
	for i := range paths {
		wait.Go(func() {
			built, err := program.Build(t.Context(), cfg, p)
			if err != nil {
				t.Error(err)
				return
			}
			paths[i] = built["greet"]
		})
	}
	wait.Wait()
	require.Equal(t, paths[0], paths[1])
	require.Equal(t, paths[0], paths[2])
	require.Equal(t, 1, h.count("building greet (no time)"), "%q", h.lines)
	said, err := exec.CommandContext(t.Context(), paths[0]).CombinedOutput()
	require.NoError(t, err)
	require.Equal(t, "hello\n", string(said))

	write(t, root, "other.go", "package main\n")
	changed, err := program.Build(t.Context(), cfg, p)
	require.NoError(t, err)
	require.NotEqual(t, paths[0], changed["greet"])
	require.FileExists(t, paths[0], "who runs the old one is not disturbed")
}

func TestAFailedBuildSaysWhatTheCompilerSaid(t *testing.T) {
	t.Parallel()
	root, p := source(t)
	write(t, root, "main.go", "package main\n\nfunc main() { undefined() }\n")
	cache := t.TempDir()
	_, err := program.Build(t.Context(), program.Config{Root: root, CacheDir: cache}, p)
	require.ErrorContains(t, err, "build greet: ")
	require.ErrorContains(t, err, "undefined: undefined")
	left, err := filepath.Glob(filepath.Join(cache, "bin", "greet*"))
	require.NoError(t, err)
	require.Empty(t, left)

	write(t, root, "go.mod", "module other\n\ngo 1.26\n")
	_, err = program.Build(t.Context(), program.Config{Root: root, CacheDir: cache}, p)
	require.ErrorContains(t, err, "another module")
}

func TestPrebuiltIsTaken(t *testing.T) {
	t.Parallel()
	root, p := source(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "greet")
	require.NoError(t, os.WriteFile(path, []byte("#!/bin/sh\n"), 0o700))
	built, err := program.Build(t.Context(), program.Config{Root: root, CacheDir: t.TempDir(), Prebuilt: dir}, p)
	require.NoError(t, err)
	require.Equal(t, path, built["greet"])
}

func TestDigestIsOverTheNamedSources(t *testing.T) {
	t.Parallel()
	root, p := source(t)
	all, err := p.Digest(root)
	require.NoError(t, err)
	again, err := p.Digest(root)
	require.NoError(t, err)
	require.Equal(t, all, again)
	p.Sources = []string{"greet/go.mod"}
	some, err := p.Digest(root)
	require.NoError(t, err)
	write(t, root, "main.go", "package main\n\nfunc main() {}\n")
	same, err := p.Digest(root)
	require.NoError(t, err)
	require.Equal(t, some, same)
	p.Sources = []string{"nowhere"}
	_, err = p.Digest(root)
	require.ErrorIs(t, err, os.ErrNotExist)
}

// TestWhoWaitsCanGiveUp: another process holds the lock, as a long build does.
func TestWhoWaitsCanGiveUp(t *testing.T) {
	t.Parallel()
	root, p := source(t)
	cache := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(cache, "bin"), 0o750))
	held, err := os.Create(filepath.Join(cache, "bin", ".lock-greet"))
	require.NoError(t, err)
	defer func() { _ = held.Close() }()
	require.NoError(t, syscall.Flock(int(held.Fd()), syscall.LOCK_EX))
	gone := errors.New("gone")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 300*time.Millisecond, gone)
	defer cancel()
	var h heard
	_, err = program.Build(ctx, program.Config{Root: root, CacheDir: cache, Progress: h.say}, p)
	require.ErrorIs(t, err, gone)
	require.Equal(t, 1, h.count("another build of greet is running"))
}
