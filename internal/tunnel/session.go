package tunnel

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/yamux"

	"github.com/budecosystem/budcluster/internal/logkey"
)

// The defaults of Options.
const (
	// DefaultStreamWindow lets one stream carry 80 MB/s over 50 ms; yamux's
	// own 256 KiB would let it carry 3. It costs memory only while a reader
	// lags behind.
	DefaultStreamWindow = 4 << 20
	// BulkStreamWindow is for lanes that carry files.
	BulkStreamWindow = 16 << 20
	// DefaultWriteTimeout is how long the network may take no byte.
	DefaultWriteTimeout = 30 * time.Second
	// DefaultHeaderTimeout is how long the peer may take for a stream's header,
	// which it sends with the opening.
	DefaultHeaderTimeout = 10 * time.Second
	// DefaultMaxStreams bounds the streams that the peer may have open.
	DefaultMaxStreams = 256
)

// maxPending bounds the streams whose header has not come yet.
const maxPending = 32

// Options tune a session; zero values mean the defaults.
type Options struct {
	Logger *slog.Logger
	// StreamWindow is how many unread bytes a stream may hold.
	StreamWindow uint32
	// KeepAlive is the interval of yamux's own pings; zero means none, since
	// liveness rides on the control stream.
	KeepAlive     time.Duration
	WriteTimeout  time.Duration
	HeaderTimeout time.Duration
	MaxStreams    int
}

