//go:build e2e

package suite_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/hubapi"
)

// hub is a real hub process with a private PostgreSQL. It listens on the
// address at which pods reach this machine, at the same ports in every life.
type hub struct {
	world            *world
	dir, api, tunnel string
	args             []string
	log              string
	key              string
	client           *hubapi.Client

	cmd    *exec.Cmd
	exited chan struct{}
}

// newHub starts a hub with extra flags. It ends with the test; call through
// world.newHub for one that outlives it.
func newHub(t *testing.T, flags ...string) *hub {
	t.Helper()
	h, err := env.newHub(t.Context(), strings.ToLower(strings.NewReplacer("/", "-", "_", "-").Replace(t.Name())), flags...)
	require.NoError(t, err)
	t.Cleanup(h.kill)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the end of the hub's log:\n%s", lastLines(h.log, 40))
		}
	})
	return h
}

func (w *world) newHub(ctx context.Context, name string, flags ...string) (*hub, error) {
	address := w.cluster.Address()
	ports, err := freePorts(ctx, address, 2)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(w.dir, "hub-")
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, err
	}
	h := &hub{
		world: w, dir: dir, api: net.JoinHostPort(address, ports[0]), tunnel: net.JoinHostPort(address, ports[1]),
		log: filepath.Join(w.dir, name+"-hub.log"),
	}
	h.args = append([]string{
		"--dev", "--state-dir", filepath.Join(dir, "state"), "--api-listen", h.api, "--api-url", "http://" + h.api,
		"--tunnel-listen", h.tunnel, "--tunnel-address", h.tunnel, "--log-level", "debug", "--log-format", "json",
	}, flags...)
	if err := h.start(ctx); err != nil {
		return nil, err
	}
	create := w.command(ctx, "budcluster-hub", append([]string{"admin", "create-key", "--name", "e2e", "--role", "admin"}, h.args...)...)
	out, err := create.Output()
	if err != nil {
		h.kill()
		return nil, fmt.Errorf("make an admin key: %w\n%s", err, lastLines(h.log, 40))
	}
	h.key = strings.TrimSpace(string(out))
	h.client, err = hubapi.New("http://"+h.api, h.key, hubapi.Options{PollInterval: time.Second, RetryBase: 50 * time.Millisecond})
	return h, err
}

func freePorts(ctx context.Context, address string, n int) ([]string, error) {
	var ports []string
	for range n {
		listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort(address, "0"))
		if err != nil {
			return nil, err
		}
		defer func() { _ = listener.Close() }()
		_, port, err := net.SplitHostPort(listener.Addr().String())
		if err != nil {
			return nil, err
		}
		ports = append(ports, port)
	}
	return ports, nil
}

// command runs one of our programs, free of settings from this environment.
func (w *world) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(w.repo, "bin", program), args...)
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "BUDCLUSTER_") {
			cmd.Env = append(cmd.Env, variable)
		}
	}
	return cmd
}

// start begins a life of the hub and waits until it serves.
func (h *hub) start(ctx context.Context) error {
	log, err := os.OpenFile(h.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	// Not bound to ctx: a hub may outlive the test that needed it first.
	h.cmd = h.world.command(context.WithoutCancel(ctx), "budcluster-hub", append([]string{"serve"}, h.args...)...)
	h.cmd.Stdout, h.cmd.Stderr = log, log
	h.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := h.cmd.Start(); err != nil {
		return err
	}
	exited := make(chan struct{})
	h.exited = exited
	go func(cmd *exec.Cmd) {
		_ = cmd.Wait()
		close(exited)
	}(h.cmd)
	return h.ready(ctx)
}

func (h *hub) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 90*time.Second)
	defer cancel()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+h.api+"/readyz", nil)
		if err != nil {
			return err
		}
		if response, err := http.DefaultClient.Do(request); err == nil {
			_ = response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-again.C:
		case <-h.exited:
			return fmt.Errorf("the hub ended before it was ready:\n%s", lastLines(h.log, 40))
		case <-ctx.Done():
			return fmt.Errorf("the hub is not ready: %w\n%s", ctx.Err(), lastLines(h.log, 40))
		}
	}
}

// stop ends the hub in order.
func (h *hub) stop(t *testing.T) {
	t.Helper()
	require.NoError(t, h.cmd.Process.Signal(syscall.SIGTERM))
	select {
	case <-h.exited:
	case <-time.After(60 * time.Second):
		t.Fatalf("the hub did not stop within a minute of SIGTERM:\n%s", lastLines(h.log, 40))
	}
}

// kill ends the hub as a power cut would.
func (h *hub) kill() {
	if h.cmd == nil {
		return
	}
	_ = h.cmd.Process.Kill()
	<-h.exited
}

// again starts the hub's next life.
func (h *hub) again(t *testing.T) {
	t.Helper()
	require.NoError(t, h.start(t.Context()))
}

// lastLines is the end of a file, for failures.
func lastLines(path string, n int) string {
	content, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := bytes.Split(bytes.TrimSpace(content), []byte("\n"))
	lines = slices.DeleteFunc(lines, func(line []byte) bool { return bytes.Contains(line, []byte(`"request served"`)) })
	if len(lines) > n {
		lines = lines[len(lines)-n:]
	}
	return string(bytes.Join(lines, []byte("\n")))
}
