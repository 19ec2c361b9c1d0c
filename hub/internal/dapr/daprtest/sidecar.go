package daprtest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/internal/dapr"
	"github.com/budecosystem/budcluster/internal/secret"
)

// Store is where sidecars keep state and workflows.
type Store string

// The stores that deploy/dapr has components for.
const (
	Redis    Store = "redis"
	Postgres Store = "postgres"
)

// SidecarConfig says what a sidecar is for.
type SidecarConfig struct {
	Store Store
	// Database is the URL of the store's database, for Postgres.
	Database string
	// AppID tells programs apart; replicas of one have the same. Default: AppID.
	AppID string
	// App is the program beside it, if it is to be called.
	App http.Handler
}

// Sidecar is a real daprd.
type Sidecar struct {
	tb      testing.TB
	appID   string
	sockets string
	process *process
}

// Start runs a sidecar for the time of the test, with placement, scheduler and
// Redis that all tests of the process share.
func Start(tb testing.TB, cfg SidecarConfig) *Sidecar {
	tb.Helper()
	p, err := shared()
	require.NoError(tb, err)
	if cfg.AppID == "" {
		cfg.AppID = AppID
	}
	sockets, err := os.MkdirTemp(p.dir, "s") //nolint:usetesting // short: a socket's path has at most 107 bytes
	require.NoError(tb, err)
	s := &Sidecar{tb: tb, appID: cfg.AppID, sockets: sockets}
	ports, err := p.network.ports(3)
	require.NoError(tb, err)
	arguments := []string{
		"--app-id", cfg.AppID, "--unix-domain-socket", sockets,
		"--dapr-internal-grpc-port", fmt.Sprint(ports[0]), "--dapr-internal-grpc-listen-address", "127.0.0.1",
		"--metrics-port", fmt.Sprint(ports[1]), "--metrics-listen-address", "127.0.0.1", "--dapr-http-port", fmt.Sprint(ports[2]),
		"--placement-host-address", p.placement, "--scheduler-host-address", p.scheduler,
		"--resources-path", filepath.Join(p.components, "common"), "--resources-path", filepath.Join(p.components, string(cfg.Store)),
	}
	if cfg.App != nil {
		arguments = append(arguments, "--app-port", fmt.Sprint(serve(tb, p.network, cfg.App)))
	}
	cmd := exec.Command(filepath.Join(p.bin, "daprd"), arguments...)
	// A namespace for each program: placement lets all sidecars of one agree on
	// every change, so that those which other tests kill would hold it up for
	// seconds.
	cmd.Env = append(os.Environ(), "NAMESPACE="+cfg.AppID, "DAPR_HOST_IP=127.0.0.1", "DAPR_API_TOKEN="+Token, "APP_API_TOKEN="+Token,
		"REDIS_HOST="+p.redis, "SECRETS_REDIS_PASSWORD=", "SECRETS_POSTGRES_URL="+cfg.Database, "SECRETS_"+SecretName+"="+SecretValue)
	s.process, err = begin(p.network, cmd, "daprd")
	require.NoError(tb, err)
	tb.Cleanup(func() {
		s.Kill()
		if tb.Failed() {
			tb.Logf("sidecar of %s said:\n%s", s.appID, s.process.said.String())
		}
	})
	ready := s.Client(tb)
	require.NoError(tb, p.await(s.process, func(ctx context.Context) error {
		short, cancel := context.WithTimeoutCause(ctx, Soon/10, errors.New("not yet"))
		defer cancel()
		return ready.Wait(short)
	}))
	return s
}

// serve runs the program beside a sidecar.
func serve(tb testing.TB, n *network, app http.Handler) (port int) {
	tb.Helper()
	ln, err := n.listen()
	require.NoError(tb, err)
	server := &http.Server{Handler: app}
	go func() { _ = server.Serve(ln) }()
	tb.Cleanup(func() { _ = server.Close() })
	return ln.Addr().(*net.TCPAddr).Port
}

// GRPC is the address of the API that workflows use.
func (s *Sidecar) GRPC() string { return "unix://" + s.socket("grpc") }

func (s *Sidecar) socket(kind string) string {
	return filepath.Join(s.sockets, fmt.Sprintf("dapr-%s-%s.socket", s.appID, kind))
}

// Client makes a client of it for the time of the test.
func (s *Sidecar) Client(tb testing.TB) *dapr.Client {
	tb.Helper()
	c, err := dapr.New(dapr.Config{
		Address: "sidecar:3500", Token: secret.New(Token), Log: slog.New(slog.DiscardHandler),
		Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", s.socket("http"))
		},
	})
	require.NoError(tb, err)
	tb.Cleanup(c.Close)
	return c
}

// Kill ends the sidecar as kill -9 does.
func (s *Sidecar) Kill() { s.process.kill() }

// Log is what it has said so far.
func (s *Sidecar) Log() string { return s.process.said.String() }
