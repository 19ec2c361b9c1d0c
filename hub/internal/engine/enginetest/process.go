package enginetest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	durable "github.com/dapr/durabletask-go/workflow"
	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/internal/engine"
)

// The variables by which a worker knows what it is.
const (
	envSocket  = "ENGINETEST_SOCKET"
	envVersion = "ENGINETEST_VERSION"
)

// ready is what a worker prints once it takes work.
const ready = "ready\n"

// NewWorker makes the engine that a worker process runs, from the variables
// that the harness gave to the process. End is called after Run.
type NewWorker func(ctx context.Context, r *durable.Registry) (e *engine.Engine, end func(), err error)

// Main is the whole of a TestMain. In a process that Spawn started it runs a
// worker until SIGTERM; otherwise it runs the tests.
func Main(m *testing.M, newWorker NewWorker) {
	socket := os.Getenv(envSocket)
	if socket == "" {
		os.Exit(m.Run())
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	if err := work(ctx, newWorker, socket); err != nil {
		fmt.Fprintln(os.Stderr, "worker:", err)
		os.Exit(1)
	}
	stop()
	os.Exit(0)
}

func work(ctx context.Context, newWorker NewWorker, socket string) error {
	r := durable.NewRegistry()
	if err := Register(r, os.Getenv(envVersion), socket); err != nil {
		return err
	}
	e, end, err := newWorker(ctx, r)
	if err != nil {
		return err
	}
	defer end()
	go func() {
		select {
		case <-e.Ready():
			_, _ = os.Stdout.WriteString(ready)
		case <-ctx.Done():
		}
	}()
	return e.Run(ctx)
}

// Process is a worker.
type Process struct {
	cmd  *exec.Cmd
	log  *output
	done chan struct{} // closed when it has ended
	err  error         // set before done is closed
}

// Command is a worker's command line and environment: this test's program, to
// which a harness may add what it needs.
func Command(d *Director, version string, env ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(append(os.Environ(), envSocket+"="+d.path, envVersion+"="+version), env...)
	return cmd
}

// Spawn starts a worker and waits until it takes work. It is killed with the
// test.
func Spawn(t testing.TB, cmd *exec.Cmd) *Process {
	t.Helper()
	p := &Process{cmd: cmd, log: &output{ready: make(chan struct{})}, done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = p.log, p.log
	require.NoError(t, cmd.Start())
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.Kill()
		if strings.Contains(p.log.String(), "DATA RACE") { // the race detector's report: it is in this process, too
			t.Errorf("worker %d has a data race", cmd.Process.Pid)
		}
		if t.Failed() {
			t.Logf("worker %d said:\n%s", cmd.Process.Pid, p.log)
		}
	})
	timer := time.NewTimer(Soon)
	defer timer.Stop()
	select {
	case <-p.log.ready:
	case <-p.done:
		t.Fatalf("worker ended before it was ready: %v\n%s", p.err, p.log)
	case <-timer.C:
		t.Fatalf("worker is not ready after %s:\n%s", Soon, p.log)
	}
	return p
}

// Pid is the process's, as a Call has it.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Kill ends the process as kill -9 does.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// Freeze stops the process from running until Thaw.
func (p *Process) Freeze(t testing.TB) {
	t.Helper()
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGSTOP))
}

// Thaw lets a frozen process go on.
func (p *Process) Thaw(t testing.TB) {
	t.Helper()
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGCONT))
}

// Stop ends the process as Kubernetes does, and waits for it.
func (p *Process) Stop(t testing.TB) {
	t.Helper()
	p.Terminate(t)
	p.Await(t)
}

// Terminate asks the process to end.
func (p *Process) Terminate(t testing.TB) {
	t.Helper()
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
}

// Await waits for the end of a process that was asked to end: an orderly one.
func (p *Process) Await(t testing.TB) {
	t.Helper()
	timer := time.NewTimer(Soon)
	defer timer.Stop()
	select {
	case <-p.done:
		require.NoError(t, p.err, "%s", p.log)
	case <-timer.C:
		t.Fatalf("worker has not ended %s after it was asked to:\n%s", Soon, p.log)
	}
}

// Log is what the process has said so far.
func (p *Process) Log() string { return p.log.String() }

// output keeps what a process says, and notices when it is ready.
type output struct {
	mu    sync.Mutex // guards text, seen
	text  bytes.Buffer
	seen  bool
	ready chan struct{} // closed when it is
}

var _ io.Writer = (*output)(nil)

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	n, err := o.text.Write(p)
	if !o.seen && bytes.Contains(o.text.Bytes(), []byte(ready)) {
		o.seen = true
		close(o.ready)
	}
	return n, err
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}
