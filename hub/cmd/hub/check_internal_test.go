package main

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/internal/pki"
	"github.com/budecosystem/budcluster/internal/secret"
)

func TestCheckWaitsUntilTheHubIsReady(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		require.Equal(t, "/readyz", r.URL.Path)
		if asked.Add(1) == 1 {
			http.Error(w, `{"ready":false,"checks":{"database":"connection refused"}}`, http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte(`{"ready":true}`))
	}))
	t.Cleanup(server.Close)
	_, err := run(t, nil, "check", "--url", server.URL, "--timeout", "100ms")
	require.ErrorContains(t, err, "was not ready within 100ms")
	require.ErrorContains(t, err, "connection refused")
	out, err := run(t, nil, "check", "--url", server.URL+"/", "--timeout", "30s")
	require.NoError(t, err)
	require.Equal(t, `{"ready":true}`+"\n", out)
}

func TestCheckOfHTTPS(t *testing.T) {
	t.Parallel()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok")) }))
	t.Cleanup(server.Close)
	_, err := run(t, nil, "check", "--url", server.URL, "--timeout", "1500ms")
	require.ErrorContains(t, err, "certificate")
	out, err := run(t, nil, "check", "--url", server.URL, "--insecure")
	require.NoError(t, err)
	require.Equal(t, "ok\n", out)
}

// TestCheckOfTheTunnel: a tunnel that no agent could use is not ready, and the
// answer says why.
func TestCheckOfTheTunnel(t *testing.T) {
	t.Parallel()
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok")) }))
	t.Cleanup(api.Close)
	tunnel := httptest.NewUnstartedServer(nil) // its certificate is for example.com and 127.0.0.1
	tunnel.TLS = &tls.Config{MinVersion: tls.VersionTLS13, NextProtos: []string{pki.ALPNJoin}}
	tunnel.StartTLS()
	t.Cleanup(tunnel.Close)
	address := strings.TrimPrefix(tunnel.URL, "https://")

	out, err := run(t, nil, "check", "--url", api.URL, "--tunnel", address)
	require.NoError(t, err)
	require.Contains(t, out, "tunnel answers as example.com, *.example.com, 127.0.0.1, ::1")
	_, err = run(t, nil, "check", "--url", api.URL, "--tunnel", address, "--tunnel-name", "example.com")
	require.NoError(t, err)
	_, err = run(t, nil, "check", "--url", api.URL, "--tunnel", address, "--tunnel-name", "hub.example.org", "--timeout", "500ms")
	require.ErrorContains(t, err, "certificate is for example.com, *.example.com, 127.0.0.1, ::1, not for hub.example.org")
	_, err = run(t, nil, "check", "--url", api.URL, "--tunnel", strings.TrimPrefix(api.URL, "http://"), "--timeout", "500ms")
	require.ErrorContains(t, err, "dial the tunnel")
	_, err = run(t, nil, "check", "--url", api.URL, "--tunnel", "nowhere", "--timeout", "500ms")
	require.ErrorContains(t, err, "is not of the form host:port")
}

func TestEncryptionKeyIsOneThatAHubTakes(t *testing.T) {
	t.Parallel()
	first, err := run(t, nil, "admin", "create-encryption-key")
	require.NoError(t, err)
	second, err := run(t, nil, "admin", "create-encryption-key")
	require.NoError(t, err)
	require.NotEqual(t, first, second)
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "kek.json"), []byte(first), 0o600))
	keys, err := secret.OpenKeyring(dir)
	require.NoError(t, err)
	sealed, err := keys.Seal([]byte("x"), []byte("y"))
	require.NoError(t, err)
	plain, err := keys.Unseal(sealed, []byte("y"))
	require.NoError(t, err)
	require.Equal(t, "x", string(plain))
}
