package tunnel

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/budecosystem/budcluster/internal/backoff"
	"github.com/budecosystem/budcluster/internal/logkey"
	"github.com/budecosystem/budcluster/internal/pki"
)

// The defaults of AcceptorConfig.
const (
	// DefaultHandshakeTimeout is what a client may take for its handshake.
	DefaultHandshakeTimeout = 10 * time.Second
	// DefaultMaxHandshakes bounds the handshakes in progress: connections
	// that say nothing must not pile up.
	DefaultMaxHandshakes = 512
	// DefaultMaxJoins bounds the connections of the join lane, where whoever
	// talks may be anybody.
	DefaultMaxJoins = 256
	// DefaultJoinLifetime is when a connection of the join lane is closed,
	// whatever it does; enrolling takes milliseconds.
	DefaultJoinLifetime = time.Minute
)

// AcceptorConfig configures an Acceptor; the first four are required.
type AcceptorConfig struct {
	// TLS is pki.ServerConfig's.
	TLS    *tls.Config
	Logger *slog.Logger
	// Control and Join take over the connections of their lane, handshake
	// done. They may return before the connection ends. A connection that
	// comes after ctx has ended is theirs to close as well.
	Control func(ctx context.Context, conn *tls.Conn)
	Join    func(ctx context.Context, conn *tls.Conn)

	// Handshakes refuses what is over its rate before any TLS is done, so
	// that thousands who come back at once are served in turn; nil is no
	// limit.
	Handshakes       *rate.Limiter
	HandshakeTimeout time.Duration
	MaxHandshakes    int
	MaxJoins         int
	JoinLifetime     time.Duration
}

// Acceptor takes connections in at the hub.
type Acceptor struct {
	cfg     AcceptorConfig
	log     *slog.Logger
	joins   atomic.Int64
	refused throttle // too many at once
	failed  throttle // handshakes that came to nothing
}

// NewAcceptor checks the configuration.
func NewAcceptor(cfg AcceptorConfig) (*Acceptor, error) {
	if cfg.TLS == nil || cfg.Logger == nil || cfg.Control == nil || cfg.Join == nil {
		return nil, errors.New("acceptor needs TLS, a logger, and what takes each lane over")
	}
	cfg.HandshakeTimeout = cmp.Or(cfg.HandshakeTimeout, DefaultHandshakeTimeout)
	cfg.MaxHandshakes = cmp.Or(cfg.MaxHandshakes, DefaultMaxHandshakes)
	cfg.MaxJoins = cmp.Or(cfg.MaxJoins, DefaultMaxJoins)
	cfg.JoinLifetime = cmp.Or(cfg.JoinLifetime, DefaultJoinLifetime)
	return &Acceptor{cfg: cfg, log: cfg.Logger}, nil
}

// Serve accepts from ln until ctx ends, which closes ln and the handshakes in
// progress, and waits for Control and Join to return.
func (a *Acceptor) Serve(ctx context.Context, ln net.Listener) error {
	stop := context.AfterFunc(ctx, func() { _ = ln.Close() })
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	slots := make(chan struct{}, a.cfg.MaxHandshakes)
	wait := backoff.New(5*time.Millisecond, time.Second)
	for {
		conn, err := ln.Accept()
		if ctx.Err() != nil {
			if err == nil {
				_ = conn.Close()
			}
			return nil
		}
		if errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("accept agents: %w", err)
		}
		if err != nil { // of this one, or of want for files: it passes
			a.log.WarnContext(ctx, "accept failed", slog.Any(logkey.Error, err))
			pause(ctx, wait.Next())
			continue
		}
		wait.Reset()
		select {
		case slots <- struct{}{}:
		default:
			a.refuse(ctx, conn, "too many handshakes in progress")
			continue
		}
		if a.cfg.Handshakes != nil && !a.cfg.Handshakes.Allow() {
			<-slots
			a.refuse(ctx, conn, "over the admission rate")
			continue
		}
		wg.Go(func() { a.take(ctx, conn, func() { <-slots }) })
	}
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// refuse costs the hub one system call.
func (a *Acceptor) refuse(ctx context.Context, conn net.Conn, why string) {
	_ = conn.Close()
	if n, ok := a.refused.allow(); ok {
		a.log.WarnContext(ctx, "connections refused; agents come back by themselves",
			slog.String(logkey.Reason, why), slog.Int64(logkey.Count, n), slog.String(logkey.RemoteAddr, addrOf(conn)))
	}
}

// take does the handshake and hands the connection to its lane.
func (a *Acceptor) take(ctx context.Context, raw net.Conn, handshakeDone func()) {
	userTimeout(raw, unacknowledged)
	tracked := &trackedConn{Conn: raw}
	conn := tls.Server(tracked, a.cfg.TLS)
	err := a.handshake(ctx, conn)
	if err != nil {
		answerHTTP(err)
		a.handshakeFailed(ctx, raw, err)
		part(raw, err)
	}
	handshakeDone()
	if err != nil {
		return
	}
	switch conn.ConnectionState().NegotiatedProtocol {
	case pki.ALPNControl:
		a.cfg.Control(ctx, conn)
	case pki.ALPNJoin:
		if a.joins.Add(1) > int64(a.cfg.MaxJoins) {
			a.joins.Add(-1)
			a.refuse(ctx, conn, "too many connections on the join lane")
			return
		}
		expire := time.AfterFunc(a.cfg.JoinLifetime, func() { _ = tracked.Close() })
		tracked.onClose(func() {
			expire.Stop()
			a.joins.Add(-1)
		})
		a.cfg.Join(ctx, conn)
	default:
		_ = conn.Close()
	}
}

