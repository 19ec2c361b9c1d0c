package hub

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/time/rate"
	"google.golang.org/grpc"

	"github.com/budecosystem/budcluster/charts"
	"github.com/budecosystem/budcluster/hub/internal/agentapi"
	"github.com/budecosystem/budcluster/hub/internal/api"
	"github.com/budecosystem/budcluster/hub/internal/cluster"
	"github.com/budecosystem/budcluster/hub/internal/enroll"
	"github.com/budecosystem/budcluster/hub/internal/gateway"
	"github.com/budecosystem/budcluster/hub/internal/pg"
	"github.com/budecosystem/budcluster/hub/internal/store"
	"github.com/budecosystem/budcluster/hub/internal/store/taskhub"
	"github.com/budecosystem/budcluster/hub/internal/webhook"
	"github.com/budecosystem/budcluster/internal/buildinfo"
	"github.com/budecosystem/budcluster/internal/logkey"
	"github.com/budecosystem/budcluster/internal/pki"
	"github.com/budecosystem/budcluster/internal/run"
	"github.com/budecosystem/budcluster/internal/secret"
	"github.com/budecosystem/budcluster/internal/tunnel"
)

const (
	// handshakesPerSecond is what two cores do with some to spare for the
	// agents that are in already; the rest is refused before TLS costs anything.
	handshakesPerSecond = 200
	handshakeBurst      = 400
	handshakeTimeout    = 10 * time.Second
	// lingering is how long calls may take to end once their server stops.
	lingering = 5 * time.Second
)

// serve makes the parts over one database and runs them.
func (h *Hub) serve(ctx context.Context, url string) error {
	login, err := firstLogin(ctx, h.cfg, url, h.component("dapr"))
	if err != nil {
		return err
	}
	pool, err := pg.OpenAs(ctx, url, login.current)
	if err != nil {
		return fmt.Errorf("open database: %w", err)
	}
	defer pool.Close()
	if err := pg.Migrate(ctx, pool); err != nil {
		return err
	}
	keys, err := secret.OpenKeyring(h.cfg.CryptoKeysDir)
	if err != nil {
		return fmt.Errorf("cryptoKeysDir: %w", err)
	}
	st := store.New(pool)
	r, err := newRules(h.cfg, st, keys, h.log)
	if err != nil {
		return err
	}
	cert, err := h.identity(ctx, r)
	if err != nil {
		return err
	}
	if err := h.firstKey(ctx, r); err != nil {
		return err
	}
	p := &parts{rules: r, login: login, cert: cert, wakes: pg.NewListener(pool, h.component("listener")), registry: newRegistry(), ping: st.Ping, known: st.MemberByUID}
	if p.hooks, err = h.webhooks(p, st, keys); err != nil {
		return err
	}
	if p.installs, err = h.newInstalls(p); err != nil {
		return err
	}
	if err := h.edges(ctx, p); err != nil {
		return err
	}
	closeWork, err := h.work(ctx, p, st, taskhub.Config{Pool: pool, Waker: p.wakes, Log: h.component("engine"), Lease: h.cfg.Workflows.Lease})
	if err != nil {
		return err
	}
	defer closeWork()
	closeFace, err := h.face(ctx, p)
	if err != nil {
		return err
	}
	defer closeFace()
	close(h.ready)
	return p.group.Run(ctx)
}

// parts are what serve joins.
type parts struct {
	*rules
	login    *login
	cert     *enroll.ServerCertificate
	wakes    *pg.Listener
	registry *prometheus.Registry
	ping     func(context.Context) error
	gateway  *gateway.Gateway
	known    func(ctx context.Context, uid string) (enroll.Member, error)
	hooks    *webhook.Service
	installs *installs
	group    run.Group
}

func (h *Hub) component(name string) *slog.Logger {
	return h.log.With(slog.String(logkey.Component, name))
}

