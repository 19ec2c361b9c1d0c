// Package id makes and reads the identifiers of everything that is stored:
// UUIDs of version 7, which sort by the time they were made.
package id

import (
	"fmt"

	"github.com/google/uuid"
)

// New makes an identifier. It panics only if the machine has no randomness,
// when nothing safe can be done.
func New() uuid.UUID { return uuid.Must(uuid.NewV7()) }

// Parse reads the canonical 36-character form and no other: what has one
// spelling can be compared as text.
func Parse(s string) (uuid.UUID, error) {
	u, err := uuid.Parse(s)
	if err != nil || u.String() != s {
		return uuid.Nil, fmt.Errorf("id %q is not a UUID in its lower-case form of 36 characters", truncate(s))
	}
	return u, nil
}

func truncate(s string) string {
	const enough = 64
	if len(s) > enough {
		return s[:enough] + "…"
	}
	return s
}
