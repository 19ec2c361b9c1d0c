package facts

import (
	"cmp"
	"slices"
	"strings"
)

// PCI is what a label of node feature discovery says of one kind of PCI device.
// The vendor is the one that was asked for; Class and Device are lower-case hex
// digits, and empty where the label does not hold them.
type PCI struct {
	Class, Device string
}

// PCIDevices reads the labels by which node feature discovery shows devices of
// a vendor: pci-<fields>.present with the fields vendor, class_vendor (its own
// default), either with _device and more. Another vendor's device whose id
// reads like the vendor's is not taken for one: what stands before a vendor is
// a class of displays, coprocessors or accelerators. The result is sorted and
// free of repetition.
func PCIDevices(labels map[string]string, vendor string) []PCI {
	var found []PCI
	for label, value := range labels {
		fields, ok := strings.CutPrefix(label, nfdPrefix+"pci-")
		if !ok || value != "true" {
			continue
		}
		if fields, ok = strings.CutSuffix(fields, ".present"); !ok {
			continue
		}
		parts := strings.Split(strings.ToLower(fields), "_")
		var d PCI
		switch at := slices.Index(parts, vendor); {
		case at == 0:
		case at == 1 && computing(parts[0]):
			d.Class, parts = parts[0], parts[1:]
		default:
			continue
		}
		if len(parts) > 1 {
			d.Device = parts[1]
		}
		found = append(found, d)
	}
	slices.SortFunc(found, func(a, b PCI) int { return cmp.Or(cmp.Compare(a.Class, b.Class), cmp.Compare(a.Device, b.Device)) })
	return slices.Compact(found)
}

// computing: displays (03), coprocessors (0b40), processing accelerators (12).
func computing(class string) bool {
	return len(class) == 4 && (strings.HasPrefix(class, "03") || class == "0b40" || strings.HasPrefix(class, "12"))
}

// LabelMultithreading is feature discovery's label of whether a core of the CPU
// runs several threads: "true" or "false".
const LabelMultithreading = nfdPrefix + "cpu-hardware_multithreading"

// keptFeature reports whether a feature label is kept as it is: those that say
// which accelerators a node holds before any driver does, those that say which
// system a driver would have to be built for, and the one that tells threads from
// cores. Any of them is also proof that feature discovery has seen the node.
func keptFeature(label string) bool {
	name, ok := strings.CutPrefix(label, nfdPrefix)
	if !ok {
		return false
	}
	if label == LabelMultithreading {
		return true
	}
	switch name {
	case "kernel-version.full", "system-os_release.ID", "system-os_release.VERSION_ID":
		return true
	}
	fields, ok := strings.CutPrefix(name, "pci-")
	if !ok || !strings.HasSuffix(fields, ".present") {
		return false
	}
	parts := strings.Split(strings.TrimSuffix(fields, ".present"), "_")
	at := slices.IndexFunc(parts, func(p string) bool { return p == pciNVIDIA || p == pciAMD || p == pciHabana })
	return at == 0 || at == 1 && computing(parts[0])
}

// FeaturesSeen reports whether node feature discovery has labelled a node,
// given the labels that are kept of it.
func FeaturesSeen(labels map[string]string) bool {
	for label := range labels {
		if keptFeature(label) {
			return true
		}
	}
	return false
}
