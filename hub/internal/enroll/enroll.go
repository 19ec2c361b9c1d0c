// Package enroll gives identities to agents and judges them: join tokens, the
// certificate authority, the certificates it issued, and who is let in.
//
//	CreateToken ─► bud1.… ─► agent ─► Enroll ─► certificate, generation 1
//	                                     │
//	      Admit (each connection) ◄──────┤
//	      Renew (at 2/3 of its life) ────┴─► certificate, generation n+1
//
// The tables are authoritative: a certificate that is not in them is refused,
// whoever signed it. A certificate counts once its holder has come with it.
// Until then the one before stays good, however many answers were lost on the
// way, so that no agent locks itself out by a bad line; after that, of the
// older ones only the latest is let in, since a second replica of the agent may
// still hold it.
//
// A failed attempt uses nothing up: token, cluster and certificate change in
// one transaction. The same key that comes again with a token that it has used
// gets its certificate again, since the first answer may have been lost.
package enroll

import (
	"time"

	"github.com/google/uuid"
)

// Token is a join token without its secret.
type Token struct {
	ID         string
	ClusterID  uuid.UUID
	Uses, Used int
	CreatedAt  time.Time
	CreatedBy  string
	ExpiresAt  time.Time
	LastUsedAt *time.Time
	RevokedAt  *time.Time
}

// TokenState sums up what a token is still good for.
type TokenState string

// The states of a token.
const (
	TokenValid     TokenState = "Valid"
	TokenStateUsed TokenState = "Used"
	TokenEnded     TokenState = "Expired"
	TokenWithdrawn TokenState = "Revoked"
)

// State says what t is good for at now.
func (t Token) State(now time.Time) TokenState {
	switch {
	case t.RevokedAt != nil:
		return TokenWithdrawn
	case t.Used >= t.Uses:
		return TokenStateUsed
	case !now.Before(t.ExpiresAt):
		return TokenEnded
	default:
		return TokenValid
	}
}

// TokenOptions says how long and how often a token may be used. Zero values
// mean the defaults.
type TokenOptions struct {
	TTL  time.Duration
	Uses int
}

// Request is an agent's wish to join.
type Request struct {
	Token        string
	CSR          []byte
	ClusterUID   string
	AgentVersion string
	RemoteAddr   string
}

// Identity is an issued certificate and what it is good for.
type Identity struct {
	CertificatePEM []byte
	BundlePEM      []byte
	ClusterID      uuid.UUID
	ClusterName    string
	NotAfter       time.Time
	// RenewAfter is when two thirds of the lifetime have passed.
	RenewAfter time.Time
	Generation int64
}

// Certificate is one that was issued.
type Certificate struct {
	// Serial is in lower-case hex.
	Serial     string
	ClusterID  uuid.UUID
	Generation int64
	// SPKIHash is the SHA-256 of the subject public key info.
	SPKIHash    [32]byte
	NotBefore   time.Time
	NotAfter    time.Time
	IssuedAt    time.Time
	TokenID     string // empty for a renewal
	ConfirmedAt *time.Time
	RevokedAt   *time.Time
}

// Member is what enrollment knows of a cluster.
type Member struct {
	ID        uuid.UUID
	Name      string
	UID       string
	JoinedAt  *time.Time
	RevokedAt *time.Time
	// RetiredAt is set once it left the fleet, GoneAt once its agent removed
	// what was ours.
	RetiredAt, GoneAt *time.Time
}
