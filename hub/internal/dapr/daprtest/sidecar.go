package daprtest

import (
	"context"
	"errors"
	"fmt"
	"io"
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
	// Resources is a folder of further components, if there are any.
	Resources string
}

// Sidecar is a real daprd.
type Sidecar struct {
	plane     *plane
	appID     string
	sockets   string
	arguments []string
	env       []string
	process   *process
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
	ports, err := p.network.ports(3)
	require.NoError(tb, err)
	s := &Sidecar{plane: p, appID: cfg.AppID, sockets: sockets, arguments: []string{
		"--app-id", cfg.AppID, "--unix-domain-socket", sockets,
		"--dapr-internal-grpc-port", fmt.Sprint(ports[0]), "--dapr-internal-grpc-listen-address", "127.0.0.1",
		"--metrics-port", fmt.Sprint(ports[1]), "--metrics-listen-address", "127.0.0.1", "--dapr-http-port", fmt.Sprint(ports[2]),
		"--placement-host-address", p.placement, "--scheduler-host-address", p.scheduler,
		"--resources-path", filepath.Join(p.components, "common"), "--resources-path", filepath.Join(p.components, string(cfg.Store)),
	}}
	if cfg.Resources != "" {
		s.arguments = append(s.arguments, "--resources-path", cfg.Resources)
	}
	if cfg.App != nil {
		s.arguments = append(s.arguments, "--app-port", fmt.Sprint(serve(tb, p.network, cfg.App)))
	}
	// A namespace for each program: placement lets all sidecars of one agree on
	// every change, so that those which other tests kill would hold it up for
	// seconds.
	s.env = append(os.Environ(), "NAMESPACE="+cfg.AppID, "DAPR_HOST_IP=127.0.0.1", "DAPR_API_TOKEN="+Token, "APP_API_TOKEN="+Token,
		"REDIS_HOST="+p.redis, "SECRETS_REDIS_PASSWORD=", "SECRETS_POSTGRES_URL="+cfg.Database, "SECRETS_"+SecretName+"="+SecretValue)
	s.begin(tb)
	return s
}

func (s *Sidecar) begin(tb testing.TB) {
	tb.Helper()
	cmd := exec.Command(filepath.Join(s.plane.bin, "daprd"), s.arguments...)
	cmd.Env = s.env
	process, err := begin(s.plane.network, cmd, "daprd")
	require.NoError(tb, err)
	s.process = process
	tb.Cleanup(func() {
		process.kill()
		if tb.Failed() {
			tb.Logf("sidecar of %s said:\n%s", s.appID, process.said.String())
		}
	})
	ready := s.Client(tb)
	require.NoError(tb, s.plane.await(process, func(ctx context.Context) error {
		short, cancel := context.WithTimeoutCause(ctx, Soon/10, errors.New("not yet"))
		defer cancel()
		return ready.Wait(short)
	}))
}

// Restart kills the sidecar, if it runs, and starts it again as it was.
func (s *Sidecar) Restart(tb testing.TB) {
	tb.Helper()
	s.Kill()
	for _, kind := range []string{"http", "grpc"} {
		if err := os.Remove(s.socket(kind)); !errors.Is(err, os.ErrNotExist) {
			require.NoError(tb, err)
		}
	}
	s.begin(tb)
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
			return s.dial(ctx)
		},
	})
	require.NoError(tb, err)
	tb.Cleanup(c.Close)
	return c
}

func (s *Sidecar) dial(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "unix", s.socket("http"))
}

// Invoke sends a request through this sidecar to the program of an app-id, as
// services call each other; of the request's URL only path and query count. The
// answer's body is read to its end.
func (s *Sidecar) Invoke(tb testing.TB, appID string, r *http.Request) (status int, answer []byte) {
	tb.Helper()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return s.dial(ctx) }}
	defer transport.CloseIdleConnections()
	through := r.Clone(tb.Context())
	through.URL.Scheme, through.URL.Host = "http", "sidecar"
	through.URL.Path = "/v1.0/invoke/" + appID + "/method" + r.URL.Path
	through.RequestURI = ""
	through.Header.Set("dapr-api-token", Token)
	response, err := transport.RoundTrip(through)
	require.NoError(tb, err)
	defer func() { _ = response.Body.Close() }()
	answer, err = io.ReadAll(response.Body)
	require.NoError(tb, err)
	return response.StatusCode, answer
}

// Kill ends the sidecar as kill -9 does.
func (s *Sidecar) Kill() { s.process.kill() }

// Log is what it has said so far.
func (s *Sidecar) Log() string { return s.process.said.String() }
