package enroll

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/budecosystem/budcluster/hub/internal/event"
	"github.com/budecosystem/budcluster/hub/internal/invalid"
	"github.com/budecosystem/budcluster/internal/pki"
)

// uidPattern is generous: Kubernetes calls a UID opaque.
var uidPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)

// Enroll gives an agent its first certificate for a join token.
func (s *Service) Enroll(ctx context.Context, req Request) (*Identity, error) {
	token, err := pki.ParseJoinToken(req.Token)
	if err != nil {
		return nil, refuse(TokenMalformed, err.Error())
	}
	pub, err := checkCSR(req.CSR)
	if err != nil {
		return nil, err
	}
	if !uidPattern.MatchString(req.ClusterUID) {
		return nil, refuse(ClusterUIDInvalid, fmt.Sprintf("cluster uid %q is not that of a namespace; the agent must be able to read the namespace kube-system",
			invalid.Clip(req.ClusterUID)))
	}
	identity, err := s.enroll(ctx, req, token, pub)
	if errors.Is(err, ErrUIDTaken) { // the same Kubernetes cluster joined under another id a moment ago
		identity, err = s.enroll(ctx, req, token, pub)
	}
	if refused, ok := errors.AsType[*RefusedError](err); ok {
		return nil, refused
	}
	if err != nil {
		return nil, fmt.Errorf("enroll with token %s: %w", token.ID, err)
	}
	return identity, nil
}

func (s *Service) enroll(ctx context.Context, req Request, join pki.JoinToken, pub crypto.PublicKey) (*Identity, error) {
	trust, err := s.load(ctx)
	if err != nil {
		return nil, err
	}
	spki, err := spkiHash(pub)
	if err != nil {
		return nil, err
	}
	var identity *Identity
	err = s.store.InTx(ctx, func(ctx context.Context) error {
		token, member, err := s.admitToken(ctx, join, spki)
		if err != nil {
			return err
		}
		if err := s.checkUID(ctx, member, req.ClusterUID); err != nil {
			return err
		}
		now := s.now().UTC()
		if err := s.store.MemberJoin(ctx, member.ID, req.ClusterUID, req.AgentVersion, now); err != nil {
			return err
		}
		identity, err = s.issue(ctx, trust, member, pub, token.ID)
		if err != nil {
			return err
		}
		e, err := event.Record(now, event.ClusterJoined, "agent", map[string]any{
			"token": token.ID, "remoteAddr": req.RemoteAddr, "agentVersion": req.AgentVersion, "generation": identity.Generation,
		})
		if err != nil {
			return err
		}
		e.ClusterID, e.Subject, e.Message = member.ID, member.Name, "cluster "+member.Name+" joined"
		if member.JoinedAt != nil {
			e.Message = "cluster " + member.Name + " joined again"
		}
		return s.store.AppendEvents(ctx, e)
	})
	return identity, err
}

// admitToken uses the token once. It locks the cluster before the token, in
// the order in which revoking a cluster does.
func (s *Service) admitToken(ctx context.Context, join pki.JoinToken, spki [32]byte) (Token, Member, error) {
	unknown := refuse(TokenUnknown, "the hub does not know this join token; its cluster may have been deleted: create a new token with `budcluster token create`")
	got := join.Hash()
	t, want, err := s.store.TokenByID(ctx, join.ID, false)
	if err != nil && !errors.Is(err, ErrNoToken) {
		return Token{}, Member{}, err
	}
	if err != nil || subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
		return Token{}, Member{}, unknown
	}
	member, err := s.store.MemberLock(ctx, t.ClusterID)
	if errors.Is(err, ErrNoCluster) || err == nil && member.RetiredAt != nil {
		return Token{}, Member{}, unknown
	}
	if err != nil {
		return Token{}, Member{}, err
	}
	if t, _, err = s.store.TokenByID(ctx, join.ID, true); err != nil {
		return Token{}, Member{}, err
	}
	now := s.now().UTC()
	again := false
	switch t.State(now) {
	case TokenWithdrawn:
		return t, member, refuse(TokenRevoked, fmt.Sprintf("join token %s was revoked; create a new one for cluster %q", t.ID, member.Name))
	case TokenEnded:
		return t, member, refuse(TokenExpired, fmt.Sprintf("join token %s expired at %s; create a new one for cluster %q",
			t.ID, t.ExpiresAt.UTC().Format(time.RFC3339), member.Name))
	case TokenStateUsed:
		if again, err = s.usedByKey(ctx, t, spki); err != nil {
			return t, member, err
		}
		if !again {
			return t, member, refuse(TokenUsed, fmt.Sprintf("join token %s was used already; create a new one for cluster %q", t.ID, member.Name))
		}
	case TokenValid:
	}
	if !again {
		if err := s.store.TokenUse(ctx, t.ID, now); err != nil {
			return t, member, err
		}
	}
	return t, member, nil
}

