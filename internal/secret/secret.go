// Package secret keeps secrets from showing: String is a secret in memory that
// prints as [redacted] wherever it goes, and Keyring seals what is stored.
package secret

import (
	"crypto/subtle"
	"fmt"
	"io"
	"log/slog"
)

const redacted = "[redacted]"

// String is a secret text. Every way to print, log or encode it gives
// [redacted], or nothing if it is empty; Reveal is the only way to the value.
type String struct{ value string }

// New wraps a secret.
func New(value string) String { return String{value} }

// Reveal gives the secret itself.
func (s String) Reveal() string { return s.value }

// IsZero reports whether there is no secret.
func (s String) IsZero() bool { return s.value == "" }

// Equal compares in constant time.
func (s String) Equal(other String) bool {
	return subtle.ConstantTimeCompare([]byte(s.value), []byte(other.value)) == 1
}

// String hides the secret.
func (s String) String() string {
	if s.value == "" {
		return ""
	}
	return redacted
}

// GoString hides the secret from %#v.
func (s String) GoString() string { return "secret.String(" + s.String() + ")" }

// Format hides the secret from every verb.
func (s String) Format(f fmt.State, verb rune) {
	text := s.String()
	if verb == 'v' && f.Flag('#') {
		text = s.GoString()
	}
	_, _ = io.WriteString(f, text) // fmt gives a Formatter no way to report
}

// LogValue hides the secret from slog.
func (s String) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText hides the secret from encoders, as values and as map keys.
func (s String) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// MarshalJSON hides the secret.
func (s String) MarshalJSON() ([]byte, error) { return []byte(`"` + s.String() + `"`), nil }

// UnmarshalText takes a secret in.
func (s *String) UnmarshalText(text []byte) error {
	s.value = string(text)
	return nil
}
