package tunnel_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/budecosystem/budcluster/internal/id"
	"github.com/budecosystem/budcluster/internal/pki"
	"github.com/budecosystem/budcluster/internal/tunnel"
	agentv1 "github.com/budecosystem/budcluster/proto/agent/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const hubName = "hub.example.com"

// world is one authority with a hub.
type world struct {
	ca   *pki.Authority
	pool *x509.CertPool
	hub  tls.Certificate
}

func newWorld(tb testing.TB) *world {
	tb.Helper()
	ca, err := pki.NewAuthority("budcluster.local", time.Now().AddDate(-1, 0, 0), 2*365*24*time.Hour)
	require.NoError(tb, err)
	hub, err := ca.IssueHub([]string{hubName, "127.0.0.1"}, "hub-0", time.Now(), 24*time.Hour)
	require.NoError(tb, err)
	pool := x509.NewCertPool()
	pool.AddCert(ca.Certificate())
	return &world{ca: ca, pool: pool, hub: hub}
}

func (w *world) server() *tls.Config {
	return pki.ServerConfig(func() *tls.Certificate { return &w.hub }, func() *x509.CertPool { return w.pool }, time.Now)
}

func (w *world) cluster(tb testing.TB, at time.Time) tls.Certificate {
	tb.Helper()
	key, err := pki.NewKey()
	require.NoError(tb, err)
	cert, _, err := w.ca.IssueCluster(key.Public(), id.New().String(), at, 24*time.Hour)
	require.NoError(tb, err)
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}
}

func (w *world) agent(tb testing.TB) *tls.Config {
	tb.Helper()
	cfg, err := pki.AgentConfig(w.cluster(tb, time.Now()), w.ca.CertificatePEM(), hubName)
	require.NoError(tb, err)
	return cfg
}

// secure puts the tunnel's TLS over two raw ends.
func (w *world) secure(tb testing.TB, agentEnd, hubEnd net.Conn) (agent, hub *tls.Conn) {
	tb.Helper()
	agent, hub = tls.Client(agentEnd, w.agent(tb)), tls.Server(hubEnd, w.server())
	done := make(chan error, 1)
	go func() { done <- hub.HandshakeContext(context.Background()) }()
	require.NoError(tb, agent.HandshakeContext(context.Background()))
	require.NoError(tb, <-done)
	return agent, hub
}

// sessions makes a session of each end. Closing them is the caller's.
func sessions(tb testing.TB, agentEnd, hubEnd net.Conn, o tunnel.Options) (agent, hub *tunnel.Session) {
	tb.Helper()
	agent, err := tunnel.Client(agentEnd, o)
	require.NoError(tb, err)
	hub, err = tunnel.Server(hubEnd, o)
	require.NoError(tb, err)
	return agent, hub
}

// echo answers every stream of s with what comes, until s ends.
func echo(s *tunnel.Session) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		conn, err := s.Accept()
		if err != nil {
			return
		}
		wg.Go(func() {
			defer func() { _ = conn.Close() }()
			_, _ = io.Copy(conn, conn)
		})
	}
}

func open(tb testing.TB, s *tunnel.Session) net.Conn {
	tb.Helper()
	conn, err := s.OpenStream(context.Background(), tunnel.Header{Kind: tunnel.KindGRPC, Lane: tunnel.LaneControl})
	require.NoError(tb, err)
	return conn
}

func pingPong(tb testing.TB, conn io.ReadWriter, text string) {
	tb.Helper()
	_, err := io.WriteString(conn, text)
	require.NoError(tb, err)
	got := make([]byte, len(text))
	_, err = io.ReadFull(conn, got)
	require.NoError(tb, err)
	require.Equal(tb, text, string(got))
}

// vanishing is a connection like a dropped NAT entry: once gone, what is
// written disappears and nothing arrives.
type vanishing struct {
	net.Conn
	gone *atomic.Bool
}

func (v vanishing) Write(b []byte) (int, error) {
	if v.gone.Load() {
		return len(b), nil
	}
	return v.Conn.Write(b)
}

// link is the control stream, small: it tells who called and sends back what
// it gets.
type link struct {
	agentv1.UnimplementedLinkServiceServer
	agentv1.UnimplementedAgentServiceServer
	agentv1.UnimplementedEnrollServiceServer
}

func (link) Control(stream grpc.BidiStreamingServer[agentv1.ControlRequest, agentv1.ControlResponse]) error {
	cert, ok := tunnel.PeerCertificate(stream.Context())
	if !ok {
		return status.Error(codes.Unauthenticated, "no certificate")
	}
	if _, ok := tunnel.SessionFrom(stream.Context()); !ok {
		return status.Error(codes.PermissionDenied, "no session")
	}
	who, err := pki.IDOf(cert)
	if err != nil {
		return status.Error(codes.Unauthenticated, err.Error())
	}
	if err := stream.Send(&agentv1.ControlResponse{Message: &agentv1.ControlResponse_Welcome{Welcome: &agentv1.Welcome{ClusterId: who.Name}}}); err != nil {
		return err
	}
	for {
		in, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := stream.Send(&agentv1.ControlResponse{Message: &agentv1.ControlResponse_Heartbeat{
			Heartbeat: &agentv1.HubHeartbeat{Sequence: in.GetHeartbeat().GetSequence()},
		}}); err != nil {
			return err
		}
	}
}

func (link) Inspect(context.Context, *agentv1.InspectRequest) (*agentv1.InspectResponse, error) {
	return &agentv1.InspectResponse{Instance: "agent-0"}, nil
}

// Renew tells who came on which lane.
func (link) Renew(ctx context.Context, _ *agentv1.RenewRequest) (*agentv1.RenewResponse, error) {
	identity := &agentv1.Identity{ClusterName: tunnel.LaneFrom(ctx)}
	if cert, ok := tunnel.PeerCertificate(ctx); ok {
		identity.ClusterId = cert.Subject.CommonName
	}
	if _, ok := tunnel.SessionFrom(ctx); ok {
		return nil, status.Error(codes.Internal, "the join lane has no session")
	}
	return &agentv1.RenewResponse{Identity: identity}, nil
}

func newServer() *grpc.Server {
	s := grpc.NewServer(tunnel.GRPCServerOptions()...)
	agentv1.RegisterLinkServiceServer(s, link{})
	agentv1.RegisterAgentServiceServer(s, link{})
	agentv1.RegisterEnrollServiceServer(s, link{})
	return s
}

// logs gathers what is logged.
type logs struct {
	mu   sync.Mutex // guards buf, more
	buf  bytes.Buffer
	more chan struct{} // closed at the next line
}

func (l *logs) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.more != nil {
		close(l.more)
		l.more = nil
	}
	return l.buf.Write(b)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// wait returns when the text has been logged.
func (l *logs) wait(t *testing.T, text string) {
	t.Helper()
	limit := time.NewTimer(10 * time.Second)
	defer limit.Stop()
	for {
		l.mu.Lock()
		found := strings.Contains(l.buf.String(), text)
		if l.more == nil {
			l.more = make(chan struct{})
		}
		more := l.more
		l.mu.Unlock()
		if found {
			return
		}
		select {
		case <-more:
		case <-limit.C:
			require.Contains(t, l.String(), text)
		}
	}
}

func (l *logs) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}
