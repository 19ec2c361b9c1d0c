package component_test

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/charts"
	"github.com/budecosystem/budcluster/hub/internal/component"
	"github.com/budecosystem/budcluster/internal/chartfile"
	"github.com/budecosystem/budcluster/internal/testutil"
)

// TestCatalogue is what people see of the catalogue, in the order in which it
// is installed.
func TestCatalogue(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	for _, c := range catalogue(t).Components() {
		from := c.Chart.Repository + c.Chart.OCI
		if c.Chart.Builtin != "" {
			from = "this program"
		}
		if from == "" {
			from = "nowhere"
		}
		fmt.Fprintf(&out, "%s: %s\n  %s\n  wanted %s, required %t, %s in namespace %s, within %s\n  chart %s %s from %s\n",
			c.Name, c.Title, c.Description, c.Wanted, c.Required, c.Release, c.Namespace, time.Duration(c.Timeout), c.Chart.Name, c.Chart.Version, from)
		if c.Chart.Digest != "" {
			fmt.Fprintf(&out, "  %s\n", c.Chart.Digest)
		}
		if c.Chart.Unverified != "" {
			fmt.Fprintf(&out, "  not pinned: %s\n", c.Chart.Unverified)
		}
		if len(c.Requires)+len(c.After) > 0 {
			fmt.Fprintf(&out, "  requires %v, comes after %v\n", c.Requires, c.After)
		}
	}
	testutil.Golden(t, "catalogue", []byte(out.String()))
}

// TestBuiltinChartsAreThere: what the catalogue takes from this program is in
// it, in the version that it says.
func TestBuiltinChartsAreThere(t *testing.T) {
	t.Parallel()
	for _, c := range catalogue(t).Components() {
		if c.Chart.Builtin == "" {
			continue
		}
		folder, err := charts.Chart(c.Chart.Builtin)
		require.NoError(t, err)
		_, info, err := chartfile.Pack(folder)
		require.NoError(t, err)
		require.Equal(t, c.Chart.Name, info.Name)
		require.Equal(t, c.Chart.Version, info.Version)
	}
}

// TestEveryComponentCanBeSeen: without a decisive probe nothing would ever be
// adopted, and the second component would be installed over the first.
func TestEveryComponentCanBeSeen(t *testing.T) {
	t.Parallel()
	c := catalogue(t)
	require.LessOrEqual(t, len(c.Probes()), 128)
	for _, entry := range c.Components() {
		require.True(t, slices.ContainsFunc(entry.Presence, func(p component.Presence) bool { return p.Decisive }), entry.Name)
	}
	names := map[string]bool{}
	for _, p := range c.Probes() {
		require.False(t, names[p.Name], p.Name)
		names[p.Name] = true
	}
}

// TestDefinitionsAreLookedForBeforeTheyAreRemoved: a definition that a removal
// takes is one whose presence was asked before, or it might be somebody's.
func TestDefinitionsAreLookedForBeforeTheyAreRemoved(t *testing.T) {
	t.Parallel()
	for _, entry := range catalogue(t).Components() {
		for _, l := range entry.Leftovers(entry.Namespace, nil) {
			require.NotEqual(t, "CustomResourceDefinition", l.Kind, "%s removes %s though nobody has looked before", entry.Name, l.Object)
			require.NotEqual(t, "Namespace", l.Kind)
		}
	}
}

