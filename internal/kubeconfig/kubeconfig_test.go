package kubeconfig_test

import (
	"encoding/base64"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/internal/kubeconfig"
	"github.com/budecosystem/budcluster/internal/pki"
)

var now = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

// pair is a certificate with its key, in PEM.
type pair struct{ cert, key []byte }

func issue(t testing.TB, from time.Time, life time.Duration) pair {
	t.Helper()
	ca, err := pki.NewAuthority("test.local", from, 10*365*24*time.Hour)
	require.NoError(t, err)
	key, err := pki.NewKey()
	require.NoError(t, err)
	_, pem, err := ca.IssueCluster(key.Public(), "00000000-0000-7000-8000-000000000001", from, life)
	require.NoError(t, err)
	keyPEM, err := pki.EncodeKey(key)
	require.NoError(t, err)
	return pair{pem, keyPEM}
}

func b64(data []byte) string { return base64.StdEncoding.EncodeToString(data) }

func jwt(exp int64) string {
	part := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	return part(`{"alg":"RS256"}`) + "." + part(fmt.Sprintf(`{"exp":%d}`, exp)) + "." + part("signature-of-the-token")
}

// secretToken must show in no error.
const secretToken = "t0ken-of-the-administrator"

func config(cluster, user string) string {
	return fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: prod
contexts: [{name: prod, context: {cluster: c, user: u, namespace: x}}, {name: other, context: {cluster: gone, user: gone}}]
clusters: [{name: c, cluster: {%s}}]
users: [{name: u, user: {%s}}]
preferences: {}
`, cluster, user)
}

const goodServer = "server: 'https://k8s.example.com:6443'"

func parse(text string) (*kubeconfig.Config, error) {
	return kubeconfig.Parse([]byte(text), kubeconfig.Options{Now: now, Addresses: kubeconfig.Addresses{
		Deny: []netip.Prefix{netip.MustParsePrefix("10.9.0.0/16")},
	}})
}

func TestParse(t *testing.T) {
	t.Parallel()
	good := issue(t, now.Add(-time.Hour), 48*time.Hour)
	c, err := parse(config(goodServer+", tls-server-name: api, certificate-authority-data: "+b64(good.cert),
		"token: "+secretToken+", client-certificate-data: "+b64(good.cert)+", client-key-data: "+b64(good.key)))
	require.NoError(t, err)
	require.Equal(t, "https://k8s.example.com:6443", c.Server)
	require.Equal(t, "api", c.ServerName)
	require.Equal(t, good.cert, c.AuthorityPEM)
	require.Equal(t, secretToken, c.Token.Reveal())
	require.Equal(t, string(good.key), c.ClientKeyPEM.Reveal())
	require.Equal(t, now.Add(47*time.Hour), c.Expires)
	require.ElementsMatch(t, []string{secretToken, string(good.key)}, c.Secrets())
	require.Equal(t, []string{"prod", "c", "u"}, []string{c.Context, c.Cluster, c.User})

	c, err = parse(config("server: 'https://[2001:db8::1]:6443/k8s/clusters/c-1'", "token: "+jwt(now.Add(time.Hour).Unix())))
	require.NoError(t, err, "no authority: the system's")
	require.Equal(t, now.Add(time.Hour), c.Expires)
	require.NotContains(t, fmt.Sprintf("%v %+v", c, *c), jwt(now.Add(time.Hour).Unix()))

	_, err = kubeconfig.Parse([]byte(config(goodServer+", insecure-skip-tls-verify: true", "token: x")), kubeconfig.Options{Now: now, AllowInsecure: true})
	require.NoError(t, err)
	_, err = kubeconfig.Parse([]byte(config("server: 'https://127.0.0.1:6443'", "token: x")),
		kubeconfig.Options{Now: now, Addresses: kubeconfig.Addresses{AllowLoopback: true}})
	require.NoError(t, err)
}

// TestRefusals is the list of what a user sees.
func TestRefusals(t *testing.T) {
	t.Parallel()
	good := issue(t, now.Add(-time.Hour), 48*time.Hour)
	other := issue(t, now.Add(-time.Hour), 48*time.Hour)
	ended := issue(t, now.Add(-48*time.Hour), 24*time.Hour)
	early := issue(t, now.Add(24*time.Hour), 24*time.Hour)
	certOf := func(p pair) string {
		return "client-certificate-data: " + b64(p.cert) + ", client-key-data: " + b64(p.key)
	}
	token := "token: " + secretToken
	for name, c := range map[string]struct{ text, field, says string }{
		"nothing":          {" \n", "kubeconfig", "is empty"},
		"too big":          {strings.Repeat("#", kubeconfig.MaxSize+1), "kubeconfig", "bytes"},
		"no yaml":          {"users: [\n  {token: " + secretToken + "\n x: ]", "kubeconfig", "line "},
		"a key twice":      {"kind: Config\nkind: Config\n", "kubeconfig", "twice"},
		"a list":           {"[a, b]", "kubeconfig", "not a kubeconfig"},
		"a word":           {secretToken, "kubeconfig", "not a kubeconfig"},
		"another kind":     {"kind: Secret\napiVersion: v1\ncontexts: [{name: a}]", "kind", "Secret"},
		"no contexts":      {"kind: Config\ncurrent-context: x\n", "contexts", "is empty"},
		"no current":       {strings.Replace(config(goodServer, token), "current-context: prod", "", 1), "current-context", "prod, other"},
		"wrong current":    {strings.Replace(config(goodServer, token), "current-context: prod", "current-context: dev", 1), "current-context", `"dev"`},
		"half a context":   {strings.Replace(config(goodServer, token), "user: u, ", "", 1), "contexts[prod].context", "a user"},
		"context twice":    {strings.Replace(config(goodServer, token), "name: other", "name: prod", 1), "contexts[prod]", "twice"},
		"cluster missing":  {strings.Replace(config(goodServer, token), "[{name: c,", "[{name: d,", 1), "clusters[c]", "not in the file"},
		"user missing":     {strings.Replace(config(goodServer, token), "[{name: u,", "[{name: d,", 1), "users[u]", "not in the file"},
		"wrong type":       {config(goodServer, "token: 12345"), "user.token", "type"},
		"no server":        {config("", token), "clusters[c].cluster.server", "is empty"},
		"no url":           {config("server: k8s.example.com", token), "clusters[c].cluster.server", "not a URL"},
		"http":             {config("server: 'http://k8s.example.com:8080'", token), "clusters[c].cluster.server", "not https"},
		"user in url":      {config("server: 'https://admin:"+secretToken+"@k8s'", token), "clusters[c].cluster.server", "user name"},
		"query":            {config("server: 'https://k8s?x=1'", token), "clusters[c].cluster.server", "query"},
		"port":             {config("server: 'https://k8s:0'", token), "clusters[c].cluster.server", "port"},
		"host":             {config("server: 'https://a_b$c'", token), "clusters[c].cluster.server", "host"},
		"loopback":         {config("server: 'https://127.0.0.1:6443'", token), "clusters[c].cluster.server", "own machine"},
		"localhost":        {config("server: 'https://LOCALHOST:6443'", token), "clusters[c].cluster.server", "own machine"},
		"any address":      {config("server: 'https://0.0.0.0:6443'", token), "clusters[c].cluster.server", "own machine"},
		"mapped loopback":  {config("server: 'https://[::ffff:127.0.0.1]:6443'", token), "clusters[c].cluster.server", "own machine"},
		"nat64 loopback":   {config("server: 'https://[64:ff9b::7f00:1]:6443'", token), "clusters[c].cluster.server", "own machine"},
		"metadata":         {config("server: 'https://169.254.169.254'", token), "clusters[c].cluster.server", "link"},
		"denied":           {config("server: 'https://10.9.1.2:6443'", token), "clusters[c].cluster.server", "bootstrap.denyNetworks"},
		"proxy":            {config(goodServer+", proxy-url: 'http://p'", token), "clusters[c].cluster.proxy-url", "proxy"},
		"authority path":   {config(goodServer+", certificate-authority: /etc/ca.crt", token), "clusters[c].cluster.certificate-authority", "--flatten"},
		"authority no pem": {config(goodServer+", certificate-authority-data: "+b64([]byte("x")), token), "clusters[c].cluster.certificate-authority-data", "PEM"},
		"insecure":         {config(goodServer+", insecure-skip-tls-verify: true", token), "clusters[c].cluster.insecure-skip-tls-verify", "explicitly"},
		"exec":             {config(goodServer, "exec: {command: aws, args: ["+secretToken+"]}"), "users[u].user.exec", `"aws"`},
		"auth provider":    {config(goodServer, "auth-provider: {name: gcp, config: {access-token: "+secretToken+"}}"), "users[u].user.auth-provider", `"gcp"`},
		"token file":       {config(goodServer, "tokenFile: /var/token"), "users[u].user.tokenFile", "path"},
		"certificate path": {config(goodServer, "client-certificate: /c, client-key: /k"), "users[u].user.client-certificate", "path"},
		"password":         {config(goodServer, "username: admin, password: "+secretToken), "users[u].user.username", "password"},
		"impersonation":    {config(goodServer, token+", as: root"), "users[u].user.as", "another"},
		"impersonation 2":  {config(goodServer, token+", as-groups: ['system:masters']"), "users[u].user.as", "another"},
		"no credential":    {config(goodServer, ""), "users[u].user", "no credential"},
		"half a pair":      {config(goodServer, "client-certificate-data: "+b64(good.cert)), "users[u].user", "only one of"},
		"not a pair": {
			config(goodServer, "client-certificate-data: "+b64(good.cert)+", client-key-data: "+b64(other.key)),
			"users[u].user.client-certificate-data", "certificate and its key",
		},
		"ended":        {config(goodServer, certOf(ended)), "users[u].user.client-certificate-data", "ended at 2026-04-30T12:00:00Z"},
		"early":        {config(goodServer, certOf(early)), "users[u].user.client-certificate-data", "from 2026-05-02T"},
		"token ended":  {config(goodServer, "token: "+jwt(now.Add(-time.Minute).Unix())), "users[u].user.token", "ended at 2026-05-01T11:59:00Z"},
		"broken token": {config(goodServer, "token: 'a b'"), "users[u].user.token", "copy it again"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := parse(c.text)
			all := kubeconfig.Errors(err)
			require.NotEmpty(t, all, "%v", err)
			require.True(t, strings.HasSuffix(all[0].Field, c.field), all[0].Field)
			require.Contains(t, all[0].Message, c.says)
			require.NotContains(t, err.Error(), secretToken)
			require.NotContains(t, all[0].Error(), "\n")
		})
	}
}

// TestAllAtOnce: everything that is wrong is said together.
func TestAllAtOnce(t *testing.T) {
	t.Parallel()
	_, err := parse(config("server: 'http://x', certificate-authority: /ca", "tokenFile: /t, as: root"))
	require.Len(t, kubeconfig.Errors(err), 4)
	require.Empty(t, kubeconfig.Errors(nil))
	require.Empty(t, kubeconfig.Errors(fmt.Errorf("broken")))
}

// FuzzParse: whatever comes, the answer is a configuration that is whole, or a
// sentence for each mistake that shows no secret.
func FuzzParse(f *testing.F) {
	good := issue(f, now.Add(-time.Hour), 48*time.Hour)
	f.Add(config(goodServer, "token: "+secretToken))
	f.Add(config(goodServer+", certificate-authority-data: "+b64(good.cert), "client-certificate-data: "+b64(good.cert)+", client-key-data: "+b64(good.key)))
	f.Add(config("server: 'https://[::1%eth0]:6443'", "token: "+jwt(1)))
	f.Add(config(goodServer, "exec: {command: x}"))
	f.Add("a: &a [*a]\n")
	f.Add("{\"contexts\": [{\"name\": \"\\u0000\"}]}")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := parse(text)
		if err != nil {
			require.NotEmpty(t, kubeconfig.Errors(err), "%v", err)
			for _, e := range kubeconfig.Errors(err) {
				require.NotEmpty(t, e.Field)
				require.Less(t, len(e.Message), 1500)
			}
			return
		}
		require.True(t, strings.HasPrefix(strings.ToLower(c.Server), "https://"), c.Server)
		require.True(t, !c.Token.IsZero() || len(c.ClientCertificatePEM) > 0)
		require.False(t, c.Insecure)
		require.True(t, c.Expires.IsZero() || c.Expires.After(now))
	})
}
