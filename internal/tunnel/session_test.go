package tunnel_test

import (
	"context"
	"crypto/rand"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/yamux"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/budecosystem/budcluster/internal/run"
	"github.com/budecosystem/budcluster/internal/testutil"
	"github.com/budecosystem/budcluster/internal/tunnel"
	agentv1 "github.com/budecosystem/budcluster/proto/agent/v1"
)

// gRPC flows both ways over one connection; the hub learns who calls from the
// certificate alone.
func TestGRPCBothWays(t *testing.T) { //nolint:paralleltest // testutil.Bubble
	testutil.Bubble(t, func(t *testing.T) {
		w := newWorld(t)
		a, h := net.Pipe()
		agentConn, hubConn := w.secure(t, a, h)
		agent, hub := sessions(t, agentConn, hubConn, tunnel.Options{})

		fan, hubServer, agentServer := tunnel.NewFanIn(), newServer(), newServer()
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { _ = hubServer.Serve(fan) })
		wg.Go(func() { _ = agentServer.Serve(agent) })
		wg.Go(func() { _ = fan.Serve(ctx, hub) })

		up, err := agent.ClientConn(tunnel.LaneControl)
		require.NoError(t, err)
		stream, err := agentv1.NewLinkServiceClient(up).Control(ctx)
		require.NoError(t, err)
		welcome, err := stream.Recv()
		require.NoError(t, err)
		require.Equal(t, "cluster "+welcome.GetWelcome().GetClusterId(), hub.Peer().Subject.CommonName)
		for i := range int64(3) {
			require.NoError(t, stream.Send(heartbeat(i)))
			answer, err := stream.Recv()
			require.NoError(t, err)
			require.Equal(t, i, answer.GetHeartbeat().GetSequence())
		}

		down, err := hub.ClientConn(tunnel.LaneControl)
		require.NoError(t, err)
		info, err := agentv1.NewAgentServiceClient(down).Inspect(ctx, &agentv1.InspectRequest{})
		require.NoError(t, err)
		require.Equal(t, "agent-0", info.GetInstance())

		// An hour of silence: the hub's idle connection is let go, and dialed
		// again when it is needed.
		time.Sleep(time.Hour)
		_, err = agentv1.NewAgentServiceClient(down).Inspect(ctx, &agentv1.InspectRequest{})
		require.NoError(t, err)

		require.NoError(t, agent.Close())
		<-hub.Done()
		require.ErrorContains(t, hub.Err(), "closed the connection")
		require.ErrorIs(t, agent.Err(), net.ErrClosed)
		_, err = agentv1.NewAgentServiceClient(down).Inspect(ctx, &agentv1.InspectRequest{})
		require.Equal(t, codes.Unavailable, status.Code(err))
		_, err = agent.OpenStream(ctx, tunnel.Header{Kind: tunnel.KindGRPC, Lane: "x"})
		require.ErrorIs(t, err, net.ErrClosed)

		require.NoError(t, up.Close())
		require.NoError(t, down.Close())
		require.NoError(t, hub.Close())
		cancel()
		hubServer.Stop()
		agentServer.Stop()
		wg.Wait()
	})
}

func heartbeat(n int64) *agentv1.ControlRequest {
	return &agentv1.ControlRequest{Message: &agentv1.ControlRequest_Heartbeat{Heartbeat: &agentv1.AgentHeartbeat{Sequence: n}}}
}

// A peer behind a dropped NAT entry is noticed within the liveness time, on
// the stream that is in use, without any ping of the tunnel's own.
func TestVanishedPeerIsNoticed(t *testing.T) { //nolint:paralleltest // testutil.Bubble
	const interval, timeout = 10 * time.Second, 25 * time.Second
	testutil.Bubble(t, func(t *testing.T) {
		w := newWorld(t)
		gone := &atomic.Bool{}
		a, h := net.Pipe()
		agentConn, hubConn := w.secure(t, vanishing{a, gone}, vanishing{h, gone})
		agent, hub := sessions(t, agentConn, hubConn, tunnel.Options{})
		fan, server := tunnel.NewFanIn(), newServer()
		var wg sync.WaitGroup
		wg.Go(func() { _ = server.Serve(fan) })
		wg.Go(func() { _ = fan.Serve(t.Context(), hub) })
		up, err := agent.ClientConn(tunnel.LaneControl)
		require.NoError(t, err)

		var vanished time.Time
		time.AfterFunc(5*time.Minute, func() { vanished = time.Now(); gone.Store(true) })

		// As the agent's link does it: everything of one connection in a group.
		watch := tunnel.NewWatch(timeout)
		var group run.Group
		group.Add("watch", watch.Run)
		group.Add("control", func(ctx context.Context) error {
			stream, err := agentv1.NewLinkServiceClient(up).Control(ctx)
			if err != nil {
				return err
			}
			for {
				if _, err := stream.Recv(); err != nil {
					return err
				}
				watch.Seen()
				time.Sleep(interval)
				if err := stream.Send(heartbeat(1)); err != nil {
					return err
				}
			}
		})
		err = group.Run(t.Context())
		var silent *tunnel.SilentError
		require.ErrorAs(t, err, &silent)
		took := time.Since(vanished)
		require.LessOrEqual(t, took, timeout)
		require.GreaterOrEqual(t, took, timeout-interval)

		require.NoError(t, up.Close())
		require.NoError(t, agent.Close())
		require.NoError(t, hub.Close())
		server.Stop()
		wg.Wait()
	})
}

