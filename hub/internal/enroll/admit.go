package enroll

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/budecosystem/budcluster/hub/internal/event"
	"github.com/budecosystem/budcluster/internal/pki"
)

// Admit decides whether the holder of peer, which TLS has verified, may open a
// connection now, and says which cluster it is.
func (s *Service) Admit(ctx context.Context, peer *x509.Certificate) (uuid.UUID, error) {
	c, err := s.judge(ctx, peer)
	if err != nil {
		return uuid.Nil, err
	}
	now := s.now().UTC()
	if now.After(c.NotAfter) {
		return uuid.Nil, refuse(CertificateExpired, fmt.Sprintf("the certificate expired at %s; renew it on the join lane", c.NotAfter.UTC().Format(time.RFC3339)))
	}
	if c.ConfirmedAt == nil {
		if err := s.store.CertificateConfirm(ctx, c.Serial, now); err != nil {
			return uuid.Nil, fmt.Errorf("confirm certificate %s: %w", c.Serial, err)
		}
	}
	return c.ClusterID, nil
}

// Renew issues the next certificate to the holder of peer. On the join lane
// nobody else has verified peer, and it may have expired; how long ago is
// bounded by the grace time.
func (s *Service) Renew(ctx context.Context, peer *x509.Certificate, csr []byte) (*Identity, error) {
	pub, err := checkCSR(csr)
	if err != nil {
		return nil, err
	}
	trust, err := s.load(ctx)
	if err != nil {
		return nil, err
	}
	c, err := s.judge(ctx, peer)
	if err != nil {
		return nil, err
	}
	if spki, err := spkiHash(pub); err != nil {
		return nil, err
	} else if spki == c.SPKIHash {
		return nil, refuse(CSRInvalid, "the certificate request is not acceptable: it has the key of the current certificate; make a new key for each renewal")
	}
	if ended := s.now().Sub(c.NotAfter); ended > s.grace {
		return nil, refuse(CertificateExpired, fmt.Sprintf(
			"the certificate expired at %s, which is longer ago than the %s within which it can be renewed; create a new join token and install the agent again",
			c.NotAfter.UTC().Format(time.RFC3339), s.grace))
	}
	var identity *Identity
	err = s.store.InTx(ctx, func(ctx context.Context) error {
		member, err := s.store.MemberLock(ctx, c.ClusterID)
		if err != nil {
			return err
		}
		if member.RevokedAt != nil {
			return revoked(member.Name)
		}
		if member.GoneAt != nil {
			return refuse(CertificateRevoked, fmt.Sprintf(
				"cluster %s has left the fleet and its agent removed what was the hub's; to bring it back, create a cluster at the hub and install the agent with its join token", member.Name))
		}
		if identity, err = s.issue(ctx, trust, member, pub, ""); err != nil {
			return err
		}
		return s.store.AppendEvents(ctx, event.Event{
			At: s.now().UTC(), Type: event.CertificateIssued, ClusterID: member.ID, Subject: member.Name, Actor: "agent",
			Message: fmt.Sprintf("certificate %d of cluster %s was issued, good until %s", identity.Generation, member.Name, identity.NotAfter.Format(time.RFC3339)),
		})
	})
	var refused *RefusedError
	switch {
	case errors.As(err, &refused):
		return nil, refused
	case errors.Is(err, ErrNoCluster):
		return nil, foreign("its cluster was deleted")
	case err != nil:
		return nil, fmt.Errorf("renew certificate %s of cluster %s: %w", c.Serial, c.ClusterID, err)
	}
	return identity, nil
}

// judge finds peer among the issued certificates. It decides everything but
// whether its time is over.
func (s *Service) judge(ctx context.Context, peer *x509.Certificate) (Certificate, error) {
	if peer == nil {
		return Certificate{}, foreign("none was presented")
	}
	clusterID, err := s.verify(ctx, peer)
	if err != nil {
		return Certificate{}, err
	}
	c, newer, isRevoked, err := s.store.CertificateBySerial(ctx, serial(peer))
	if errors.Is(err, ErrNoCertificate) {
		return Certificate{}, foreign("the hub has no record of it, so its cluster was deleted, or the hub was restored from a backup")
	}
	if err != nil {
		return Certificate{}, fmt.Errorf("look up certificate %s: %w", serial(peer), err)
	}
	switch {
	case c.ClusterID != clusterID || c.SPKIHash != sha256.Sum256(peer.RawSubjectPublicKeyInfo):
		return Certificate{}, foreign("it is not the one that was issued under its serial number")
	case isRevoked || c.RevokedAt != nil:
		return Certificate{}, revoked(clusterID.String())
	case newer > 1:
		return Certificate{}, refuse(CertificateSuperseded, fmt.Sprintf(
			"this is certificate %d of its cluster, and %d newer ones are in use; two agents may run with one identity: remove the older, or install it again with a new join token",
			c.Generation, newer))
	}
	return c, nil
}

// verify checks the chain and the name; not the time, which the callers judge
// each in their own way.
func (s *Service) verify(ctx context.Context, peer *x509.Certificate) (uuid.UUID, error) {
	trust, err := s.load(ctx)
	if err != nil {
		return uuid.Nil, err
	}
	at := s.now()
	if at.After(peer.NotAfter) {
		at = peer.NotAfter
	}
	if at.Before(peer.NotBefore) {
		at = peer.NotBefore
	}
	if _, err := peer.Verify(x509.VerifyOptions{Roots: trust.pool, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		return uuid.Nil, foreign("this hub's authority did not sign it")
	}
	name, err := pki.IDOf(peer)
	if err != nil {
		return uuid.Nil, foreign("it names no cluster")
	}
	clusterID, err := uuid.Parse(name.Name)
	if err != nil || name.Kind != pki.KindCluster || name.TrustDomain != s.trustDomain {
		return uuid.Nil, foreign("it is not that of a cluster of this hub")
	}
	return clusterID, nil
}

func foreign(why string) error {
	return refuse(CertificateForeign, "the certificate is not accepted here: "+why+"; to join, install the agent with a new join token of this hub")
}

func revoked(cluster string) error {
	return refuse(CertificateRevoked, fmt.Sprintf("cluster %s was revoked; to bring it back, create a new join token for it and install the agent again", cluster))
}
