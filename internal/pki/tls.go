package pki

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"
)

// ServerConfig is the hub's side of both lanes. The lane follows from the
// protocol that the client asks for:
//
//   - control: a cluster's certificate from one of our authorities, in time;
//   - join: none, or one of ours that may have expired, since its holder may
//     have come to renew it. Possession of its key is proven in any case; how
//     old it may be is the enrollment's decision.
//
// cert, bundle and now are asked at each handshake.
func ServerConfig(cert func() *tls.Certificate, bundle func() *x509.CertPool, now func() time.Time) *tls.Config {
	base := tls.Config{
		MinVersion:             tls.VersionTLS13,
		SessionTicketsDisabled: true, // a resumed session would skip the checks
		Time:                   now,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			if c := cert(); c != nil {
				return c, nil
			}
			return nil, errors.New("the hub has no certificate yet")
		},
	}
	lane := func(protocol string, auth tls.ClientAuthType, roots *x509.CertPool, check func(tls.ConnectionState) error) *tls.Config {
		c := base.Clone()
		c.NextProtos = []string{protocol}
		c.ClientAuth = auth
		c.ClientCAs = roots
		c.VerifyConnection = check
		return c
	}
	server := base.Clone()
	server.NextProtos = []string{ALPNControl, ALPNJoin}
	server.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		roots := bundle()
		switch {
		case slices.Contains(hello.SupportedProtos, ALPNControl):
			// crypto/tls verifies first, for the sake of its alerts: expired
			// and unknown authority are told apart at the agent.
			return lane(ALPNControl, tls.RequireAndVerifyClientCert, roots, func(cs tls.ConnectionState) error {
				_, err := VerifyCluster(cs.PeerCertificates[0], roots, now())
				return err
			}), nil
		case slices.Contains(hello.SupportedProtos, ALPNJoin):
			return lane(ALPNJoin, tls.RequestClientCert, roots, func(cs tls.ConnectionState) error {
				if len(cs.PeerCertificates) == 0 {
					return nil
				}
				if _, err := VerifyCluster(cs.PeerCertificates[0], roots, now()); !errors.Is(err, ErrExpired) {
					return err
				}
				return nil
			}), nil
		case len(hello.SupportedProtos) == 0:
			return nil, ErrNoProtocol
		default:
			return nil, nil //nolint:nilnil // crypto/tls: go on, and refuse for want of a common protocol
		}
	}
	return server
}

// ErrNoProtocol is the handshake's error when the client asks for no protocol.
var ErrNoProtocol = errors.New("the client asks for no application protocol, so it is no agent; the API listens on another port")

// CallerError turns a handshake's error about a client certificate into one of
// this package's, which say what was seen and what to do; others it returns as
// they are.
func CallerError(err error, now time.Time) error {
	var refused *tls.CertificateVerificationError
	if !errors.As(err, &refused) || len(refused.UnverifiedCertificates) == 0 {
		return err
	}
	cert := refused.UnverifiedCertificates[0]
	who := quote(cert.Subject.CommonName)
	var invalid x509.CertificateInvalidError
	if errors.As(err, &invalid) && invalid.Reason == x509.Expired {
		if late := checkTime(cert, now, KindCluster); late != nil {
			return fmt.Errorf("refuse %s: %w", who, late)
		}
		return err
	}
	return fmt.Errorf("refuse %s: %w", who, &ForeignError{Whose: KindCluster, Issuer: issuerOf(cert), Err: refused.Err})
}

// VerifyCluster checks that cert is a cluster's, that one of roots signed it,
// and that it is in its time. The identity is returned as soon as the
// signature is proven: with a TimeError too, so that the caller can decide
// about grace.
func VerifyCluster(cert *x509.Certificate, roots *x509.CertPool, now time.Time) (ID, error) {
	if err := verifyChain(cert, nil, roots, x509.ExtKeyUsageClientAuth, KindCluster); err != nil {
		return ID{}, err
	}
	who, err := IDOf(cert)
	if err != nil {
		return ID{}, err
	}
	if who.Kind != KindCluster {
		return ID{}, &KindError{Want: KindCluster, Got: who.Kind}
	}
	return who, checkTime(cert, now, KindCluster)
}