// A peer whose kernel takes nothing more holds a connection for the write
// timeout and no longer.
func TestStuckPeerEndsTheSession(t *testing.T) { //nolint:paralleltest // testutil.Bubble
	testutil.Bubble(t, func(t *testing.T) {
		a, h := net.Pipe() // nobody reads h
		session, err := tunnel.Client(a, tunnel.Options{})
		require.NoError(t, err)
		start := time.Now()
		_, err = session.OpenStream(t.Context(), tunnel.Header{Kind: tunnel.KindGRPC, Lane: tunnel.LaneControl})
		require.Error(t, err)
		<-session.Done()
		require.Equal(t, tunnel.DefaultWriteTimeout, time.Since(start))
		require.ErrorContains(t, session.Err(), "taken for dead")
		require.NoError(t, session.Close())
		require.NoError(t, h.Close())
	})
}

// One reader that stalls fills its own window, and nobody else waits.
func TestStalledReaderDisturbsNobody(t *testing.T) { //nolint:paralleltest // testutil.Bubble
	testutil.Bubble(t, func(t *testing.T) {
		w := newWorld(t)
		a, h := net.Pipe()
		agentConn, hubConn := w.secure(t, a, h)
		agent, hub := sessions(t, agentConn, hubConn, tunnel.Options{StreamWindow: 1 << 20})

		stalled := open(t, hub)
		never, err := agent.Accept() // and never read
		require.NoError(t, err)
		var wg sync.WaitGroup
		var sent atomic.Int64
		wg.Go(func() {
			chunk := make([]byte, 64<<10)
			for {
				n, err := stalled.Write(chunk)
				sent.Add(int64(n))
				if err != nil {
					return
				}
			}
		})
		wg.Go(func() { echo(agent) })
		synctest.Wait() // the writer waits for its window
		require.InDelta(t, 1<<20, sent.Load(), 128<<10)

		start := time.Now()
		other := open(t, hub)
		for range 200 {
			pingPong(t, other, "are you there?")
		}
		require.Zero(t, time.Since(start), "an echo waited for a timer")

		require.NoError(t, other.Close())
		require.NoError(t, never.Close())
		require.NoError(t, agent.Close())
		require.NoError(t, hub.Close())
		wg.Wait()
	})
}

// delayed carries bytes one way after a delay, and never blocks its writer.
type delayed struct {
	net.Conn
	queue chan late
}

type late struct {
	at   time.Time
	data []byte
}

func delay(conn net.Conn, by time.Duration) (net.Conn, func()) {
	d := delayedConn{delayed{Conn: conn, queue: make(chan late, 1<<16)}, by}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for l := range d.queue {
			time.Sleep(time.Until(l.at))
			if _, err := conn.Write(l.data); err != nil {
				for range d.queue {
				}
				return
			}
		}
	}()
	return d, func() { close(d.queue); <-done }
}

type delayedConn struct {
	delayed
	by time.Duration
}

func (d delayedConn) Write(b []byte) (int, error) {
	d.queue <- late{time.Now().Add(d.by), append([]byte(nil), b...)}
	return len(b), nil
}

func (d delayedConn) SetWriteDeadline(time.Time) error { return nil }

