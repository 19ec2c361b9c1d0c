package pki_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/internal/id"
	"github.com/budecosystem/budcluster/internal/pki"
)

const domain = "budcluster.local"

func authority(tb testing.TB) *pki.Authority {
	tb.Helper()
	a, err := pki.NewAuthority(domain, time.Now().AddDate(-1, 0, 0), 10*365*24*time.Hour)
	require.NoError(tb, err)
	return a
}

func TestParseID(t *testing.T) {
	t.Parallel()
	uid := id.New().String()
	good := pki.ID{TrustDomain: domain, Kind: pki.KindCluster, Name: uid}
	got, err := pki.ParseID("spiffe://" + domain + "/cluster/" + uid)
	require.NoError(t, err)
	require.Equal(t, good, got)
	require.Equal(t, "spiffe://"+domain+"/cluster/"+uid, good.String())
	_, err = pki.ParseID("spiffe://" + domain + "/hub/budcluster-hub-0")
	require.NoError(t, err)

	for name, uri := range map[string]string{
		"empty":             "",
		"other scheme":      "https://" + domain + "/cluster/" + uid,
		"upper scheme":      "SPIFFE://" + domain + "/cluster/" + uid,
		"no name":           "spiffe://" + domain + "/cluster",
		"empty name":        "spiffe://" + domain + "/hub/",
		"more path":         "spiffe://" + domain + "/cluster/" + uid + "/x",
		"no UUID":           "spiffe://" + domain + "/cluster/prod",
		"upper-case UUID":   "spiffe://" + domain + "/cluster/" + strings.ToUpper(uid),
		"braced UUID":       "spiffe://" + domain + "/cluster/{" + uid + "}",
		"other kind":        "spiffe://" + domain + "/admin/" + uid,
		"upper-case domain": "spiffe://BudCluster.local/cluster/" + uid,
		"user":              "spiffe://root@" + domain + "/cluster/" + uid,
		"port":              "spiffe://" + domain + ":1/cluster/" + uid,
		"query":             "spiffe://" + domain + "/cluster/" + uid + "?x",
		"escaped":           "spiffe://" + domain + "/hub/a%2fb",
		"dots":              "spiffe://" + domain + "/hub/..",
		"newline":           "spiffe://" + domain + "/hub/a\nb",
	} {
		_, err := pki.ParseID(uri)
		require.Error(t, err, name)
	}
}

func FuzzParseID(f *testing.F) {
	f.Add("spiffe://" + domain + "/cluster/" + id.New().String())
	f.Add("spiffe://" + domain + "/hub/budcluster-hub-0")
	f.Add("spiffe://a/hub/%2e")
	f.Fuzz(func(t *testing.T, uri string) {
		got, err := pki.ParseID(uri)
		if err != nil {
			return
		}
		require.Equal(t, uri, got.URI().String(), "an identity has one spelling")
		parsed, err := url.Parse(uri)
		require.NoError(t, err)
		require.Equal(t, uri, parsed.String())
		again, err := pki.ParseID(parsed.String())
		require.NoError(t, err)
		require.Equal(t, got, again)
	})
}

func TestJoinToken(t *testing.T) {
	t.Parallel()
	pin := authority(t).Pin()
	token, err := pki.NewJoinToken(pin)
	require.NoError(t, err)
	text := token.Reveal()
	back, err := pki.ParseJoinToken("  " + text + "\n")
	require.NoError(t, err)
	require.Equal(t, token, back)
	require.Equal(t, sha256.Sum256([]byte(strings.Split(text, ".")[2])), token.Hash())
	_, err = pki.NewJoinToken("AB")
	require.Error(t, err)

	parts := strings.Split(text, ".")
	join := func(p ...string) string { return strings.Join(p, ".") }
	for name, tc := range map[string]struct{ text, says string }{
		"empty":              {"", "empty"},
		"blank":              {" \n\t", "empty"},
		"an API key":         {"budk_01_abc", "API key"},
		"no token":           {"hello", "bud1."},
		"another version":    {join("bud2", parts[1], parts[2], parts[3]), "upgrade"},
		"cut":                {join(parts[0], parts[1], parts[2]), "cut"},
		"more":               {text + ".x", "5 parts"},
		"id":                 {join(parts[0], "1", parts[2], parts[3]), "second part"},
		"secret too short":   {join(parts[0], parts[1], parts[2][:40], parts[3]), "third part"},
		"secret with spaces": {join(parts[0], parts[1], parts[2][:20]+"\n"+parts[2][20:], parts[3]), "third part"},
		"secret padded":      {join(parts[0], parts[1], parts[2]+"=", parts[3]), "third part"},
		"pin cut":            {text[:len(text)-3], "fourth part"},
		"pin upper":          {join(parts[0], parts[1], parts[2], strings.ToUpper(parts[3])), "fourth part"},
		"huge":               {"bud1." + strings.Repeat("x", 1<<20), "too long"},
	} {
		_, err := pki.ParseJoinToken(tc.text)
		require.ErrorContains(t, err, tc.says, name)
		require.NotContains(t, err.Error(), parts[2], "%s: the secret must not show", name)
		require.NotContains(t, err.Error(), parts[2][:20], "%s: the secret must not show", name)
	}
}

