package facts_test

import (
	"maps"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/internal/facts"
)

func TestPCIDevices(t *testing.T) {
	t.Parallel()
	const nfd = "feature.node.kubernetes.io/"
	for name, c := range map[string]struct {
		labels []string
		vendor string
		want   []facts.PCI
	}{
		"vendor alone":                     {[]string{"pci-10de.present"}, "10de", []facts.PCI{{}}},
		"class and vendor":                 {[]string{"pci-0302_10de.present"}, "10de", []facts.PCI{{Class: "0302"}}},
		"vendor and device":                {[]string{"pci-1da3_1020.present"}, "1da3", []facts.PCI{{Device: "1020"}}},
		"class, vendor and device":         {[]string{"pci-1200_1002_74a1.present"}, "1002", []facts.PCI{{Class: "1200", Device: "74a1"}}},
		"all five fields":                  {[]string{"pci-1200_1da3_1020_1da3_1020.present"}, "1da3", []facts.PCI{{Class: "1200", Device: "1020"}}},
		"upper case":                       {[]string{"pci-0302_10DE.present"}, "10de", []facts.PCI{{Class: "0302"}}},
		"several, sorted and once each":    {[]string{"pci-10de.present", "pci-0302_10de.present", "pci-10de_20b2.present"}, "10de", []facts.PCI{{}, {Device: "20b2"}, {Class: "0302"}}},
		"a device id that reads like it":   {[]string{"pci-8086_1002.present"}, "1002", nil},
		"a network card of the vendor":     {[]string{"pci-0200_10de.present"}, "10de", nil},
		"a subsystem of the vendor":        {[]string{"pci-0300_1a03_2000_10de.present"}, "10de", nil},
		"sr-iov of the vendor is not it":   {[]string{"pci-0302_10de.sriov.capable"}, "10de", nil},
		"a custom label of another prefix": {[]string{"usb-10de.present"}, "10de", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			labels := map[string]string{}
			for _, l := range c.labels {
				labels[nfd+l] = "true"
			}
			require.Equal(t, c.want, facts.PCIDevices(labels, c.vendor))
		})
	}
	require.Nil(t, facts.PCIDevices(map[string]string{nfd + "pci-10de.present": "false"}, "10de"))
}

func TestNodeLabelsKeepWhatComponentsAreChosenBy(t *testing.T) {
	t.Parallel()
	const nfd = "feature.node.kubernetes.io/"
	kept := map[string]string{
		nfd + "pci-10de.present":                "true",
		nfd + "pci-0302_10de.present":           "true",
		nfd + "pci-1da3_1020.present":           "true",
		nfd + "pci-1200_1002.present":           "true",
		nfd + "kernel-version.full":             "6.8.0-60-generic",
		nfd + "system-os_release.ID":            "ubuntu",
		nfd + "system-os_release.VERSION_ID":    "24.04",
		facts.LabelMultithreading:               "true",
		"nvidia.com/gpu.present":                "true",
		"node-role.kubernetes.io/control-plane": "",
	}
	all := map[string]string{
		nfd + "cpu-cpuid.AVX2":              "true",
		nfd + "pci-0200_15b3.present":       "true",
		nfd + "pci-0300_1a03.present":       "true",
		nfd + "pci-8086_1002.present":       "true",
		nfd + "pci-0302_10de.sriov.capable": "true",
		nfd + "kernel-version.major":        "6",
		"nfd.node.kubernetes.io/x":          "y",
		"nvidia.com/gfd.timestamp":          "1",
	}
	maps.Copy(all, kept)
	require.Equal(t, kept, facts.NodeLabels(all))
	require.True(t, facts.FeaturesSeen(kept))
	require.False(t, facts.FeaturesSeen(map[string]string{"nvidia.com/gpu.present": "true"}))
	require.False(t, facts.FeaturesSeen(nil))
}

func TestMatchObject(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"", "anything", true},
		{"nfd-worker", "nfd-worker", true},
		{"nfd-worker", "nfd-workers", false},
		{"*", "", true},
		{"nfd-*", "nfd-worker", true},
		{"nfd-*", "my-nfd-worker", false},
		{"*-worker", "nfd-worker", true},
		{"*-worker", "worker", false},
		{"*feature*worker", "node-feature-discovery-worker", true},
		{"*feature*worker", "node-feature-discovery-worker-2", false},
		{"a*a", "a", false},
		{"a*b*c", "abc", true},
		{"a*b*c", "acb", false},
	} {
		require.Equal(t, c.want, facts.MatchObject(c.pattern, c.name), "%q %q", c.pattern, c.name)
	}
}

func FuzzMatchObject(f *testing.F) {
	f.Add("a*b", "axb")
	f.Add("***", "")
	f.Fuzz(func(t *testing.T, pattern, name string) {
		got := facts.MatchObject(pattern, name)
		if facts.MatchObject("*"+pattern+"*", name) != true && got {
			t.Fatalf("%q matches %q, but not with more room", pattern, name)
		}
		if !facts.MatchObject(name, name) && len(name) > 0 {
			t.Fatalf("%q does not match itself", name)
		}
	})
}