// Over 50 ms, opening a stream and getting an answer costs one round trip, and
// one stream carries a window per round trip: what yamux's default window
// would make 5 MB/s.
func TestWideAreaLink(t *testing.T) { //nolint:paralleltest // testutil.Bubble
	const oneWay = 25 * time.Millisecond
	testutil.Bubble(t, func(t *testing.T) {
		a, h := net.Pipe()
		agentEnd, stopAgent := delay(a, oneWay)
		hubEnd, stopHub := delay(h, oneWay)
		agent, hub := sessions(t, agentEnd, hubEnd, tunnel.Options{})
		var wg sync.WaitGroup
		wg.Go(func() { echo(agent) })
		start := time.Now()
		first := open(t, hub)
		pingPong(t, first, "one round trip")
		require.Equal(t, 2*oneWay, time.Since(start))

		// A reader at the agent, 64 MiB from the hub.
		const total = 64 << 20
		sink, done := make(chan net.Conn), make(chan time.Time)
		wg.Go(func() {
			conn := <-sink
			_, _ = io.CopyN(io.Discard, conn, total)
			done <- time.Now()
		})
		bulk, err := agent.OpenStream(t.Context(), tunnel.Header{Kind: tunnel.KindGRPC, Lane: tunnel.LaneBulk})
		require.NoError(t, err)
		source, err := hub.Accept()
		require.NoError(t, err)
		start = time.Now()
		sink <- bulk
		chunk := make([]byte, 64<<10)
		for range total / len(chunk) {
			_, err := source.Write(chunk)
			require.NoError(t, err)
		}
		took := (<-done).Sub(start)
		rate := float64(total) / took.Seconds() / 1e6
		t.Logf("one stream over %s round trip: %.0f MB/s", 2*oneWay, rate)
		require.Greater(t, rate, 60.0)

		require.NoError(t, agent.Close())
		require.NoError(t, hub.Close())
		stopAgent()
		stopHub()
		wg.Wait()
	})
}

// rawPeer is a yamux client that knows nothing of headers.
func rawPeer(t *testing.T, o tunnel.Options) (*yamux.Session, *tunnel.Session) {
	t.Helper()
	a, h := net.Pipe()
	config := yamux.DefaultConfig()
	config.LogOutput = io.Discard
	config.EnableKeepAlive = false
	raw, err := yamux.Client(a, config)
	require.NoError(t, err)
	hub, err := tunnel.Server(h, o)
	require.NoError(t, err)
	return raw, hub
}

// What is wrong with one stream ends that stream; the session lives.
func TestBadStreamsAreRefused(t *testing.T) { //nolint:paralleltest // testutil.Bubble
	garbage := make([]byte, 64)
	_, _ = rand.Read(garbage)
	for name, head := range map[string][]byte{ //nolint:paralleltest // testutil.Bubble
		"garbage":         append([]byte{0xff}, garbage...),
		"HTTP/2 preface":  []byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
		"unknown kind":    {1, 99, 1, 'x'},
		"unknown version": {2, 1, 1, 'x'},
		"no lane":         {1, 1, 0},
		"long lane":       append([]byte{1, 1, 255}, garbage...),
		"odd lane":        {1, 1, 3, 'a', '/', 'b'},
	} {
		t.Run(name, func(t *testing.T) {
			testutil.Bubble(t, func(t *testing.T) {
				seen := &logs{}
				raw, hub := rawPeer(t, tunnel.Options{Logger: seen.logger()})
				var wg sync.WaitGroup
				wg.Go(func() { echo(hub) })
				bad, err := raw.Open()
				require.NoError(t, err)
				_, err = bad.Write(head)
				require.NoError(t, err)
				_, err = bad.Read(make([]byte, 1))
				require.ErrorIs(t, err, io.EOF)
				require.Contains(t, seen.String(), "stream refused")

				good, err := raw.Open()
				require.NoError(t, err)
				_, err = good.Write([]byte{1, 1, 1, 'x'})
				require.NoError(t, err)
				pingPong(t, good, "still here")
				require.NoError(t, raw.Close())
				require.NoError(t, hub.Close())
				wg.Wait()
			})
		})
	}
}

// Streams without a header are given up after a while, only so many are
// waited for, and they delay no other.
func TestSlowHeaders(t *testing.T) { //nolint:paralleltest // testutil.Bubble
	testutil.Bubble(t, func(t *testing.T) {
		raw, hub := rawPeer(t, tunnel.Options{})
		var wg sync.WaitGroup
		wg.Go(func() { echo(hub) })
		start := time.Now()
		var silent []net.Conn
		for range 20 {
			conn, err := raw.Open()
			require.NoError(t, err)
			silent = append(silent, conn)
		}
		good, err := raw.Open()
		require.NoError(t, err)
		_, err = good.Write([]byte{1, 1, 1, 'x'})
		require.NoError(t, err)
		pingPong(t, good, "not delayed")
		require.Zero(t, time.Since(start))
		for _, conn := range silent {
			_, err := conn.Read(make([]byte, 1))
			require.ErrorIs(t, err, io.EOF)
		}
		require.Equal(t, tunnel.DefaultHeaderTimeout, time.Since(start))

		// More than are waited for: the rest is refused at once.
		start = time.Now()
		var refused int
		for range 40 {
			conn, err := raw.Open()
			require.NoError(t, err)
			synctest.Wait()
			require.NoError(t, conn.SetReadDeadline(time.Now().Add(time.Nanosecond)))
			if _, err := conn.Read(make([]byte, 1)); err == io.EOF { //nolint:errorlint // a bare EOF is meant
				refused++
			}
		}
		require.Equal(t, 8, refused)
		require.Less(t, time.Since(start), time.Millisecond)
		require.NoError(t, raw.Close())
		require.NoError(t, hub.Close())
		wg.Wait()
	})
}