func (a *Acceptor) handshake(ctx context.Context, conn *tls.Conn) error {
	over := fmt.Errorf("the client did not finish its handshake within %s: %w", a.cfg.HandshakeTimeout, context.DeadlineExceeded)
	ctx, cancel := context.WithTimeoutCause(ctx, a.cfg.HandshakeTimeout, over)
	defer cancel()
	err := conn.HandshakeContext(ctx)
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx) //nolint:wrapcheck // it is our own
	}
	return err //nolint:wrapcheck // explained by handshakeFailed
}

const notHere = "HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n" +
	"This port is for BudCluster agents, over TLS. The API listens on another port.\n"

// part closes a connection whose client was sent a reason, and gives the
// client's own bytes a moment to arrive: to close over unread bytes would
// make the kernel send a reset, which can overtake the reason.
func part(conn net.Conn, why error) {
	defer func() { _ = conn.Close() }()
	half, ok := conn.(interface{ CloseWrite() error })
	if !ok || isTimeout(why) || errors.Is(why, io.EOF) || half.CloseWrite() != nil {
		return
	}
	const moment, enough = 250 * time.Millisecond, 64 << 10
	if conn.SetReadDeadline(time.Now().Add(moment)) == nil {
		_, _ = io.CopyN(io.Discard, conn, enough)
	}
}

// answerHTTP tells somebody with a browser or curl that this is another door.
func answerHTTP(err error) {
	var record tls.RecordHeaderError
	if errors.As(err, &record) && record.Conn != nil && isHTTP(record.RecordHeader) {
		_ = record.Conn.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = io.WriteString(record.Conn, notHere)
	}
}

func (a *Acceptor) handshakeFailed(ctx context.Context, raw net.Conn, err error) {
	if ctx.Err() != nil {
		return
	}
	if errors.Is(err, io.EOF) { // a load balancer's probe
		a.log.DebugContext(ctx, "connection closed before a handshake", slog.String(logkey.RemoteAddr, addrOf(raw)))
		return
	}
	if n, ok := a.failed.allow(); ok {
		a.log.WarnContext(ctx, "handshake refused", slog.String(logkey.RemoteAddr, addrOf(raw)),
			slog.Int64(logkey.Count, n), slog.Any(logkey.Error, explainCaller(err)))
	}
}

// explainCaller says what an agent did wrong, for the hub's operator.
func explainCaller(err error) error {
	if record, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		if isHTTP(record.RecordHeader) {
			return fmt.Errorf("the client speaks plain HTTP; it means another port, or a health check is set to HTTP where TCP belongs: %w", err)
		}
		return fmt.Errorf("the client does not speak TLS, so it is no agent: %w", err)
	}
	if alert, ok := remoteAlert(err); ok && alert == errAlertBadCertificate {
		return fmt.Errorf("the agent refused this hub's certificate; add the name that it dials to tunnel.names, or give it a token of this hub: %w", err)
	}
	return pki.CallerError(err, time.Now())
}

func isHTTP(record [5]byte) bool {
	switch string(record[:]) {
	case "GET /", "HEAD ", "POST ", "PUT /", "OPTIO", "PATCH", "DELET", "CONNE", "PRI *":
		return true
	default:
		return false
	}
}

func addrOf(conn net.Conn) string {
	if addr := conn.RemoteAddr(); addr != nil {
		return addr.String()
	}
	return ""
}

// trackedConn hears of its own closing.
type trackedConn struct {
	net.Conn
	mu     sync.Mutex // guards what follows
	closed bool
	hook   func()
}

// onClose calls f when the connection is closed, at once if it is.
func (c *trackedConn) onClose(f func()) {
	c.mu.Lock()
	closed := c.closed
	if !closed {
		c.hook = f
	}
	c.mu.Unlock()
	if closed {
		f()
	}
}

func (c *trackedConn) Close() error {
	c.mu.Lock()
	hook := c.hook
	c.closed, c.hook = true, nil
	c.mu.Unlock()
	if hook != nil {
		hook()
	}
	return c.Conn.Close() //nolint:wrapcheck // a net.Conn's errors are its contract
}

// throttle lets one event a second through, with the number of those since.
type throttle struct {
	mu     sync.Mutex // guards what follows
	last   time.Time
	missed int64
}

func (t *throttle) allow() (n int64, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.missed++
	now := time.Now()
	if now.Sub(t.last) < time.Second {
		return 0, false
	}
	n, t.missed, t.last = t.missed, 0, now
	return n, true
}
