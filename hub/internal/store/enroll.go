package store

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/budecosystem/budcluster/hub/internal/enroll"
	"github.com/budecosystem/budcluster/hub/internal/store/sqlcgen"
)

// TokenInsert adds a join token.
func (s *Store) TokenInsert(ctx context.Context, t enroll.Token, hash [32]byte) error {
	n, err := s.q.TokenInsert(ctx, s.db(ctx), sqlcgen.TokenInsertParams{
		ID: t.ID, ClusterID: t.ClusterID, SecretHash: hash[:], Uses: int32(t.Uses), //nolint:gosec // bounded by the rule
		CreatedAt: t.CreatedAt, CreatedBy: t.CreatedBy, ExpiresAt: t.ExpiresAt,
	})
	if err == nil && n == 0 {
		return enroll.ErrNoCluster
	}
	return err
}

// TokenList returns a cluster's tokens in order of creation.
func (s *Store) TokenList(ctx context.Context, clusterID uuid.UUID) ([]enroll.Token, error) {
	rows, err := s.q.TokensByCluster(ctx, s.db(ctx), clusterID)
	if err != nil {
		return nil, err
	}
	tokens := make([]enroll.Token, 0, len(rows))
	for _, r := range rows {
		tokens = append(tokens, tokenOf(r))
	}
	return tokens, nil
}

// TokenByID looks a token up, and locks it if asked to.
func (s *Store) TokenByID(ctx context.Context, id string, lock bool) (enroll.Token, [32]byte, error) {
	find := s.q.TokenByID
	if lock {
		find = s.q.TokenByIDForUpdate
	}
	r, err := find(ctx, s.db(ctx), id)
	if err != nil {
		return enroll.Token{}, [32]byte{}, notFound(err, enroll.ErrNoToken)
	}
	return tokenOf(r), hash32(r.SecretHash), nil
}

func tokenOf(r sqlcgen.JoinTokens) enroll.Token {
	return enroll.Token{
		ID: r.ID, ClusterID: r.ClusterID, Uses: int(r.Uses), Used: int(r.Used), CreatedAt: r.CreatedAt, CreatedBy: r.CreatedBy,
		ExpiresAt: r.ExpiresAt, LastUsedAt: r.LastUsedAt, RevokedAt: r.RevokedAt,
	}
}

// TokenUse counts one use.
func (s *Store) TokenUse(ctx context.Context, id string, at time.Time) error {
	return s.q.TokenUse(ctx, s.db(ctx), sqlcgen.TokenUseParams{ID: id, At: at})
}

// TokenRevoke marks a token.
func (s *Store) TokenRevoke(ctx context.Context, clusterID uuid.UUID, id string, at time.Time) error {
	n, err := s.q.TokenRevoke(ctx, s.db(ctx), sqlcgen.TokenRevokeParams{ID: id, ClusterID: clusterID, At: at})
	if err == nil && n == 0 {
		return enroll.ErrNoToken
	}
	return err
}

// MemberLock looks a cluster up and locks it.
func (s *Store) MemberLock(ctx context.Context, id uuid.UUID) (enroll.Member, error) {
	r, err := s.q.MemberByIDForUpdate(ctx, s.db(ctx), id)
	if err != nil {
		return enroll.Member{}, notFound(err, enroll.ErrNoCluster)
	}
	return enroll.Member{ID: r.ID, Name: r.Name, UID: deref(r.Uid), JoinedAt: r.JoinedAt, RevokedAt: r.RevokedAt, RetiredAt: r.RetiredAt, GoneAt: r.GoneAt}, nil
}

// MemberByUID looks a cluster up.
func (s *Store) MemberByUID(ctx context.Context, uid string) (enroll.Member, error) {
	r, err := s.q.MemberByUID(ctx, s.db(ctx), uid)
	if err != nil {
		return enroll.Member{}, notFound(err, enroll.ErrNoCluster)
	}
	return enroll.Member{ID: r.ID, Name: r.Name, UID: deref(r.Uid), JoinedAt: r.JoinedAt, RevokedAt: r.RevokedAt, RetiredAt: r.RetiredAt, GoneAt: r.GoneAt}, nil
}

