package program

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

func (p Program) build(ctx context.Context, cfg Config, path string) error {
	dir := filepath.Join(cfg.Root, p.Dir)
	flags, err := p.linkFlags(dir)
	if err != nil {
		return err
	}
	partial := path + ".partial"
	defer func() { _ = os.Remove(partial) }()
	cmd := exec.CommandContext(ctx, "go", "build", "-v", "-ldflags="+flags, "-o", partial, p.Package) //nolint:gosec // the programs are this repository's
	cmd.Dir = dir
	// The same flags as the project's own builds, so that they share one build
	// cache: with others, client-go alone would be compiled twice.
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-trimpath -buildvcs=false", "GOWORK=off")
	// With -v, go names every package it compiles: that is the progress.
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	var compiled atomic.Int64
	done := make(chan struct{})
	go report(done, cfg, p.Name, &compiled)
	said := listen(stderr, &compiled)
	err = cmd.Wait()
	close(done)
	if err != nil {
		return fmt.Errorf("%w\n%s", err, said)
	}
	return os.Rename(partial, path)
}

// linkFlags strips the binary and adds what the program wants.
func (p Program) linkFlags(dir string) (string, error) {
	const strip = "-s -w"
	if p.LinkFlags == nil {
		return strip, nil
	}
	mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if err != nil {
		return "", err
	}
	more, err := p.LinkFlags(mod)
	if err != nil {
		return "", fmt.Errorf("link flags from %s/go.mod: %w", dir, err)
	}
	return strip + " " + more, nil
}

// listen counts the packages compiled and keeps what else go said.
func listen(stderr io.Reader, compiled *atomic.Int64) string {
	var said bytes.Buffer
	lines := bufio.NewScanner(stderr)
	for lines.Scan() {
		if line := lines.Text(); strings.ContainsAny(line, " #:") {
			said.WriteString(line + "\n")
			continue
		}
		compiled.Add(1)
	}
	return said.String()
}

func report(done <-chan struct{}, cfg Config, name string, compiled *atomic.Int64) {
	started, tick := time.Now(), time.NewTicker(20*time.Second)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case <-tick.C:
			cfg.Progress("still building %s: %d packages compiled in %s", name, compiled.Load(), time.Since(started).Round(time.Second))
		}
	}
}

// lock takes an exclusive lock on a file; the kernel frees it with the process.
func lock(ctx context.Context, path string, waiting func()) (func(), error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	retry := time.NewTicker(200 * time.Millisecond)
	defer retry.Stop()
	for first := true; ; first = false {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { _ = file.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			_ = file.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		if first && waiting != nil {
			waiting()
		}
		select {
		case <-retry.C:
		case <-ctx.Done():
			_ = file.Close()
			return nil, context.Cause(ctx)
		}
	}
}
