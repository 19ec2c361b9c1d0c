package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/agent"
	"github.com/budecosystem/budcluster/internal/testutil"
)

func run(t *testing.T, env []string, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	root := newRoot(program{
		env: env, out: &out, err: &out,
		unsetenv: func(string) error { return nil }, hostname: func() (string, error) { return "pod-1", nil },
	})
	root.SetArgs(args)
	err := root.ExecuteContext(t.Context())
	return out.String(), err
}

func TestHelp(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{"help": {"--help"}, "help-run": {"run", "--help"}, "help-check": {"check", "--help"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, err := run(t, nil, args...)
			require.NoError(t, err)
			testutil.Golden(t, name, []byte(out))
		})
	}
}

// TestRefusals: a program that does not start says which setting is wrong.
func TestRefusals(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		env  []string
		args []string
		want string
	}{
		"no address":       {nil, []string{"run"}, "hub.addresses"},
		"unknown flag":     {nil, []string{"run", "--hub-host=x"}, "hub-host"},
		"unknown variable": {[]string{"BUDCLUSTER_AGENT_HUB_HOST=x"}, []string{"run"}, "HUB_HOST"},
		"service links":    {[]string{"BUDCLUSTER_AGENT_SERVICE_HOST=10.0.0.1", "BUDCLUSTER_AGENT_PORT_8080_TCP=x"}, []string{"run"}, "hub.addresses"},
		"no file":          {nil, []string{"run", "--config=/nowhere.yaml"}, "/nowhere.yaml"},
		"argument":         {nil, []string{"run", "now"}, "now"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := run(t, c.env, c.args...)
			require.ErrorContains(t, err, c.want)
		})
	}
}

func TestComplete(t *testing.T) {
	t.Parallel()
	env := []string{"HTTPS_PROXY=http://proxy:3128", "NO_PROXY=.internal"}
	pod := append([]string{"KUBERNETES_SERVICE_HOST=10.0.0.1"}, env...)
	for name, c := range map[string]struct {
		env   []string
		cfg   agent.Config
		want  agent.ProxyConfig
		pod   string
		unset int
	}{
		"nothing":       {nil, agent.Config{}, agent.ProxyConfig{}, "", 0},
		"workstation":   {env, agent.Config{}, agent.ProxyConfig{HTTPS: "http://proxy:3128", No: ".internal"}, "", 0},
		"in a pod":      {pod, agent.Config{}, agent.ProxyConfig{HTTPS: "http://proxy:3128", No: ".internal"}, "pod-1", 4},
		"settings win":  {pod, agent.Config{PodName: "a", Proxy: agent.ProxyConfig{HTTPS: "http://mine:1"}}, agent.ProxyConfig{HTTPS: "http://mine:1", No: ".internal"}, "a", 4},
		"pod, but dev.": {pod, agent.Config{Kubeconfig: "k"}, agent.ProxyConfig{HTTPS: "http://proxy:3128", No: ".internal"}, "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			unset := 0
			p := program{
				env: c.env, unsetenv: func(string) error { unset++; return nil },
				hostname: func() (string, error) { return "pod-1", nil },
			}
			cfg := c.cfg
			require.NoError(t, p.complete(&cfg))
			require.Equal(t, c.want, cfg.Proxy)
			require.Equal(t, c.pod, cfg.PodName)
			require.Equal(t, c.unset, unset, "client-go must not find the proxy of the hub")
		})
	}
}

// TestCheck waits for a yes, and ends with the last no.
func TestCheck(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/readyz" || asked.Add(1) < 2 {
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = w.Write([]byte("not ready: HubUnreachable"))
			return
		}
		_, _ = w.Write([]byte("ok: leading"))
	}))
	t.Cleanup(server.Close)
	_, err := run(t, nil, "check", "--url", server.URL, "--timeout", "100ms")
	require.ErrorContains(t, err, "HubUnreachable")
	out, err := run(t, nil, "check", "--url", server.URL+"/", "--timeout", "30s")
	require.NoError(t, err)
	require.Equal(t, "ok: leading\n", out)
}

func TestVersion(t *testing.T) {
	t.Parallel()
	out, err := run(t, nil, "version")
	require.NoError(t, err)
	require.Contains(t, out, "budcluster-agent ")
}
