package daprtest

import (
	"io"
	"net"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// Forward opens ports on this machine's loopback to the sidecar's APIs, for
// programs that reach it by host:port, for the time of the test.
func (s *Sidecar) Forward(tb testing.TB) (http, grpc string) {
	tb.Helper()
	return forward(tb, s.socket("http")), forward(tb, s.socket("grpc"))
}

func forward(tb testing.TB, socket string) (address string) {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(tb, err)
	tb.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			from, err := ln.Accept()
			if err != nil {
				return
			}
			go pipe(from, socket)
		}
	}()
	return ln.Addr().String()
}

// pipe joins a connection to a socket until one end of them closes.
func pipe(from net.Conn, socket string) {
	defer func() { _ = from.Close() }()
	to, err := net.Dial("unix", socket)
	if err != nil {
		return // as if nobody listened
	}
	defer func() { _ = to.Close() }()
	var once sync.WaitGroup
	once.Go(func() {
		_, _ = io.Copy(to, from)
		_ = to.Close()
	})
	_, _ = io.Copy(from, to)
	_ = from.Close()
	once.Wait()
}