// MemberJoin records that a cluster joined.
func (s *Store) MemberJoin(ctx context.Context, id uuid.UUID, uid, agentVersion string, at time.Time) error {
	err := s.q.MemberJoin(ctx, s.db(ctx), sqlcgen.MemberJoinParams{ID: id, Uid: uid, AgentVersion: agentVersion, At: at})
	if violates(err, uniqueViolation, "clusters_uid_key") {
		return enroll.ErrUIDTaken
	}
	return err
}

// MemberNextGeneration counts one more certificate.
func (s *Store) MemberNextGeneration(ctx context.Context, id uuid.UUID) (int64, error) {
	generation, err := s.q.MemberNextGeneration(ctx, s.db(ctx), id)
	return generation, notFound(err, enroll.ErrNoCluster)
}

// CertificateInsert records an issued certificate.
func (s *Store) CertificateInsert(ctx context.Context, c enroll.Certificate) error {
	return s.q.CertificateInsert(ctx, s.db(ctx), sqlcgen.CertificateInsertParams{
		Serial: c.Serial, ClusterID: c.ClusterID, Generation: c.Generation, SpkiHash: c.SPKIHash[:],
		NotBefore: c.NotBefore, NotAfter: c.NotAfter, IssuedAt: c.IssuedAt, TokenID: optional(c.TokenID),
	})
}

// CertificateBySerial looks an issued certificate up.
func (s *Store) CertificateBySerial(ctx context.Context, serial string) (c enroll.Certificate, newer int, revoked bool, err error) {
	r, err := s.q.CertificateBySerial(ctx, s.db(ctx), serial)
	if err != nil {
		return enroll.Certificate{}, 0, false, notFound(err, enroll.ErrNoCertificate)
	}
	return enroll.Certificate{
		Serial: r.Serial, ClusterID: r.ClusterID, Generation: r.Generation, SPKIHash: hash32(r.SpkiHash),
		NotBefore: r.NotBefore, NotAfter: r.NotAfter, IssuedAt: r.IssuedAt, TokenID: deref(r.TokenID),
		ConfirmedAt: r.ConfirmedAt, RevokedAt: r.RevokedAt,
	}, int(r.Newer), r.RevokedAt != nil || r.ClusterRevokedAt != nil, nil
}

// CertificateConfirm records that the holder came with it.
func (s *Store) CertificateConfirm(ctx context.Context, serial string, at time.Time) error {
	return s.q.CertificateConfirm(ctx, s.db(ctx), sqlcgen.CertificateConfirmParams{Serial: serial, At: at})
}

// CertificateForToken reports whether a key has a certificate for a token.
func (s *Store) CertificateForToken(ctx context.Context, tokenID string, spki [32]byte) (bool, error) {
	return s.q.CertificateForToken(ctx, s.db(ctx), sqlcgen.CertificateForTokenParams{TokenID: tokenID, SpkiHash: spki[:]})
}

// CertificatePurge deletes certificates that ended long ago.
func (s *Store) CertificatePurge(ctx context.Context, clusterID uuid.UUID, endedBefore time.Time) error {
	return s.q.CertificatePurge(ctx, s.db(ctx), sqlcgen.CertificatePurgeParams{ClusterID: clusterID, EndedBefore: endedBefore})
}

// AuthorityInsert adds the first authority.
func (s *Store) AuthorityInsert(ctx context.Context, a enroll.SealedAuthority) error {
	return s.q.AuthorityInsert(ctx, s.db(ctx), sqlcgen.AuthorityInsertParams{
		ID: a.ID, CertificatePem: a.CertificatePEM, SealedKey: a.SealedKey, CreatedAt: a.CreatedAt,
	})
}

// AuthorityList returns all authorities, the active one first.
func (s *Store) AuthorityList(ctx context.Context) ([]enroll.SealedAuthority, error) {
	rows, err := s.q.Authorities(ctx, s.db(ctx))
	if err != nil {
		return nil, err
	}
	authorities := make([]enroll.SealedAuthority, 0, len(rows))
	for _, r := range rows {
		authorities = append(authorities, enroll.SealedAuthority{ID: r.ID, CertificatePEM: r.CertificatePem, SealedKey: r.SealedKey, CreatedAt: r.CreatedAt})
	}
	return authorities, nil
}
