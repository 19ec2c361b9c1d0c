package dial_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/budecosystem/budcluster/agent/internal/dial"
)

type dialer struct {
	mu    sync.Mutex // guards names
	names map[string]string
	good  string
}

func (d *dialer) Dial(_ context.Context, hostport string, cfg *tls.Config) (*tls.Conn, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.names[hostport] = cfg.ServerName
	if hostport == d.good {
		return &tls.Conn{}, nil
	}
	return nil, errors.New(hostport + ": connection refused")
}

func config(name string) (*tls.Config, error) {
	return &tls.Config{ServerName: name, MinVersion: tls.VersionTLS13}, nil
}

func TestDialTriesEveryAddress(t *testing.T) {
	t.Parallel()
	d := &dialer{names: map[string]string{}, good: "c:3"}
	hub, err := dial.New(dial.Config{Addresses: []string{"a:1", "b:2", "c:3"}, Dialer: d, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	for range 20 { // the order is random
		_, err = hub.Dial(t.Context(), config)
		require.NoError(t, err)
	}
	require.Equal(t, "c", d.names["c:3"])

	d.good = ""
	_, err = hub.Dial(t.Context(), config)
	for _, a := range []string{"a:1", "b:2", "c:3"} {
		require.ErrorContains(t, err, a)
	}
}

func TestDialUsesTheConfiguredName(t *testing.T) {
	t.Parallel()
	d := &dialer{names: map[string]string{}, good: "10.0.0.1:1"}
	hub, err := dial.New(dial.Config{Addresses: []string{"10.0.0.1:1"}, ServerName: "hub", Dialer: d, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	_, err = hub.Dial(t.Context(), config)
	require.NoError(t, err)
	require.Equal(t, "hub", d.names["10.0.0.1:1"])
}

func TestNewRefusesBadAddresses(t *testing.T) {
	t.Parallel()
	for _, addresses := range [][]string{nil, {"hub"}, {"hub:1", "hub:1:2"}, {"https://hub:8443"}} {
		_, err := dial.New(dial.Config{Addresses: addresses, Dialer: &dialer{}})
		require.Error(t, err, addresses)
	}
}

func TestJudge(t *testing.T) {
	t.Parallel()
	withReason, err := status.New(codes.PermissionDenied, "the token was used").WithDetails(&errdetails.ErrorInfo{Reason: "TokenUsed", Domain: "budcluster"})
	require.NoError(t, err)
	for name, c := range map[string]struct {
		err    error
		reason string // empty: to be retried
	}{
		"nil":               {nil, ""},
		"no status":         {errors.New("dial: refused"), ""},
		"unavailable":       {status.Error(codes.Unavailable, "x"), ""},
		"internal":          {status.Error(codes.Internal, "x"), ""},
		"denied by a proxy": {status.Error(codes.PermissionDenied, "x"), ""},
		"with reason":       {fmt.Errorf("enroll: %w", withReason.Err()), "TokenUsed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var refusal *dial.RefusedError
			got := dial.Judge(c.err)
			require.Equal(t, c.reason != "", errors.As(got, &refusal))
			if refusal != nil {
				require.Equal(t, c.reason, refusal.Reason)
			}
		})
	}
}
