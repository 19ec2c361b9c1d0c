package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

func loadFile(leaves []leaf, path string) error {
	if path == "" {
		return nil
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("configuration file %s does not exist; create it or name another", path)
	}
	if err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}
	return decodeYAML(leaves, path, data)
}

// decodeYAML fills leaves from a document. The document becomes JSON first, so
// that values have JSON's few types and a key given twice is noticed.
func decodeYAML(leaves []leaf, source string, data []byte) error {
	asJSON, err := yaml.YAMLToJSONStrict(data)
	if err != nil {
		return fmt.Errorf("%s: not valid YAML: %w", source, err)
	}
	dec := json.NewDecoder(bytes.NewReader(asJSON))
	dec.UseNumber()
	var doc any
	if err := dec.Decode(&doc); err != nil {
		return fmt.Errorf("%s: not valid YAML: %w", source, err)
	}
	root, ok := doc.(map[string]any)
	if doc != nil && !ok {
		return fmt.Errorf("%s: must be a mapping of keys to values, not %s", source, describe(doc))
	}
	var errs []error
	known := map[string]bool{"": true}
	for _, l := range leaves {
		for i := range l.path {
			known[strings.Join(l.path[:i], ".")] = true
		}
	}
	byKey := map[string]leaf{}
	for _, l := range leaves {
		byKey[l.key()] = l
	}
	var walk func(prefix string, m map[string]any)
	walk = func(prefix string, m map[string]any) {
		for _, name := range slices.Sorted(maps.Keys(m)) {
			key := name
			if prefix != "" {
				key = prefix + "." + name
			}
			if err := placeYAML(byKey, known, key, m[name], walk); err != nil {
				errs = append(errs, &Error{Source: source, Key: key, Reason: err.Error()})
			}
		}
	}
	walk("", root)
	return errors.Join(errs...)
}

func placeYAML(byKey map[string]leaf, known map[string]bool, key string, value any, walk func(string, map[string]any)) error {
	// Keys with dots can spell the path of another; no field has such a name.
	if l, ok := byKey[key]; ok {
		if value == nil {
			return nil // "key:" with nothing after it leaves the default
		}
		return l.setJSON(value)
	}
	if !known[key] {
		return errors.New("there is no such setting; " + nearest(key, slices.Sorted(maps.Keys(byKey))))
	}
	switch section := value.(type) {
	case nil:
		return nil
	case map[string]any:
		walk(key, section)
		return nil
	default:
		return fmt.Errorf("is a section of settings, not %s; put its settings below it", describe(value))
	}
}

func describe(v any) string {
	switch v := v.(type) {
	case nil:
		return "nothing"
	case bool:
		return fmt.Sprintf("the boolean %t", v)
	case json.Number:
		return "the number " + v.String()
	case string:
		return "a text"
	case []any:
		return "a list"
	case map[string]any:
		return "a mapping"
	default:
		return fmt.Sprintf("%T", v)
	}
}

// nearest names the key that was probably meant.
func nearest(key string, keys []string) string {
	best, distance := "", len(key)/2+1
	for _, k := range keys {
		if d := editDistance(strings.ToLower(key), strings.ToLower(k), distance); d < distance {
			best, distance = k, d
		}
	}
	if best == "" {
		return "remove it"
	}
	return fmt.Sprintf("did you mean %s?", best)
}

// editDistance is Levenshtein's, given up at limit.
func editDistance(a, b string, limit int) int {
	if len(a)-len(b) >= limit || len(b)-len(a) >= limit {
		return limit
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := diagonal
			if a[i-1] != b[j-1] {
				cost++
			}
			diagonal = row[j]
			row[j] = min(cost, row[j]+1, row[j-1]+1)
		}
	}
	return row[len(b)]
}
