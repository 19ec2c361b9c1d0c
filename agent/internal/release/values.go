package release

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	utiljson "k8s.io/apimachinery/pkg/util/json"
)

// mergeValues merges secret over plain, object by object, as Helm merges one
// -f file over another. Both may be empty.
func mergeValues(plain, secret json.RawMessage) (map[string]any, error) {
	out, err := object(plain)
	if err != nil {
		return nil, fmt.Errorf("values: %w", err)
	}
	over, err := object(secret)
	if err != nil {
		return nil, fmt.Errorf("secret values: %w", err)
	}
	overlay(out, over)
	return out, nil
}

// object reads a JSON object; whole numbers stay whole, as templates print
// 1e+06 for a million that is a float.
func object(raw json.RawMessage) (map[string]any, error) {
	out := map[string]any{}
	if len(raw) == 0 {
		return out, nil
	}
	var tree any
	if err := utiljson.Unmarshal(raw, &tree); err != nil {
		return nil, err
	}
	switch v := tree.(type) {
	case nil:
		return out, nil
	case map[string]any:
		return v, nil
	default:
		return nil, errors.New("not a JSON object")
	}
}

func overlay(base, over map[string]any) {
	for key, value := range over {
		below, ok := base[key].(map[string]any)
		above, isMap := value.(map[string]any)
		if ok && isMap {
			overlay(below, above)
			continue
		}
		base[key] = value
	}
}

// contentHash names what an operation applies: the same chart with the same
// values and the same mirrors gives the same objects. 32 hex digits fit into
// a label.
func contentHash(chart string, values map[string]any, mirrors map[string]string) (string, error) {
	raw, err := json.Marshal(struct {
		Chart   string            `json:"chart"`
		Values  map[string]any    `json:"values"`
		Mirrors map[string]string `json:"mirrors,omitempty"`
	}{chart, values, mirrors})
	if err != nil {
		return "", fmt.Errorf("hash values: %w", err)
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:16]), nil
}