func TestStreamsAreBounded(t *testing.T) { //nolint:paralleltest // testutil.Bubble
	testutil.Bubble(t, func(t *testing.T) {
		a, h := net.Pipe()
		agent, hub := sessions(t, a, h, tunnel.Options{MaxStreams: 3})
		var wg sync.WaitGroup
		wg.Go(func() { echo(hub) })
		var conns []net.Conn
		for range 3 {
			conn := open(t, agent)
			pingPong(t, conn, "in")
			conns = append(conns, conn)
		}
		over := open(t, agent)
		_, err := over.Read(make([]byte, 1))
		require.ErrorIs(t, err, io.EOF)
		require.NoError(t, conns[0].Close())
		synctest.Wait()
		again := open(t, agent)
		pingPong(t, again, "a slot was free")
		require.NoError(t, agent.Close())
		require.NoError(t, hub.Close())
		wg.Wait()
	})
}

// A peer that is no tunnel at all ends the session with a sentence.
func TestPeerThatIsNoTunnel(t *testing.T) { //nolint:paralleltest // testutil.Bubble
	testutil.Bubble(t, func(t *testing.T) {
		a, h := net.Pipe()
		seen := &logs{}
		session, err := tunnel.Client(a, tunnel.Options{Logger: seen.logger()})
		require.NoError(t, err)
		_, err = io.WriteString(h, "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"[:12])
		require.NoError(t, err)
		<-session.Done()
		require.ErrorContains(t, session.Err(), "broke the tunnel's protocol")
		require.Contains(t, seen.String(), "level=DEBUG msg=mux", "yamux speaks through our log only")
		require.NoError(t, session.Close())
		require.NoError(t, h.Close())
	})
}

func TestHeader(t *testing.T) {
	t.Parallel()
	_, err := tunnel.Header{Kind: tunnel.KindGRPC, Lane: "Upper"}.AppendBinary(nil)
	require.Error(t, err)
	_, err = tunnel.Header{Kind: tunnel.KindGRPC}.AppendBinary(nil)
	require.Error(t, err)
	got, err := tunnel.Header{Kind: 7, Lane: "control"}.AppendBinary([]byte("x"))
	require.NoError(t, err)
	require.Equal(t, "x\x01\x07\x07control", string(got))
}

func FuzzReadHeader(f *testing.F) {
	good, err := tunnel.Header{Kind: tunnel.KindGRPC, Lane: tunnel.LaneControl}.AppendBinary(nil)
	require.NoError(f, err)
	f.Add(good)
	f.Add(append(good, "PRI * HTTP/2.0"...))
	f.Add([]byte{1, 1, 33})
	f.Add([]byte("GET / HTTP/1.1\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := &counted{data: data}
		h, err := tunnel.ReadHeader(r)
		if err != nil {
			require.LessOrEqual(t, r.read, 35)
			return
		}
		again, err := h.AppendBinary(nil)
		require.NoError(t, err)
		require.Equal(t, data[:r.read], again, "it reads exactly what it means")
	})
}

// counted gives one byte at a time.
type counted struct {
	data []byte
	read int
}

func (c *counted) Read(b []byte) (int, error) {
	if c.read == len(c.data) {
		return 0, io.EOF
	}
	b[0] = c.data[c.read]
	c.read++
	return 1, nil
}

func TestWatch(t *testing.T) { //nolint:paralleltest // testutil.Bubble
	testutil.Bubble(t, func(t *testing.T) {
		watch := tunnel.NewWatch(25 * time.Second)
		start := time.Now()
		go func() {
			for range 10 {
				time.Sleep(24 * time.Second)
				watch.Seen()
			}
		}()
		err := watch.Run(t.Context())
		require.ErrorContains(t, err, "silent for 25s")
		require.Equal(t, 265*time.Second, time.Since(start))

		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.NoError(t, tunnel.NewWatch(time.Second).Run(ctx))
	})
}