func FuzzParseJoinToken(f *testing.F) {
	token, err := pki.NewJoinToken(authority(f).Pin())
	require.NoError(f, err)
	text := token.Reveal()
	for _, seed := range []string{text, text[:len(text)-1], "bud1...", "budk_x", strings.ToUpper(text), text + "\n"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := pki.ParseJoinToken(s)
		if err == nil {
			require.Equal(t, strings.TrimSpace(s), got.Reveal(), "a token has one spelling")
		}
	})
}

// evilCSR asks for everything.
func evilCSR(tb testing.TB, key crypto.Signer) []byte {
	tb.Helper()
	uri, err := url.Parse("spiffe://" + domain + "/hub/evil")
	require.NoError(tb, err)
	ca, err := asn1.Marshal(struct{ IsCA bool }{true})
	require.NoError(tb, err)
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject:         pkix.Name{CommonName: "system:admin", Organization: []string{"system:masters"}},
		DNSNames:        []string{"hub.example.com"},
		IPAddresses:     []net.IP{net.IPv4(10, 0, 0, 1)},
		EmailAddresses:  []string{"root@example.com"},
		URIs:            []*url.URL{uri},
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 19}, Critical: true, Value: ca}},
	}, key)
	require.NoError(tb, err)
	return der
}

// From an attacker's request only the key gets into the certificate.
func TestIssueClusterTakesOnlyTheKey(t *testing.T) {
	t.Parallel()
	a := authority(t)
	key, err := pki.NewKey()
	require.NoError(t, err)
	pub, err := pki.CheckCSR(evilCSR(t, key))
	require.NoError(t, err)
	cluster := id.New().String()
	now := time.Now()
	cert, pemText, err := a.IssueCluster(pub, cluster, now, 24*time.Hour)
	require.NoError(t, err)

	require.True(t, key.PublicKey.Equal(cert.PublicKey))
	require.Equal(t, "cluster "+cluster, cert.Subject.CommonName)
	require.Equal(t, []string{"BudCluster"}, cert.Subject.Organization)
	require.False(t, cert.IsCA)
	require.Empty(t, cert.DNSNames)
	require.Empty(t, cert.IPAddresses)
	require.Empty(t, cert.EmailAddresses)
	require.Equal(t, x509.KeyUsageDigitalSignature, cert.KeyUsage)
	require.ElementsMatch(t, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, cert.ExtKeyUsage)
	require.WithinDuration(t, now.Add(-pki.Backdate), cert.NotBefore, time.Second)
	require.WithinDuration(t, now.Add(24*time.Hour), cert.NotAfter, time.Second)
	who, err := pki.IDOf(cert)
	require.NoError(t, err)
	require.Equal(t, pki.ID{TrustDomain: domain, Kind: pki.KindCluster, Name: cluster}, who)

	certs, err := pki.DecodeCertificates(pemText)
	require.NoError(t, err)
	require.Len(t, certs, 1)
	roots := x509.NewCertPool()
	roots.AddCert(a.Certificate())
	got, err := pki.VerifyCluster(certs[0], roots, now)
	require.NoError(t, err)
	require.Equal(t, who, got)

	_, _, err = a.IssueCluster(pub, "../hub/x", now, time.Hour)
	require.Error(t, err)
}

func TestCheckCSRRefuses(t *testing.T) {
	t.Parallel()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	require.NoError(t, err)
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	key, err := pki.NewKey()
	require.NoError(t, err)
	good, err := pki.NewCSR(key)
	require.NoError(t, err)
	forged := append([]byte(nil), good...)
	forged[len(forged)-1] ^= 1
	for name, tc := range map[string]struct {
		der  []byte
		says string
	}{
		"nothing":       {nil, "empty"},
		"RSA":           {evilCSR(t, rsaKey), "only ECDSA P-256"},
		"P-384":         {evilCSR(t, p384), "only ECDSA P-256"},
		"Ed25519":       {evilCSR(t, ed), "only ECDSA P-256"},
		"bad signature": {forged, "not signed by its own key"},
		"cut":           {good[:len(good)-5], "PKCS#10"},
		"trailing":      {append(append([]byte(nil), good...), 0), "PKCS#10"},
		"huge":          {make([]byte, 8<<10+1), "8193 bytes"},
		"PEM":           {[]byte("-----BEGIN CERTIFICATE REQUEST-----"), "PKCS#10"},
	} {
		_, err := pki.CheckCSR(tc.der)
		require.ErrorContains(t, err, tc.says, name)
	}
}

