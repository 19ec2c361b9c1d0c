// Package access decides who may: it makes API keys, keeps only their hashes,
// and tells from a presented key who is there and in which role.
package access

import (
	"encoding/base32"
	"strings"
	"time"
)

// Role is what a principal may do. Each role may do all that the one before
// it may.
type Role string

// The roles.
const (
	// RoleViewer reads.
	RoleViewer Role = "viewer"
	// RoleOperator also changes clusters and releases.
	RoleOperator Role = "operator"
	// RoleAdmin also makes and revokes API keys.
	RoleAdmin Role = "admin"
)

// Roles lists the roles, from the weakest.
func Roles() []Role { return []Role{RoleViewer, RoleOperator, RoleAdmin} }

// Allows reports whether a principal of role r may do what needs the other
// role. An unknown role allows nothing.
func (r Role) Allows(need Role) bool {
	return r.rank() > 0 && need.rank() > 0 && r.rank() >= need.rank()
}

func (r Role) rank() int {
	for i, known := range Roles() {
		if r == known {
			return i + 1
		}
	}
	return 0
}

// Key is an API key without its secret.
type Key struct {
	ID         string
	Name       string
	Role       Role
	CreatedAt  time.Time
	CreatedBy  string
	LastUsedAt *time.Time
	RevokedAt  *time.Time
}

// Principal is who made a request.
type Principal struct {
	Name string
	Role Role
}

// The form of a key: budk_<id>_<secret>, both lower-case base32, so that a
// double click selects all of it and a scanner can find it.
const (
	keyPrefix = "budk"
	idBytes   = 10
	keyBytes  = 32
)

func encodeKeyPart(raw []byte) string {
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(raw))
}

// splitKey takes a presented key apart without judging it further.
func splitKey(presented string) (id, secret string, ok bool) {
	if len(presented) > 128 {
		return "", "", false
	}
	parts := strings.Split(presented, "_")
	if len(parts) != 3 || parts[0] != keyPrefix || parts[1] == "" || parts[2] == "" {
		return "", "", false
	}
	for _, part := range parts[1:] {
		if strings.Trim(part, "abcdefghijklmnopqrstuvwxyz234567") != "" {
			return "", "", false
		}
	}
	return parts[1], parts[2], true
}
