package agenttest

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/budecosystem/budcluster/internal/id"
	"github.com/budecosystem/budcluster/internal/pki"
	"github.com/budecosystem/budcluster/internal/tunnel"
	agentv1 "github.com/budecosystem/budcluster/proto/agent/v1"
)

// HubName is the name in the certificate of a Hub, beside localhost and the
// loopback addresses.
const HubName = "hub.test"

// HubConfig tunes a Hub; zero values mean what a real hub does.
type HubConfig struct {
	// Lifetime of the certificates that it issues.
	Lifetime  time.Duration
	Heartbeat time.Duration
	Liveness  time.Duration
	Logger    *slog.Logger
}

// Hub is a scripted hub that speaks the real protocol: TLS, both lanes, yamux,
// gRPC. It keeps what agents report in memory and wants what the test says.
type Hub struct {
	cfg HubConfig
	ca  *pki.Authority
	tls tls.Certificate
	// ClusterID is the one cluster that it knows.
	ClusterID string

	mu       sync.Mutex // guards what follows
	changed  chan struct{}
	tokens   map[string]*tokenState
	current  int64 // generation of the newest certificate
	refusals map[string]error
	desired  map[string]*agentv1.Release
	probes   *agentv1.Probes
	retire   *agentv1.Retire
	agent    *agentv1.AgentTarget
	charts   map[string][]byte
	sessions []*HubSession
	state    HubState
}

type tokenState struct {
	usedBy [32]byte
	used   bool
}

// HubState is what agents have told a Hub.
type HubState struct {
	// Enrolled counts the certificates given for tokens, Renewed the others.
	Enrolled, Renewed int
	// Sessions counts the control streams that were opened.
	Sessions int
	Cluster  *agentv1.ClusterFacts
	Nodes    map[string]*agentv1.NodeFacts
	// Events are what happened to nodes, in their order.
	Events []*agentv1.NodeEvent
	// Deltas and Summaries count messages.
	Deltas, Summaries int
	Statuses          map[string]*agentv1.ReleaseStatus
	// History holds every status in its order.
	History []*agentv1.ReleaseStatus
	// Degraded is from the last heartbeat.
	Degraded   []*agentv1.Degradation
	Heartbeats int
	Fetched    int
	// Presence and Retired are what was said last.
	Presence *agentv1.Presence
	Retired  *agentv1.Retired
	// Agent is what was said of the agent's own upgrade, last.
	Agent *agentv1.AgentStatus
}

// NewHub makes a hub that nobody can reach yet.
func NewHub(t testing.TB, cfg HubConfig) *Hub {
	t.Helper()
	if cfg.Lifetime == 0 {
		cfg.Lifetime = 24 * time.Hour
	}
	if cfg.Heartbeat == 0 {
		cfg.Heartbeat = 10 * time.Second
	}
	if cfg.Liveness == 0 {
		cfg.Liveness = 25 * time.Second
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	ca, err := pki.NewAuthority("budcluster.test", time.Now(), 365*24*time.Hour)
	if err != nil {
		t.Fatalf("make authority: %v", err)
	}
	cert, err := ca.IssueHub([]string{HubName, "localhost", "127.0.0.1", "::1"}, "hub-0", time.Now(), 30*24*time.Hour)
	if err != nil {
		t.Fatalf("make hub certificate: %v", err)
	}
	return &Hub{
		cfg: cfg, ca: ca, tls: cert, ClusterID: id.New().String(), changed: make(chan struct{}),
		tokens: map[string]*tokenState{}, refusals: map[string]error{},
		desired: map[string]*agentv1.Release{}, charts: map[string][]byte{},
		state: HubState{Nodes: map[string]*agentv1.NodeFacts{}, Statuses: map[string]*agentv1.ReleaseStatus{}},
	}
}

// Token makes a join token.
func (h *Hub) Token(t testing.TB) string {
	t.Helper()
	token, err := pki.NewJoinToken(h.ca.Pin())
	if err != nil {
		t.Fatalf("make join token: %v", err)
	}
	h.change(func() { h.tokens[token.ID] = &tokenState{} })
	return token.Reveal()
}

// Identity issues a certificate as enrolling would, for agents that have no
// store of their own.
func (h *Hub) Identity(t testing.TB) (cert tls.Certificate, bundlePEM []byte) {
	t.Helper()
	key, err := pki.NewKey()
	if err != nil {
		t.Fatalf("make key: %v", err)
	}
	leaf, _, err := h.ca.IssueCluster(key.Public(), h.ClusterID, time.Now(), h.cfg.Lifetime)
	if err != nil {
		t.Fatalf("issue certificate: %v", err)
	}
	return tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}, h.ca.CertificatePEM()
}

// Listen serves on a loopback port until the test ends or stop is called; an
// empty address picks one.
func (h *Hub) Listen(t testing.TB, address string) (at string, stop func()) {
	t.Helper()
	if address == "" {
		address = "127.0.0.1:0"
	}
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", address)
	if err != nil {
		t.Fatalf("listen: %v", err)
	}
	return ln.Addr().String(), h.Serve(t, ln)
}