// identity loads the authority and this replica's certificate.
func (h *Hub) identity(ctx context.Context, r *rules) (*enroll.ServerCertificate, error) {
	if _, err := r.enroll.Authority(ctx); err != nil {
		return nil, err //nolint:wrapcheck // a sentence already
	}
	host, _, err := net.SplitHostPort(h.cfg.Tunnel.Address)
	if err != nil {
		return nil, fmt.Errorf("tunnel.address: %w", err)
	}
	names := slices.Concat([]string{host}, h.cfg.Tunnel.Names)
	if h.cfg.Dev { // agents started by hand on this machine
		names = append(names, "localhost", "127.0.0.1")
	}
	slices.Sort(names)
	names = slices.Compact(names)
	cert := r.enroll.NewServerCertificate(names, h.opts.Replica)
	return cert, cert.Load(ctx)
}

// edges makes the edges and adds everything to the group. What is added first
// goes last.
func (h *Hub) edges(ctx context.Context, p *parts) error {
	agents, err := h.agents(p)
	if err != nil {
		return err
	}
	tunnelServer := grpc.NewServer(slices.Concat(tunnel.GRPCServerOptions(), p.gateway.Options(), agents.Options())...)
	agents.RegisterTunnel(tunnelServer)
	joinServer := grpc.NewServer(slices.Concat(tunnel.GRPCServerOptions(), agents.JoinOptions())...)
	agents.RegisterJoin(joinServer)
	joins := tunnel.NewFanIn()
	acceptor, err := h.acceptor(p, joins)
	if err != nil {
		return err
	}
	web, err := h.api(p) //nolint:contextcheck // each request brings its own
	if err != nil {
		return err
	}
	webTLS, err := h.apiTLS()
	if err != nil {
		return err
	}
	apiListener, err := listen(ctx, h.opts.APIListener, h.cfg.API.Listen)
	if err != nil {
		return fmt.Errorf("api.listen: %w", err)
	}
	tunnelListener, err := listen(ctx, h.opts.TunnelListener, h.cfg.Tunnel.Listen)
	if err != nil {
		_ = apiListener.Close()
		return fmt.Errorf("tunnel.listen: %w", err)
	}
	p.group.Add("listener", p.wakes.Run)
	p.group.Add("sessions", p.clusters.Run)
	p.group.Add("events", p.janitor.Run)
	p.group.Add("certificate", p.cert.Run)
	p.group.Add("installations", p.installs.Run)
	p.group.Add("api", func(ctx context.Context) error { return web.Serve(ctx, apiListener, webTLS) })
	p.group.Add("agents", serveGRPC(tunnelServer, p.gateway.Listener()))
	p.group.Add("joins", serveGRPC(joinServer, joins))
	p.group.Add("gateway", p.gateway.Run)
	p.group.Add("tunnel", func(ctx context.Context) error { return acceptor.Serve(ctx, tunnelListener) })
	h.log.InfoContext(ctx, "hub listens", slog.String(logkey.URL, apiListener.Addr().String()), slog.String(logkey.Addr, tunnelListener.Addr().String()),
		slog.String(logkey.Peer, h.cfg.Tunnel.Address), slog.String(logkey.Version, buildinfo.Version()))
	return nil
}

// agents makes the gateway and the agents' API, which need each other.
func (h *Hub) agents(p *parts) (*agentapi.Server, error) {
	var agents *agentapi.Server
	var err error
	p.gateway, err = gateway.New(gateway.Config{
		Admission: p.enroll, Clusters: p.clusters, Replica: h.opts.Replica, Logger: h.component("gateway"), Registerer: p.registry,
		Watch: func(id uuid.UUID) (<-chan struct{}, func()) {
			return p.wakes.Subscribe(store.ChannelEvents, id.String())
		},
		Status: func(ctx context.Context, doing string, err error) error {
			return agents.Status(ctx, doing, err)
		},
		Tunnel: tunnel.Options{Logger: h.component("tunnel")},
		Lease:  h.cfg.Session.Lease, Timeout: h.cfg.Heartbeat.Timeout, Drain: h.cfg.DrainTimeout,
	})
	if err != nil {
		return nil, err
	}
	agents, err = agentapi.New(agentapi.Config{
		Enroller: p.enroll, Clusters: p.clusters, Releases: p.releases, Inventory: p.inventory, Charts: p.charts,
		Attach: func(ctx context.Context, info cluster.SessionInfo) (agentapi.Link, error) {
			link, err := p.gateway.Attach(ctx, info)
			if err != nil {
				return nil, err
			}
			return link, nil
		},
		WatchReleases: func(id uuid.UUID) (<-chan struct{}, func()) {
			return p.wakes.Subscribe(store.ChannelReleases, id.String())
		},
		Probes: p.catalogue.Probes(),
		Logger: h.component("agentapi"), Registerer: p.registry, HubVersion: buildinfo.Version(),
		Heartbeat: h.cfg.Heartbeat.Interval, Timeout: h.cfg.Heartbeat.Timeout, Poll: h.opts.SyncPoll,
	})
	return agents, err
}