func (o *Options) setDefaults() {
	o.StreamWindow = cmp.Or(o.StreamWindow, DefaultStreamWindow)
	o.WriteTimeout = cmp.Or(o.WriteTimeout, DefaultWriteTimeout)
	o.HeaderTimeout = cmp.Or(o.HeaderTimeout, DefaultHeaderTimeout)
	o.MaxStreams = cmp.Or(o.MaxStreams, DefaultMaxStreams)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

// Session is one connection with its streams. As a net.Listener it yields the
// gRPC streams that the peer opens.
type Session struct {
	mux  *yamux.Session
	wire *wire
	peer *x509.Certificate
	opts Options
	log  *slog.Logger

	incoming chan net.Conn // unbuffered: whoever accepts slowly delays nobody's bytes
	pending  chan struct{} // slots for streams whose header is awaited
	open     atomic.Int64  // streams of the peer
	refusals throttle
	accepted sync.WaitGroup
}

var _ net.Listener = (*Session)(nil)

// Client makes the session of the side that dialed. It takes conn over.
func Client(conn net.Conn, o Options) (*Session, error) { return newSession(conn, o, yamux.Client) }

// Server makes the session of the side that accepted. It takes conn over.
func Server(conn net.Conn, o Options) (*Session, error) { return newSession(conn, o, yamux.Server) }

func newSession(conn net.Conn, o Options, side func(io.ReadWriteCloser, *yamux.Config) (*yamux.Session, error)) (*Session, error) {
	o.setDefaults()
	s := &Session{
		wire:     &wire{heeding: newHeeding(conn), timeout: o.WriteTimeout},
		opts:     o,
		log:      o.Logger,
		incoming: make(chan net.Conn),
		pending:  make(chan struct{}, maxPending),
	}
	if secured, ok := conn.(*tls.Conn); ok {
		if certs := secured.ConnectionState().PeerCertificates; len(certs) > 0 {
			s.peer = certs[0]
		}
	}
	config := yamux.DefaultConfig()
	config.MaxStreamWindowSize = o.StreamWindow
	config.EnableKeepAlive = o.KeepAlive > 0
	config.KeepAliveInterval = cmp.Or(o.KeepAlive, config.KeepAliveInterval)
	// The wire's deadline comes first: it ends the session and says why.
	config.ConnectionWriteTimeout = o.WriteTimeout + time.Second
	config.StreamOpenTimeout = o.WriteTimeout + time.Second
	config.StreamCloseTimeout = o.WriteTimeout
	config.LogOutput = nil
	config.Logger = muxLog{s.log}
	mux, err := side(s.wire, config)
	if err != nil {
		return nil, fmt.Errorf("open session: %w", err)
	}
	s.mux = mux
	// yamux has started its goroutines by now; this one ends with them.
	s.accepted.Go(s.acceptLoop)
	return s, nil
}

// acceptLoop takes every stream at once, so that the peer's opening is
// acknowledged, and reads each header apart: a stream whose header does not
// come delays no other.
func (s *Session) acceptLoop() {
	for {
		stream, err := s.mux.AcceptStream()
		if err != nil {
			if s.mux.IsClosed() {
				return
			}
			continue // of this one stream
		}
		if s.open.Add(1) > int64(s.opts.MaxStreams) {
			s.refuse(stream, fmt.Errorf("the peer has more than %d streams open", s.opts.MaxStreams))
			continue
		}
		select {
		case s.pending <- struct{}{}:
			s.accepted.Go(func() { s.admit(stream) })
		default:
			s.refuse(stream, fmt.Errorf("the peer has more than %d streams without a header", maxPending))
		}
	}
}

func (s *Session) admit(stream *yamux.Stream) {
	header, err := s.readHeader(stream)
	<-s.pending
	if err == nil && header.Kind != KindGRPC {
		err = fmt.Errorf("stream of kind %d is unknown here; one of the two programs is too old", header.Kind)
	}
	if err != nil {
		s.refuse(stream, err)
		return
	}
	conn := &streamConn{Conn: stream, session: s, header: header, closed: func() { s.open.Add(-1) }}
	select {
	case s.incoming <- conn:
	case <-s.mux.CloseChan():
		_ = conn.Close()
	}
}

func (s *Session) readHeader(stream *yamux.Stream) (Header, error) {
	if err := stream.SetReadDeadline(time.Now().Add(s.opts.HeaderTimeout)); err != nil {
		return Header{}, fmt.Errorf("read stream header: %w", err)
	}
	header, err := ReadHeader(stream)
	if err != nil {
		return Header{}, err
	}
	return header, stream.SetReadDeadline(time.Time{}) //nolint:wrapcheck // cannot fail
}

// refuse ends one stream; the session lives on.
func (s *Session) refuse(stream *yamux.Stream, why error) {
	if n, ok := s.refusals.allow(); ok && !s.mux.IsClosed() {
		s.log.Warn("stream refused", slog.String(logkey.RemoteAddr, addrOf(s.wire)), slog.Int64(logkey.Count, n), slog.Any(logkey.Error, why))
	}
	s.open.Add(-1)
	_ = stream.Close()
}

// Accept yields the next gRPC stream of the peer.
func (s *Session) Accept() (net.Conn, error) {
	select {
	case conn := <-s.incoming:
		return conn, nil
	case <-s.mux.CloseChan():
		return nil, s.Err()
	}
}

// OpenStream opens a stream of any kind. The header travels with the opening,
// so that an answer comes after one round trip.
func (s *Session) OpenStream(ctx context.Context, h Header) (net.Conn, error) {
	head, err := h.AppendBinary(nil)
	if err != nil {
		return nil, fmt.Errorf("open stream: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("open stream: %w", err)
	}
	stream, err := s.mux.OpenStream()
	if err == nil {
		if _, err = stream.Write(head); err != nil {
			_ = stream.Close()
		}
	}
	if err != nil {
		if s.mux.IsClosed() {
			err = s.Err()
		}
		return nil, fmt.Errorf("open stream: %w", err)
	}
	return &streamConn{Conn: stream, session: s, header: h}, nil
}

// Close ends the session and all its streams, and waits for its goroutines.
func (s *Session) Close() error {
	s.wire.closing()
	err := s.mux.Close()
	s.accepted.Wait()
	return err //nolint:wrapcheck // always nil
}

// Done is closed when the session has ended.
func (s *Session) Done() <-chan struct{} { return s.mux.CloseChan() }

// Err says why the session ended, and nil while it lives. It matches
// net.ErrClosed if this side closed it.
func (s *Session) Err() error {
	if !s.mux.IsClosed() {
		return nil
	}
	switch cause := s.wire.firstError(); {
	case errors.Is(cause, net.ErrClosed):
		return fmt.Errorf("session closed: %w", cause)
	case cause != nil:
		return explain(cause)
	default: // yamux's decision; its words are in the debug log
		return errors.New("the peer stopped answering or broke the tunnel's protocol; the connection was given up")
	}
}

// Peer is the peer's certificate, as the TLS handshake verified it; nil
// without TLS.
func (s *Session) Peer() *x509.Certificate { return s.peer }

// Addr is the address of this side, for net.Listener.
func (s *Session) Addr() net.Addr { return s.wire.LocalAddr() }

// RemoteAddr is the peer's address: its proxy's, if it has one.
func (s *Session) RemoteAddr() net.Addr { return s.wire.RemoteAddr() }

// streamConn is one stream and where it belongs.
type streamConn struct {
	net.Conn
	session *Session
	header  Header
	once    sync.Once
	closed  func() // may be nil
}

func (c *streamConn) Close() error {
	err := c.Conn.Close()
	if c.closed != nil {
		c.once.Do(c.closed)
	}
	return err //nolint:wrapcheck // a net.Conn's errors are its contract
}

func (c *streamConn) LocalAddr() net.Addr  { return c.session.Addr() }
func (c *streamConn) RemoteAddr() net.Addr { return c.session.RemoteAddr() }