// usedByKey reports whether this very key used the token, which is then no
// second use.
func (s *Service) usedByKey(ctx context.Context, t Token, spki [32]byte) (bool, error) {
	if !s.now().Before(t.ExpiresAt) {
		return false, nil
	}
	return s.store.CertificateForToken(ctx, t.ID, spki)
}

// checkUID refuses one Kubernetes cluster under two names, and two under one.
func (s *Service) checkUID(ctx context.Context, member Member, uid string) error {
	if member.UID != "" && member.UID != uid {
		return refuse(ClusterUIDMismatch, fmt.Sprintf(
			"cluster %q is another Kubernetes cluster (its kube-system namespace has uid %s, yours %s); create a new cluster at the hub for this one, or delete %q there first",
			member.Name, member.UID, uid, member.Name))
	}
	other, err := s.store.MemberByUID(ctx, uid)
	if errors.Is(err, ErrNoCluster) || (err == nil && other.ID == member.ID) {
		return nil
	}
	if err != nil {
		return err
	}
	return &RefusedError{Reason: ClusterUIDMismatch, Other: other.Name, Message: fmt.Sprintf(
		"this Kubernetes cluster has joined as %q already, so it cannot join as %q too; use a join token of %q, or delete %q at the hub first",
		other.Name, member.Name, other.Name, other.Name)}
}

// issue makes the cluster's next certificate.
func (s *Service) issue(ctx context.Context, trust *trust, member Member, pub crypto.PublicKey, tokenID string) (*Identity, error) {
	now := s.now().UTC()
	generation, err := s.store.MemberNextGeneration(ctx, member.ID)
	if err != nil {
		return nil, err
	}
	cert, pem, err := trust.signer.IssueCluster(pub, member.ID.String(), now, s.lifetime)
	if err != nil {
		return nil, fmt.Errorf("issue certificate for cluster %s: %w", member.Name, err)
	}
	if err := s.store.CertificatePurge(ctx, member.ID, now.Add(-s.grace-time.Hour)); err != nil {
		return nil, err
	}
	err = s.store.CertificateInsert(ctx, Certificate{
		Serial: serial(cert), ClusterID: member.ID, Generation: generation, SPKIHash: sha256.Sum256(cert.RawSubjectPublicKeyInfo),
		NotBefore: cert.NotBefore.UTC(), NotAfter: cert.NotAfter.UTC(), IssuedAt: now, TokenID: tokenID,
	})
	if err != nil {
		return nil, err
	}
	return &Identity{
		CertificatePEM: pem, BundlePEM: trust.bundle, ClusterID: member.ID, ClusterName: member.Name,
		NotAfter: cert.NotAfter.UTC(), RenewAfter: now.Add(cert.NotAfter.Sub(now) * 2 / 3), Generation: generation,
	}, nil
}

func serial(cert *x509.Certificate) string { return fmt.Sprintf("%x", cert.SerialNumber) }

func checkCSR(der []byte) (crypto.PublicKey, error) {
	pub, err := pki.CheckCSR(der)
	if err != nil {
		return nil, refuse(CSRInvalid, fmt.Sprintf("the certificate request is not acceptable: %v", err))
	}
	return pub, nil
}

func spkiHash(pub crypto.PublicKey) ([32]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return [32]byte{}, fmt.Errorf("encode public key: %w", err)
	}
	return sha256.Sum256(der), nil
}
