package enroll

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/budecosystem/budcluster/hub/internal/event"
)

// Store keeps tokens, certificates and authorities. InTx runs fn in one
// transaction, which travels in the context that fn is given.
type Store interface {
	InTx(ctx context.Context, fn func(ctx context.Context) error) error
	AppendEvents(ctx context.Context, events ...event.Event) error
	Tokens
	Members
	Certificates
	Authorities
}

// Tokens is the table of join tokens.
type Tokens interface {
	// TokenInsert fails with ErrNoCluster.
	TokenInsert(ctx context.Context, t Token, hash [32]byte) error
	TokenList(ctx context.Context, clusterID uuid.UUID) ([]Token, error)
	// TokenByID fails with ErrNoToken. With lock, nobody else can use or revoke
	// the token until the transaction ends.
	TokenByID(ctx context.Context, id string, lock bool) (Token, [32]byte, error)
	TokenUse(ctx context.Context, id string, at time.Time) error
	// TokenRevoke fails with ErrNoToken.
	TokenRevoke(ctx context.Context, clusterID uuid.UUID, id string, at time.Time) error
}

// Members is enrollment's part of the table of clusters.
type Members interface {
	// MemberLock fails with ErrNoCluster; nobody else can change the cluster
	// until the transaction ends.
	MemberLock(ctx context.Context, id uuid.UUID) (Member, error)
	// MemberByUID fails with ErrNoCluster.
	MemberByUID(ctx context.Context, uid string) (Member, error)
	// MemberJoin records that the cluster joined and ends a revocation. It
	// fails with ErrUIDTaken.
	MemberJoin(ctx context.Context, id uuid.UUID, uid, agentVersion string, at time.Time) error
	MemberNextGeneration(ctx context.Context, id uuid.UUID) (int64, error)
}

// Certificates is the table of issued certificates.
type Certificates interface {
	CertificateInsert(ctx context.Context, c Certificate) error
	// CertificateBySerial fails with ErrNoCertificate. newer is how many later
	// certificates of the cluster were confirmed; revoked is also true if the
	// cluster is.
	CertificateBySerial(ctx context.Context, serial string) (c Certificate, newer int, revoked bool, err error)
	CertificateConfirm(ctx context.Context, serial string, at time.Time) error
	// CertificateForToken reports whether the token was used by this key.
	CertificateForToken(ctx context.Context, tokenID string, spki [32]byte) (bool, error)
	// CertificatePurge deletes the cluster's certificates that ended before.
	CertificatePurge(ctx context.Context, clusterID uuid.UUID, endedBefore time.Time) error
}

// Authorities is the table of certificate authorities.
type Authorities interface {
	// AuthorityInsert makes a the active authority unless there is one.
	AuthorityInsert(ctx context.Context, a SealedAuthority) error
	// AuthorityList returns all, the active one first.
	AuthorityList(ctx context.Context) ([]SealedAuthority, error)
}

// SealedAuthority is a certificate authority as it is stored.
type SealedAuthority struct {
	ID             uuid.UUID
	CertificatePEM []byte
	SealedKey      []byte
	CreatedAt      time.Time
}

// Sealer encrypts at rest.
type Sealer interface {
	Seal(plaintext, associatedData []byte) ([]byte, error)
	Unseal(sealed, associatedData []byte) ([]byte, error)
}
