package component_test

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"text/template"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/internal/component"
	"github.com/budecosystem/budcluster/internal/facts"
)

const featurePrefix = "feature.node.kubernetes.io/"

// pciDevice is what a node's /sys/bus/pci says of a device; class without the
// programming interface.
type pciDevice struct {
	Class  string `json:"class"`
	Vendor string `json:"vendor"`
	Device string `json:"device"`
}

func (d pciDevice) field(name string) string {
	return map[string]string{"class": d.Class, "vendor": d.Vendor, "device": d.Device}[name]
}

// node is a file of testdata/nodes: what is in a machine, every label that it
// carries, and which accelerators' components it asks for.
type node struct {
	About  string            `json:"about"`
	Want   []string          `json:"want"`
	PCI    []pciDevice       `json:"pci"`
	Labels map[string]string `json:"labels"`
}

func nodes(t testing.TB) map[string]node {
	t.Helper()
	found, err := filepath.Glob("testdata/nodes/*.json")
	require.NoError(t, err)
	require.Len(t, found, 5)
	all := map[string]node{}
	for _, file := range found {
		data, err := os.ReadFile(file)
		require.NoError(t, err)
		var n node
		require.NoError(t, json.Unmarshal(data, &n))
		all[strings.TrimSuffix(filepath.Base(file), ".json")] = n
	}
	return all
}

// sources is the part of NFD's worker configuration that names PCI labels.
type sources struct {
	PCI struct {
		DeviceClassWhitelist []string `json:"deviceClassWhitelist"`
		DeviceLabelFields    []string `json:"deviceLabelFields"`
	} `json:"pci"`
	Custom []struct {
		Name           string `json:"name"`
		LabelsTemplate string `json:"labelsTemplate"`
		MatchFeatures  []struct {
			Feature          string `json:"feature"`
			MatchExpressions map[string]struct {
				Op    string   `json:"op"`
				Value []string `json:"value"`
			} `json:"matchExpressions"`
		} `json:"matchFeatures"`
	} `json:"custom"`
}

func ourSources(t testing.TB) sources {
	t.Helper()
	nfd := entry(t, catalogue(t), "nfd")
	raw, err := json.Marshal(nfd.Values)
	require.NoError(t, err)
	var values struct {
		Worker struct {
			Config struct {
				Core struct {
					LabelSources []string `json:"labelSources"`
				} `json:"core"`
				Sources sources `json:"sources"`
			} `json:"config"`
		} `json:"worker"`
	}
	require.NoError(t, json.Unmarshal(raw, &values))
	for _, needed := range []string{"pci", "custom", "cpu", "kernel", "system"} {
		require.Contains(t, values.Worker.Config.Core.LabelSources, needed, "a source that is not listed makes no labels")
	}
	return values.Worker.Config.Sources
}

// labels are those that NFD makes of a node's PCI devices, by its documented
// rules: an entry of the whitelist is the beginning of a class, not a pattern;
// the fields stand in NFD's order, whatever order they are given in; labels of
// custom rules carry no source's name in front.
func (s sources) labels(t testing.TB, devices []pciDevice) map[string]string {
	t.Helper()
	labels := map[string]string{}
	for _, d := range devices {
		listed := slices.ContainsFunc(s.PCI.DeviceClassWhitelist, func(w string) bool { return strings.HasPrefix(d.Class, strings.ToLower(w)) })
		if !listed {
			continue
		}
		var fields []string
		for _, name := range []string{"class", "vendor", "device"} {
			if slices.Contains(s.PCI.DeviceLabelFields, name) {
				fields = append(fields, d.field(name))
			}
		}
		labels[featurePrefix+"pci-"+strings.Join(fields, "_")+".present"] = "true"
	}
	for _, rule := range s.Custom {
		require.Len(t, rule.MatchFeatures, 1, rule.Name)
		require.Equal(t, "pci.device", rule.MatchFeatures[0].Feature, rule.Name)
		var matched []map[string]string
		for _, d := range devices {
			all := true
			for name, e := range rule.MatchFeatures[0].MatchExpressions {
				require.Equal(t, "In", e.Op, rule.Name)
				all = all && slices.Contains(e.Value, d.field(name))
			}
			if all {
				matched = append(matched, map[string]string{"class": d.Class, "vendor": d.Vendor, "device": d.Device})
			}
		}
		if len(matched) == 0 {
			continue
		}
		var out strings.Builder
		require.NoError(t, template.Must(template.New(rule.Name).Parse(rule.LabelsTemplate)).Execute(&out, map[string]any{"pci": map[string]any{"device": matched}}))
		for line := range strings.Lines(out.String()) {
			if line = strings.TrimSpace(line); line == "" {
				continue
			}
			name, value, _ := strings.Cut(line, "=")
			labels[featurePrefix+name] = value
		}
	}
	return labels
}

