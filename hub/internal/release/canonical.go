package release

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"unicode/utf8"
)

// maxDepth bounds nested values. No chart comes near it, and everything that
// later walks the values does so by recursion.
const maxDepth = 64

// canonical returns the one form of a JSON object: keys in order, no spaces,
// numbers as they were written. Nothing at all is the empty object.
func canonical(raw json.RawMessage) (json.RawMessage, error) {
	if len(bytes.TrimSpace(raw)) == 0 || bytes.Equal(bytes.TrimSpace(raw), []byte("null")) {
		return json.RawMessage("{}"), nil
	}
	if !utf8.Valid(raw) {
		return nil, errors.New("it is not valid UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var value any
	if err := dec.Decode(&value); err != nil {
		return nil, fmt.Errorf("it is not valid JSON (%w)", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the JSON object")
	}
	object, ok := value.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("it is %s where an object is needed", kindOf(value))
	}
	if err := checkValue(object, "", 0); err != nil {
		return nil, err
	}
	return encode(object)
}

// encode writes JSON without HTML escapes and without a trailing newline.
func encode(v any) (json.RawMessage, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimRight(out.Bytes(), "\n"), nil
}

func kindOf(value any) string {
	switch value.(type) {
	case []any:
		return "an array"
	case string:
		return "a string"
	case json.Number:
		return "a number"
	case bool:
		return "a boolean"
	default:
		return "null"
	}
}

// checkValue refuses what Helm could not take.
func checkValue(value any, path string, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("it is nested deeper than %d levels", maxDepth)
	}
	switch v := value.(type) {
	case map[string]any:
		for key, inner := range v {
			if err := checkValue(inner, path+"."+key, depth+1); err != nil {
				return err
			}
		}
	case []any:
		for i, inner := range v {
			if err := checkValue(inner, path+"["+strconv.Itoa(i)+"]", depth+1); err != nil {
				return err
			}
		}
	case json.Number:
		if _, err := v.Float64(); err != nil {
			return fmt.Errorf("the number at %s is out of range", path)
		}
	}
	return nil
}

// digestForm is what a digest is taken over. Its fields may only be added to,
// with omitempty: a new field that changed every digest would make every
// release of every cluster look changed at once.
type digestForm struct {
	Name      string          `json:"name"`
	Namespace string          `json:"namespace"`
	Spec      json.RawMessage `json:"spec"`
	Secret    string          `json:"secret,omitempty"`
	Removed   bool            `json:"removed,omitempty"`
}

// digest is "sha256:" and hex over all that the agent is to make so. Secret
// values enter as a keyed hash: a digest is public, and a short password must
// not be found by trying. The salt stays with the sealed values.
func (r *Release) digest(salt []byte) (string, error) {
	spec, err := encode(r.Spec)
	if err != nil {
		return "", fmt.Errorf("encode spec of release %s: %w", r.Name, err)
	}
	form := digestForm{Name: r.Name, Namespace: r.Namespace, Spec: spec, Removed: r.RemovedAt != nil}
	if hasSecret(r.Spec.SecretValues) {
		mac := hmac.New(sha256.New, salt)
		mac.Write(r.Spec.SecretValues)
		form.Secret = hex.EncodeToString(mac.Sum(nil))
	}
	raw, err := encode(form)
	if err != nil {
		return "", fmt.Errorf("encode digest form of release %s: %w", r.Name, err)
	}
	sum := sha256.Sum256(raw)
	return "sha256:" + hex.EncodeToString(sum[:]), nil
}

func hasSecret(values json.RawMessage) bool {
	return len(values) > 0 && !bytes.Equal(values, []byte("{}"))
}
