package main

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"
)

// TestWorkerLabelsWithTheCataloguesConfiguration: what the hub's catalogue says
// to NFD, applied to devices.
func TestWorkerLabelsWithTheCataloguesConfiguration(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../../../hub/internal/component/catalogue/nfd.yaml")
	require.NoError(t, err)
	var entry struct {
		Values struct {
			Worker struct{ Config map[string]any }
		}
	}
	require.NoError(t, yaml.Unmarshal(text, &entry))
	config, err := yaml.Marshal(entry.Values.Worker.Config)
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "nfd-worker.conf")
	require.NoError(t, os.WriteFile(file, config, 0o600))
	c, err := readWorkerConfig(file)
	require.NoError(t, err)
	require.Contains(t, c.Core.LabelSources, "pci")

	for pci, want := range map[string][]string{
		"":                              nil,
		"0200_15b3_1017":                nil,
		"0302_10de_20b2,0302_10de_20b2": {"pci-0302_10de.present", "pci-10de.present", "pci-10de_20b2.present"},
		"0300_10de_2684":                {"pci-0300_10de.present", "pci-10de.present", "pci-10de_2684.present"},
		"0300_1002_164e":                {"pci-0300_1002.present"},
		"1200_1002_74a1":                {"pci-1002.present", "pci-1002_74a1.present", "pci-1200_1002.present"},
		"1200_1da3_1020":                {"pci-1200_1da3.present", "pci-1da3.present", "pci-1da3_1020.present"},
	} {
		labels, err := c.pciLabels(devices(pci))
		require.NoError(t, err)
		var got []string
		for _, key := range slices.Sorted(maps.Keys(labels)) {
			require.Equal(t, "true", labels[key])
			got = append(got, strings.TrimPrefix(key, featurePrefix))
		}
		require.Equal(t, want, got, pci)
	}
}

func TestUnknownRuleIsRefused(t *testing.T) {
	t.Parallel()
	var c workerConfig
	require.NoError(t, yaml.Unmarshal([]byte(`
sources:
  custom:
    - name: x
      labelsTemplate: "{{ range .pci.device }}a=b{{ end }}"
      matchFeatures: [{feature: pci.device, matchExpressions: {vendor: {op: Exists}}}]
`), &c))
	_, err := c.pciLabels(devices("0302_10de_20b2"))
	require.ErrorContains(t, err, "rule x: it uses pci.device Exists")
}
