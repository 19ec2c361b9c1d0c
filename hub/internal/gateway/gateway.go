package gateway

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/budecosystem/budcluster/hub/internal/cluster"
	"github.com/budecosystem/budcluster/internal/logkey"
	"github.com/budecosystem/budcluster/internal/tunnel"
	agentv1 "github.com/budecosystem/budcluster/proto/agent/v1"
)

// Defaults of Config.
const (
	DefaultLease   = 30 * time.Second
	DefaultTimeout = 25 * time.Second
	DefaultDrain   = 10 * time.Second
)

// ErrAway is returned for a cluster that has no session here.
var ErrAway = errors.New("the cluster's agent is not connected")

// Admission judges certificates; enroll.Service.
type Admission interface {
	Admit(ctx context.Context, peer *x509.Certificate) (uuid.UUID, error)
}

// Clusters keeps the sessions' rows; cluster.Service.
type Clusters interface {
	Get(ctx context.Context, ref string) (*cluster.Cluster, error)
	OpenSession(ctx context.Context, id uuid.UUID, info cluster.SessionInfo) (epoch int64, err error)
	RenewSessions(ctx context.Context, replica string, ids []uuid.UUID) error
	Lost(ctx context.Context, held map[uuid.UUID]int64) ([]uuid.UUID, error)
	CloseSession(ctx context.Context, id uuid.UUID, epoch int64, reason string) error
}

// Config is what a Gateway needs.
type Config struct {
	Admission Admission
	Clusters  Clusters
	// Watch wakes when something about the cluster was changed by anybody.
	Watch func(clusterID uuid.UUID) (wake <-chan struct{}, cancel func())
	// Status makes an error fit to travel; agentapi's.
	Status     func(ctx context.Context, doing string, err error) error
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	// Replica names this process among the hub's.
	Replica string
	Tunnel  tunnel.Options

	Now func() time.Time
	// Lease is how long a session counts without being renewed.
	Lease time.Duration
	// Timeout is how long a connection may wait with its Hello.
	Timeout time.Duration
	// Drain bounds the leaving of all agents on a stop.
	Drain time.Duration
}

// Gateway holds the sessions of this replica.
type Gateway struct {
	cfg     Config
	log     *slog.Logger
	metrics *metrics
	fan     *tunnel.FanIn
	arrived chan *tls.Conn
	gone    chan struct{} // closed when Run no longer takes arrivals
	stirred chan struct{} // of size one: something is in suspects

	mu       sync.Mutex // guards the four below
	links    map[*tunnel.Session]*Link
	attached map[uuid.UUID]*Link
	suspects map[uuid.UUID]bool
	draining bool
}

// New checks the configuration.
func New(cfg Config) (*Gateway, error) {
	cfg.Lease = cmp.Or(cfg.Lease, DefaultLease)
	cfg.Timeout = cmp.Or(cfg.Timeout, DefaultTimeout)
	cfg.Drain = cmp.Or(cfg.Drain, DefaultDrain)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	var errs []error
	for name, missing := range map[string]bool{
		"admission": cfg.Admission == nil, "clusters": cfg.Clusters == nil, "watch": cfg.Watch == nil,
		"status": cfg.Status == nil, "logger": cfg.Logger == nil, "registerer": cfg.Registerer == nil, "replica": cfg.Replica == "",
	} {
		if missing {
			errs = append(errs, fmt.Errorf("gateway needs %s", name))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	g := &Gateway{
		cfg: cfg, log: cfg.Logger, fan: tunnel.NewFanIn(),
		arrived: make(chan *tls.Conn), gone: make(chan struct{}), stirred: make(chan struct{}, 1),
		links: map[*tunnel.Session]*Link{}, attached: map[uuid.UUID]*Link{}, suspects: map[uuid.UUID]bool{},
	}
	g.metrics = newMetrics(cfg.Registerer, g.count)
	return g, nil
}

// Listener yields the gRPC streams of all sessions, for the one grpc.Server.
func (g *Gateway) Listener() net.Listener { return g.fan }

// Handle takes over a connection whose handshake is done on the control lane.
// It returns at once; the connection lives as long as Run does.
func (g *Gateway) Handle(ctx context.Context, conn *tls.Conn) {
	select {
	case g.arrived <- conn:
	case <-g.gone:
		_ = conn.Close()
	case <-ctx.Done():
		_ = conn.Close()
	}
}

// Run holds the sessions until ctx ends, and then sees the agents off.
func (g *Gateway) Run(ctx context.Context) error {
	// Sessions outlive ctx by the time of the drain.
	live, kill := context.WithCancel(context.WithoutCancel(ctx))
	defer kill()
	var wg sync.WaitGroup
	wg.Go(func() { g.keep(live) })
	for ctx.Err() == nil {
		select {
		case conn := <-g.arrived:
			wg.Go(func() { g.serve(live, conn) })
		case <-ctx.Done():
		}
	}
	close(g.gone)
	g.drain(live)
	kill()
	wg.Wait()
	return nil
}

// serve is the life of one connection.
func (g *Gateway) serve(ctx context.Context, conn *tls.Conn) {
	session, err := tunnel.Server(conn, g.cfg.Tunnel)
	if err != nil {
		_ = conn.Close()
		g.log.WarnContext(ctx, "session not opened", slog.String(logkey.RemoteAddr, conn.RemoteAddr().String()), slog.Any(logkey.Error, err))
		return
	}
	defer func() { _ = session.Close() }()
	link := g.admit(ctx, session)
	g.mu.Lock()
	g.links[session] = link
	g.mu.Unlock()
	defer func() {
		link.release()
		g.mu.Lock()
		delete(g.links, session)
		g.mu.Unlock()
	}()
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		defer cancel()
		link.watch(ctx)
	})
	if err := g.fan.Serve(ctx, session); err != nil && ctx.Err() == nil {
		g.log.DebugContext(ctx, "session ended", slog.String(logkey.ClusterID, link.cluster.String()), slog.Any(logkey.Error, err))
	}
	cancel()
	wg.Wait()
}

