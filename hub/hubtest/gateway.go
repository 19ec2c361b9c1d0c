package hubtest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	"github.com/budecosystem/budcluster/hub/internal/agentapi"
	"github.com/budecosystem/budcluster/hub/internal/cluster"
	"github.com/budecosystem/budcluster/hub/internal/gateway"
	"github.com/budecosystem/budcluster/internal/facts"
	"github.com/budecosystem/budcluster/internal/pki"
	"github.com/budecosystem/budcluster/internal/tunnel"
)

// Gateway is the hub's end of the tunnel without a database.
type Gateway struct {
	*gateway.Gateway
	Rules     *Rules
	Authority *pki.Authority
	Metrics   *prometheus.Registry
	t         testing.TB
	server    *grpc.Server
	stop      context.CancelFunc
	stopped   chan struct{}
}

// GatewayOptions are what tests turn.
type GatewayOptions struct {
	Lease, Drain time.Duration
	// Lifetime of the agents' certificates.
	Lifetime time.Duration
	Logger   *slog.Logger
	// Probes is what agents are asked to look for.
	Probes []facts.Probe
}

// NewGateway starts the gateway, and stops it with the test. In a synctest
// bubble call Stop before the bubble ends.
func NewGateway(tb testing.TB, o GatewayOptions) *Gateway {
	tb.Helper()
	if o.Lease == 0 {
		o.Lease = gateway.DefaultLease
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	authority, err := pki.NewAuthority("test.local", time.Now(), 10*365*24*time.Hour)
	require.NoError(tb, err)
	g := &Gateway{
		Rules: newRules(o.Lease, authority.CertificatePEM()), Authority: authority, Metrics: prometheus.NewRegistry(), t: tb,
		stopped: make(chan struct{}),
	}
	var api *agentapi.Server
	g.Gateway, err = gateway.New(gateway.Config{
		Admission: g.Rules, Clusters: g.Rules, Watch: g.Rules.watch, Replica: "hub-0", Logger: o.Logger, Registerer: g.Metrics,
		Status: func(ctx context.Context, doing string, err error) error { return api.Status(ctx, doing, err) },
		Lease:  o.Lease, Drain: o.Drain,
	})
	require.NoError(tb, err)
	api, err = agentapi.New(agentapi.Config{
		Enroller: ruleEnroller{g.Rules}, Clusters: g.Rules, Releases: g.Rules, Inventory: ruleInventory{g.Rules}, Charts: ruleCharts{g.Rules},
		Attach: func(ctx context.Context, info cluster.SessionInfo) (agentapi.Link, error) {
			return g.Attach(ctx, info)
		},
		WatchReleases: g.Rules.watch, Probes: o.Probes, Logger: o.Logger, Registerer: g.Metrics, HubVersion: "0.0.0-test",
	})
	require.NoError(tb, err)
	opts := append(tunnel.GRPCServerOptions(), g.Options()...)
	g.server = grpc.NewServer(append(opts, api.Options()...)...)
	api.RegisterTunnel(g.server)
	g.start()
	tb.Cleanup(g.Stop)
	return g
}

func (g *Gateway) start() {
	// It ends by Stop, which drains: a test's context ends before its cleanups.
	ctx, cancel := context.WithCancel(context.WithoutCancel(g.t.Context()))
	g.stop = cancel
	var wg sync.WaitGroup
	wg.Go(func() { _ = g.server.Serve(g.Listener()) })
	go func() {
		defer close(g.stopped)
		_ = g.Run(ctx)
		g.server.GracefulStop()
		wg.Wait()
	}()
}

// Stop drains the gateway and waits for its end.
func (g *Gateway) Stop() {
	g.stop()
	<-g.stopped
}

// Agent makes an agent with an identity, for a new cluster of this name.
func (g *Gateway) Agent(name string) *Agent {
	g.t.Helper()
	return g.AgentOf(g.Rules.AddCluster(name), 24*time.Hour)
}

// AgentOf makes an agent with an identity of the given cluster.
func (g *Gateway) AgentOf(id uuid.UUID, lifetime time.Duration) *Agent {
	g.t.Helper()
	key, err := pki.NewKey()
	require.NoError(g.t, err)
	leaf, _, err := g.Authority.IssueCluster(key.Public(), id.String(), time.Now(), lifetime)
	require.NoError(g.t, err)
	return &Agent{
		t: g.t, Dial: g.dial, ServerName: "hub.test", BundlePEM: g.Authority.CertificatePEM(), ClusterID: id,
		ClusterUID:  g.Rules.Cluster(id).UID,
		Certificate: tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf},
	}
}

// dial is a pipe whose other end the gateway has.
func (g *Gateway) dial(ctx context.Context) (net.Conn, error) {
	ours, theirs := net.Pipe()
	go g.accept(context.WithoutCancel(ctx), theirs)
	return ours, nil
}

// accept does what tunnel.Acceptor does with a socket.
func (g *Gateway) accept(ctx context.Context, plain net.Conn) {
	cert, err := g.Authority.IssueHub([]string{"hub.test"}, "hub-0", time.Now(), 24*time.Hour)
	if err != nil {
		_ = plain.Close()
		return
	}
	pool := x509.NewCertPool()
	block, _ := pem.Decode(g.Authority.CertificatePEM())
	ca, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		_ = plain.Close()
		return
	}
	pool.AddCert(ca)
	conn := tls.Server(plain, pki.ServerConfig(func() *tls.Certificate { return &cert }, func() *x509.CertPool { return pool }, time.Now))
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = plain.Close()
		return
	}
	g.Handle(ctx, conn)
}