func TestSettings(t *testing.T) {
	t.Parallel()
	c := catalogue(t)
	require.Equal(t, []string{"NFD_DETECTION_TIMEOUT", "NFD_NAMESPACE"}, c.SettingNames())
	require.Equal(t, "node-feature-discovery", entry(t, c, "nfd").Namespace)
	require.Equal(t, component.Duration(30*time.Second), entry(t, c, "nfd").Ready[0].Within)

	changed, err := c.With(component.Settings{"NFD_NAMESPACE": "bud-system", "NFD_DETECTION_TIMEOUT": "90"})
	require.NoError(t, err)
	require.Equal(t, "bud-system", entry(t, changed, "nfd").Namespace)
	require.Equal(t, component.Duration(90*time.Second), entry(t, changed, "nfd").Ready[0].Within)
	require.Equal(t, "node-feature-discovery", entry(t, c, "nfd").Namespace, "a catalogue does not change")
	require.Equal(t, component.Duration(30*time.Second), entry(t, c, "nfd").Ready[0].Within)

	same, err := c.With(component.Settings{"NFD_NAMESPACE": "", "NFD_DETECTION_TIMEOUT": "1m30s"})
	require.NoError(t, err)
	require.Equal(t, "node-feature-discovery", entry(t, same, "nfd").Namespace)

	for settings, want := range map[string]string{
		"NFD_NAMESPACE=No Good":      `namespace: "No Good" is not a namespace`,
		"NFD_DETECTION_TIMEOUT=soon": `"soon" is not a duration`,
		"NFD_DETECTION_TIMEOUT=-1s":  `"-1s" is not a duration`,
		"NFD_DETECTION_TIMEOUT=0":    "within: it is missing",
		"HAMI_PORT=1":                "no component knows it; known are NFD_DETECTION_TIMEOUT, NFD_NAMESPACE",
	} {
		name, value, _ := strings.Cut(settings, "=")
		_, err := c.With(component.Settings{name: value})
		require.ErrorContains(t, err, want, settings)
		require.ErrorContains(t, err, name+": ")
	}
}

