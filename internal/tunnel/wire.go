package tunnel

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// yamux's frame header: version, type, flags (2), stream (4), length (4).
const (
	frameHeader = 12
	frameData   = 0
)

const (
	// tlsRecord is the largest plaintext of one record.
	tlsRecord = 16 << 10
	// keep is how much buffer an idle connection may hold.
	keep = 1 << 10
)

// heed is how long a failed write waits for what the peer has to say.
const heed = time.Second

// heeding is a connection that hears its peer out. A peer that refuses sends
// its reason and closes: a write then fails with a broken pipe while the reason
// is still to be read. The first error is kept, and it is the reason if there
// is one.
type heeding struct {
	net.Conn
	heard chan struct{} // closed when a read has failed

	mu    sync.Mutex // guards cause
	cause error
}

func newHeeding(conn net.Conn) *heeding { return &heeding{Conn: conn, heard: make(chan struct{})} }

func (h *heeding) Read(b []byte) (int, error) {
	n, err := h.Conn.Read(b)
	if err != nil {
		err = h.failed(err)
		select {
		case <-h.heard:
		default:
			close(h.heard) // one reader at a time, as for every stream of bytes
		}
	}
	return n, err
}

func (h *heeding) Write(b []byte) (int, error) {
	n, err := h.Conn.Write(b)
	if err == nil {
		return n, nil
	}
	if !isTimeout(err) && !isClosed(err) {
		timer := time.NewTimer(heed)
		defer timer.Stop()
		select {
		case <-h.heard:
		case <-timer.C:
		}
	}
	return n, h.failed(err)
}

// failed keeps the first error and gives it back. That the connection is
// closed is none: yamux closes it too, after its own decisions.
func (h *heeding) failed(err error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.cause == nil && !isClosed(err) {
		h.cause = err
	}
	if h.cause != nil {
		return h.cause
	}
	return err
}

func isClosed(err error) bool {
	return errors.Is(err, net.ErrClosed) || errors.Is(err, io.ErrClosedPipe)
}

// closing says that this side means to end the connection.
func (h *heeding) closing() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.cause == nil {
		h.cause = net.ErrClosed
	}
}

func (h *heeding) firstError() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.cause
}

// wire is the connection as yamux sees it.
//
// yamux writes a frame's header and body apart, which over TLS makes two
// records and two system calls of each frame. wire keeps the header of a data
// frame back until its body comes: yamux's one sender always writes it next.
//
// Each write has a deadline, since yamux gives up the stream that waited too
// long but not the connection; a peer whose kernel still acknowledges while
// its program hangs would hold it for ever.
//
// The first error is kept: yamux reports the end of a session, not its cause.
type wire struct {
	*heeding
	timeout time.Duration
	pending []byte // of the sender alone
}

func (w *wire) Write(b []byte) (int, error) {
	if len(w.pending) == 0 && isDataHeader(b) {
		w.pending = append(w.pending, b...)
		return len(b), nil
	}
	if w.timeout > 0 {
		if err := w.SetWriteDeadline(time.Now().Add(w.timeout)); err != nil {
			return 0, w.failed(err)
		}
	}
	held := len(w.pending)
	if held == 0 {
		return w.heeding.Write(b)
	}
	// One TLS record takes the header and what fits with it; the rest of a
	// large body follows without being copied.
	first := min(len(b), tlsRecord-held)
	w.pending = append(w.pending, b[:first]...)
	n, err := w.heeding.Write(w.pending)
	if cap(w.pending) > keep {
		w.pending = nil
	}
	w.pending = w.pending[:0]
	n = max(n-held, 0)
	if err == nil && first < len(b) {
		var more int
		more, err = w.heeding.Write(b[first:])
		n += more
	}
	return n, err
}

func isDataHeader(b []byte) bool {
	return len(b) == frameHeader && b[0] == 0 && b[1] == frameData && binary.BigEndian.Uint32(b[8:]) > 0
}
