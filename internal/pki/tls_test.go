package pki_test

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/internal/id"
	"github.com/budecosystem/budcluster/internal/pki"
)

const hubName = "hub.example.com"

// party holds what both ends need.
type party struct {
	ca   *pki.Authority
	pool *x509.CertPool
	hub  tls.Certificate
}

func newParty(t *testing.T) *party {
	t.Helper()
	ca := authority(t)
	pool := x509.NewCertPool()
	pool.AddCert(ca.Certificate())
	hub, err := ca.IssueHub([]string{hubName}, "hub-0", time.Now(), time.Hour)
	require.NoError(t, err)
	return &party{ca: ca, pool: pool, hub: hub}
}

func (p *party) server() *tls.Config {
	return pki.ServerConfig(func() *tls.Certificate { return &p.hub }, func() *x509.CertPool { return p.pool }, time.Now)
}

// cluster makes an identity that was issued at a time.
func (p *party) cluster(t *testing.T, at time.Time) tls.Certificate {
	t.Helper()
	key, err := pki.NewKey()
	require.NoError(t, err)
	cert, _, err := p.ca.IssueCluster(key.Public(), id.New().String(), at, time.Hour)
	require.NoError(t, err)
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}
}

func (p *party) agent(t *testing.T, cert tls.Certificate, name string) *tls.Config {
	t.Helper()
	cfg, err := pki.AgentConfig(cert, p.ca.CertificatePEM(), name)
	require.NoError(t, err)
	return cfg
}

// shake does a handshake, then one byte from server to client, so that the
// server's judgement about the client reaches both.
func shake(t *testing.T, server, client *tls.Config) (state tls.ConnectionState, serverErr, clientErr error) {
	t.Helper()
	a, b := net.Pipe()
	s, c := tls.Server(a, server), tls.Client(b, client)
	done := make(chan error, 1)
	go func() {
		err := s.HandshakeContext(t.Context())
		if err == nil {
			_, err = s.Write([]byte{1})
		}
		_ = a.Close()
		done <- err
	}()
	clientErr = c.HandshakeContext(t.Context())
	if clientErr == nil {
		_, clientErr = c.Read(make([]byte, 1))
	}
	state = c.ConnectionState()
	_ = b.Close()
	return state, <-done, clientErr
}

