package release

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
)

// saltSize is that of the key under which secret values enter the digest.
const saltSize = 32

// sealing keeps a release's secret values: encrypted, together with the salt
// of their hash, and bound to the release's id, so that nobody with write
// access to the database can move them to another release.
type sealing struct{ Sealer }

func newSalt() []byte {
	salt := make([]byte, saltSize)
	_, _ = rand.Read(salt) // never fails: crypto/rand ends the program instead
	return salt
}

func (s sealing) close(r *Release, salt []byte) (Sealed, error) {
	stored := *r
	values := stored.Spec.SecretValues
	stored.Spec.SecretValues = nil
	if !hasSecret(values) {
		return Sealed{Release: &stored}, nil
	}
	secret, err := s.Seal(append(append([]byte{}, salt...), values...), associated(r))
	if err != nil {
		return Sealed{}, fmt.Errorf("seal secret values of release %s: %w", r.Name, err)
	}
	return Sealed{Release: &stored, Secret: secret}, nil
}

// open returns the salt and the secret values; a release without any gets a
// new salt and the empty object.
func (s sealing) open(r Sealed) (salt []byte, values json.RawMessage, err error) {
	if len(r.Secret) == 0 {
		return newSalt(), json.RawMessage("{}"), nil
	}
	plain, err := s.Unseal(r.Secret, associated(r.Release))
	if err != nil {
		return nil, nil, fmt.Errorf("open secret values of release %s (was the folder of crypto keys replaced?): %w", r.Name, err)
	}
	if len(plain) < saltSize {
		return nil, nil, errors.New("sealed secret values of release " + r.Name + " are too short")
	}
	return plain[:saltSize:saltSize], plain[saltSize:], nil
}

func associated(r *Release) []byte { return []byte("release/" + r.ID.String()) }
