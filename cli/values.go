package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"strconv"
	"strings"

	"sigs.k8s.io/yaml"
)

// maxIndex bounds a list index, so that a typo does not ask for gigabytes.
const maxIndex = 1024

// values gathers a chart's values as helm does: files first, each over the one
// before, then the single settings.
type values struct {
	files   []string
	set     []string
	strings []string
	json    []string
}

// build makes one object of base and everything that was given.
func (v values) build(base map[string]any) (map[string]any, error) {
	out := merge(map[string]any{}, base)
	for _, name := range v.files {
		more, err := readValues(name)
		if err != nil {
			return nil, err
		}
		out = merge(out, more)
	}
	for _, kind := range []struct {
		flag     string
		settings []string
		parse    func(string) (any, error)
	}{
		{"--set-json", v.json, parseJSON}, {"--set", v.set, parseScalar}, {"--set-string", v.strings, parseString},
	} {
		for _, s := range kind.settings {
			if err := setAll(out, s, kind.flag != "--set-json", kind.parse); err != nil {
				return nil, usagef("%s %q: %w", kind.flag, clipped(s, 60), err)
			}
		}
	}
	return out, nil
}

func readValues(name string) (map[string]any, error) {
	raw, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("values %s: %w", name, reason(err))
	}
	var out map[string]any
	// Through JSON, so that numbers and keys are what the hub will see.
	if err := yaml.Unmarshal(raw, &out, yamlNumbers); err != nil {
		return nil, fmt.Errorf("values %s: it is not YAML with an object at its top; correct it (%s)", name, clipped(err.Error(), 160))
	}
	return out, nil
}

// yamlNumbers keeps large integers what they are.
func yamlNumbers(d *json.Decoder) *json.Decoder {
	d.UseNumber()
	return d
}

// merge lays b over a, objects member by member; null takes a member away, as
// in helm.
func merge(a, b map[string]any) map[string]any {
	out := maps.Clone(a)
	if out == nil {
		out = map[string]any{}
	}
	for k, v := range b {
		over, isObject := v.(map[string]any)
		under, wasObject := out[k].(map[string]any)
		if isObject && wasObject {
			out[k] = merge(under, over)
			continue
		}
		out[k] = v
	}
	return out
}

// setAll reads a.b[0].c=value, several separated by commas if split is set.
func setAll(to map[string]any, s string, split bool, parse func(string) (any, error)) error {
	parts := []string{s}
	if split {
		parts = cutUnescaped(s, ',')
	}
	for _, part := range parts {
		path, value, ok := cutOnce(part, '=')
		if !ok || path == "" {
			return errors.New("it is not of the form key=value")
		}
		keys, err := parsePath(path)
		if err != nil {
			return err
		}
		v, err := parse(value)
		if err != nil {
			return err
		}
		if err := assign(to, keys, v); err != nil {
			return err
		}
	}
	return nil
}

// cutUnescaped splits at sep outside of braces, and where no backslash stands
// before it.
func cutUnescaped(s string, sep byte) []string {
	var out []string
	depth, start := 0, 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '{':
			depth++
		case '}':
			depth--
		case sep:
			if depth <= 0 {
				out, start = append(out, s[start:i]), i+1
			}
		}
	}
	return append(out, s[start:])
}

func cutOnce(s string, sep byte) (before, after string, ok bool) {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case sep:
			return s[:i], s[i+1:], true
		}
	}
	return s, "", false
}

// step is one step of a path: a member's name, or an index.
type step struct {
	name  string
	index int // -1 for a name
}

func parsePath(path string) ([]step, error) {
	var out []step
	for _, part := range cutUnescaped(path, '.') {
		name, rest, indexed := cutOnce(part, '[')
		if name == "" {
			return nil, fmt.Errorf("the key %q has an empty part", path)
		}
		out = append(out, step{name: unescape(name), index: -1})
		for indexed {
			var digits string
			var closed bool
			if digits, rest, closed = strings.Cut(rest, "]"); !closed {
				return nil, fmt.Errorf("the key %q has a [ without its ]", path)
			}
			n, err := strconv.Atoi(digits)
			if err != nil || n < 0 || n > maxIndex {
				return nil, fmt.Errorf("the key %q has an index that is not a number from 0 to %d", path, maxIndex)
			}
			out = append(out, step{index: n})
			if rest == "" {
				break
			}
			if rest, indexed = strings.CutPrefix(rest, "["); !indexed {
				return nil, fmt.Errorf("the key %q goes on after a ] without a dot", path)
			}
		}
	}
	return out, nil
}

func unescape(s string) string {
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		out.WriteByte(s[i])
	}
	return out.String()
}

func assign(to map[string]any, path []step, v any) error {
	rest := path[1:]
	if len(rest) == 0 {
		to[path[0].name] = v
		return nil
	}
	next, err := descend(to[path[0].name], rest, v)
	if err != nil {
		return fmt.Errorf("%s: %w", path[0].name, err)
	}
	to[path[0].name] = next
	return nil
}

// descend gives what stands at a place after v was put in below it.
func descend(have any, path []step, v any) (any, error) {
	if path[0].index < 0 {
		object, ok := have.(map[string]any)
		if !ok && have != nil {
			return nil, fmt.Errorf("it is not an object, so it has no %q", path[0].name)
		}
		object = maps.Clone(object)
		if object == nil {
			object = map[string]any{}
		}
		return object, assign(object, path, v)
	}
	array, ok := have.([]any)
	if !ok && have != nil {
		return nil, fmt.Errorf("it is not a list, so it has no [%d]", path[0].index)
	}
	array = append([]any(nil), array...)
	for len(array) <= path[0].index {
		array = append(array, nil)
	}
	if len(path) == 1 {
		array[path[0].index] = v
		return array, nil
	}
	next, err := descend(array[path[0].index], path[1:], v)
	array[path[0].index] = next
	return array, err
}

// parseScalar reads a value as helm's --set does.
func parseScalar(s string) (any, error) {
	if inner, ok := strings.CutPrefix(s, "{"); ok {
		inner, closed := strings.CutSuffix(inner, "}")
		if !closed {
			return nil, fmt.Errorf("the list %q has no }", s)
		}
		out := []any{}
		if inner == "" {
			return out, nil
		}
		for _, part := range cutUnescaped(inner, ',') {
			v, err := parseScalar(strings.TrimSpace(part))
			if err != nil {
				return nil, err
			}
			out = append(out, v)
		}
		return out, nil
	}
	switch {
	case strings.EqualFold(s, "true"):
		return true, nil
	case strings.EqualFold(s, "false"):
		return false, nil
	case s == "null":
		return nil, nil
	}
	// 010 is text in helm, too: a leading zero is no number.
	if n, err := strconv.ParseInt(s, 10, 64); err == nil && strconv.FormatInt(n, 10) == s {
		return n, nil
	}
	return unescape(s), nil
}

func parseString(s string) (any, error) { return unescape(s), nil }

func parseJSON(s string) (any, error) {
	var v any
	d := json.NewDecoder(strings.NewReader(s))
	d.UseNumber()
	if err := d.Decode(&v); err != nil || d.More() {
		return nil, errors.New("the value is not JSON")
	}
	return v, nil
}