func pciLabels(labels map[string]string) map[string]string {
	out := maps.Clone(labels)
	maps.DeleteFunc(out, func(k, _ string) bool { return !strings.HasPrefix(k, featurePrefix+"pci-") })
	return out
}

// accelerators are the components that a plan installs beside those that every
// cluster gets.
func accelerators(t testing.TB, labels map[string]string) []string {
	t.Helper()
	items, err := catalogue(t).Plan(component.Input{
		Cluster:  facts.Cluster{Platform: facts.PlatformKubernetes, Distribution: "kubernetes"},
		Nodes:    []facts.Node{{Name: "node-1", Ready: true, Labels: facts.NodeLabels(labels)}},
		Presence: nothing(t),
	})
	require.NoError(t, err)
	out := []string{}
	for _, item := range items {
		always := item.Component == "nfd" || item.Component == "prometheus-stack" || item.Component == "scaler"
		if item.Action == component.ActionInstall && !always {
			out = append(out, item.Component)
		}
	}
	slices.Sort(out)
	return out
}

// TestValuesMakeTheLabelsThatDetectionReads: what NFD would make of real nodes
// with our values is what their label sets hold, and by these, after what an
// agent leaves of them, the right components are wanted.
func TestValuesMakeTheLabelsThatDetectionReads(t *testing.T) {
	t.Parallel()
	ours := ourSources(t)
	for name, n := range nodes(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, pciLabels(n.Labels), ours.labels(t, n.PCI), n.About)
			want := append([]string{}, n.Want...)
			slices.Sort(want)
			require.Equal(t, want, accelerators(t, n.Labels))
			require.True(t, facts.FeaturesSeen(facts.NodeLabels(n.Labels)), "readiness would wait forever")
		})
	}
}

// TestOthersLabelsAreReadToo: a feature discovery that was there before us
// names its labels by its own configuration.
func TestOthersLabelsAreReadToo(t *testing.T) {
	t.Parallel()
	for config, whitelist := range map[string]struct{ classes, fields []string }{
		"upstream's defaults":      {[]string{"03", "0b40", "12"}, []string{"class", "vendor"}},
		"as GPU operators bring":   {[]string{"02", "0200", "0207", "0300", "0302", "12"}, []string{"vendor"}},
		"every field that we know": {[]string{"02", "03", "12"}, []string{"device", "vendor", "class"}},
	} {
		for name, n := range nodes(t) {
			t.Run(config+"/"+name, func(t *testing.T) {
				t.Parallel()
				var s sources
				s.PCI.DeviceClassWhitelist, s.PCI.DeviceLabelFields = whitelist.classes, whitelist.fields
				got := accelerators(t, s.labels(t, n.PCI))
				want := append([]string{}, n.Want...)
				slices.Sort(want)
				if name == "mi300x" && config == "as GPU operators bring" {
					want = []string{} // the vendor alone may be the graphics of a processor; AMD's own labels or plugin would tell
				}
				require.Equal(t, want, got)
			})
		}
	}
}

// TestThePatternThatMatchedNothing: the values that this service's predecessor
// used, as a guard against the rule above being too lenient.
func TestThePatternThatMatchedNothing(t *testing.T) {
	t.Parallel()
	var s sources
	s.PCI.DeviceClassWhitelist, s.PCI.DeviceLabelFields = []string{"^.*$"}, []string{"vendor", "device", "class"}
	require.Empty(t, s.labels(t, nodes(t)["a100"].PCI))
}
