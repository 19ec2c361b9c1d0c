package tunnel_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/budecosystem/budcluster/internal/tunnel"
	agentv1 "github.com/budecosystem/budcluster/proto/agent/v1"
)

// tcpPair is a connection over loopback.
func tcpPair(tb testing.TB) (client, server net.Conn) {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(tb, err)
	defer func() { _ = ln.Close() }()
	accepted := make(chan net.Conn, 1)
	go func() {
		conn, err := ln.Accept()
		if err != nil {
			close(accepted)
			return
		}
		accepted <- conn
	}()
	client, err = net.Dial("tcp", ln.Addr().String())
	require.NoError(tb, err)
	return client, <-accepted
}

// benchSessions are two ends over loopback and mutual TLS.
func benchSessions(b *testing.B, w *world, o tunnel.Options) (agent, hub *tunnel.Session) {
	b.Helper()
	c, s := tcpPair(b)
	agentConn, hubConn := w.secure(b, c, s)
	agent, hub = sessions(b, agentConn, hubConn, o)
	b.Cleanup(func() { _ = agent.Close(); _ = hub.Close() })
	return agent, hub
}

// directClient is gRPC over the same TLS without a tunnel.
func directClient(b *testing.B, w *world) agentv1.AgentServiceClient {
	b.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	server := grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{w.hub}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: w.pool, MinVersion: tls.VersionTLS13,
	})))
	agentv1.RegisterAgentServiceServer(server, link{})
	go func() { _ = server.Serve(ln) }()
	conn, err := grpc.NewClient(ln.Addr().String(), grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{w.cluster(b, time.Now())}, RootCAs: w.pool, ServerName: hubName, MinVersion: tls.VersionTLS13,
	})))
	require.NoError(b, err)
	b.Cleanup(func() { _ = conn.Close(); server.Stop() })
	return agentv1.NewAgentServiceClient(conn)
}

// BenchmarkUnary alternates calls through the tunnel with calls on a direct
// gRPC connection over the same TLS, so that both meet the same machine.
func BenchmarkUnary(b *testing.B) {
	w := newWorld(b)
	agent, hub := benchSessions(b, w, tunnel.Options{})
	server := newServer()
	go func() { _ = server.Serve(agent) }()
	b.Cleanup(server.Stop)
	conn, err := hub.ClientConn(tunnel.LaneControl)
	require.NoError(b, err)
	b.Cleanup(func() { _ = conn.Close() })
	through, direct := agentv1.NewAgentServiceClient(conn), directClient(b, w)

	call := func(c agentv1.AgentServiceClient) time.Duration {
		start := time.Now()
		if _, err := c.Inspect(context.Background(), &agentv1.InspectRequest{}); err != nil {
			b.Fatal(err)
		}
		return time.Since(start)
	}
	call(through)
	call(direct)
	var tunnelled, straight []time.Duration
	for b.Loop() {
		tunnelled = append(tunnelled, call(through))
		straight = append(straight, call(direct))
	}
	t50, d50 := quantile(tunnelled, 0.5), quantile(straight, 0.5)
	b.ReportMetric(float64(t50.Microseconds()), "tunnel-p50-µs")
	b.ReportMetric(float64(d50.Microseconds()), "direct-p50-µs")
	b.ReportMetric(float64(quantile(tunnelled, 0.99).Microseconds()), "tunnel-p99-µs")
	b.ReportMetric(float64(t50)/float64(d50), "ratio")
}

func quantile(d []time.Duration, q float64) time.Duration {
	slices.Sort(d)
	return d[int(float64(len(d)-1)*q)]
}

// BenchmarkEcho is a stream's round trip without gRPC, beside that of bare TLS.
func BenchmarkEcho(b *testing.B) {
	w := newWorld(b)
	agent, hub := benchSessions(b, w, tunnel.Options{})
	go echo(agent)
	stream, err := hub.OpenStream(b.Context(), tunnel.Header{Kind: tunnel.KindGRPC, Lane: tunnel.LaneControl})
	require.NoError(b, err)
	c, s := tcpPair(b)
	bareAgent, bareHub := w.secure(b, c, s)
	go func() { _, _ = io.Copy(bareAgent, bareAgent) }()
	b.Cleanup(func() { _ = bareAgent.Close(); _ = bareHub.Close() })
	text := make([]byte, 64)
	trip := func(conn net.Conn) time.Duration {
		start := time.Now()
		if _, err := conn.Write(text); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(conn, text); err != nil {
			b.Fatal(err)
		}
		return time.Since(start)
	}
	var tunnelled, straight []time.Duration
	for b.Loop() {
		tunnelled = append(tunnelled, trip(stream))
		straight = append(straight, trip(bareHub))
	}
	t50, d50 := quantile(tunnelled, 0.5), quantile(straight, 0.5)
	b.ReportMetric(float64(t50.Microseconds()), "tunnel-p50-µs")
	b.ReportMetric(float64(d50.Microseconds()), "tls-p50-µs")
	b.ReportMetric(float64(t50)/float64(d50), "ratio")
}

// BenchmarkBulk carries one stream of 64 KiB chunks.
func BenchmarkBulk(b *testing.B) {
	w := newWorld(b)
	agent, hub := benchSessions(b, w, tunnel.Options{StreamWindow: tunnel.BulkStreamWindow})
	stream, err := hub.OpenStream(b.Context(), tunnel.Header{Kind: tunnel.KindGRPC, Lane: tunnel.LaneBulk})
	require.NoError(b, err)
	sink, err := agent.Accept()
	require.NoError(b, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(io.Discard, sink)
	}()
	chunk := make([]byte, 64<<10)
	b.SetBytes(int64(len(chunk)))
	for b.Loop() {
		if _, err := stream.Write(chunk); err != nil {
			b.Fatal(err)
		}
	}
	require.NoError(b, stream.Close())
	<-done
}

// BenchmarkIdleMemory is what one idle tunnel costs the hub: both ends are in
// this process, so the figure is of a pair, with its control stream open.
func BenchmarkIdleMemory(b *testing.B) {
	w := newWorld(b)
	const pairs = 100
	fan, server := tunnel.NewFanIn(), newServer()
	go func() { _ = server.Serve(fan) }()
	b.Cleanup(server.Stop)
	ctx, cancel := context.WithCancel(context.Background())
	b.Cleanup(cancel)
	cfg := w.agent(b)
	for b.Loop() {
		before := inUse()
		var all []*tunnel.Session
		var conns []*grpc.ClientConn
		for range pairs {
			c, s := tcpPair(b)
			client, secured := tls.Client(c, cfg), tls.Server(s, w.server())
			go func() { _ = client.HandshakeContext(ctx) }()
			require.NoError(b, secured.HandshakeContext(ctx))
			agent, hub := sessions(b, client, secured, tunnel.Options{})
			go func() { _ = fan.Serve(ctx, hub) }()
			up, err := agent.ClientConn(tunnel.LaneControl)
			require.NoError(b, err)
			stream, err := agentv1.NewLinkServiceClient(up).Control(ctx)
			require.NoError(b, err)
			_, err = stream.Recv()
			require.NoError(b, err)
			all, conns = append(all, agent, hub), append(conns, up)
		}
		b.ReportMetric(float64(inUse()-before)/pairs/1024, "KiB/pair")
		for _, c := range conns {
			_ = c.Close()
		}
		for _, s := range all {
			_ = s.Close()
		}
	}
}

// inUse is heap and stacks after a collection.
func inUse() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse + m.StackInuse)
}
