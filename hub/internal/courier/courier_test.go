package courier_test

import (
	"context"
	"crypto/x509"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/internal/courier"
	"github.com/budecosystem/budcluster/hub/internal/webhook"
)

func everywhere(netip.Addr) error { return nil }

func newCourier(t *testing.T, allow func(netip.Addr) error, server *httptest.Server) *courier.Courier {
	t.Helper()
	c, err := courier.New(courier.Config{Allow: allow, UserAgent: "hub/1", Transport: func(transport *http.Transport) {
		if server != nil && server.TLS != nil {
			pool := x509.NewCertPool()
			pool.AddCert(server.Certificate())
			trusted := server.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
			trusted.RootCAs = pool
			transport.TLSClientConfig = trusted
		}
	}})
	require.NoError(t, err)
	return c
}

func TestPost(t *testing.T) {
	t.Parallel()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("User-Agent") != "hub/1" || r.Header.Get("Content-Type") != "application/json" || r.Header.Get("webhook-id") != "m" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		w.WriteHeader(http.StatusAccepted)
		_, _ = w.Write([]byte(strings.Repeat("x", 1<<20)))
	}))
	t.Cleanup(server.Close)
	p := webhook.Post{URL: server.URL, Header: map[string]string{"webhook-id": "m"}, Body: []byte("{}")}
	status, err := newCourier(t, everywhere, server).Post(t.Context(), p)
	require.NoError(t, err)
	require.Equal(t, http.StatusAccepted, status)

	_, err = newCourier(t, everywhere, nil).Post(t.Context(), p)
	require.ErrorContains(t, err, "certificate")
	_, err = newCourier(t, everywhere, nil).Post(t.Context(), webhook.Post{URL: "https://%zz"})
	require.Error(t, err)
	_, err = courier.New(courier.Config{})
	require.Error(t, err)
}

// What counts is the address that is dialed: a name that resolves into the
// hub's own network leads nowhere, whatever it is called.
func TestForbiddenAddressIsNotDialed(t *testing.T) {
	t.Parallel()
	called := false
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { called = true }))
	t.Cleanup(server.Close)
	guard, err := webhook.NewGuard(nil, false)
	require.NoError(t, err)
	_, port, _ := strings.Cut(strings.TrimPrefix(server.URL, "http://"), ":")
	for _, address := range []string{server.URL, "http://localhost:" + port, "http://127.1:" + port} {
		_, err := newCourier(t, guard.Allow, nil).Post(t.Context(), webhook.Post{URL: address + "/secret-path"})
		require.Error(t, err, address)
		require.NotContains(t, err.Error(), "secret-path")
	}
	require.False(t, called)
}

func TestRedirectIsNotFollowed(t *testing.T) {
	t.Parallel()
	var paths []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		paths = append(paths, r.URL.Path)
		http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
	}))
	t.Cleanup(server.Close)
	status, err := newCourier(t, everywhere, nil).Post(t.Context(), webhook.Post{URL: server.URL + "/in"})
	require.NoError(t, err)
	require.Equal(t, http.StatusTemporaryRedirect, status)
	require.Equal(t, []string{"/in"}, paths)
}

func TestCauseIsTold(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	t.Cleanup(server.Close)
	slow := errors.New("no answer in 10s")
	ctx, cancel := context.WithCancelCause(t.Context())
	go cancel(slow)
	_, err := newCourier(t, everywhere, nil).Post(ctx, webhook.Post{URL: server.URL})
	require.ErrorIs(t, err, slow)
}
