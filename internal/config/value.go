package config

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/budecosystem/budcluster/internal/secret"
)

func isLeaf(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.String, reflect.Bool, reflect.Int, reflect.Int64, reflect.Float64:
		return true
	case reflect.Slice:
		return t.Elem().Kind() == reflect.String
	case reflect.Map:
		return t.Key().Kind() == reflect.String && t.Elem().Kind() == reflect.String
	default:
		return t == reflect.TypeFor[secret.String]()
	}
}

func isDuration(t reflect.Type) bool { return t == reflect.TypeFor[time.Duration]() }
func isSecret(t reflect.Type) bool   { return t == reflect.TypeFor[secret.String]() }

// typeName is what --help calls the type.
func typeName(t reflect.Type) string {
	switch {
	case isDuration(t):
		return "duration"
	case t.Kind() == reflect.Slice:
		return "strings"
	case t.Kind() == reflect.Map:
		return "key=value,..."
	case t.Kind() == reflect.Int64:
		return "int"
	case t.Kind() == reflect.Float64:
		return "float"
	default:
		return t.Kind().String()
	}
}

// setText sets the leaf from a variable or a flag.
func (l leaf) setText(text string) error { return setText(l.value, text) }

func setText(v reflect.Value, text string) error {
	t := v.Type()
	switch {
	case isSecret(t):
		v.Set(reflect.ValueOf(secret.New(text)))
		return nil
	case isDuration(t):
		d, err := time.ParseDuration(text)
		if err != nil {
			return fmt.Errorf("%q is not a duration; write a number and a unit, for example 10s, 5m or 24h", text)
		}
		v.SetInt(int64(d))
		return nil
	}
	switch t.Kind() {
	case reflect.Bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return fmt.Errorf("%q is not a boolean; write true or false", text)
		}
		v.SetBool(b)
	case reflect.Int, reflect.Int64:
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return fmt.Errorf("%q is not a whole number", text)
		}
		v.SetInt(n)
	case reflect.Float64:
		f, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return fmt.Errorf("%q is not a number", text)
		}
		v.SetFloat(f)
	case reflect.Slice:
		return setStrings(v, splitList(text))
	case reflect.Map:
		return setPairs(v, splitList(text))
	default:
		v.SetString(text)
	}
	return nil
}

func setStrings(v reflect.Value, items []string) error {
	out := reflect.MakeSlice(v.Type(), 0, len(items))
	for _, item := range items {
		out = reflect.Append(out, reflect.ValueOf(item).Convert(v.Type().Elem()))
	}
	v.Set(out)
	return nil
}

func setPairs(v reflect.Value, items []string) error {
	out := reflect.MakeMapWithSize(v.Type(), len(items))
	for _, item := range items {
		key, value, ok := strings.Cut(item, "=")
		if !ok || key == "" {
			return fmt.Errorf("%q is not of the form key=value", item)
		}
		out.SetMapIndex(reflect.ValueOf(key).Convert(v.Type().Key()), reflect.ValueOf(value).Convert(v.Type().Elem()))
	}
	v.Set(out)
	return nil
}

func splitList(text string) []string {
	var items []string
	for item := range strings.SplitSeq(text, ",") {
		if item = strings.TrimSpace(item); item != "" {
			items = append(items, item)
		}
	}
	return items
}

// setJSON sets the leaf from a decoded file. Types must agree, except that a
// text may hold any of the others (they come quoted from templates).
func (l leaf) setJSON(value any) error {
	t := l.value.Type()
	switch value := value.(type) {
	case string:
		if t.Kind() == reflect.Slice || t.Kind() == reflect.Map {
			return fmt.Errorf("must be %s, not a text", wanted(t))
		}
		return l.setText(value)
	case bool:
		if t.Kind() == reflect.Bool {
			l.value.SetBool(value)
			return nil
		}
	case json.Number:
		if isNumber(t) {
			return l.setText(value.String())
		}
	case []any:
		if t.Kind() == reflect.Slice {
			return l.setList(value)
		}
	case map[string]any:
		if t.Kind() == reflect.Map {
			return l.setMap(value)
		}
	}
	return fmt.Errorf("must be %s, not %s", wanted(t), describe(value))
}

func isNumber(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Int, reflect.Int64, reflect.Float64:
		return !isDuration(t)
	default:
		return false
	}
}

func (l leaf) setList(values []any) error {
	items := make([]string, len(values))
	for i, v := range values {
		item, ok := v.(string)
		if !ok {
			return fmt.Errorf("item %d must be a text, not %s; put it in quotes", i+1, describe(v))
		}
		items[i] = item
	}
	return setStrings(l.value, items)
}

func (l leaf) setMap(values map[string]any) error {
	t := l.value.Type()
	out := reflect.MakeMapWithSize(t, len(values))
	for key, v := range values {
		item, ok := v.(string)
		if !ok {
			return fmt.Errorf("the value of %q must be a text, not %s; put it in quotes", key, describe(v))
		}
		out.SetMapIndex(reflect.ValueOf(key).Convert(t.Key()), reflect.ValueOf(item).Convert(t.Elem()))
	}
	l.value.Set(out)
	return nil
}

func wanted(t reflect.Type) string {
	switch {
	case isDuration(t):
		return "a duration such as 10s"
	case t.Kind() == reflect.Bool:
		return "true or false"
	case t.Kind() == reflect.Slice:
		return "a list of texts"
	case t.Kind() == reflect.Map:
		return "a mapping of texts"
	case isNumber(t):
		return "a number"
	default:
		return "a text (put it in quotes)"
	}
}
