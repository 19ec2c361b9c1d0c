package facts

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// The extended resources by which accelerators are asked for.
const (
	resourceNVIDIA = "nvidia.com/gpu"
	resourceAMD    = "amd.com/gpu"
	resourceGaudi  = "habana.ai/gaudi"
	migPrefix      = "nvidia.com/mig-"
)

// The PCI vendors.
const (
	pciNVIDIA = "10de"
	pciAMD    = "1002"
	pciHabana = "1da3"
)

// nvidia reads GFD's labels and what HAMi has registered, and the extended
// resource where both are missing.
func (r *reader) nvidia() []Device {
	u := r.units(resourceNVIDIA)
	like := Device{
		Vendor: "nvidia", Kind: KindCUDA, Source: SourceResource, Resource: resourceNVIDIA,
		DriverVersion:     cmp.Or(r.version("nvidia.com/cuda.driver-version.full"), r.versionOf("nvidia.com/cuda.driver.major", "nvidia.com/cuda.driver.minor", "nvidia.com/cuda.driver.rev")),
		CUDAVersion:       cmp.Or(r.version("nvidia.com/cuda.runtime-version.full"), r.versionOf("nvidia.com/cuda.runtime.major", "nvidia.com/cuda.runtime.minor")),
		ComputeCapability: r.versionOf("nvidia.com/gpu.compute.major", "nvidia.com/gpu.compute.minor"),
	}
	cut := r.migSlices(like)
	replicas, labelled := r.count("nvidia.com/gpu.replicas", maxDevices)
	if !labelled {
		replicas = 1
	}
	like.Sharing = r.nvidiaSharing(replicas)
	like.Model = strings.TrimSuffix(r.text("nvidia.com/gpu.product"), "-SHARED")
	if like.Model != "" {
		like.Source = SourceLabel
	}
	if strings.Contains(like.Model, "-MIG-") {
		like.Sharing = SharingMIG // strategy single: each GPU is a slice
	}
	like.MemoryBytes = r.memory("nvidia.com/gpu.memory", 1<<20)
	if registered := r.hami(like); len(registered) > 0 {
		return append(registered, cut...)
	}
	like.Health = r.health(resourceNVIDIA, u)
	return append(r.repeat("nvidia-cuda", r.nvidiaCount(&like, u, replicas, len(cut) > 0), like), cut...)
}

// nvidiaCount is the number of whole GPUs.
func (r *reader) nvidiaCount(like *Device, u units, replicas int64, sliced bool) int64 {
	if sliced && u.known {
		return u.capacity // strategy mixed: the label counts the GPUs that were cut up as well
	}
	if n, ok := r.count("nvidia.com/gpu.count", maxDevices); ok {
		like.Source = SourceLabel
		return n
	}
	if u.known {
		// GFD says the replicas, and the plugin counts each of them.
		return u.capacity / max(replicas, 1)
	}
	if present, _ := r.pci(pciNVIDIA, true); !sliced && (present || r.src.Labels["nvidia.com/gpu.present"] == "true") {
		r.problem("the node has an NVIDIA GPU, but neither GPU feature discovery nor a device plugin says how many; install the GPU operator")
	}
	return 0
}

func (r *reader) nvidiaSharing(replicas int64) Sharing {
	switch strategy := r.text("nvidia.com/gpu.sharing-strategy"); {
	case strategy == "none":
		return SharingNone
	case strategy == "mps":
		return SharingMPS
	case strategy == "time-slicing", replicas > 1 && strategy == "":
		return SharingTimeSlicing
	case strategy != "":
		r.problem("label nvidia.com/gpu.sharing-strategy=%s is unknown, so the way of sharing is unknown", quoted(strategy))
	}
	return ""
}

// migSlices are the slices of strategy mixed, each profile a resource of its
// own.
func (r *reader) migSlices(like Device) []Device {
	profiles := map[string]bool{}
	for resource := range r.src.Capacity {
		if profile, ok := strings.CutPrefix(resource, migPrefix); ok && profile != "" {
			profiles[profile] = true
		}
	}
	for label := range r.src.Labels {
		rest, ok := strings.CutPrefix(label, migPrefix)
		if profile, found := strings.CutSuffix(rest, ".count"); ok && found && profile != "" {
			profiles[profile] = true
		}
	}
	var devices []Device
	for _, profile := range slices.Sorted(maps.Keys(profiles)) {
		resource := migPrefix + profile
		u := r.units(resource)
		d := like
		d.Resource, d.Sharing, d.Health = resource, SharingMIG, r.health(resource, u)
		d.Model = cmp.Or(strings.TrimSuffix(r.text(resource+".product"), "-SHARED"), r.text("nvidia.com/gpu.product"))
		d.MemoryBytes = r.memory(resource+".memory", 1<<20)
		n, labelled := r.count(resource+".count", maxDevices)
		if labelled {
			d.Source = SourceLabel
		} else {
			n = u.capacity
		}
		devices = append(devices, r.repeat("nvidia-mig-"+profile, n, d)...)
	}
	return devices
}

