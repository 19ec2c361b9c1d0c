package release

import (
	"encoding/json"
	"fmt"
	"unicode/utf8"
)

// Canonical is for the fuzz tests.
func Canonical(raw []byte) (json.RawMessage, error) { return canonical(raw) }

// DigestOf is the digest under a fixed salt, with a key that is equal exactly
// when the wish is.
func DigestOf(name, namespace string, values, secretValues []byte) (digest, key string, ok bool) {
	v, errV := canonical(values)
	s, errS := canonical(secretValues)
	if errV != nil || errS != nil || !utf8.ValidString(name) || !utf8.ValidString(namespace) {
		return "", "", false
	}
	r := &Release{Name: name, Namespace: namespace, Spec: Spec{Values: v, SecretValues: s}}
	digest, err := r.digest(make([]byte, saltSize))
	return digest, fmt.Sprintf("%q %q %s %s", name, namespace, v, s), err == nil
}
