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
	net.Conn
	timeout time.Duration

	pending []byte // of the sender alone

	mu    sync.Mutex // guards cause
	cause error
}

func (w *wire) Read(b []byte) (int, error) {
	n, err := w.Conn.Read(b)
	if err != nil {
		w.failed(err)
	}
	return n, err //nolint:wrapcheck // a net.Conn's errors are its contract
}

func (w *wire) Write(b []byte) (int, error) {
	if len(w.pending) == 0 && isDataHeader(b) {
		w.pending = append(w.pending, b...)
		return len(b), nil
	}
	out, held := b, len(w.pending)
	if held > 0 {
		w.pending = append(w.pending, b...)
		out = w.pending
		defer func() { w.pending = w.pending[:0] }()
	}
	if w.timeout > 0 {
		if err := w.SetWriteDeadline(time.Now().Add(w.timeout)); err != nil {
			w.failed(err)
			return 0, err //nolint:wrapcheck // a net.Conn's errors are its contract
		}
	}
	n, err := w.Conn.Write(out)
	if err != nil {
		w.failed(err)
	}
	return max(n-held, 0), err //nolint:wrapcheck // a net.Conn's errors are its contract
}

func isDataHeader(b []byte) bool {
	return len(b) == frameHeader && b[0] == 0 && b[1] == frameData && binary.BigEndian.Uint32(b[8:]) > 0
}

// failed keeps the first error. That the connection is closed is none: yamux
// closes it too, after its own decisions.
func (w *wire) failed(err error) {
	if errors.Is(err, net.ErrClosed) || errors.Is(err, io.ErrClosedPipe) {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cause == nil {
		w.cause = err
	}
}

// closing says that this side means to end the session.
func (w *wire) closing() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cause == nil {
		w.cause = net.ErrClosed
	}
}

func (w *wire) firstError() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.cause
}