// amd reads the labels of AMD's node labeller, and the extended resource. The
// labeller counts in labels whose last part is the value:
// beta.amd.com/gpu.device-id.74a1=8.
func (r *reader) amd() []Device {
	u := r.units(resourceAMD)
	id := r.amdLabel("device-id")
	like := Device{
		Vendor: "amd", Kind: KindROCm, Source: SourceResource, Resource: resourceAMD, Health: r.health(resourceAMD, u),
		Model: cmp.Or(r.amdLabel("product-name"), amdModel(id)), DriverVersion: r.version("amd.com/gpu.driver-version"),
	}
	if _, ok := r.src.Labels["amd.com/gpu.vram"]; ok {
		like.MemoryBytes = r.memory("amd.com/gpu.vram", 1<<30)
	} else if vram := r.amdLabel("vram"); vram != "" {
		scratch := &reader{src: NodeSource{Labels: map[string]string{"amd.com/gpu.vram": vram}}}
		like.MemoryBytes = scratch.memory("amd.com/gpu.vram", 1<<30)
		r.problems = append(r.problems, scratch.problems...)
	}
	if like.Model != "" || like.MemoryBytes != nil {
		like.Source = SourceLabel
	}
	n := u.capacity
	if !u.known {
		n = r.amdCount()
	}
	if present, _ := r.pci(pciAMD, false); present && n == 0 && !u.known {
		r.problem("the node has an AMD accelerator, but no device plugin says how many; install the AMD GPU operator")
	}
	return r.repeat("amd-rocm", n, like)
}

// amdLabel reads a label of the labeller, in its plain form or in the one that
// counts, where of several values the first is taken.
func (r *reader) amdLabel(name string) string {
	if value := r.text("amd.com/gpu." + name); value != "" {
		return value
	}
	var values []string
	for label := range r.src.Labels {
		for _, prefix := range []string{"beta.amd.com/gpu.", "amd.com/gpu."} {
			if value, ok := strings.CutPrefix(label, prefix+name+"."); ok && value != "" {
				values = append(values, clean(value))
			}
		}
	}
	if len(values) == 0 {
		return ""
	}
	return slices.Min(values)
}

// amdCount adds the labeller's counts by device id, of one prefix only since
// both may be there.
func (r *reader) amdCount() int64 {
	for _, prefix := range []string{"amd.com/gpu.device-id.", "beta.amd.com/gpu.device-id."} {
		var total int64
		for _, label := range slices.Sorted(maps.Keys(r.src.Labels)) {
			if strings.HasPrefix(label, prefix) {
				n, _ := r.count(label, maxDevices)
				total += n
			}
		}
		if total > 0 {
			return total
		}
	}
	return 0
}

// amdModel names the accelerators by PCI device id.
func amdModel(id string) string {
	switch strings.ToLower(strings.TrimPrefix(id, "0x")) {
	case "738c":
		return "MI100"
	case "740f":
		return "MI210"
	case "7408", "740c":
		return "MI250X"
	case "74a0":
		return "MI300A"
	case "74a1", "74b5":
		return "MI300X"
	case "74a2":
		return "MI308X"
	case "74a5":
		return "MI325X"
	case "75a0":
		return "MI350X"
	case "75a3":
		return "MI355X"
	default:
		return ""
	}
}

// gaudi reads the extended resource; NFD tells the model where it is set to
// show PCI device ids.
func (r *reader) gaudi() []Device {
	u := r.units(resourceGaudi)
	present, id := r.pci(pciHabana, true)
	if present && !u.known {
		r.problem("the node has an Intel Gaudi accelerator, but no device plugin says how many; install the Intel Gaudi operator")
	}
	model := gaudiModel(id)
	source := SourceResource
	if model != "" {
		source = SourceLabel
	}
	return r.repeat("intel-hpu", u.capacity, Device{
		Vendor: "intel", Kind: KindHPU, Model: model, Resource: resourceGaudi, Health: r.health(resourceGaudi, u), Source: source,
	})
}

func gaudiModel(id string) string {
	n, err := strconv.ParseUint(id, 16, 16)
	if err != nil {
		return ""
	}
	switch n & 0xfff0 {
	case 0x1000, 0x1010:
		return "Gaudi"
	case 0x1020:
		return "Gaudi2"
	case 0x1060:
		return "Gaudi3"
	default:
		return ""
	}
}
