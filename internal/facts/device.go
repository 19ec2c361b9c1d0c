package facts

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// NodeSource is what Kubernetes shows of a node's hardware.
type NodeSource struct {
	// Labels of the node, NFD's and GFD's with them.
	Labels map[string]string
	// Annotations of the node, as NodeAnnotations chooses them.
	Annotations map[string]string
	// Capacity and Allocatable are the node's resource lists.
	Capacity, Allocatable map[string]string
	// Arch is Kubernetes's name of the architecture, e.g. amd64.
	Arch string
}

const (
	nfdPrefix = "feature.node.kubernetes.io/"

	// maxDevices is more than any node has; a higher count is a mistake.
	maxDevices = 1024
	// maxDeviceMemory is more than any device has.
	maxDeviceMemory = 16 << 40
)

// DevicesFrom reads a node's devices: its CPU as one, and each accelerator of
// each vendor. Labels give details; where they are missing the extended
// resource gives the count. What is there and cannot be read is told of in a
// sentence each, and costs nothing else.
func DevicesFrom(src NodeSource) ([]Device, []string) {
	r := &reader{src: src}
	devices := []Device{r.cpu()}
	devices = append(devices, r.nvidia()...)
	devices = append(devices, r.amd()...)
	devices = append(devices, r.gaudi()...)
	slices.Sort(r.problems)
	return devices, slices.Compact(r.problems)
}

// reader reads one node and gathers what could not be read.
type reader struct {
	src      NodeSource
	problems []string
}

func (r *reader) problem(format string, args ...any) {
	r.problems = append(r.problems, fmt.Sprintf(format, args...))
}

// text reads a label that may be any text.
func (r *reader) text(label string) string { return clean(strings.TrimSpace(r.src.Labels[label])) }

// count reads a label that is a number between 0 and limit.
func (r *reader) count(label string, limit int64) (int64, bool) {
	value, ok := r.src.Labels[label]
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseInt(strings.TrimSpace(value), 10, 64)
	if err != nil || n < 0 || n > limit {
		r.problem("label %s=%s is not a number from 0 to %d, so it is ignored", label, quoted(value), limit)
		return 0, false
	}
	return n, true
}

// memory reads a label with an amount of device memory: a plain number is in
// unit, as GFD writes MiB and AMD's labeller GiB; suffixes are understood.
func (r *reader) memory(label string, unit int64) *int64 {
	value, ok := r.src.Labels[label]
	if !ok {
		return nil
	}
	number := strings.TrimRight(strings.TrimSpace(value), "iBb")
	if len(number) > 0 {
		switch number[len(number)-1] {
		case 'M', 'm':
			unit, number = 1<<20, number[:len(number)-1]
		case 'G', 'g':
			unit, number = 1<<30, number[:len(number)-1]
		case 'T', 't':
			unit, number = 1<<40, number[:len(number)-1]
		}
	}
	amount, err := ParseQuantity(strings.TrimSpace(number), unit)
	if err != nil || amount <= 0 || amount > maxDeviceMemory {
		r.problem("label %s=%s is not an amount of device memory, so the memory is unknown", label, quoted(value))
		return nil
	}
	return &amount
}

// version reads a label of digits and dots.
func (r *reader) version(label string) string {
	value := r.text(label)
	if value == "" {
		return ""
	}
	if len(value) > 32 || strings.Trim(value, "0123456789.") != "" || value[0] == '.' || value[len(value)-1] == '.' {
		r.problem("label %s=%s is not a version, so it is ignored", label, quoted(value))
		return ""
	}
	return value
}

