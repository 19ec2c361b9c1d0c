package hubtest

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub"
	"github.com/budecosystem/budcluster/hub/hubapi"
	"github.com/budecosystem/budcluster/hub/internal/pg/pgtest"
	"github.com/budecosystem/budcluster/internal/secret"
)

// Hub is a whole hub on a database and sockets of its own.
type Hub struct {
	t   testing.TB
	cfg hub.Config
	// URL is that of the API, TunnelAddress where agents dial.
	URL, TunnelAddress string
	// DatabaseURL is that of the hub's database.
	DatabaseURL string
	// AdminKey is an API key of the role admin, and Client uses it.
	AdminKey secret.String
	Client   *hubapi.Client
	// PlatformURL is where the platform's services call, if the configuration has
	// a sidecar.
	PlatformURL string
	// Log is all that the hub logged so far, at every level.
	Log *Log
	// Level is what the hub would log at.
	Level *slog.LevelVar

	replica string

	stop context.CancelFunc
	done chan error // of size one: what Run returned
}

// Option changes how New makes a hub.
type Option func(*hub.Config)

// With changes the configuration, whose times are already short.
func With(change func(*hub.Config)) Option { return change }

// New starts a hub, and stops it with the test.
func New(tb testing.TB, opts ...Option) *Hub {
	tb.Helper()
	h := &Hub{t: tb, DatabaseURL: pgtest.Migrated(tb), Log: &Log{}, Level: &slog.LevelVar{}, replica: "hub-0"}
	cfg := hub.Defaults()
	cfg.StateDir = tb.TempDir()
	cfg.DatabaseURL = secret.New(h.DatabaseURL)
	cfg.Heartbeat = hub.Heartbeat{Interval: time.Second, Timeout: 5 * time.Second}
	cfg.Session.Lease = 6 * time.Second
	cfg.DrainTimeout = 2 * time.Second
	for _, o := range opts {
		o(&cfg)
	}
	var err error
	h.AdminKey, err = hub.CreateKey(tb.Context(), cfg, h.logger(), hub.NewKey{Name: "test", Role: "admin"})
	require.NoError(tb, err)
	h.open(cfg)
	return h
}

// Attach makes a Hub of one that runs elsewhere, in a process of its own.
func Attach(tb testing.TB, url, tunnelAddress string, key secret.String) *Hub {
	tb.Helper()
	client, err := hubapi.New(url, key.Reveal(), hubapi.Options{})
	require.NoError(tb, err)
	return &Hub{t: tb, URL: url, TunnelAddress: tunnelAddress, AdminKey: key, Client: client, Log: &Log{}}
}

// Replica starts another hub on the same database.
func (h *Hub) Replica(name string) *Hub {
	h.t.Helper()
	other := &Hub{t: h.t, DatabaseURL: h.DatabaseURL, Log: &Log{}, Level: &slog.LevelVar{}, replica: name, AdminKey: h.AdminKey}
	other.open(h.cfg)
	return other
}

// open starts the hub at addresses of its own, and stops it with the test.
func (h *Hub) open(cfg hub.Config) {
	h.t.Helper()
	api, tunnel := listen(h.t, "127.0.0.1:0"), listen(h.t, "127.0.0.1:0")
	var app net.Listener
	if cfg.Dapr.Enabled {
		app = listen(h.t, "127.0.0.1:0")
		cfg.Dapr.AppListen, h.PlatformURL = app.Addr().String(), "http://"+app.Addr().String()
	}
	h.URL, h.TunnelAddress = "http://"+api.Addr().String(), tunnel.Addr().String()
	cfg.API.Listen, cfg.API.URL = api.Addr().String(), h.URL
	cfg.Tunnel.Listen, cfg.Tunnel.Address = tunnel.Addr().String(), tunnel.Addr().String()
	h.cfg = cfg.Complete()
	var err error
	h.Client, err = hubapi.New(h.URL, h.AdminKey.Reveal(), hubapi.Options{})
	require.NoError(h.t, err)
	h.start(api, tunnel, app)
	h.t.Cleanup(func() {
		if h.stop != nil {
			require.NoError(h.t, h.Stop())
		}
		if h.t.Failed() {
			h.t.Logf("the log of %s:\n%s", h.replica, h.Log)
		}
	})
}

func listen(tb testing.TB, address string) net.Listener {
	tb.Helper()
	var lc net.ListenConfig
	ln, err := lc.Listen(tb.Context(), "tcp", address)
	require.NoError(tb, err)
	return ln
}

func (h *Hub) logger() *slog.Logger { return Logger(h.Log) }

// Logger logs everything to l, whatever the hub's level is.
func Logger(l *Log) *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func (h *Hub) start(api, tunnel, app net.Listener) {
	h.t.Helper()
	program, err := os.Executable() // a test that installs agents plays the agent's program too
	require.NoError(h.t, err)
	cfg := h.cfg
	cfg.AgentBinary = program
	running, err := hub.New(cfg, hub.Options{
		Logger: h.logger(), Level: h.Level, APIListener: api, TunnelListener: tunnel, AppListener: app, Replica: h.replica, SyncPoll: time.Minute,
	})
	require.NoError(h.t, err)
	ctx, cancel := context.WithCancel(context.WithoutCancel(h.t.Context()))
	h.stop, h.done = cancel, make(chan error, 1)
	go func() { h.done <- running.Run(ctx) }()
	select {
	case <-running.Ready():
	case err := <-h.done:
		require.NoError(h.t, err, "the hub ended before it was ready: %s", h.Log)
	}
}

// Stop ends the hub in order and returns what Run returned.
func (h *Hub) Stop() error {
	h.stop()
	h.stop = nil
	return <-h.done
}

// Start starts a stopped hub again, at the same addresses.
func (h *Hub) Start() {
	h.t.Helper()
	var app net.Listener
	if h.cfg.Dapr.Enabled {
		app = listen(h.t, h.cfg.Dapr.AppListen)
	}
	h.start(listen(h.t, h.cfg.API.Listen), listen(h.t, h.cfg.Tunnel.Listen), app)
}

// Create makes a cluster with a join token.
func (h *Hub) Create(name string) hubapi.CreatedCluster {
	h.t.Helper()
	made, err := h.Client.CreateCluster(h.t.Context(), hubapi.CreateClusterRequest{Name: name})
	require.NoError(h.t, err)
	return made
}

// Agent is an agent at this hub without an identity.
func (h *Hub) Agent(uid string) *Agent {
	host, _, err := net.SplitHostPort(h.TunnelAddress)
	require.NoError(h.t, err)
	return &Agent{
		t: h.t, ServerName: host, ClusterUID: uid,
		Dial: func(ctx context.Context) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", h.TunnelAddress)
		},
	}
}

// Joined is an agent with an identity, of a new cluster of this name.
func (h *Hub) Joined(name string) *Agent {
	h.t.Helper()
	a := h.Agent("uid-" + name)
	require.NoError(h.t, a.Enroll(h.t.Context(), h.Create(name).JoinToken.Token))
	return a
}

// Log gathers what was logged.
type Log struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

// Write is io.Writer's.
func (l *Log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

// String is everything so far.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
