package component

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// merge lays over over base and returns a new value: objects key by key, lists
// of named objects by name, everything else replaced. null stays.
func merge(base, over any) any {
	switch above := over.(type) {
	case map[string]any:
		below, ok := base.(map[string]any)
		if !ok {
			return clone(over)
		}
		out := make(map[string]any, len(below)+len(above))
		for key, value := range below {
			out[key] = clone(value)
		}
		for key, value := range above {
			out[key] = merge(below[key], value)
		}
		return out
	case []any:
		below, ok := base.([]any)
		if !ok || !named(below) || !named(above) {
			return clone(over)
		}
		return mergeNamed(below, above)
	default:
		return over
	}
}

// named: every element is an object with a name of its own.
func named(list []any) bool {
	seen := map[string]bool{}
	for _, element := range list {
		object, _ := element.(map[string]any)
		name, ok := object["name"].(string)
		if !ok || seen[name] {
			return false
		}
		seen[name] = true
	}
	return len(list) > 0
}

func mergeNamed(below, above []any) []any {
	out := clone(below).([]any) //nolint:forcetypeassert // clone keeps the type
	for _, element := range above {
		name := nameOf(element)
		at := slices.IndexFunc(out, func(e any) bool { return nameOf(e) == name })
		if at < 0 {
			out = append(out, clone(element))
			continue
		}
		out[at] = merge(out[at], element)
	}
	return out
}

func nameOf(element any) any {
	object, _ := element.(map[string]any)
	return object["name"]
}

func clone(value any) any {
	switch v := value.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for key, inner := range v {
			out[key] = clone(inner)
		}
		return out
	case []any:
		out := make([]any, 0, len(v))
		for _, inner := range v {
			out = append(out, clone(inner))
		}
		return out
	default:
		return value
	}
}

// mergeValues merges values over values; nil is the empty object.
func mergeValues(base, over map[string]any) map[string]any {
	if base == nil {
		base = map[string]any{}
	}
	if over == nil {
		over = map[string]any{}
	}
	return merge(base, over).(map[string]any) //nolint:forcetypeassert // two objects give one
}

// placeholder is what values may say of the cluster that they are for. Charts
// use {{…}} and shells $X, so this is neither.
var placeholder = regexp.MustCompile(`\$\{cluster\.[^}]*\}?`)

// placeholders lists those that are known.
func placeholders() []string { return []string{"${cluster.id}", "${cluster.name}", "${cluster.uid}"} }

// substitute fills the placeholders of all strings below value.
func substitute(value any, with map[string]string) any {
	switch v := value.(type) {
	case string:
		return placeholder.ReplaceAllStringFunc(v, func(p string) string { return with[p] })
	case map[string]any:
		out := make(map[string]any, len(v))
		for key, inner := range v {
			out[key] = substitute(inner, with)
		}
		return out
	case []any:
		out := make([]any, 0, len(v))
		for _, inner := range v {
			out = append(out, substitute(inner, with))
		}
		return out
	default:
		return value
	}
}

// checkPlaceholders refuses those that are not known, wherever they are.
func checkPlaceholders(value any) error {
	switch v := value.(type) {
	case string:
		for _, p := range placeholder.FindAllString(v, -1) {
			if !slices.Contains(placeholders(), p) {
				return fmt.Errorf("%s is not known; use one of %s", clip(p), strings.Join(placeholders(), ", "))
			}
		}
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			if err := checkPlaceholders(v[key]); err != nil {
				return fmt.Errorf("%s: %w", clip(key), err)
			}
		}
	case []any:
		for _, inner := range v {
			if err := checkPlaceholders(inner); err != nil {
				return err
			}
		}
	}
	return nil
}

// encode writes JSON with keys in order and without HTML escapes, so that the
// same values are the same bytes.
func encode(v any) (json.RawMessage, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimRight(out.Bytes(), "\n"), nil
}

func clip(s string) string {
	const most = 80
	if runes := []rune(s); len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return s
}
