// Package pki is who is who: the hub's certificate authority, the identities
// that it signs, the join tokens that lead to them, and the TLS configurations
// that check them.
//
//	join lane      agent ── token's pin ──► CA in the chain the hub shows ──► hub's name
//	                agent ◄── any cluster certificate of ours, even expired, or none ── hub
//	control lane   agent ── bundle ──► chain ──► kind hub ──► hub's name
//	                hub   ── bundle ──► chain, in time ──► kind cluster
//
// An identity is exactly one URI SAN, spiffe://<trust-domain>/<kind>/<name>,
// written by the hub. From a certificate request only the public key is used.
// Keys are ECDSA P-256; TLS is 1.3. Whether a certificate was revoked, is the
// newest, or may still be renewed is not judged here but by the hub's rules.
//
// Every error that an operator can meet is a sentence with the remedy.
package pki

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"net/url"
	"regexp"
	"strings"

	"github.com/budecosystem/budcluster/internal/id"
)

// The application protocols of the two lanes.
const (
	ALPNControl = "budcluster/1"
	ALPNJoin    = "budcluster-join/1"
)

// Kind is what an identity is an identity of.
type Kind string

// The kinds.
const (
	KindCluster Kind = "cluster"
	KindHub     Kind = "hub"
)

// ID is one identity. Name is a cluster's UUID or a hub replica's name.
type ID struct {
	TrustDomain string
	Kind        Kind
	Name        string
}

const (
	scheme  = "spiffe"
	maxName = 253
)

var (
	trustDomainForm = regexp.MustCompile(`^[a-z0-9]([a-z0-9._-]*[a-z0-9])?$`)
	replicaForm     = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$`)
)

// ParseID reads an identity in its one spelling: what is accepted gives the
// same text again by URI.
func ParseID(uri string) (ID, error) {
	rest, ok := strings.CutPrefix(uri, scheme+"://")
	if !ok {
		return ID{}, fmt.Errorf("identity %s does not begin with %s://", quote(uri), scheme)
	}
	parts := strings.Split(rest, "/")
	if len(parts) != 3 {
		return ID{}, fmt.Errorf("identity %s is not of the form %s://<trust-domain>/<kind>/<name>", quote(uri), scheme)
	}
	i := ID{TrustDomain: parts[0], Kind: Kind(parts[1]), Name: parts[2]}
	if err := i.check(); err != nil {
		return ID{}, fmt.Errorf("identity %s: %w", quote(uri), err)
	}
	return i, nil
}

func (i ID) check() error {
	if err := checkTrustDomain(i.TrustDomain); err != nil {
		return err
	}
	switch i.Kind {
	case KindCluster:
		if _, err := id.Parse(i.Name); err != nil {
			return fmt.Errorf("cluster %w", err)
		}
	case KindHub:
		if len(i.Name) > maxName || !replicaForm.MatchString(i.Name) {
			return fmt.Errorf("hub name %s is not made of letters, digits, dots, dashes and underscores", quote(i.Name))
		}
	default:
		return fmt.Errorf("kind %s is neither %s nor %s", quote(string(i.Kind)), KindCluster, KindHub)
	}
	return nil
}

func checkTrustDomain(domain string) error {
	if len(domain) > maxName || !trustDomainForm.MatchString(domain) {
		return fmt.Errorf("trust domain %s is not a lower-case DNS name", quote(domain))
	}
	return nil
}

// URI is the identity as it stands in a certificate.
func (i ID) URI() *url.URL {
	return &url.URL{Scheme: scheme, Host: i.TrustDomain, Path: "/" + string(i.Kind) + "/" + i.Name}
}

// String is the text of URI.
func (i ID) String() string { return i.URI().String() }

// IDOf reads the identity of a certificate, which must have exactly one URI
// SAN. It does not verify the certificate.
func IDOf(cert *x509.Certificate) (ID, error) {
	if cert == nil {
		return ID{}, fmt.Errorf("there is no certificate")
	}
	if len(cert.URIs) != 1 {
		return ID{}, fmt.Errorf("certificate has %d URI names where exactly one identity belongs", len(cert.URIs))
	}
	return ParseID(cert.URIs[0].String())
}

// Pin names a public key: the SHA-256 of its SubjectPublicKeyInfo in
// lower-case hex.
func Pin(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:])
}

// quote shows a foreign text in an error, shortened and with every character
// that could disturb a terminal escaped.
func quote(s string) string {
	const enough = 96
	if len(s) > enough {
		return fmt.Sprintf("%q…", s[:enough])
	}
	return fmt.Sprintf("%q", s)
}