func FuzzCheckCSR(f *testing.F) {
	key, err := pki.NewKey()
	require.NoError(f, err)
	good, err := pki.NewCSR(key)
	require.NoError(f, err)
	f.Add(good)
	f.Add(evilCSR(f, key))
	f.Add([]byte{0x30, 0x80})
	f.Fuzz(func(t *testing.T, der []byte) {
		pub, err := pki.CheckCSR(der)
		if err != nil {
			return
		}
		require.LessOrEqual(t, len(der), 8<<10)
		accepted, ok := pub.(*ecdsa.PublicKey)
		require.True(t, ok)
		require.Equal(t, elliptic.P256(), accepted.Curve)
	})
}

func TestAuthorityIsStoredAndLoaded(t *testing.T) {
	t.Parallel()
	a := authority(t)
	key, err := a.KeyPEM()
	require.NoError(t, err)
	back, err := pki.LoadAuthority(a.CertificatePEM(), key)
	require.NoError(t, err)
	require.Equal(t, a.Pin(), back.Pin())
	require.Equal(t, domain, back.TrustDomain())
	require.Empty(t, a.Certificate().ExtKeyUsage, "an EKU on the CA refuses what it signs for others")
	require.True(t, a.Certificate().MaxPathLenZero)

	other, err := authority(t).KeyPEM()
	require.NoError(t, err)
	_, err = pki.LoadAuthority(a.CertificatePEM(), other)
	require.ErrorContains(t, err, "does not belong")
	hub, err := a.IssueHub([]string{"hub"}, "r", time.Now(), time.Hour)
	require.NoError(t, err)
	_, err = pki.LoadAuthority(pki.EncodeCertificates(hub.Leaf), key)
	require.Error(t, err)
	_, err = pki.LoadAuthority(nil, key)
	require.Error(t, err)
	_, err = pki.LoadAuthority(a.CertificatePEM(), []byte("x"))
	require.Error(t, err)
}

func TestIssueBounds(t *testing.T) {
	t.Parallel()
	now := time.Now()
	a, err := pki.NewAuthority(domain, now, time.Hour)
	require.NoError(t, err)
	hub, err := a.IssueHub([]string{"hub.example.com", "10.1.2.3", "::1"}, "hub-0", now, 24*time.Hour)
	require.NoError(t, err)
	require.Equal(t, a.Certificate().NotAfter, hub.Leaf.NotAfter, "nothing outlives its authority")
	require.Equal(t, []string{"hub.example.com"}, hub.Leaf.DNSNames)
	require.Len(t, hub.Leaf.IPAddresses, 2)
	require.Len(t, hub.Certificate, 2, "the authority goes along for those who know its pin only")

	_, err = a.IssueHub(nil, "hub-0", now, time.Hour)
	require.ErrorContains(t, err, "tunnel.names")
	_, err = a.IssueHub([]string{"hub"}, "", now, time.Hour)
	require.Error(t, err)
	_, err = a.IssueHub([]string{"hub"}, "hub-0", now.Add(2*time.Hour), time.Hour)
	require.ErrorContains(t, err, "expired")
	_, err = a.IssueHub([]string{"hub"}, "hub-0", now, 0)
	require.Error(t, err)
	_, err = pki.NewAuthority("Not A Domain", now, time.Hour)
	require.Error(t, err)
}

func TestIDOfWantsExactlyOne(t *testing.T) {
	t.Parallel()
	a := authority(t)
	_, err := pki.IDOf(a.Certificate())
	require.Error(t, err, "an authority's own name is no identity")
	_, err = pki.IDOf(nil)
	require.Error(t, err)
	one, two := &url.URL{Scheme: "spiffe", Host: domain, Path: "/hub/a"}, &url.URL{Scheme: "spiffe", Host: domain, Path: "/hub/b"}
	_, err = pki.IDOf(&x509.Certificate{URIs: []*url.URL{one, two}})
	require.ErrorContains(t, err, "2 URI names")
	_, err = pki.IDOf(&x509.Certificate{})
	require.ErrorContains(t, err, "0 URI names")
}
