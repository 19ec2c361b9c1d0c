package enginetest

import (
	"bufio"
	"context"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Soon is a deadline for what should take no time, on a loaded machine.
const Soon = 60 * time.Second

// Call is an activity that has begun.
type Call struct {
	Instance string          `json:"instance"`
	Step     string          `json:"step"`
	Value    json.RawMessage `json:"value,omitempty"`
	Pid      int             `json:"pid"`
	At       time.Time       `json:"at"`
}

// Reply is what the activity does then.
type Reply struct {
	Value     any    `json:"value,omitempty"`
	Error     string `json:"error,omitempty"`
	Permanent bool   `json:"permanent,omitempty"` // the error is
	Panic     bool   `json:"panic,omitempty"`
}

// Handler answers for the activities of one instance. Its context ends when
// the activity's context did, with the reason as cause, or its process died.
type Handler func(ctx context.Context, c Call) Reply

// Director is who the activities of all worker processes ask.
type Director struct {
	path string

	mu       sync.Mutex // guards all below
	handlers map[string]Handler
	calls    map[string][]Call
	total    int
}

// NewDirector listens for the time of the test.
func NewDirector(t testing.TB) *Director {
	t.Helper()
	dir, err := os.MkdirTemp("", "wf") //nolint:usetesting // short: a socket's path has at most 107 bytes
	require.NoError(t, err)
	d := &Director{path: filepath.Join(dir, "s"), handlers: map[string]Handler{}, calls: map[string][]Call{}}
	ln, err := net.Listen("unix", d.path)
	require.NoError(t, err)
	require.NoError(t, os.Chmod(dir, 0o755))
	require.NoError(t, os.Chmod(d.path, 0o777)) // workers may run as somebody else
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { d.serve(ctx, conn) })
		}
	})
	t.Cleanup(func() {
		cancel()
		_ = ln.Close()
		wg.Wait()
		_ = os.RemoveAll(dir)
	})
	return d
}

// Direct sets who answers for an instance. For those that nobody is set for,
// each step returns its own name.
func (d *Director) Direct(instance string, h Handler) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.handlers[instance] = h
}

// Calls lists the activities of an instance that began so far.
func (d *Director) Calls(instance string) []Call {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]Call(nil), d.calls[instance]...)
}

// Steps counts how often each step of an instance began.
func (d *Director) Steps(instance string) map[string]int {
	n := map[string]int{}
	for _, c := range d.Calls(instance) {
		n[c.Step]++
	}
	return n
}

// Total counts all activities that began so far.
func (d *Director) Total() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.total
}

func (d *Director) serve(ctx context.Context, conn net.Conn) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer func() {
		stop()
		cancel(nil)
		_ = conn.Close()
	}()
	lines := bufio.NewScanner(conn)
	var c Call
	if !lines.Scan() || json.Unmarshal(lines.Bytes(), &c) != nil {
		return
	}
	d.mu.Lock()
	d.total++
	d.calls[c.Instance] = append(d.calls[c.Instance], c)
	handler := d.handlers[c.Instance]
	d.mu.Unlock()
	if handler == nil {
		handler = func(context.Context, Call) Reply { return Reply{Value: c.Step} }
	}
	answer := make(chan Reply, 1)
	inner, end := context.WithCancelCause(ctx)
	defer end(nil)
	go func() { answer <- handler(inner, c) }()
	gone := make(chan string, 1)
	go func() { // the activity says no more, unless that it is to stop
		reason := "its process is gone"
		if lines.Scan() {
			reason = lines.Text()
		}
		gone <- reason
	}()
	select {
	case reply := <-answer:
		raw, err := json.Marshal(reply)
		if err != nil {
			raw = []byte(`{"error":"the test's reply cannot be encoded"}`)
		}
		_, _ = conn.Write(append(raw, '\n'))
	case reason := <-gone:
		end(InterruptedError(reason))
		<-answer
	case <-ctx.Done():
		end(ctx.Err())
		<-answer
	}
}

// InterruptedError is why an activity did not wait for its reply.
type InterruptedError string

// Error says why.
func (i InterruptedError) Error() string { return string(i) }