// Serve accepts agents from ln until the test ends or stop is called, which
// also breaks their connections.
func (h *Hub) Serve(t testing.TB, ln net.Listener) (stop func()) {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(h.ca.Certificate())
	control, join := tunnel.NewFanIn(), tunnel.NewFanIn()
	acceptor, err := tunnel.NewAcceptor(tunnel.AcceptorConfig{
		TLS:     pki.ServerConfig(func() *tls.Certificate { return &h.tls }, func() *x509.CertPool { return roots }, time.Now),
		Logger:  h.cfg.Logger,
		Control: func(ctx context.Context, conn *tls.Conn) { h.session(ctx, conn, control) },
		Join:    func(_ context.Context, conn *tls.Conn) { _ = join.Push(conn) },
	})
	if err != nil {
		t.Fatalf("make acceptor: %v", err)
	}
	onTunnel, onJoin := grpc.NewServer(tunnel.GRPCServerOptions()...), grpc.NewServer(tunnel.GRPCServerOptions()...)
	agentv1.RegisterEnrollServiceServer(onTunnel, &hubEnroll{h: h})
	agentv1.RegisterEnrollServiceServer(onJoin, &hubEnroll{h: h})
	agentv1.RegisterLinkServiceServer(onTunnel, &hubLink{h: h})
	agentv1.RegisterReleaseServiceServer(onTunnel, &hubRelease{h: h})
	agentv1.RegisterInventoryServiceServer(onTunnel, &hubInventory{h: h})
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var wg sync.WaitGroup
	wg.Go(func() { _ = onTunnel.Serve(control) })
	wg.Go(func() { _ = onJoin.Serve(join) })
	wg.Go(func() { _ = acceptor.Serve(ctx, ln) })
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			onTunnel.Stop()
			onJoin.Stop()
			wg.Wait()
		})
	}
	t.Cleanup(stop)
	return stop
}

func (h *Hub) session(ctx context.Context, conn *tls.Conn, fan *tunnel.FanIn) {
	s, err := tunnel.Server(conn, tunnel.Options{})
	if err != nil {
		_ = conn.Close()
		return
	}
	defer func() { _ = s.Close() }()
	_ = fan.Serve(ctx, s)
}

// Want adds or changes a release and tells the agents.
func (h *Hub) Want(r *agentv1.Release) {
	h.change(func() { h.desired[r.GetId()] = r })
}

// Ask has agents look for something from their next stream on.
func (h *Hub) Ask(probes *agentv1.Probes) {
	h.change(func() { h.probes = probes })
}

// WantAgent has the agent replace itself.
func (h *Hub) WantAgent(t *agentv1.AgentTarget) {
	h.change(func() { h.agent = t })
}

// Retire tells the agent to leave its cluster. When it says that it has done
// its part, it is told that this is recorded.
func (h *Hub) Retire(generation int64) {
	h.change(func() { h.retire = &agentv1.Retire{Generation: generation} })
}

// AddChart makes a chart available and returns its digest.
func (h *Hub) AddChart(tgz []byte) (digest string) {
	digest = fmt.Sprintf("sha256:%x", sha256.Sum256(tgz))
	h.change(func() { h.charts[digest] = tgz })
	return digest
}

// RefuseCalls makes a method (its name alone, e.g. "Enroll") fail: with a
// reason for good, without one as a passing trouble; with neither it works
// again.
func (h *Hub) RefuseCalls(method, reason, message string) {
	h.change(func() {
		switch {
		case reason != "":
			h.refusals[method] = Refusal(reason, message)
		case message != "":
			h.refusals[method] = status.Error(codes.Unavailable, message)
		default:
			delete(h.refusals, method)
		}
	})
}

// Refusal is a final no, as a hub makes it.
func Refusal(reason, message string) error {
	s, err := status.New(codes.PermissionDenied, message).WithDetails(&errdetails.ErrorInfo{Reason: reason, Domain: "budcluster"})
	if err != nil {
		return err
	}
	return s.Err()
}

// State is a copy of what the hub was told.
func (h *Hub) State() HubState {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.copyLocked()
}

func (h *Hub) copyLocked() HubState {
	s := h.state
	s.Nodes, s.Statuses = maps.Clone(s.Nodes), maps.Clone(s.Statuses)
	return s
}

// Await returns once the condition holds. It is woken by what agents say; it
// gives up after 30 s without a word.
func (h *Hub) Await(t testing.TB, what string, ok func(HubState) bool) HubState {
	t.Helper()
	for {
		h.mu.Lock()
		s, changed := h.copyLocked(), h.changed
		h.mu.Unlock()
		if ok(s) {
			return s
		}
		timer := time.NewTimer(30 * time.Second)
		select {
		case <-changed:
			timer.Stop()
		case <-timer.C:
			t.Fatalf("the hub waited in vain for %s; it was told: %+v", what, s)
		}
	}
}

// Session waits for the n-th control stream, counted from 1.
func (h *Hub) Session(t testing.TB, n int) *HubSession {
	t.Helper()
	h.Await(t, fmt.Sprintf("session %d", n), func(s HubState) bool { return s.Sessions >= n })
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.sessions[n-1]
}

func (h *Hub) change(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f()
	close(h.changed)
	h.changed = make(chan struct{})
}

func (h *Hub) refusal(method string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.refusals[method]
}

// watch returns a channel that is closed at the next change.
func (h *Hub) watch() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.changed
}
