package component

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"

	"sigs.k8s.io/yaml"
)

// maxFile is more than any entry needs, and maxDepth deeper.
const (
	maxFile  = 256 << 10
	maxDepth = 64
)

// document is an entry as it was written, before defaults and checks: what
// overlays are merged on.
type document map[string]any

// decodeDocument reads one file. Keys that are written twice, or that no entry
// has, are errors.
func decodeDocument(data []byte) (document, error) {
	if len(data) > maxFile {
		return nil, fmt.Errorf("it is %d bytes; keep an entry to %d", len(data), maxFile)
	}
	if !utf8.Valid(data) {
		return nil, errors.New("it is not valid UTF-8")
	}
	if severalDocuments(data) {
		return nil, errors.New("it holds more than one document; write one entry into each file")
	}
	raw, err := yaml.YAMLToJSONStrict(data)
	if err != nil {
		return nil, fmt.Errorf("it is not valid YAML (%s)", clip(oneLine(err)))
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var value any
	if err := dec.Decode(&value); err != nil {
		return nil, fmt.Errorf("it is not valid YAML (%s)", clip(oneLine(err)))
	}
	doc, ok := value.(map[string]any)
	if !ok {
		return nil, errors.New("it is not an object; begin with name: and the entry's name")
	}
	if deeper(doc, maxDepth) {
		return nil, fmt.Errorf("it is nested deeper than %d levels", maxDepth)
	}
	return doc, unknownKeys(doc, reflect.TypeFor[Component](), "")
}

// severalDocuments: a separator follows what is no comment. The reader of YAML
// would take the first document and say nothing of the others.
func severalDocuments(data []byte) bool {
	begun := false
	for line := range bytes.Lines(data) {
		line = bytes.TrimRight(line, " \t\r\n")
		switch {
		case begun && (bytes.Equal(line, []byte("---")) || bytes.HasPrefix(line, []byte("--- ")) || bytes.Equal(line, []byte("..."))):
			return true
		case len(line) > 0 && line[0] != '#' && !bytes.Equal(line, []byte("---")):
			begun = true
		}
	}
	return false
}

func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

func deeper(value any, levels int) bool {
	if levels == 0 {
		return true
	}
	switch v := value.(type) {
	case map[string]any:
		for _, inner := range v {
			if deeper(inner, levels-1) {
				return true
			}
		}
	case []any:
		for _, inner := range v {
			if deeper(inner, levels-1) {
				return true
			}
		}
	}
	return false
}

// component turns a document into an entry, without judging it.
func (d document) component() (*Component, error) {
	raw, err := json.Marshal(map[string]any(d))
	if err != nil {
		return nil, fmt.Errorf("it cannot be read (%s)", clip(oneLine(err)))
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	dec.DisallowUnknownFields()
	var c Component
	if err := dec.Decode(&c); err != nil {
		if typed := new(json.UnmarshalTypeError); errors.As(err, &typed) {
			return nil, fmt.Errorf("%s: it is a %s where %s is needed", clip(typed.Field), typed.Value, kindName(typed.Type))
		}
		return nil, errors.New(clip(oneLine(err)))
	}
	return &c, nil
}

func kindName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Slice:
		return "a list"
	case reflect.Map, reflect.Struct, reflect.Pointer:
		return "an object"
	case reflect.Bool:
		return "true or false"
	default:
		return "a text"
	}
}

// unknownKeys names every key below value that t has no field for, as one
// error.
func unknownKeys(value any, t reflect.Type, path string) error {
	switch t.Kind() {
	case reflect.Pointer:
		return unknownKeys(value, t.Elem(), path)
	case reflect.Slice:
		list, _ := value.([]any)
		var errs []error
		for i, element := range list {
			errs = append(errs, unknownKeys(element, t.Elem(), fmt.Sprintf("%s[%d]", path, i)))
		}
		return errors.Join(errs...)
	case reflect.Struct:
		object, _ := value.(map[string]any)
		known := fieldsOf(t)
		var errs []error
		for _, key := range slices.Sorted(maps.Keys(object)) {
			at := strings.TrimPrefix(path+"."+clip(key), ".")
			field, ok := known[key]
			if !ok {
				errs = append(errs, fmt.Errorf("%s: it is not known; known here are %s", at, strings.Join(slices.Sorted(maps.Keys(known)), ", ")))
				continue
			}
			errs = append(errs, unknownKeys(object[key], field, at))
		}
		return errors.Join(errs...)
	default:
		return nil
	}
}

// fieldsOf gives the types of a struct's fields by their names in JSON; those
// of embedded structs with them.
func fieldsOf(t reflect.Type) map[string]reflect.Type {
	fields := map[string]reflect.Type{}
	for field := range t.Fields() {
		if field.Anonymous {
			maps.Copy(fields, fieldsOf(field.Type))
			continue
		}
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		fields[name] = field.Type
	}
	return fields
}