// versionOf joins labels that each hold one part, up to the first that is
// missing.
func (r *reader) versionOf(labels ...string) string {
	var parts []string
	for _, label := range labels {
		part := r.version(label)
		if part == "" {
			break
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, ".")
}

// units are the amounts of an extended resource that a node has and can give.
type units struct {
	capacity, allocatable int64
	known                 bool
}

func (r *reader) units(resource string) units {
	has, ok := r.src.Capacity[resource]
	if !ok {
		return units{}
	}
	capacity, err := ParseQuantity(has, 1)
	if err != nil || capacity > maxDevices*maxDevices {
		r.problem("the node's capacity %s=%s is not a count, so it is ignored", resource, quoted(has))
		return units{}
	}
	allocatable, err := ParseQuantity(r.src.Allocatable[resource], 1)
	if err != nil {
		r.problem("the node's allocatable %s=%s is not a count, so the health of these devices is unknown", resource, quoted(r.src.Allocatable[resource]))
		return units{capacity: capacity, allocatable: -1, known: true}
	}
	return units{capacity: capacity, allocatable: min(allocatable, capacity), known: true}
}

// health is what a device plugin's counts say of each of its devices: it takes
// those that fail out of allocatable, but does not say which.
func (r *reader) health(resource string, u units) Health {
	switch {
	case !u.known || u.capacity == 0 || u.allocatable < 0:
		return HealthUnknown
	case u.allocatable == u.capacity:
		return HealthHealthy
	case u.allocatable == 0:
		return HealthUnhealthy
	default:
		r.problem("the device plugin holds %d of %d %s for unhealthy and does not say which, so the health of these devices is unknown",
			u.capacity-u.allocatable, u.capacity, resource)
		return HealthUnknown
	}
}

// repeat makes n devices like the given one, named prefix-0 and so on.
func (r *reader) repeat(prefix string, n int64, like Device) []Device {
	if n > maxDevices {
		r.problem("the node claims %d devices of %s, more than any node has; %d are shown", n, prefix, int64(maxDevices))
		n = maxDevices
	}
	devices := make([]Device, 0, n)
	for i := range int32(n) {
		d := like
		d.ID = prefix + "-" + strconv.Itoa(int(i))
		d.Index = &i
		d.MemoryBytes = clone(like.MemoryBytes)
		devices = append(devices, d)
	}
	return devices
}

// pci reports whether NFD saw a device of a PCI vendor, and the lowest id of
// such devices where NFD is set to tell. Devices that are mere displays (class
// 0300) count only if displays is set.
func (r *reader) pci(vendor string, displays bool) (present bool, device string) {
	for _, d := range PCIDevices(r.src.Labels, vendor) {
		if d.Class == "0300" && !displays {
			continue
		}
		present = true
		if d.Device != "" && (device == "" || d.Device < device) {
			device = d.Device
		}
	}
	return present, device
}

func quoted(s string) string { return strconv.Quote(clip(s)) }

// cpu is the node's CPU taken as one device: Cores and memory are what pods can
// have, Threads what the machine has.
func (r *reader) cpu() Device {
	d := Device{
		ID: "cpu-0", Kind: KindCPU, Health: HealthHealthy, Source: SourceNode, Resource: resourceCPU, Sharing: SharingNone,
		Vendor: cpuVendor(cmp.Or(r.text(nfdPrefix+"cpu-model.vendor_id"), r.text(nfdPrefix+"cpu-cpuid.vendor_id"))),
		Model:  r.cpuModel(), InstructionSets: r.instructionSets(),
	}
	d.Cores = r.cores("allocatable", r.src.Allocatable)
	d.Threads = r.cores("capacity", r.src.Capacity)
	if text, ok := r.src.Allocatable[resourceMemory]; ok {
		if amount, err := ParseQuantity(text, 1); err == nil && amount > 0 {
			d.MemoryBytes = &amount
		} else {
			r.problem("the node's allocatable memory=%s is not an amount, so it is unknown", quoted(text))
		}
	}
	return d
}

func (r *reader) cores(what string, list map[string]string) *int32 {
	text, ok := list[resourceCPU]
	if !ok {
		return nil
	}
	const most = 1 << 20
	millis, err := ParseQuantity(text, 1000)
	if err != nil || millis/1000 > most {
		r.problem("the node's %s cpu=%s is not a number of cores, so it is unknown", what, quoted(text))
		return nil
	}
	cores := int32(millis / 1000) //nolint:gosec // bounded above
	return &cores
}

func cpuVendor(id string) string {
	switch strings.ToLower(id) {
	case "genuineintel", "intel":
		return "intel"
	case "authenticamd", "amd":
		return "amd"
	case "vendorunknown", "unknown":
		return ""
	default:
		return strings.ToLower(id)
	}
}

// cpuModel is the name that a site's own label gives, or the generation that
// family and model of the CPU say.
func (r *reader) cpuModel() string {
	if name := r.text(nfdPrefix + "local-cpu.model"); name != "" {
		return name
	}
	family, known := r.count(nfdPrefix+"cpu-model.family", 1<<16)
	model, also := r.count(nfdPrefix+"cpu-model.id", 1<<16)
	if !known || !also {
		return ""
	}
	switch cpuVendor(r.text(nfdPrefix + "cpu-model.vendor_id")) {
	case "intel":
		return intelGeneration(family, model)
	case "amd":
		return amdGeneration(family, model)
	default:
		return ""
	}
}

func intelGeneration(family, model int64) string {
	if family != 6 {
		return ""
	}
	switch model {
	case 173, 174:
		return "Granite Rapids"
	case 175:
		return "Sierra Forest"
	case 207:
		return "Emerald Rapids"
	case 143:
		return "Sapphire Rapids"
	case 106, 108:
		return "Ice Lake"
	case 85:
		return "Skylake or Cascade Lake"
	case 79, 86:
		return "Broadwell"
	case 63:
		return "Haswell"
	case 62:
		return "Ivy Bridge"
	case 45:
		return "Sandy Bridge"
	default:
		return ""
	}
}

// amdGeneration tells AMD's server CPUs apart.
func amdGeneration(family, model int64) string {
	switch {
	case family == 23 && model == 1:
		return "EPYC Naples"
	case family == 23 && model == 49:
		return "EPYC Rome"
	case family == 25 && model == 1:
		return "EPYC Milan"
	case family == 25 && model == 17:
		return "EPYC Genoa"
	case family == 25 && model == 160:
		return "EPYC Bergamo"
	case family == 26 && (model == 2 || model == 17):
		return "EPYC Turin"
	default:
		return ""
	}
}

// instructionSets are those that model servers choose their kernels by.
func (r *reader) instructionSets() []string {
	var sets []string
	for _, set := range []struct {
		name   string
		labels []string
	}{
		{"AMX", []string{"AMXTILE", "AMX"}},
		{"AMXBF16", []string{"AMXBF16"}},
		{"AMXFP16", []string{"AMXFP16"}},
		{"AMXINT8", []string{"AMXINT8"}},
		{"AVX", []string{"AVX"}},
		{"AVX2", []string{"AVX2"}},
		{"AVX512", []string{"AVX512F"}},
		{"AVX512BF16", []string{"AVX512BF16"}},
		{"AVX512FP16", []string{"AVX512FP16"}},
		{"F16C", []string{"F16C"}},
		{"FMA3", []string{"FMA3"}},
		{"NEON", []string{"ASIMD"}},
		{"SSE4.2", []string{"SSE42", "SSE4.2"}},
		{"SVE", []string{"SVE"}},
		{"VNNI", []string{"AVX512VNNI", "AVXVNNI", "VNNI"}},
	} {
		if slices.ContainsFunc(set.labels, func(l string) bool { return r.src.Labels[nfdPrefix+"cpu-cpuid."+l] == "true" }) {
			sets = append(sets, set.name)
		}
	}
	return sets
}