// verifyChain leaves the time aside, so that a foreign certificate is called
// foreign even if it has expired, and time is judged and told by checkTime.
func verifyChain(cert *x509.Certificate, intermediates, roots *x509.CertPool, usage x509.ExtKeyUsage, whose Kind) error {
	if cert == nil || roots == nil {
		return &ForeignError{Whose: whose, Issuer: "nobody", Err: errors.New("no certificate or no authority to compare")}
	}
	// Within both its own time and, as we issue, its authority's.
	at := cert.NotAfter.Add(-time.Second)
	_, err := cert.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: intermediates, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{usage},
	})
	if err != nil {
		return &ForeignError{Whose: whose, Issuer: issuerOf(cert), Err: err}
	}
	return nil
}

func checkTime(cert *x509.Certificate, now time.Time, whose Kind) error {
	if now.Before(cert.NotBefore) || now.After(cert.NotAfter) {
		return &TimeError{Whose: whose, NotBefore: cert.NotBefore, NotAfter: cert.NotAfter, Now: now}
	}
	return nil
}

// AgentConfig is the agent's side of the control lane: cert is its own, bundle
// the authorities to trust, serverName the host that it dials.
func AgentConfig(cert tls.Certificate, bundlePEM []byte, serverName string) (*tls.Config, error) {
	if len(cert.Certificate) == 0 || cert.PrivateKey == nil {
		return nil, errors.New("the agent has no certificate; it must enroll first")
	}
	if serverName == "" {
		return nil, errors.New("hub.serverName is empty and no address gives one; set hub.addresses to host:port")
	}
	authorities, err := DecodeCertificates(bundlePEM)
	if err != nil {
		return nil, fmt.Errorf("read trust bundle: %w", err)
	}
	roots := x509.NewCertPool()
	for _, ca := range authorities {
		roots.AddCert(ca)
	}
	return clientConfig(ALPNControl, serverName, &cert, func([]*x509.Certificate) (*x509.CertPool, error) {
		return roots, nil
	}), nil
}

// JoinConfig is the agent's side of the join lane: it trusts the authority that
// pin names and no other. cert, which may be nil or expired, is shown to renew.
func JoinConfig(pin, serverName string, cert *tls.Certificate) *tls.Config {
	return clientConfig(ALPNJoin, serverName, cert, func(chain []*x509.Certificate) (*x509.CertPool, error) {
		for _, c := range chain[1:] {
			if c.IsCA && Pin(c) == pin {
				roots := x509.NewCertPool()
				roots.AddCert(c)
				return roots, nil
			}
		}
		return nil, &PinError{Want: pin, Got: Pin(chain[len(chain)-1]), Issuer: issuerOf(chain[0])}
	})
}

// clientConfig replaces crypto/tls's verification by one that does the same
// and more, and whose errors say what to do.
func clientConfig(protocol, serverName string, cert *tls.Certificate, rootsFor func([]*x509.Certificate) (*x509.CertPool, error)) *tls.Config {
	c := &tls.Config{
		MinVersion:             tls.VersionTLS13,
		NextProtos:             []string{protocol},
		ServerName:             serverName,
		SessionTicketsDisabled: true,
		InsecureSkipVerify:     true, //nolint:gosec // VerifyConnection below verifies pin, chain, kind, name and time
	}
	c.VerifyConnection = func(cs tls.ConnectionState) error {
		if len(cs.PeerCertificates) == 0 {
			return errors.New("the hub showed no certificate")
		}
		roots, err := rootsFor(cs.PeerCertificates)
		if err != nil {
			return err
		}
		return verifyHub(cs.PeerCertificates, roots, serverName, time.Now())
	}
	if cert != nil {
		own := *cert
		// Always shown: the hub names no acceptable authorities, and the
		// agent has one certificate only.
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &own, nil }
	}
	return c
}

func verifyHub(chain []*x509.Certificate, roots *x509.CertPool, serverName string, now time.Time) error {
	intermediates := x509.NewCertPool()
	for _, c := range chain[1:] {
		intermediates.AddCert(c)
	}
	leaf := chain[0]
	if err := verifyChain(leaf, intermediates, roots, x509.ExtKeyUsageServerAuth, KindHub); err != nil {
		return err
	}
	who, err := IDOf(leaf)
	if err != nil {
		return err
	}
	if who.Kind != KindHub {
		return &KindError{Want: KindHub, Got: who.Kind}
	}
	if err := leaf.VerifyHostname(serverName); err != nil {
		presented := slices.Clone(leaf.DNSNames)
		for _, ip := range leaf.IPAddresses {
			presented = append(presented, ip.String())
		}
		return &NameError{Want: serverName, Presented: presented}
	}
	return checkTime(leaf, now, KindHub)
}
