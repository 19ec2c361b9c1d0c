package agenttest

import (
	"context"
	"net"
	"sync"
	"syscall"
)

// Net is a network of one listener made of net.Pipe, so that it works in a
// synctest bubble, and whose connections can vanish as behind a NAT box that
// lost its state: nothing arrives any more, and nobody is told.
type Net struct {
	mu      sync.Mutex // guards what follows
	refuse  bool
	conns   []*pipeConn
	arrived chan net.Conn
	closed  chan struct{} // closed by Close
	once    sync.Once
}

var _ net.Listener = (*Net)(nil)

// NewNet makes a network that accepts connections.
func NewNet() *Net {
	return &Net{arrived: make(chan net.Conn), closed: make(chan struct{})}
}

// Dial connects; it fits tunnel.Dialer.NetDial.
func (n *Net) Dial(ctx context.Context, _, addr string) (net.Conn, error) {
	n.mu.Lock()
	refuse := n.refuse
	n.mu.Unlock()
	refused := &net.OpError{Op: "dial", Net: "pipe", Err: syscall.ECONNREFUSED}
	if refuse {
		return nil, refused
	}
	near, far := net.Pipe()
	lost := make(chan struct{})
	var once sync.Once
	vanish := func() { once.Do(func() { close(lost) }) }
	mine := &pipeConn{Conn: near, remote: pipeAddr(addr), lost: lost, vanish: vanish, done: make(chan struct{})}
	theirs := &pipeConn{Conn: far, remote: pipeAddr("agent"), lost: lost, vanish: vanish, done: make(chan struct{})}
	select {
	case n.arrived <- theirs:
	case <-n.closed:
		return nil, refused
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	n.mu.Lock()
	n.conns = append(n.conns, mine, theirs)
	n.mu.Unlock()
	return mine, nil
}

// Refuse makes new connections fail, or succeed again.
func (n *Net) Refuse(refuse bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.refuse = refuse
}

// Vanish loses all connections without a word to either end.
func (n *Net) Vanish() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.conns {
		c.vanish()
	}
	n.conns = nil
}

// Break resets all connections.
func (n *Net) Break() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.conns {
		_ = c.Close()
	}
	n.conns = nil
}

// Accept is for the hub.
func (n *Net) Accept() (net.Conn, error) {
	select {
	case c := <-n.arrived:
		return c, nil
	case <-n.closed:
		return nil, net.ErrClosed
	}
}

// Close ends Accept; connections live on.
func (n *Net) Close() error {
	n.once.Do(func() { close(n.closed) })
	return nil
}

// Addr is a name only.
func (n *Net) Addr() net.Addr { return pipeAddr("hub") }

type pipeAddr string

func (a pipeAddr) Network() string { return "pipe" }
func (a pipeAddr) String() string  { return string(a) }

// pipeConn swallows writes once it is lost; its reads then wait until it is
// closed from this end.
type pipeConn struct {
	net.Conn
	remote net.Addr
	lost   chan struct{}
	vanish func()
	done   chan struct{} // closed by Close
	once   sync.Once
}

func (c *pipeConn) Write(b []byte) (int, error) {
	select {
	case <-c.lost:
		return len(b), nil
	default:
	}
	n, err := c.Conn.Write(b)
	select {
	case <-c.lost:
		return len(b), nil
	default:
		return n, err
	}
}

func (c *pipeConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	select {
	case <-c.lost:
		// Whatever came, it did not arrive; nor does the other end's closing.
		<-c.done
		return 0, net.ErrClosed
	default:
		return n, err
	}
}

func (c *pipeConn) Close() error {
	c.once.Do(func() { close(c.done) })
	return c.Conn.Close()
}

func (c *pipeConn) RemoteAddr() net.Addr { return c.remote }