func (h *Hub) acceptor(p *parts, joins *tunnel.FanIn) (*tunnel.Acceptor, error) {
	acceptor, err := tunnel.NewAcceptor(tunnel.AcceptorConfig{
		TLS:              pki.ServerConfig(p.cert.Current, p.enroll.Bundle, time.Now),
		Logger:           h.component("tunnel"),
		Handshakes:       rate.NewLimiter(handshakesPerSecond, handshakeBurst),
		HandshakeTimeout: handshakeTimeout,
		Control:          p.gateway.Handle,
		Join: func(_ context.Context, conn *tls.Conn) {
			if err := joins.Push(conn); err != nil {
				_ = conn.Close()
			}
		},
	})
	if err != nil {
		return nil, fmt.Errorf("prepare tunnel: %w", err)
	}
	return acceptor, nil
}

func newRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

func listen(ctx context.Context, given net.Listener, address string) (net.Listener, error) {
	if given != nil {
		return given, nil
	}
	var lc net.ListenConfig
	return lc.Listen(ctx, "tcp", address) //nolint:wrapcheck // names the address
}

// serveGRPC runs a server until ctx ends, and lets its calls end.
func serveGRPC(server *grpc.Server, ln net.Listener) func(context.Context) error {
	return func(ctx context.Context) error {
		ended := make(chan struct{})
		stopped := make(chan struct{})
		go func() {
			defer close(stopped)
			select {
			case <-ended:
				return
			case <-ctx.Done():
			}
			hard := time.AfterFunc(lingering, server.Stop)
			defer hard.Stop()
			server.GracefulStop()
		}()
		err := server.Serve(ln)
		close(ended)
		<-stopped
		return err //nolint:wrapcheck // nil after an orderly stop
	}
}

// api makes /v1.
func (h *Hub) api(p *parts) (*api.Server, error) {
	agentChart, err := charts.Agent()
	if err != nil {
		return nil, fmt.Errorf("open agent chart: %w", err)
	}
	return api.New(api.Config{ //nolint:wrapcheck // names what is missing
		Logger: h.component("api"), Metrics: p.registry,
		Clusters: p.clusters, Tokens: p.enroll, Releases: p.releases, Inventory: p.inventory, Charts: p.charts,
		Access: p.access, Events: p.events, Agents: p.gateway, Webhooks: p.hooks, Messages: p.letters,
		Workflows: p.workflows, Operations: p.operation, Upload: p.installs.register, Equipment: p.equipment,
		Watch:         func(id string) (<-chan struct{}, func()) { return p.wakes.Subscribe(store.ChannelEvents, id) },
		Ready:         map[string]func(context.Context) error{"database": p.ping},
		AgentChart:    agentChart,
		PublicURL:     h.cfg.API.URL,
		TunnelAddress: h.cfg.Tunnel.Address,
	})
}

// apiTLS is nil for plain HTTP.
func (h *Hub) apiTLS() (*tls.Config, error) {
	if h.cfg.API.TLSCertFile == "" {
		return nil, nil //nolint:nilnil // plain HTTP
	}
	pair := &keyPair{certFile: h.cfg.API.TLSCertFile, keyFile: h.cfg.API.TLSKeyFile}
	if _, err := pair.get(nil); err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: pair.get}, nil
}
