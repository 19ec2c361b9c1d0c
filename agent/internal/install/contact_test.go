package install_test

import (
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	agentinstall "github.com/budecosystem/budcluster/agent/internal/install"
	"github.com/budecosystem/budcluster/internal/install"
)

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

func file(url, authority, token string) string {
	return fmt.Sprintf(`current-context: a
contexts: [{name: a, context: {cluster: c, user: u}}]
clusters: [{name: c, cluster: {server: '%s', certificate-authority-data: '%s'}}]
users: [{name: u, user: {token: %s}}]
`, url, authority, token)
}

func authority(s *httptest.Server) string {
	return base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))
}

// fails has the conversation up to its failure.
func fails(t *testing.T, req install.Request) (install.Stage, string) {
	t.Helper()
	c := start(t, agentinstall.ModeInstall, req)
	for s := range c.stages {
		if s.Stage == install.Failed {
			c.end()
			return s, c.said()
		}
		require.NotEqual(t, install.Ready, s.Stage)
	}
	require.Fail(t, "it did not fail", c.said())
	return install.Stage{}, ""
}

const internalSecret = "what an internal server answers to nobody else"

// TestServersThatAreNone: the reason and the remedy are told, and nothing of
// what the server sent.
func TestServersThatAreNone(t *testing.T) {
	t.Parallel()
	h := newHub(t, "hub.example.com:8443")
	serve := func(handler http.HandlerFunc) *httptest.Server {
		s := httptest.NewTLSServer(handler)
		t.Cleanup(s.Close)
		return s
	}
	elsewhere := 0
	target := serve(func(http.ResponseWriter, *http.Request) { elsewhere++ })
	text := serve(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(internalSecret)) })
	lies := serve(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintf(w, `{"gitVersion":%q}`, internalSecret)
	})
	denies := serve(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusTeapot)
		_, _ = fmt.Fprintf(w, `{"kind":"Status","apiVersion":"v1","code":418,"reason":%q,"message":%q}`, internalSecret, internalSecret)
	})
	redirects := serve(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, target.URL+"/"+"internal", http.StatusFound)
	})
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(internalSecret)) }))
	t.Cleanup(plain.Close)
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	_ = nobody.Close()
	real := base64.StdEncoding.EncodeToString(server.Config().CAData)
	for name, c := range map[string]struct {
		file   string
		reason install.Reason
		says   string
	}{
		"plain text":         {file(text.URL, authority(text), "x"), install.NotKubernetes, "API server"},
		"a wrong version":    {file(lies.URL, authority(lies), "x"), install.NotKubernetes, "API server"},
		"another status":     {file(denies.URL, authority(denies), "x"), install.NotKubernetes, "418"},
		"a redirection":      {file(redirects.URL, authority(redirects), "x"), install.NotKubernetes, "302"},
		"no TLS":             {file(strings.Replace(plain.URL, "http:", "https:", 1), real, "x"), install.NotKubernetes, "TLS"},
		"nobody":             {file("https://"+nobody.Addr().String(), real, "x"), install.Unreachable, "nothing listens"},
		"no such name":       {file("https://no-such-host.invalid:6443", real, "x"), install.Unreachable, "no-such-host.invalid"},
		"another authority":  {file(server.Config().Host, authority(text), "x"), install.Untrusted, "authority"},
		"another credential": {file(server.Config().Host, real, "wrong-token"), install.Unauthorized, "401"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			req := h.request(t, "none")
			req.Kubeconfig = c.file
			s, said := fails(t, req)
			require.Equal(t, c.reason, s.Reason, s.Message)
			require.Contains(t, s.Message, c.says)
			require.NotContains(t, said, "internal server")
			require.NotContains(t, said, "wrong-token")
		})
	}
	t.Cleanup(func() { require.Zero(t, elsewhere, "the credential was carried on") })
}

// TestNamesThatLeadHome: what a name resolves to is judged when it is dialed.
func TestNamesThatLeadHome(t *testing.T) {
	t.Parallel()
	req := newHub(t, "hub.example.com:8443").request(t, "none")
	req.Addresses.AllowLoopback = false
	s, _ := fails(t, req)
	require.Equal(t, install.Invalid, s.Reason, s.Message)

	addrs, err := net.DefaultResolver.LookupHost(t.Context(), "ip6-loopback")
	if err != nil || len(addrs) == 0 {
		t.Skip("this machine has no other name for itself than localhost")
	}
	req.Kubeconfig = file("https://ip6-loopback:6443", base64.StdEncoding.EncodeToString(server.Config().CAData), "x")
	s, _ = fails(t, req)
	require.Equal(t, install.Invalid, s.Reason, s.Message)
	require.Contains(t, s.Message, "own machine")
}

// TestRightsAreAskedBefore: somebody who may not install is told what is
// missing, and nothing was made.
func TestRightsAreAskedBefore(t *testing.T) {
	t.Parallel()
	h, kube := newHub(t, "hub.example.com:8443"), server.Client(t)
	ns := server.Namespace(t)
	_, err := kube.CoreV1().ServiceAccounts(ns).Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "visitor"}}, metav1.CreateOptions{})
	require.NoError(t, err)
	token, err := kube.CoreV1().ServiceAccounts(ns).CreateToken(t.Context(), "visitor", &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	require.NoError(t, err)
	req := h.request(t, namespace(t))
	req.Kubeconfig = file(server.Config().Host, base64.StdEncoding.EncodeToString(server.Config().CAData), token.Status.Token)
	s, said := fails(t, req)
	require.Equal(t, install.Forbidden, s.Reason, s.Message)
	require.Contains(t, s.Message, "kube-system")
	require.NotContains(t, said, token.Status.Token)

	name := namespace(t)
	_, err = kube.RbacV1().ClusterRoles().Create(t.Context(), &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{Name: name}, Rules: []rbacv1.PolicyRule{
			{APIGroups: []string{""}, Resources: []string{"namespaces"}, Verbs: []string{"get", "create"}},
		},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	_, err = kube.RbacV1().ClusterRoleBindings().Create(t.Context(), &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name},
		Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Name: "visitor", Namespace: ns}},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	s, _ = fails(t, req)
	require.Equal(t, install.Forbidden, s.Reason, s.Message)
	require.Contains(t, s.Message, "create clusterroles.rbac.authorization.k8s.io")
	require.NotContains(t, s.Message, "namespaces")
}
