package hubtest

import (
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	"github.com/budecosystem/budcluster/internal/pki"
	"github.com/budecosystem/budcluster/internal/tunnel"
	agentv1 "github.com/budecosystem/budcluster/proto/agent/v1"
)

// Agent is an agent that does what the test says and nothing by itself: it
// neither reconnects nor renews.
type Agent struct {
	t testing.TB
	// Dial opens a plain connection to the hub.
	Dial func(ctx context.Context) (net.Conn, error)
	// ServerName is what the hub's certificate must name.
	ServerName string
	// ClusterUID is reported at enrollment and with every Hello.
	ClusterUID string
	// Certificate and BundlePEM are the identity; Enroll and Renew set them.
	Certificate tls.Certificate
	BundlePEM   []byte
	ClusterID   uuid.UUID
	Identity    *agentv1.Identity
}

// Enroll joins with a token over the join lane.
func (a *Agent) Enroll(ctx context.Context, token string) error {
	parsed, err := pki.ParseJoinToken(token)
	if err != nil {
		return err
	}
	return a.EnrollPinned(ctx, token, parsed.Pin)
}

// EnrollPinned is Enroll with any text for a token.
func (a *Agent) EnrollPinned(ctx context.Context, token, pin string) error {
	key, csr, err := newRequest()
	if err != nil {
		return err
	}
	return a.join(ctx, pki.JoinConfig(pin, a.ServerName, nil), func(c agentv1.EnrollServiceClient) error {
		resp, err := c.Enroll(ctx, &agentv1.EnrollRequest{Token: token, Csr: csr, ClusterUid: a.ClusterUID, AgentVersion: "0.0.0-test"})
		if err != nil {
			return err
		}
		return a.adopt(key, resp.GetIdentity())
	})
}

// RenewJoin renews on the join lane, as an agent with an expired certificate
// does.
func (a *Agent) RenewJoin(ctx context.Context, pin string) error {
	key, csr, err := newRequest()
	if err != nil {
		return err
	}
	return a.join(ctx, pki.JoinConfig(pin, a.ServerName, &a.Certificate), func(c agentv1.EnrollServiceClient) error {
		resp, err := c.Renew(ctx, &agentv1.RenewRequest{Csr: csr})
		if err != nil {
			return err
		}
		return a.adopt(key, resp.GetIdentity())
	})
}

func newRequest() (*ecdsa.PrivateKey, []byte, error) {
	key, err := pki.NewKey()
	if err != nil {
		return nil, nil, err
	}
	csr, err := pki.NewCSR(key)
	return key, csr, err
}

func (a *Agent) join(ctx context.Context, cfg *tls.Config, call func(agentv1.EnrollServiceClient) error) error {
	return a.onJoinLane(ctx, cfg, func(cc *grpc.ClientConn) error { return call(agentv1.NewEnrollServiceClient(cc)) })
}

// Stranger calls anything on the join lane, without a certificate.
func (a *Agent) Stranger(ctx context.Context, pin string, call func(*grpc.ClientConn) error) error {
	return a.onJoinLane(ctx, pki.JoinConfig(pin, a.ServerName, nil), call)
}

func (a *Agent) onJoinLane(ctx context.Context, cfg *tls.Config, call func(*grpc.ClientConn) error) error {
	conn, err := a.handshake(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	cc, err := tunnel.JoinClientConn(conn)
	if err != nil {
		return err
	}
	defer func() { _ = cc.Close() }()
	return call(cc)
}

func (a *Agent) handshake(ctx context.Context, cfg *tls.Config) (*tls.Conn, error) {
	plain, err := a.Dial(ctx)
	if err != nil {
		return nil, err
	}
	conn := tls.Client(plain, cfg)
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = plain.Close()
		return nil, err
	}
	return conn, nil
}

