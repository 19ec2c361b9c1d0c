package component_test

import (
	"bytes"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"github.com/budecosystem/budcluster/hub/internal/component"
	"github.com/budecosystem/budcluster/internal/facts"
	"github.com/budecosystem/budcluster/internal/testutil"
)

const schemaFile = "catalogue.schema.json"

// TestSchemaIsTheTypes: the schema is made of the types and of what their
// comments say, so that an editor knows the fields of an entry.
func TestSchemaIsTheTypes(t *testing.T) {
	t.Parallel()
	m := schemaMaker{docs: map[string]string{}, defs: map[string]any{}}
	for _, file := range []string{"component.go", "condition.go", "../../../internal/facts/probe.go"} {
		m.read(t, file)
	}
	root := m.schema(reflect.TypeFor[component.Component]())
	out := map[string]any{
		"$schema":     "https://json-schema.org/draft/2020-12/schema",
		"title":       "An entry of BudCluster's catalogue of components",
		"description": "In the hub's folder of components an entry may be a part of one: it is laid over the entry of the same name, and null takes a field away. What is missing from the whole is told when the hub starts.",
		"$ref":        root["$ref"],
		"required":    []string{"name"},
		"$defs":       m.defs,
	}
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	require.NoError(t, enc.Encode(out))
	if testutil.Updating() {
		require.NoError(t, os.WriteFile(schemaFile, text.Bytes(), 0o644))
	}
	have, err := os.ReadFile(schemaFile)
	require.NoError(t, err)
	require.Equal(t, text.String(), string(have), "differs from %s; if that is right, run the test with -update", schemaFile)
}

// TestSchemaAndDecoderAgree: every entry of the catalogue is valid, and what
// the decoder refuses for its form the schema refuses too.
func TestSchemaAndDecoderAgree(t *testing.T) {
	t.Parallel()
	schema, err := jsonschema.NewCompiler().Compile(schemaFile)
	require.NoError(t, err)
	validate := func(text []byte) error {
		raw, err := yaml.YAMLToJSON(text)
		require.NoError(t, err)
		value, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
		require.NoError(t, err)
		return schema.Validate(value)
	}
	files, err := filepath.Glob("catalogue/*.yaml")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		require.NoError(t, validate(text), file)
	}
	for name, text := range map[string]string{
		"part of an entry": "name: nfd\nchart: {digest: sha256:x, unverified: null}\nvalues: {anything: [1, {goes: here}]}",
		"seconds":          "name: nfd\ntimeout: 90",
	} {
		require.NoError(t, validate([]byte(text)), name)
	}
	for name, text := range map[string]string{
		"unknown key":       "name: nfd\nchart: {digset: x}",
		"unknown top level": "name: nfd\nvaluess: {}",
		"unknown in a list": "name: nfd\npresence: [{nam: worker}]",
		"no name":           "title: x",
		"wrong type":        "name: nfd\nrequires: hami",
		"boolean for text":  "name: nfd\nwanted: yes",
		"unknown default":   "name: nfd\nwanted: sometimes",
		"unknown platform":  "name: nfd\nblocked: [{when: {platform: [windows]}, remedy: x}]",
		"unknown setting":   "name: nfd\nsettings: {NFD_X: colour}",
	} {
		require.Error(t, validate([]byte(text)), name)
		_, err := component.Load(overlay(map[string]string{"nfd.yaml": text}))
		require.Error(t, err, name)
	}
}

// schemaMaker makes a schema of Go types.
type schemaMaker struct {
	docs map[string]string // by Type and Type.Field
	defs map[string]any
}

// read takes the comments of a file's types.
func (m schemaMaker) read(t *testing.T, file string) {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
	require.NoError(t, err)
	for _, decl := range parsed.Decls {
		gen, ok := decl.(*ast.GenDecl)
		if !ok || gen.Tok != token.TYPE {
			continue
		}
		for _, spec := range gen.Specs {
			named := spec.(*ast.TypeSpec)
			m.docs[named.Name.Name] = sentence(gen.Doc)
			fields, ok := named.Type.(*ast.StructType)
			if !ok {
				continue
			}
			for _, field := range fields.Fields.List {
				for _, name := range field.Names {
					m.docs[named.Name.Name+"."+name.Name] = sentence(field.Doc)
				}
			}
		}
	}
}

func sentence(doc *ast.CommentGroup) string { return strings.Join(strings.Fields(doc.Text()), " ") }

func (m schemaMaker) schema(t reflect.Type) map[string]any {
	switch t {
	case reflect.TypeFor[component.Duration]():
		return map[string]any{"type": []string{"string", "integer"}, "description": m.docs["Duration"]}
	case reflect.TypeFor[component.Default]():
		return enum(component.Defaults())
	case reflect.TypeFor[component.SettingField]():
		return enum([]component.SettingField{component.SettingNamespace, component.SettingTimeout, component.SettingFeatures})
	case reflect.TypeFor[facts.Platform]():
		return enum([]facts.Platform{facts.PlatformKubernetes, facts.PlatformOpenShift})
	case reflect.TypeFor[facts.Kind]():
		return enum([]facts.Kind{facts.KindCUDA, facts.KindROCm, facts.KindHPU, facts.KindCPU})
	}
	switch t.Kind() {
	case reflect.Pointer:
		return m.schema(t.Elem())
	case reflect.String:
		return map[string]any{"type": "string"}
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Slice:
		return map[string]any{"type": "array", "items": m.schema(t.Elem())}
	case reflect.Map:
		if t.Elem().Kind() == reflect.Interface {
			return map[string]any{"type": "object"}
		}
		return map[string]any{"type": "object", "additionalProperties": orNull(m.schema(t.Elem()))}
	case reflect.Struct:
		return m.object(t)
	default:
		panic("no schema for " + t.String())
	}
}

func enum[T ~string](values []T) map[string]any {
	return map[string]any{"type": "string", "enum": values}
}

// orNull lets an overlay take a field away.
func orNull(schema map[string]any) map[string]any {
	return map[string]any{"anyOf": []any{schema, map[string]any{"type": "null"}}}
}

func (m schemaMaker) object(t reflect.Type) map[string]any {
	ref := map[string]any{"$ref": "#/$defs/" + t.Name()}
	if _, done := m.defs[t.Name()]; done {
		return ref
	}
	properties := map[string]any{}
	def := map[string]any{"type": "object", "additionalProperties": false, "properties": properties}
	if doc := m.docs[t.Name()]; doc != "" {
		def["description"] = doc
	}
	m.defs[t.Name()] = def
	m.fields(t, properties)
	return ref
}

func (m schemaMaker) fields(t reflect.Type, properties map[string]any) {
	for field := range t.Fields() {
		if field.Anonymous {
			m.fields(field.Type, properties)
			continue
		}
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		property := orNull(m.schema(field.Type))
		if doc := m.docs[t.Name()+"."+field.Name]; doc != "" {
			property["description"] = doc
		}
		properties[name] = property
	}
}
