package upload_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"mime/multipart"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/agent"
	"github.com/budecosystem/budcluster/hub"
	"github.com/budecosystem/budcluster/hub/hubapi"
	"github.com/budecosystem/budcluster/hub/hubtest"
)

// TestMain is also the agent's program: the hub's installer is this very
// program.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "install" {
		if err := agent.Install(context.Background(), os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// credential is that of every kubeconfig here, and must not show.
const credential = "canary-5f21"

// authority issues certificates.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, ends time.Duration) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "kubernetes"}, NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(ends),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	certificate, err := x509.ParseCertificate(raw)
	require.NoError(t, err)
	return authority{certificate, key}
}

// issue makes a certificate and its key for 127.0.0.1 and as a client.
func (a authority) issue(t *testing.T, ends time.Duration) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	raw, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "kube"}, NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(ends),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, a.certificate, key.Public(), a.key)
	require.NoError(t, err)
	return tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: key}
}

// data is a certificate as a kubeconfig has it.
func data(der []byte) string {
	return base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// serve runs a server with a certificate for the time of the test.
func serve(t *testing.T, certificate tls.Certificate, answer http.HandlerFunc) (address string) {
	t.Helper()
	server := httptest.NewUnstartedServer(answer)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError) // of those who hang up
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.URL
}

// file is a kubeconfig.
func file(server, authority, user string) string {
	if user == "" {
		user = "token: " + credential
	}
	return fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: main
contexts: [{name: main, context: {cluster: c, user: u}}]
clusters: [{name: c, cluster: {server: %q, certificate-authority-data: %s}}]
users: [{name: u, user: {%s}}]
`, server, authority, user)
}

// nobody is an address at which nobody listens.
func nobody(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, ln.Close())
	return "https://" + ln.Addr().String()
}

// TestBadKubeconfigs: both faces say what is wrong with a file or its server, in
// their own envelopes and with their own statuses, and nothing is made.
//
//nolint:paralleltest,tparallel // what comes after looks at what all of them have left
func TestBadKubeconfigs(t *testing.T) {
	t.Parallel()
	h := hubtest.New(t, hubtest.With(func(c *hub.Config) {
		c.Dev, c.Dapr.Enabled = true, true // Dev: servers of this machine may be dialed
		c.Dapr.HTTPAddress, c.Dapr.GRPCAddress = strings.TrimPrefix(nobody(t), "https://"), strings.TrimPrefix(nobody(t), "https://")
	}))
	good, other := newAuthority(t, 24*time.Hour), newAuthority(t, 24*time.Hour)
	ca, fresh := data(good.certificate.Raw), good.issue(t, time.Hour)
	hello := func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }
	denies := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = io.WriteString(w, `{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Unauthorized", "code": 401}`)
	}
	ended := good.issue(t, -time.Hour)
	key, err := x509.MarshalECPrivateKey(ended.PrivateKey.(*ecdsa.PrivateKey))
	require.NoError(t, err)
	endedUser := "client-certificate-data: " + data(ended.Certificate[0]) + ", client-key-data: " + base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: key}))
	for name, c := range map[string]struct {
		file string
		// v1 and platform are the faces' statuses, says is what the sentence holds.
		v1, platform int
		says         string
	}{
		"no server":                 {strings.Replace(file(nobody(t), ca, ""), "server:", "servant:", 1), 422, 400, "server: is empty; give the URL of the API server"},
		"a server without TLS":      {file("http://127.0.0.1:6443", ca, ""), 422, 400, "is not https"},
		"nobody listens":            {file(nobody(t), ca, ""), 502, 503, "nothing listens"},
		"no such name":              {file("https://no-such-host.invalid:6443", ca, ""), 502, 503, "no-such-host.invalid"},
		"a server's ended":          {file(serve(t, good.issue(t, -time.Hour), hello), ca, ""), 422, 400, "is not good any more"},
		"an authority's ended":      {file(nobody(t), data(newAuthority(t, -time.Hour).certificate.Raw), ""), 422, 400, "ended at"},
		"a user's ended":            {file(nobody(t), ca, endedUser), 422, 400, "ended at"},
		"another authority":         {file(serve(t, other.issue(t, time.Hour), hello), ca, ""), 422, 400, "of an authority that the kubeconfig does not name"},
		"a server that is none":     {file(serve(t, fresh, hello), ca, ""), 422, 400, "API server"},
		"a credential that is none": {file(serve(t, fresh, denies), ca, ""), 422, 400, "401"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := h.Client.Register(t.Context(), hubapi.RegisterRequest{Name: "bad", Kubeconfig: c.file})
			problem := new(hubapi.Problem)
			require.ErrorAs(t, err, &problem)
			require.Equal(t, c.v1, problem.Status, problem.Detail)
			require.Contains(t, problem.Error(), c.says)
			require.NotContains(t, problem.Error(), credential)

			status, text := onboard(t, h.PlatformURL, c.file)
			require.Equal(t, c.platform, status, text)
			require.Contains(t, text, c.says)
			require.NotContains(t, text, credential)
			var envelope struct{ Object, Message, Detail string }
			require.NoError(t, json.Unmarshal([]byte(text), &envelope))
			require.True(t, envelope.Object == "error" && envelope.Message != "" || envelope.Detail != "", text)
		})
	}
	clusters, err := h.Client.Clusters(t.Context(), hubapi.PageOptions{})
	require.NoError(t, err)
	require.Empty(t, clusters.Items, "nothing was made")
	runs, err := h.Client.Workflows(t.Context(), hubapi.WorkflowQuery{})
	require.NoError(t, err)
	require.Empty(t, runs.Items, "nothing was begun")
	require.NotContains(t, h.Log.String(), credential)
}

// onboard sends the platform's form.
func onboard(t *testing.T, platformURL, kubeconfig string) (status int, text string) {
	t.Helper()
	var body bytes.Buffer
	w := multipart.NewWriter(&body)
	require.NoError(t, w.WriteField("cluster_create_request", `{"name": "Bad", "enable_master_node": true, "cluster_type": "ON_PREM"}`))
	part, err := w.CreateFormFile("configuration", "kubeconfig.yaml")
	require.NoError(t, err)
	_, err = io.WriteString(part, kubeconfig)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, platformURL+"/cluster", &body)
	require.NoError(t, err)
	r.Header.Set("Content-Type", w.FormDataContentType())
	response, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer func() { require.NoError(t, response.Body.Close()) }()
	raw, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response.StatusCode, string(raw)
}