// adopt takes an identity that the hub gave.
func (a *Agent) adopt(key *ecdsa.PrivateKey, id *agentv1.Identity) error {
	block, _ := pem.Decode(id.GetCertificatePem())
	if block == nil {
		return fmt.Errorf("the hub's answer holds no certificate")
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return err
	}
	clusterID, err := uuid.Parse(id.GetClusterId())
	if err != nil {
		return err
	}
	a.Certificate = tls.Certificate{Certificate: [][]byte{block.Bytes}, PrivateKey: key, Leaf: leaf}
	a.BundlePEM, a.ClusterID, a.Identity = id.GetBundlePem(), clusterID, id
	return nil
}

// Dialed opens a tunnel without saying Hello.
func (a *Agent) Dialed(ctx context.Context) (*Connection, error) {
	cfg, err := pki.AgentConfig(a.Certificate, a.BundlePEM, a.ServerName)
	if err != nil {
		return nil, err
	}
	conn, err := a.handshake(ctx, cfg)
	if err != nil {
		return nil, err
	}
	session, err := tunnel.Client(conn, tunnel.Options{})
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	cc, err := session.ClientConn(tunnel.LaneControl)
	if err != nil {
		_ = session.Close()
		return nil, err
	}
	c := &Connection{a: a, Session: session, CC: cc, Link: agentv1.NewLinkServiceClient(cc)}
	a.t.Cleanup(c.Close)
	return c, nil
}

// Connect opens a tunnel and says Hello; it returns once Welcome came.
func (a *Agent) Connect(ctx context.Context) (*Connection, error) {
	c, err := a.Dialed(ctx)
	if err != nil {
		return nil, err
	}
	if err := c.Hello(ctx, a.hello()); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// MustConnect is Connect for tests that are about what comes after.
func (a *Agent) MustConnect() *Connection {
	a.t.Helper()
	c, err := a.Connect(a.t.Context())
	require.NoError(a.t, err)
	return c
}

func (a *Agent) hello() *agentv1.Hello {
	return &agentv1.Hello{Protocol: agentv1.Version, AgentVersion: "0.0.0-test", ClusterUid: a.ClusterUID, Instance: "agent-0"}
}

// Connection is one tunnel of an Agent.
type Connection struct {
	a       *Agent
	Session *tunnel.Session
	CC      *grpc.ClientConn
	Link    agentv1.LinkServiceClient
	// Control is the control stream, and Welcome its first message.
	Control grpc.BidiStreamingClient[agentv1.ControlRequest, agentv1.ControlResponse]
	Welcome *agentv1.Welcome

	sequence int64
}

// Hello opens the control stream.
func (c *Connection) Hello(ctx context.Context, h *agentv1.Hello) error {
	var err error
	// The stream ends with the connection, not with the ctx of this call.
	if c.Control, err = c.Link.Control(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	if err := c.Control.Send(&agentv1.ControlRequest{Message: &agentv1.ControlRequest_Hello{Hello: h}}); err != nil {
		_, err = c.Control.Recv() // the status; Send knows only that it ended
		return err
	}
	first, err := c.Control.Recv()
	if err != nil {
		return err
	}
	if c.Welcome = first.GetWelcome(); c.Welcome == nil {
		return fmt.Errorf("the hub's first message is %T", first.GetMessage())
	}
	return nil
}

// Beat sends one heartbeat.
func (c *Connection) Beat(why ...*agentv1.Degradation) error {
	c.sequence++
	return c.Control.Send(&agentv1.ControlRequest{Message: &agentv1.ControlRequest_Heartbeat{
		Heartbeat: &agentv1.AgentHeartbeat{Sequence: c.sequence, Degraded: why},
	}})
}

// Live answers for the connection until it ends: it beats at the hub's
// interval and returns the GoAway that it was told, if any, and the stream's
// error. It does not leave by itself.
func (c *Connection) Live() (*agentv1.GoAway, error) {
	done := make(chan struct{})
	beating := make(chan struct{})
	go func() {
		defer close(beating)
		tick := time.NewTicker(c.Welcome.GetHeartbeatInterval().AsDuration())
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				_ = c.Beat() // Recv below says why
			}
		}
	}()
	defer func() {
		close(done)
		<-beating
	}()
	var told *agentv1.GoAway
	for {
		m, err := c.Control.Recv()
		if err != nil {
			return told, err
		}
		if g := m.GetGoAway(); g != nil {
			told = g
		}
	}
}