func TestControlLane(t *testing.T) {
	t.Parallel()
	p := newParty(t)
	now := time.Now()
	own := p.cluster(t, now)

	t.Run("both are who they say", func(t *testing.T) {
		t.Parallel()
		state, serverErr, clientErr := shake(t, p.server(), p.agent(t, own, hubName))
		require.NoError(t, serverErr)
		require.NoError(t, clientErr)
		require.Equal(t, pki.ALPNControl, state.NegotiatedProtocol)
		require.Equal(t, uint16(tls.VersionTLS13), state.Version)
	})
	t.Run("wrong name", func(t *testing.T) {
		t.Parallel()
		_, _, err := shake(t, p.server(), p.agent(t, own, "other.example.com"))
		var wrong *pki.NameError
		require.ErrorAs(t, err, &wrong)
		require.Equal(t, []string{hubName}, wrong.Presented)
		require.ErrorContains(t, err, "tunnel.names")
	})
	t.Run("the hub of somebody else", func(t *testing.T) {
		t.Parallel()
		_, _, err := shake(t, newParty(t).server(), p.agent(t, own, hubName))
		require.ErrorIs(t, err, pki.ErrForeign)
		require.ErrorContains(t, err, "BudCluster CA")
	})
	t.Run("the hub's certificate has expired", func(t *testing.T) {
		t.Parallel()
		old := *p
		var err error
		old.hub, err = p.ca.IssueHub([]string{hubName}, "hub-0", now.Add(-2*time.Hour), time.Hour)
		require.NoError(t, err)
		_, _, err = shake(t, old.server(), p.agent(t, own, hubName))
		require.ErrorIs(t, err, pki.ErrExpired)
		require.ErrorContains(t, err, "clock")
	})
	t.Run("a cluster plays the hub", func(t *testing.T) {
		t.Parallel()
		imposter := *p
		imposter.hub = p.cluster(t, now)
		_, _, err := shake(t, imposter.server(), p.agent(t, own, hubName))
		var kind *pki.KindError
		require.ErrorAs(t, err, &kind)
		require.Equal(t, pki.KindCluster, kind.Got)
	})
	t.Run("the agent's certificate has expired", func(t *testing.T) {
		t.Parallel()
		_, serverErr, clientErr := shake(t, p.server(), p.agent(t, p.cluster(t, now.Add(-2*time.Hour)), hubName))
		require.ErrorIs(t, pki.CallerError(serverErr, now), pki.ErrExpired)
		require.ErrorContains(t, clientErr, "expired certificate")
	})
	t.Run("the agent of another hub", func(t *testing.T) {
		t.Parallel()
		foreign := newParty(t).cluster(t, now)
		_, serverErr, clientErr := shake(t, p.server(), p.agent(t, foreign, hubName))
		require.ErrorIs(t, pki.CallerError(serverErr, now), pki.ErrForeign)
		require.ErrorContains(t, clientErr, "unknown certificate authority")
	})
	t.Run("a hub's certificate as agent", func(t *testing.T) {
		t.Parallel()
		_, serverErr, _ := shake(t, p.server(), p.agent(t, p.hub, hubName))
		var kind *pki.KindError
		require.ErrorAs(t, serverErr, &kind)
	})
	t.Run("no certificate", func(t *testing.T) {
		t.Parallel()
		cfg := p.agent(t, own, hubName)
		cfg.GetClientCertificate = nil
		_, serverErr, _ := shake(t, p.server(), cfg)
		require.Error(t, serverErr)
	})
	t.Run("a certificate without its key", func(t *testing.T) {
		t.Parallel()
		stolen := p.cluster(t, now)
		key, err := pki.NewKey()
		require.NoError(t, err)
		stolen.PrivateKey = key
		_, serverErr, clientErr := shake(t, p.server(), p.agent(t, stolen, hubName))
		require.Error(t, errors.Join(serverErr, clientErr))
		require.Error(t, serverErr)
	})
	t.Run("no protocol", func(t *testing.T) {
		t.Parallel()
		cfg := p.agent(t, own, hubName)
		cfg.NextProtos = nil
		_, serverErr, _ := shake(t, p.server(), cfg)
		require.ErrorIs(t, serverErr, pki.ErrNoProtocol)
	})
	t.Run("another protocol", func(t *testing.T) {
		t.Parallel()
		cfg := p.agent(t, own, hubName)
		cfg.NextProtos = []string{"h2"}
		_, serverErr, clientErr := shake(t, p.server(), cfg)
		require.Error(t, serverErr)
		require.ErrorContains(t, clientErr, "no application protocol")
	})
	t.Run("TLS 1.2", func(t *testing.T) {
		t.Parallel()
		cfg := p.agent(t, own, hubName)
		cfg.MinVersion, cfg.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
		_, serverErr, _ := shake(t, p.server(), cfg)
		require.Error(t, serverErr)
	})
}

// inspected makes what a proxy shows that reads other people's TLS.
func inspected(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := pki.NewKey()
	require.NoError(t, err)
	issuer := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Example Corp Inspection CA", Organization: []string{"Example Corp"}},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	sign := func(template, parent *x509.Certificate, pub *ecdsa.PublicKey) *x509.Certificate {
		der, err := x509.CreateCertificate(rand.Reader, template, parent, pub, key)
		require.NoError(t, err)
		cert, err := x509.ParseCertificate(der)
		require.NoError(t, err)
		return cert
	}
	ca := sign(issuer, issuer, &key.PublicKey)
	leaf := sign(&x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: hubName}, DNSNames: []string{hubName},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}, ca, &key.PublicKey)
	return tls.Certificate{Certificate: [][]byte{leaf.Raw, ca.Raw}, PrivateKey: key, Leaf: leaf}
}