// admit judges the certificate and makes the connection's link.
func (g *Gateway) admit(ctx context.Context, session *tunnel.Session) *Link {
	link := &Link{
		g: g, session: session, orders: make(chan *agentv1.ControlResponse, 4),
		answered: make(chan struct{}), attached: make(chan struct{}), leave: make(chan departure, 1),
	}
	id, err := g.cfg.Admission.Admit(ctx, session.Peer())
	link.cluster = id
	if err != nil {
		link.refused = g.cfg.Status(ctx, "admit", err)
		g.metrics.refused.Inc()
	}
	return link
}

// Attach opens the session of the connection that ctx belongs to. The cluster
// is the one of its certificate.
func (g *Gateway) Attach(ctx context.Context, info cluster.SessionInfo) (*Link, error) {
	link := g.linkOf(ctx)
	if link == nil || link.refused != nil {
		return nil, status.Error(codes.Unavailable, "the connection is being closed")
	}
	if !link.greeted() {
		return nil, status.Error(codes.FailedPrecondition, "the connection has a control stream already")
	}
	info.Replica = g.cfg.Replica
	link.info = info
	epoch, err := g.cfg.Clusters.OpenSession(ctx, link.cluster, info)
	if err != nil {
		return nil, err //nolint:wrapcheck // the rule's error is mapped to a status by the caller
	}
	link.epoch.Store(epoch)
	close(link.attached)

	g.mu.Lock()
	fenced, draining := g.attached[link.cluster], g.draining
	if fenced == nil || fenced.Epoch() < epoch {
		g.attached[link.cluster] = link
	} else {
		fenced = link
	}
	g.mu.Unlock()
	if fenced != nil {
		fenced.depart(departFenced())
	}
	if draining {
		link.depart(g.slot(0, 1))
	}
	g.metrics.opened.Inc()
	g.log.InfoContext(ctx, "agent connected", slog.String(logkey.ClusterID, link.cluster.String()),
		slog.Int64(logkey.Epoch, epoch), slog.String(logkey.RemoteAddr, info.RemoteAddr), slog.String(logkey.AgentVersion, info.AgentVersion))
	return link, nil
}

// Conn is a connection to the agent of a cluster, dialed through its session
// when it is first used. It is shared: do not close it.
func (g *Gateway) Conn(id uuid.UUID) (*grpc.ClientConn, error) {
	g.mu.Lock()
	link := g.attached[id]
	g.mu.Unlock()
	if link == nil {
		return nil, fmt.Errorf("cluster %s: %w", id, ErrAway)
	}
	return link.conn()
}

// Disconnect tells a cluster's agent why and closes its session.
func (g *Gateway) Disconnect(id uuid.UUID, reason agentv1.GoAway_Reason, message string) {
	g.mu.Lock()
	link := g.attached[id]
	g.mu.Unlock()
	if link != nil {
		link.depart(departure{reason: reason, message: message, grace: grace, ended: endOf(reason)})
	}
}

func (g *Gateway) linkOf(ctx context.Context) *Link {
	session, ok := tunnel.SessionFrom(ctx)
	if !ok {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.links[session]
}

// detach forgets a link that is attached no more.
func (g *Gateway) detach(link *Link) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.attached[link.cluster] == link {
		delete(g.attached, link.cluster)
	}
}

func (g *Gateway) count() float64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return float64(len(g.attached))
}
