package tunnel

import (
	"context"
	"fmt"
	"net"
	"sync"
)

// FanIn is a net.Listener that many sessions feed, so that one grpc.Server
// serves them all.
type FanIn struct {
	conns chan net.Conn
	done  chan struct{} // closed by Close
	once  sync.Once
}

var _ net.Listener = (*FanIn)(nil)

// NewFanIn makes a listener that nobody feeds yet.
func NewFanIn() *FanIn {
	return &FanIn{conns: make(chan net.Conn), done: make(chan struct{})}
}

// Serve passes on the gRPC streams of s until ctx, the session or the listener
// ends, and says why if it was the session. It does not close the session.
func (f *FanIn) Serve(ctx context.Context, s *Session) error {
	for {
		select {
		case conn := <-s.incoming:
			if err := f.push(ctx, conn); err != nil {
				_ = conn.Close()
				return err
			}
		case <-s.Done():
			return s.Err()
		case <-f.done:
			return fmt.Errorf("serve session: %w", net.ErrClosed)
		case <-ctx.Done():
			return nil
		}
	}
}

func (f *FanIn) push(ctx context.Context, conn net.Conn) error {
	select {
	case f.conns <- conn:
		return nil
	case <-f.done:
		return fmt.Errorf("serve stream: %w", net.ErrClosed)
	case <-ctx.Done():
		return nil
	}
}

// Push hands one connection of the join lane over. It fails once the listener
// is closed; conn is then still the caller's.
func (f *FanIn) Push(conn net.Conn) error {
	select {
	case f.conns <- conn:
		return nil
	case <-f.done:
		return fmt.Errorf("serve connection: %w", net.ErrClosed)
	}
}

// Accept is for the grpc.Server.
func (f *FanIn) Accept() (net.Conn, error) {
	select {
	case conn := <-f.conns:
		return conn, nil
	case <-f.done:
		return nil, net.ErrClosed
	}
}

// Close ends Accept and every Serve.
func (f *FanIn) Close() error {
	f.once.Do(func() { close(f.done) })
	return nil
}

// Addr is a name only: the sessions have addresses.
func (f *FanIn) Addr() net.Addr { return fanInAddr{} }

type fanInAddr struct{}

func (fanInAddr) Network() string { return "tunnel" }
func (fanInAddr) String() string  { return "tunnel" }
