package tunnel

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
)

const (
	// maxMessage bounds one gRPC message; charts travel in pieces.
	maxMessage = 8 << 20
	// idleTimeout lets go of a stream that nobody called on for a while: an
	// idle HTTP/2 connection costs the hub some 55 KiB.
	idleTimeout = 2 * time.Minute
	// preface bounds the wait for HTTP/2's first bytes.
	preface = 10 * time.Second
)

// GRPCServerOptions are what a grpc.Server behind a tunnel needs: identity from
// the connection, bounded messages, and no buffers for idle connections.
func GRPCServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.Creds(ServerCredentials()),
		grpc.ReadBufferSize(0),
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.MaxSendMsgSize(maxMessage),
		grpc.ConnectionTimeout(preface),
	}
}

// GRPCDialOptions are the counterpart for a grpc.ClientConn.
func GRPCDialOptions() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithTransportCredentials(laneCredentials{}),
		grpc.WithReadBufferSize(0),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage)),
		grpc.WithDisableServiceConfig(),
		grpc.WithNoProxy(),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 2, MaxDelay: 5 * time.Second},
			MinConnectTimeout: preface,
		}),
	}
}

// ClientConn calls the peer on a stream of its own, which is opened when it is
// first needed and let go when idle. The caller closes it; it is of no use
// after the session has ended.
func (s *Session) ClientConn(lane string) (*grpc.ClientConn, error) {
	if err := checkLane(lane); err != nil {
		return nil, fmt.Errorf("lane %q: %w", lane, err)
	}
	return dialWith(grpc.WithIdleTimeout(idleTimeout), func(ctx context.Context) (net.Conn, error) {
		return s.OpenStream(ctx, Header{Kind: KindGRPC, Lane: lane})
	})
}

// JoinClientConn calls the hub on the join lane, where conn carries gRPC
// without a session. It takes conn over, and does not outlive it.
func JoinClientConn(conn *tls.Conn) (*grpc.ClientConn, error) {
	var used atomic.Bool
	return dialWith(grpc.WithIdleTimeout(0), func(context.Context) (net.Conn, error) {
		if used.Swap(true) {
			return nil, errors.New("the connection of the join lane has ended; dial again")
		}
		return explained{newHeeding(conn)}, nil
	})
}

// explained is a connection whose errors say what to do: on it the first read
// brings the hub's judgement about the client's certificate.
type explained struct{ *heeding }

func (c explained) Read(b []byte) (int, error) {
	n, err := c.heeding.Read(b)
	if err != nil {
		err = explain(err)
	}
	return n, err
}

func (c explained) Write(b []byte) (int, error) {
	n, err := c.heeding.Write(b)
	if err != nil {
		err = explain(err)
	}
	return n, err
}

func dialWith(idle grpc.DialOption, open func(context.Context) (net.Conn, error)) (*grpc.ClientConn, error) {
	options := append(GRPCDialOptions(), idle,
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return open(ctx) }))
	conn, err := grpc.NewClient("passthrough:///tunnel", options...)
	if err != nil {
		return nil, fmt.Errorf("make client connection: %w", err)
	}
	return conn, nil
}

// AuthInfo is what a call knows about its connection.
type AuthInfo struct {
	credentials.CommonAuthInfo
	// Lane is LaneJoin, or the one that the stream's header named.
	Lane string
	// Session is nil on the join lane.
	Session *Session
	// Peer is the client's certificate, nil if it showed none. On the join
	// lane it may have expired.
	Peer *x509.Certificate
}

// AuthType names the mechanism for gRPC.
func (AuthInfo) AuthType() string { return "budcluster-tunnel" }

// ServerCredentials take the caller's identity from the connection that the
// tunnel has secured already.
func ServerCredentials() credentials.TransportCredentials { return laneCredentials{} }

// laneCredentials do no handshake of their own.
type laneCredentials struct{}

func (laneCredentials) ClientHandshake(_ context.Context, _ string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	info := AuthInfo{CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}}
	if stream, ok := conn.(*streamConn); ok {
		info.Lane, info.Session, info.Peer = stream.header.Lane, stream.session, stream.session.peer
	}
	return conn, info, nil
}

func (laneCredentials) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	info := AuthInfo{CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}}
	switch c := conn.(type) {
	case *streamConn:
		info.Lane, info.Session, info.Peer = c.header.Lane, c.session, c.session.peer
	case *tls.Conn:
		info.Lane = LaneJoin
		if certs := c.ConnectionState().PeerCertificates; len(certs) > 0 {
			info.Peer = certs[0]
		}
	default:
		return nil, nil, fmt.Errorf("connection of type %T came through no tunnel", conn)
	}
	return conn, info, nil
}

func (laneCredentials) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "budcluster-tunnel"}
}

func (c laneCredentials) Clone() credentials.TransportCredentials { return c }

func (laneCredentials) OverrideServerName(string) error { return nil }

func authInfo(ctx context.Context) AuthInfo {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return AuthInfo{}
	}
	info, _ := p.AuthInfo.(AuthInfo)
	return info
}

// SessionFrom gives the session that a call came on; none on the join lane.
func SessionFrom(ctx context.Context) (*Session, bool) {
	info := authInfo(ctx)
	return info.Session, info.Session != nil
}

// PeerCertificate gives the caller's certificate. One of our authorities has
// signed it for a cluster, and the caller has its key; on the join lane
// (LaneFrom) it may have expired. Nothing else says who a caller is.
func PeerCertificate(ctx context.Context) (*x509.Certificate, bool) {
	info := authInfo(ctx)
	return info.Peer, info.Peer != nil
}

// LaneFrom gives the lane that a call came on; empty if it came through no
// tunnel.
func LaneFrom(ctx context.Context) string {
	info := authInfo(ctx)
	return info.Lane
}