func TestJoinLane(t *testing.T) {
	t.Parallel()
	p := newParty(t)
	now := time.Now()

	t.Run("without a certificate", func(t *testing.T) {
		t.Parallel()
		state, serverErr, clientErr := shake(t, p.server(), pki.JoinConfig(p.ca.Pin(), hubName, nil))
		require.NoError(t, serverErr)
		require.NoError(t, clientErr)
		require.Equal(t, pki.ALPNJoin, state.NegotiatedProtocol)
	})
	t.Run("with an expired certificate", func(t *testing.T) {
		t.Parallel()
		old := p.cluster(t, now.Add(-48*time.Hour))
		_, serverErr, clientErr := shake(t, p.server(), pki.JoinConfig(p.ca.Pin(), hubName, &old))
		require.NoError(t, serverErr)
		require.NoError(t, clientErr)
	})
	t.Run("with a foreign certificate", func(t *testing.T) {
		t.Parallel()
		foreign := newParty(t).cluster(t, now)
		_, serverErr, clientErr := shake(t, p.server(), pki.JoinConfig(p.ca.Pin(), hubName, &foreign))
		require.ErrorIs(t, serverErr, pki.ErrForeign)
		require.ErrorContains(t, clientErr, "bad certificate")
	})
	t.Run("wrong pin", func(t *testing.T) {
		t.Parallel()
		_, _, err := shake(t, p.server(), pki.JoinConfig(authority(t).Pin(), hubName, nil))
		var wrong *pki.PinError
		require.ErrorAs(t, err, &wrong)
		require.Equal(t, p.ca.Pin(), wrong.Got)
	})
	t.Run("an inspecting proxy is named", func(t *testing.T) {
		t.Parallel()
		proxy := *p
		proxy.hub = inspected(t)
		_, _, err := shake(t, proxy.server(), pki.JoinConfig(p.ca.Pin(), hubName, nil))
		require.ErrorIs(t, err, pki.ErrForeign)
		require.ErrorContains(t, err, "Example Corp Inspection CA")
		require.ErrorContains(t, err, "exempt")
	})
	t.Run("the pinned authority beside a chain that it did not sign", func(t *testing.T) {
		t.Parallel()
		proxy := *p
		proxy.hub = inspected(t)
		proxy.hub.Certificate = append(proxy.hub.Certificate, p.ca.Certificate().Raw)
		_, _, err := shake(t, proxy.server(), pki.JoinConfig(p.ca.Pin(), hubName, nil))
		var foreign *pki.ForeignError
		require.ErrorAs(t, err, &foreign)
		require.ErrorContains(t, err, "Example Corp Inspection CA")
	})
	t.Run("wrong name", func(t *testing.T) {
		t.Parallel()
		_, _, err := shake(t, p.server(), pki.JoinConfig(p.ca.Pin(), "10.0.0.1", nil))
		var wrong *pki.NameError
		require.ErrorAs(t, err, &wrong)
	})
	t.Run("a pin in a leaf is none", func(t *testing.T) {
		t.Parallel()
		_, _, err := shake(t, p.server(), pki.JoinConfig(pki.Pin(p.hub.Leaf), hubName, nil))
		var wrong *pki.PinError
		require.ErrorAs(t, err, &wrong)
	})
}

func TestAgentConfigChecks(t *testing.T) {
	t.Parallel()
	p := newParty(t)
	own := p.cluster(t, time.Now())
	_, err := pki.AgentConfig(tls.Certificate{}, p.ca.CertificatePEM(), hubName)
	require.ErrorContains(t, err, "enroll")
	_, err = pki.AgentConfig(own, []byte("garbage"), hubName)
	require.ErrorContains(t, err, "trust bundle")
	_, err = pki.AgentConfig(own, p.ca.CertificatePEM(), "")
	require.ErrorContains(t, err, "hub.serverName")
}

// A bundle of two authorities lets agents of both in: how a CA rotates.
func TestTwoAuthoritiesOverlap(t *testing.T) {
	t.Parallel()
	old, next := newParty(t), newParty(t)
	both := *next
	both.pool = x509.NewCertPool()
	both.pool.AddCert(old.ca.Certificate())
	both.pool.AddCert(next.ca.Certificate())
	bundle := append(old.ca.CertificatePEM(), next.ca.CertificatePEM()...)
	for _, agent := range []*party{old, next} {
		cfg, err := pki.AgentConfig(agent.cluster(t, time.Now()), bundle, hubName)
		require.NoError(t, err)
		_, serverErr, clientErr := shake(t, both.server(), cfg)
		require.NoError(t, serverErr)
		require.NoError(t, clientErr)
	}
}

func TestVerifyCluster(t *testing.T) {
	t.Parallel()
	p := newParty(t)
	now := time.Now()
	cert := p.cluster(t, now.Add(-2*time.Hour)).Leaf
	who, err := pki.VerifyCluster(cert, p.pool, now)
	require.ErrorIs(t, err, pki.ErrExpired)
	require.Equal(t, pki.KindCluster, who.Kind, "the identity is known, so that grace can be decided")
	_, err = pki.VerifyCluster(cert, newParty(t).pool, now)
	require.ErrorIs(t, err, pki.ErrForeign)
	_, err = pki.VerifyCluster(p.cluster(t, now).Leaf, p.pool, now.Add(-time.Hour))
	require.ErrorContains(t, err, "set the clock right")
	_, err = pki.VerifyCluster(p.hub.Leaf, p.pool, now)
	require.Error(t, err)
	_, err = pki.VerifyCluster(nil, p.pool, now)
	require.ErrorIs(t, err, pki.ErrForeign)
	_, err = pki.VerifyCluster(cert, nil, now)
	require.ErrorIs(t, err, pki.ErrForeign)
}