func overlay(files map[string]string) fstest.MapFS {
	out := fstest.MapFS{}
	for name, text := range files {
		out[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return out
}

// TestFolder: a hub's own folder changes entries and adds some.
func TestFolder(t *testing.T) {
	t.Parallel()
	c, err := component.Load(overlay(map[string]string{
		"hami.yaml": `
name: hami
chart:
  digest: sha256:` + strings.Repeat("a", 64) + `
  unverified: null
  repository: http://charts.site.example/hami
values:
  scheduler:
    kubeScheduler:
      image: {registry: registry.site.example}
  devicePlugin:
    tolerations: []
`,
		"site-agent.yaml": `
name: site-agent
title: Site agent
description: Something of the site's own.
wanted: onRequest
chart: {repository: "https://charts.site.example", name: site-agent, version: 1.2.3, unverified: it is ours}
release: site-agent
namespace: site
timeout: 5m
after: [nfd]
`,
		"README.md": "not an entry",
	}))
	require.NoError(t, err)
	hami := entry(t, c, "hami")
	require.Equal(t, "sha256:"+strings.Repeat("a", 64), hami.Chart.Digest)
	require.Empty(t, hami.Chart.Unverified)
	require.Equal(t, "2.10.0", hami.Chart.Version, "what is not said stays")
	image := hami.Values["scheduler"].(map[string]any)["kubeScheduler"].(map[string]any)["image"]
	require.Equal(t, map[string]any{"registry": "registry.site.example", "repository": "kube-scheduler"}, image, "objects are merged")
	require.Equal(t, []any{}, hami.Values["devicePlugin"].(map[string]any)["tolerations"], "lists are replaced")
	require.Equal(t, "site-agent", entry(t, c, "site-agent").Release)
	require.Len(t, c.Components(), len(catalogue(t).Components())+1)
}

// TestBadEntriesAreSentences is the list of what somebody sees who writes an
// entry.
func TestBadEntriesAreSentences(t *testing.T) {
	t.Parallel()
	cases := map[string]string{
		"unknown key":               "name: nfd\nchart: {digset: x}",
		"unknown top level":         "name: nfd\nvaluess: {}",
		"unknown in a list":         "name: nfd\npresence: [{nam: worker}]",
		"key twice":                 "name: nfd\nname: nfd",
		"not YAML":                  "name: [",
		"a list":                    "- name: nfd",
		"another name":              "name: hami",
		"no name":                   "title: x",
		"wrong type":                "name: nfd\nrequires: hami",
		"a boolean where text is":   "name: nfd\nwanted: yes",
		"unknown default":           "name: nfd\nwanted: sometimes",
		"auto without when":         "name: nfd\nwanted: auto",
		"when without auto":         "name: nfd\nwhen: {platform: [openshift]}",
		"two questions":             "name: hami\nwhen: {platform: [openshift], distribution: [k3s]}",
		"a regular expression":      "name: hami\nwhen: {anyOf: [{node: {pci: {vendor: \"^10de$\", vendorAlone: true}}}]}",
		"a condition of nothing":    "name: hami\nwhen: {anyOf: [{node: {pci: {vendor: \"10de\"}}}]}",
		"unknown platform":          "name: nfd\nblocked: [{when: {platform: [windows]}, remedy: x}]",
		"digest without algorithm":  "name: nfd\nchart: {digest: 9e93b360e6167b782759026de40ba9d68d44c3e8b0b53b735592ad48fd3339ad}",
		"no digest and no reason":   "name: nfd\nchart: {digest: \"\"}",
		"a chart in two places":     "name: nfd\nchart: {oci: \"oci://ghcr.io/x/nfd\"}",
		"a password in the URL":     "name: nfd\nchart: {repository: \"https://user:secret@charts.example.com\"}",
		"no timeout":                "name: nfd\ntimeout: 1s",
		"not a duration":            "name: nfd\ntimeout: soon",
		"unknown requirement":       "name: nfd\nrequires: [gpu]",
		"itself":                    "name: nfd\nafter: [nfd]",
		"a circle":                  "name: nfd\nafter: [hami]",
		"unknown in a variant":      "name: nfd\nvariants: [{name: x, when: {there: gpu}, values: {}}]",
		"there where it is not yet": "name: hami\nblocked: [{when: {there: nfd}, remedy: x}]",
		"unknown conflict":          "name: hami\nconflicts: [{with: nfd/nothing, remedy: x}]",
		"a probe for everything":    "name: nfd\npresence: [{name: all, apiVersion: apps/v1, kind: DaemonSet, object: \"*\"}]",
		"unknown placeholder":       "name: nfd\nvalues: {a: [{b: \"${cluster.token}\"}]}",
		"a wildcard":                "name: nfd\nrbac: {rules: [{apiGroups: [\"*\"], resources: [nodes], verbs: [get]}]}",
		"a wildcard verb":           "name: nfd\nrbac: {rules: [{apiGroups: [\"\"], resources: [nodes], verbs: [\"*\"]}]}",
		"everybody's labels":        "name: nfd\nremoval: {nodes: {labels: [\"*\"]}}",
		"a leftover of everything":  "name: nfd\nremoval: {leftovers: [{apiVersion: v1, kind: Secret, object: \"*\"}]}",
		"two documents":             "name: nfd\n---\nname: nfd",
	}
	var out strings.Builder
	for _, name := range slices.Sorted(maps.Keys(cases)) {
		file := "nfd.yaml"
		if strings.HasPrefix(cases[name], "name: hami") && name != "another name" {
			file = "hami.yaml"
		}
		_, err := component.Load(overlay(map[string]string{file: cases[name]}))
		require.Error(t, err, name)
		fmt.Fprintf(&out, "# %s\n%s\n", name, err)
	}
	testutil.Golden(t, "errors", []byte(out.String()))
}

func TestNotFound(t *testing.T) {
	t.Parallel()
	_, err := catalogue(t).Component("gpu")
	require.ErrorIs(t, err, component.ErrNotFound)
	var missing *component.NotFoundError
	require.True(t, errors.As(err, &missing))
	require.Contains(t, err.Error(), "nvidia-gpu-operator")
}

// TestSourcesHoldNoHostOfOurs: the files tell where a digest was read in words,
// not by naming whoever handed it on.
func TestSourcesHoldNoHostOfOurs(t *testing.T) {
	t.Parallel()
	url := regexp.MustCompile(`(https?|oci)://[^\s"'),]+`)
	files, err := filepath.Glob("catalogue/*.yaml")
	require.NoError(t, err)
	allowed := map[string]bool{}
	for _, c := range catalogue(t).Components() {
		allowed[c.Chart.Repository], allowed[c.Chart.OCI] = true, true
	}
	allowed["oci://docker.io/envoyproxy/gateway-helm"] = true // named in a remedy
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, found := range url.FindAllString(string(text), -1) {
			require.True(t, allowed[found], "%s names %s", file, found)
		}
	}
}

func FuzzLoad(f *testing.F) {
	files, err := filepath.Glob("catalogue/*.yaml")
	require.NoError(f, err)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(f, err)
		f.Add(string(text))
	}
	f.Add("name: nfd\nvalues: {a: null}")
	f.Add("name: nfd\nvalues: &a [*a]")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := component.Load(overlay(map[string]string{"nfd.yaml": text}))
		if err != nil {
			require.NotEmpty(t, err.Error())
			return
		}
		// What was taken can be planned with.
		_, err = c.Plan(component.Input{})
		require.NoError(t, err)
	})
}
