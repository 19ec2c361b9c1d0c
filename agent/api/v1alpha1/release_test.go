package v1alpha1_test

import (
	"encoding/json"
	"reflect"
	"sort"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/budecosystem/budcluster/agent/api/v1alpha1"
)

func definition(t *testing.T) *apiextensionsv1.CustomResourceDefinition {
	t.Helper()
	var crd apiextensionsv1.CustomResourceDefinition
	require.NoError(t, yaml.UnmarshalStrict(v1alpha1.CRD(), &crd))
	require.Len(t, crd.Spec.Versions, 1)
	return &crd
}

func TestDefinitionNames(t *testing.T) {
	t.Parallel()
	crd := definition(t)
	gvr := v1alpha1.GroupVersionResource()
	require.Equal(t, v1alpha1.CRDName, crd.Name)
	require.Equal(t, gvr.Group, crd.Spec.Group)
	require.Equal(t, gvr.Resource, crd.Spec.Names.Plural)
	require.Equal(t, gvr.Version, crd.Spec.Versions[0].Name)
	require.Equal(t, v1alpha1.Kind, crd.Spec.Names.Kind)
	require.NotNil(t, crd.Spec.Versions[0].Subresources.Status)
}

func TestColumnsPeopleSee(t *testing.T) {
	t.Parallel()
	var names []string
	for _, c := range definition(t).Spec.Versions[0].AdditionalPrinterColumns {
		if c.Priority == 0 {
			names = append(names, c.Name)
		}
	}
	require.Equal(t, []string{"Phase", "Version", "Ready", "Age", "Message"}, names)
}

// TestSchemaAndTypesAgree walks the Go types and the schema side by side:
// a field that only one of them has would be dropped by the API server, or
// never be read.
func TestSchemaAndTypesAgree(t *testing.T) {
	t.Parallel()
	schema := definition(t).Spec.Versions[0].Schema.OpenAPIV3Schema
	agree(t, "spec", reflect.TypeFor[v1alpha1.ReleaseSpec](), schema.Properties["spec"])
	agree(t, "status", reflect.TypeFor[v1alpha1.ReleaseStatus](), schema.Properties["status"])
}

func agree(t *testing.T, path string, typ reflect.Type, schema apiextensionsv1.JSONSchemaProps) {
	t.Helper()
	switch {
	case typ == reflect.TypeFor[json.RawMessage]():
		require.NotNil(t, schema.XPreserveUnknownFields, path)
	case typ == reflect.TypeFor[metav1.Time]():
		require.Equal(t, "date-time", schema.Format, path)
	case typ.Kind() == reflect.Pointer:
		agree(t, path, typ.Elem(), schema)
	case typ.Kind() == reflect.Struct:
		require.Equal(t, "object", schema.Type, path)
		agreeFields(t, path, typ, schema)
	case typ.Kind() == reflect.Slice:
		require.Equal(t, "array", schema.Type, path)
		agree(t, path+"[]", typ.Elem(), *schema.Items.Schema)
	case typ.Kind() == reflect.Map:
		require.Equal(t, "object", schema.Type, path)
		agree(t, path+"{}", typ.Elem(), *schema.AdditionalProperties.Schema)
	case typ.Kind() == reflect.Bool:
		require.Equal(t, "boolean", schema.Type, path)
	case typ.Kind() == reflect.Int, typ.Kind() == reflect.Int64:
		require.Equal(t, "integer", schema.Type, path)
	case typ.Kind() == reflect.String:
		require.Equal(t, "string", schema.Type, path)
	default:
		t.Fatalf("%s: no rule for %s", path, typ)
	}
}

func agreeFields(t *testing.T, path string, typ reflect.Type, schema apiextensionsv1.JSONSchemaProps) {
	t.Helper()
	var inType, inSchema []string
	for field := range typ.Fields() {
		name, opts, _ := strings.Cut(field.Tag.Get("json"), ",")
		require.NotEmpty(t, name, "%s.%s has no json name", path, field.Name)
		inType = append(inType, name)
		required := !strings.Contains(opts, "omit")
		for _, r := range schema.Required {
			if r == name {
				require.True(t, required, "%s.%s is required by the schema, but may be omitted by the type", path, name)
			}
		}
		if prop, ok := schema.Properties[name]; ok {
			agree(t, path+"."+name, field.Type, prop)
		}
	}
	for name := range schema.Properties {
		inSchema = append(inSchema, name)
	}
	sort.Strings(inType)
	sort.Strings(inSchema)
	require.Equal(t, inType, inSchema, path)
}
