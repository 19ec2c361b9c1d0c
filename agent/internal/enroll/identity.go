package enroll

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"github.com/budecosystem/budcluster/internal/pki"
	agentv1 "github.com/budecosystem/budcluster/proto/agent/v1"
)

// Identity is a certificate with its key, and what it is good for.
type Identity struct {
	// Certificate holds chain, key and parsed leaf.
	Certificate tls.Certificate
	chainPEM    []byte
	// BundlePEM holds the CA certificates to trust.
	BundlePEM   []byte
	ClusterID   string
	ClusterName string
	// ClusterUID is that of the cluster the identity was made in.
	ClusterUID string
	// TokenID is the join token that it came from.
	TokenID    string
	Generation int64
	RenewAfter time.Time
}

// NotAfter is when the certificate expires.
func (i *Identity) NotAfter() time.Time { return i.Certificate.Leaf.NotAfter }

// Expired says whether a hub would refuse it on the tunnel.
func (i *Identity) Expired(now time.Time) bool { return !now.Before(i.NotAfter()) }

// slack is the time between the renewal's due date and the end: what there is
// for jitter and retries.
func (i *Identity) slack() time.Duration { return max(i.NotAfter().Sub(i.RenewAfter), 0) }

// defaultRenewal leaves a third of the lifetime for retries.
func defaultRenewal(leaf *x509.Certificate) time.Time {
	return leaf.NotBefore.Add(leaf.NotAfter.Sub(leaf.NotBefore) * 2 / 3)
}

// fromProto checks what the hub answered against the key that we made: it
// must be our key's certificate, signed by the bundle, and name a cluster.
func fromProto(m *agentv1.Identity, key *ecdsa.PrivateKey, now time.Time) (*Identity, error) {
	i, err := parseIdentity(m.GetCertificatePem(), key)
	if err != nil {
		return nil, err
	}
	i.BundlePEM = m.GetBundlePem()
	i.ClusterID = m.GetClusterId()
	i.ClusterName = m.GetClusterName()
	i.Generation = m.GetGeneration()
	i.RenewAfter = m.GetRenewAfter().AsTime()
	leaf := i.Certificate.Leaf
	id, err := pki.IDOf(leaf)
	if err != nil {
		return nil, fmt.Errorf("read the certificate's identity: %w", err)
	}
	if id.Kind != pki.KindCluster || id.Name != i.ClusterID {
		return nil, fmt.Errorf("the certificate is for %s %s and not for cluster %s", id.Kind, id.Name, i.ClusterID)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(i.BundlePEM) {
		return nil, errors.New("the trust bundle holds no certificate")
	}
	// The clock of the cluster may be off; the hub's own moment is not judged.
	at := now
	if at.Before(leaf.NotBefore) || at.After(leaf.NotAfter) {
		at = leaf.NotBefore
	}
	_, err = leaf.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	if err != nil {
		return nil, fmt.Errorf("verify the certificate against the trust bundle: %w", err)
	}
	if i.RenewAfter.Before(leaf.NotBefore) || i.RenewAfter.After(leaf.NotAfter) {
		i.RenewAfter = defaultRenewal(leaf)
	}
	return i, nil
}

// parseIdentity joins a chain in PEM with its key.
func parseIdentity(chainPEM []byte, key *ecdsa.PrivateKey) (*Identity, error) {
	chain, err := pki.DecodeCertificates(chainPEM)
	if err != nil {
		return nil, err
	}
	if !key.PublicKey.Equal(chain[0].PublicKey) {
		return nil, errors.New("the certificate is not for our key")
	}
	cert := tls.Certificate{PrivateKey: key, Leaf: chain[0]}
	for _, c := range chain {
		cert.Certificate = append(cert.Certificate, c.Raw)
	}
	return &Identity{Certificate: cert, chainPEM: bytes.Clone(chainPEM)}, nil
}

func decodeKey(data []byte) (*ecdsa.PrivateKey, error) {
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, errors.New("the key is not PEM")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("parse key: %w", err)
	}
	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("the key is a %T and not ECDSA", key)
	}
	return ec, nil
}
