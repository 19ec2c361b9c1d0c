package pki

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/budecosystem/budcluster/internal/id"
	"github.com/budecosystem/budcluster/internal/secret"
)

const (
	tokenPrefix  = "bud1"
	secretBytes  = 32
	maxTokenText = 256
)

// JoinToken lets one cluster enroll: who it is by ID, a secret of 256 bits,
// and the pin of the hub's authority, so that the first connection needs no
// other trust.
type JoinToken struct {
	ID     string
	Secret secret.String
	Pin    string
}

// NewJoinToken makes a token that is good for the authority with this pin.
func NewJoinToken(pin string) (JoinToken, error) {
	if err := checkPin(pin); err != nil {
		return JoinToken{}, err
	}
	random := make([]byte, secretBytes)
	_, _ = rand.Read(random) // never fails, by its contract
	return JoinToken{
		ID:     id.New().String(),
		Secret: secret.New(base64.RawURLEncoding.EncodeToString(random)),
		Pin:    pin,
	}, nil
}

// ParseJoinToken reads bud1.<id>.<secret>.<ca-pin>, with white space around
// it. Errors say which part is wrong, and never show the secret.
func ParseJoinToken(s string) (JoinToken, error) {
	s = strings.TrimSpace(s)
	if s == "" {
		return JoinToken{}, errors.New("join token is empty; make one with: budcluster cluster create NAME")
	}
	if strings.HasPrefix(s, "budk_") {
		return JoinToken{}, errors.New("this is an API key, not a join token, which would begin with bud1")
	}
	if len(s) > maxTokenText {
		return JoinToken{}, fmt.Errorf("join token has %d characters, which is too long; copy it again from the hub", len(s))
	}
	parts := strings.Split(s, ".")
	if parts[0] != tokenPrefix {
		return JoinToken{}, errors.New("join token does not begin with bud1.; copy it again from the hub, or upgrade the agent if the hub is newer")
	}
	if len(parts) != 4 {
		return JoinToken{}, fmt.Errorf("join token has %d parts where bud1.<id>.<secret>.<ca-pin> has 4; it was probably cut when it was copied", len(parts))
	}
	if _, err := id.Parse(parts[1]); err != nil {
		return JoinToken{}, errors.New("the id of the join token (its second part) is not a UUID; copy the token again from the hub")
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(parts[2])
	// The decoder skips line breaks; a token has one spelling.
	if err != nil || len(raw) != secretBytes || strings.ContainsAny(parts[2], "\r\n") {
		return JoinToken{}, errors.New("the secret of the join token (its third part) is not 43 characters of base64url; copy the token again from the hub")
	}
	if err := checkPin(parts[3]); err != nil {
		return JoinToken{}, fmt.Errorf("the end of the join token (its fourth part) is wrong: %w; it was probably cut when it was copied", err)
	}
	return JoinToken{ID: parts[1], Secret: secret.New(parts[2]), Pin: parts[3]}, nil
}

// Reveal is the token as an operator passes it on.
func (t JoinToken) Reveal() string {
	return strings.Join([]string{tokenPrefix, t.ID, t.Secret.Reveal(), t.Pin}, ".")
}

// Hash is what the hub stores of the secret.
func (t JoinToken) Hash() [sha256.Size]byte { return sha256.Sum256([]byte(t.Secret.Reveal())) }

func checkPin(pin string) error {
	raw, err := hex.DecodeString(pin)
	if err != nil || len(raw) != sha256.Size || hex.EncodeToString(raw) != pin {
		return fmt.Errorf("pin is not 64 lower-case hexadecimal digits")
	}
	return nil
}
