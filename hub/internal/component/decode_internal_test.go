package component

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzDecode reads one file by itself: FuzzLoad, which lays it over the whole
// catalogue, tries a thousandth as many.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		"name: x\ntitle: X\ndescription: Y\nwanted: always\nchart: {name: x, version: 1.0.0, unverified: z}\nrelease: x\nnamespace: x\ntimeout: 10m\n",
		"name: x\nwhen: {anyOf: [{node: {pci: {vendor: \"10de\", classes: [\"0300\"]}}}, {not: {there: nfd}}]}\n",
		"name: x\nready: [{output: {name: a, apiVersion: v1, kind: Pod, object: b, jsonPath: \"{.c}\", equals: d}, within: 30}]\n",
		"name: x\nremoval: {leftovers: [{apiVersion: v1, kind: Secret, namespace: \"${namespace}\", object: \"a*\"}], nodes: {labels: [\"a.b/*\"]}}\n",
		"name: x\nrbac: {why: z, rules: [{apiGroups: [\"\"], resources: [pods], verbs: [get]}]}\nvalues: {a: \"${cluster.id}\", b: [{name: c}]}\n",
		"--- # a\nname: x\n...\n---\nname: y\n",
		"a: &a [*a]\n", "a: !!binary eA==\n", "? [a]\n: b\n", "name: [", "\xff", "timeout: 1e999\n", "timeout: 99999999999999999999h\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		doc, err := decodeDocument(data)
		if err != nil {
			require.NotEmpty(t, err.Error())
			return
		}
		entry, err := doc.component()
		if err != nil {
			require.NotEmpty(t, err.Error())
			return
		}
		_ = entry.validate()
		// Laid over itself it is itself.
		again, err := document(mergeValues(doc, doc)).component()
		require.NoError(t, err)
		require.Equal(t, entry, again)
	})
}
