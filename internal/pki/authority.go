package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net"
	"net/url"
	"time"
)

// Backdate is how far before now a certificate begins, for peers whose clock
// is behind.
const Backdate = 5 * time.Minute

// Authority is the hub's certificate authority.
type Authority struct {
	cert        *x509.Certificate
	key         *ecdsa.PrivateKey
	trustDomain string
}

// NewAuthority makes an authority. It has no extended key usage, since one of
// serverAuth would refuse the client certificates that it signs.
func NewAuthority(trustDomain string, now time.Time, lifetime time.Duration) (*Authority, error) {
	if err := checkTrustDomain(trustDomain); err != nil {
		return nil, err
	}
	if lifetime <= 0 {
		return nil, fmt.Errorf("lifetime %s of the authority is not positive", lifetime)
	}
	key, err := NewKey()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{Organization: []string{"BudCluster"}, CommonName: "BudCluster CA " + trustDomain},
		NotBefore:             now.Add(-Backdate).UTC(),
		NotAfter:              now.Add(lifetime).UTC(),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		URIs:                  []*url.URL{{Scheme: scheme, Host: trustDomain}},
	}
	cert, err := create(template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make authority: %w", err)
	}
	return &Authority{cert: cert, key: key, trustDomain: trustDomain}, nil
}

// LoadAuthority reads what CertificatePEM and KeyPEM wrote.
func LoadAuthority(certPEM, keyPEM []byte) (*Authority, error) {
	certs, err := DecodeCertificates(certPEM)
	if err != nil {
		return nil, fmt.Errorf("load authority: %w", err)
	}
	key, err := decodeKey(keyPEM)
	if err != nil {
		return nil, fmt.Errorf("load authority: %w", err)
	}
	cert := certs[0]
	if !cert.IsCA || len(cert.URIs) != 1 || cert.URIs[0].Scheme != scheme || cert.URIs[0].Path != "" {
		return nil, errors.New("load authority: the certificate is not that of an authority of ours")
	}
	if err := checkTrustDomain(cert.URIs[0].Host); err != nil {
		return nil, fmt.Errorf("load authority: %w", err)
	}
	if !key.PublicKey.Equal(cert.PublicKey) {
		return nil, errors.New("load authority: the key does not belong to the certificate")
	}
	return &Authority{cert: cert, key: key, trustDomain: cert.URIs[0].Host}, nil
}

// Certificate is the authority's own certificate.
func (a *Authority) Certificate() *x509.Certificate { return a.cert }

// CertificatePEM is the certificate in PEM.
func (a *Authority) CertificatePEM() []byte { return EncodeCertificates(a.cert) }

// KeyPEM is the private key in PEM, to be sealed and stored.
func (a *Authority) KeyPEM() ([]byte, error) { return EncodeKey(a.key) }

// Pin names the authority's key in join tokens.
func (a *Authority) Pin() string { return Pin(a.cert) }

// TrustDomain is the domain of every identity that it issues.
func (a *Authority) TrustDomain() string { return a.trustDomain }

// IssueCluster signs a cluster's certificate. The subject and the identity
// come from clusterID alone.
func (a *Authority) IssueCluster(pub crypto.PublicKey, clusterID string, now time.Time, lifetime time.Duration) (*x509.Certificate, []byte, error) {
	template, err := a.leaf(ID{TrustDomain: a.trustDomain, Kind: KindCluster, Name: clusterID}, now, lifetime)
	if err != nil {
		return nil, nil, fmt.Errorf("issue certificate of cluster: %w", err)
	}
	key, err := p256(pub)
	if err != nil {
		return nil, nil, fmt.Errorf("issue certificate of cluster %s: %w", clusterID, err)
	}
	cert, err := create(template, a.cert, key, a.key)
	if err != nil {
		return nil, nil, fmt.Errorf("issue certificate of cluster %s: %w", clusterID, err)
	}
	return cert, EncodeCertificates(cert), nil
}

// IssueHub makes a key and a certificate for one replica of the hub, valid for
// the given DNS names and IP addresses. The chain holds the authority too, so
// that an agent that knows only its pin can find it.
func (a *Authority) IssueHub(names []string, replica string, now time.Time, lifetime time.Duration) (tls.Certificate, error) {
	template, err := a.leaf(ID{TrustDomain: a.trustDomain, Kind: KindHub, Name: replica}, now, lifetime)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("issue certificate of hub: %w", err)
	}
	if len(names) == 0 {
		return tls.Certificate{}, errors.New("issue certificate of hub: it needs a DNS name or IP address; set tunnel.address or tunnel.names")
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	key, err := NewKey()
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("issue certificate of hub: %w", err)
	}
	cert, err := create(template, a.cert, key.Public(), a.key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("issue certificate of hub: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{cert.Raw, a.cert.Raw}, PrivateKey: key, Leaf: cert}, nil
}

func (a *Authority) leaf(who ID, now time.Time, lifetime time.Duration) (*x509.Certificate, error) {
	if err := who.check(); err != nil {
		return nil, err
	}
	if lifetime <= 0 {
		return nil, fmt.Errorf("lifetime %s is not positive", lifetime)
	}
	if now.After(a.cert.NotAfter) {
		return nil, fmt.Errorf("the authority expired at %s; make a new one", stamp(a.cert.NotAfter))
	}
	notAfter := now.Add(lifetime)
	if notAfter.After(a.cert.NotAfter) {
		notAfter = a.cert.NotAfter
	}
	return &x509.Certificate{
		Subject:               pkix.Name{Organization: []string{"BudCluster"}, CommonName: string(who.Kind) + " " + shorten(who.Name)},
		NotBefore:             now.Add(-Backdate).UTC(),
		NotAfter:              notAfter.UTC(),
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		URIs:                  []*url.URL{who.URI()},
	}, nil
}

// shorten keeps a common name within the 64 characters that X.509 allows.
func shorten(name string) string {
	const enough = 48
	return name[:min(len(name), enough)]
}

// create signs; x509 picks a random serial number of 20 bytes.
func create(template, parent *x509.Certificate, pub crypto.PublicKey, key *ecdsa.PrivateKey) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, pub, key)
	if err != nil {
		return nil, err //nolint:wrapcheck // the callers say for whom
	}
	return x509.ParseCertificate(der) //nolint:wrapcheck // the callers say for whom
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