// Renew asks for the next certificate over the tunnel and adopts it.
func (c *Connection) Renew(ctx context.Context) error {
	key, csr, err := newRequest()
	if err != nil {
		return err
	}
	resp, err := agentv1.NewEnrollServiceClient(c.CC).Renew(ctx, &agentv1.RenewRequest{Csr: csr})
	if err != nil {
		return err
	}
	return c.a.adopt(key, resp.GetIdentity())
}

// Sync opens the sync stream and says what the agent has; it returns once the
// Snapshot came.
func (c *Connection) Sync(ctx context.Context, have ...*agentv1.ReleaseRef) (*Sync, error) {
	stream, err := agentv1.NewReleaseServiceClient(c.CC).Sync(ctx)
	if err != nil {
		return nil, err
	}
	// If this fails, Recv says why.
	_ = stream.Send(&agentv1.SyncRequest{Message: &agentv1.SyncRequest_Have{Have: &agentv1.Have{Releases: have}}})
	first, err := stream.Recv()
	if err != nil {
		return nil, err
	}
	return &Sync{Stream: stream, Snapshot: first.GetSnapshot()}, nil
}

// Sync is one sync stream.
type Sync struct {
	Stream   grpc.BidiStreamingClient[agentv1.SyncRequest, agentv1.SyncResponse]
	Snapshot *agentv1.Snapshot
}

// Report sends one status.
func (s *Sync) Report(st *agentv1.ReleaseStatus) error {
	return s.Stream.Send(&agentv1.SyncRequest{Message: &agentv1.SyncRequest_Status{Status: st}})
}

// FetchChart reads a chart whole.
func (c *Connection) FetchChart(ctx context.Context, digest string) ([]byte, error) {
	stream, err := agentv1.NewReleaseServiceClient(c.CC).FetchChart(ctx, &agentv1.FetchChartRequest{Digest: digest})
	if err != nil {
		return nil, err
	}
	var data []byte
	for size := int64(-1); size != int64(len(data)); {
		m, err := stream.Recv()
		if err != nil {
			return nil, err
		}
		if size < 0 {
			size = m.GetSize()
		}
		data = append(data, m.GetData()...)
	}
	return data, nil
}

// Inventory opens the report stream.
func (c *Connection) Inventory(ctx context.Context) (*Inventory, error) {
	stream, err := agentv1.NewInventoryServiceClient(c.CC).Report(ctx)
	return &Inventory{Stream: stream}, err
}

// Inventory is one report stream.
type Inventory struct {
	Stream grpc.BidiStreamingClient[agentv1.ReportRequest, agentv1.ReportResponse]
}

// Summary says what there is and returns what the hub lacks.
func (i *Inventory) Summary(s *agentv1.Summary) (*agentv1.Need, error) {
	if err := i.Stream.Send(&agentv1.ReportRequest{Message: &agentv1.ReportRequest_Summary{Summary: s}}); err != nil {
		_, err = i.Stream.Recv()
		return nil, err
	}
	m, err := i.Stream.Recv()
	return m.GetNeed(), err
}

// Delta sends one change and waits until it is recorded.
func (i *Inventory) Delta(d *agentv1.Delta) (*agentv1.Ack, error) {
	if err := i.Stream.Send(&agentv1.ReportRequest{Message: &agentv1.ReportRequest_Delta{Delta: d}}); err != nil {
		_, err = i.Stream.Recv()
		return nil, err
	}
	m, err := i.Stream.Recv()
	return m.GetAck(), err
}

// Close drops the connection.
func (c *Connection) Close() {
	_ = c.CC.Close()
	_ = c.Session.Close()
}
