package host

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/budecosystem/budcluster/agent/internal/sysfs"
	"github.com/budecosystem/budcluster/internal/facts"
)

// CPU is a node's CPUs, which are taken to be alike: what describes a model is
// that of the first one.
type CPU struct {
	// Vendor is intel, amd, arm, ampere and so on.
	Vendor string `json:"vendor,omitempty"`
	// Model is the name that the CPU gives itself. An ARM CPU gives none; it is
	// then the core's, e.g. Neoverse V2.
	Model string `json:"model,omitempty"`
	// Generation is the microarchitecture, e.g. Sapphire Rapids.
	Generation string `json:"generation,omitempty"`
	// Family, Number and Stepping are CPUID's, which only x86 has.
	Family   *int32 `json:"family,omitempty"`
	Number   *int32 `json:"number,omitempty"`
	Stepping *int32 `json:"stepping,omitempty"`
	// Sockets, Cores and Threads count what is online.
	Sockets *int32 `json:"sockets,omitempty"`
	Cores   *int32 `json:"cores,omitempty"`
	Threads *int32 `json:"threads,omitempty"`
	// BaseHz is what all cores hold, MaxHz what one can reach.
	BaseHz *int64 `json:"baseHz,omitempty"`
	MaxHz  *int64 `json:"maxHz,omitempty"`
	// InstructionSets are those that matter for models, sorted.
	InstructionSets []string `json:"instructionSets,omitempty"`
	Caches          []Cache  `json:"caches,omitempty"`
}

// Cache is all caches of one level and kind that are of one size.
type Cache struct {
	Level int32 `json:"level"`
	// Kind is data, instruction or unified.
	Kind      string `json:"kind"`
	SizeBytes int64  `json:"sizeBytes"`
	// SharedBy is how many threads use one of them, and Count how many there
	// are.
	SharedBy int32 `json:"sharedBy"`
	Count    int32 `json:"count"`
}

const (
	cpuDir = "sys/devices/system/cpu/"

	// maxKHz is far above any clock: 100 GHz.
	maxKHz = 100_000_000
	// maxCache is far above any cache: 64 GiB.
	maxCache = 64 << 30
	// maxCacheIndex is above the caches that one CPU has a folder of.
	maxCacheIndex = 16
)

func (r *reader) cpu() CPU {
	data := r.Bytes("proc/cpuinfo")
	info, bad := parseCPUInfo(data)
	if data != nil && info.processors == 0 {
		r.Problem("/proc/cpuinfo names no processor, so what it says is unknown")
	}
	for _, line := range bad {
		r.Problem("/proc/cpuinfo has %s: %s, which is no number, so it is unknown", line[0], line[1])
	}
	cpu := CPU{
		Vendor: info.vendor, Model: info.model, Family: info.family, Number: info.number, Stepping: info.stepping,
		InstructionSets: instructionSets(info.flags), // before the next read: flags point into the file
	}
	if info.implementer != "" {
		cpu.Vendor, cpu.Generation = armCore(info.implementer, info.part)
		cpu.Model = cmp.Or(cpu.Model, cpu.Generation)
	} else {
		cpu.Vendor, cpu.Generation = x86Generation(info)
	}
	r.topology(&cpu, info)
	r.frequency(&cpu)
	return cpu
}

// x86Generation asks package facts, which has the one table of generations, in
// the form of the labels that feature discovery sets.
func x86Generation(info cpuInfo) (vendor, generation string) {
	labels := map[string]string{"feature.node.kubernetes.io/cpu-model.vendor_id": info.vendor}
	if info.family != nil && info.number != nil {
		labels["feature.node.kubernetes.io/cpu-model.family"] = strconv.Itoa(int(*info.family))
		labels["feature.node.kubernetes.io/cpu-model.id"] = strconv.Itoa(int(*info.number))
	}
	devices, _ := facts.DevicesFrom(facts.NodeSource{Labels: labels})
	return devices[0].Vendor, devices[0].Model
}

// armCore names vendor and core by the implementer and part of MIDR_EL1
// (arch/arm64/include/asm/cputype.h). Only cores of servers are named.
func armCore(implementer, part string) (vendor, core string) {
	switch implementer {
	case "0x41":
		vendor = "arm"
	case "0x43":
		vendor = "cavium"
	case "0x46":
		vendor = "fujitsu"
	case "0x48":
		vendor = "hisilicon"
	case "0x4e":
		vendor = "nvidia"
	case "0xc0":
		vendor = "ampere"
	}
	switch vendor + " " + part {
	case "arm 0xd0c":
		core = "Neoverse N1"
	case "arm 0xd40":
		core = "Neoverse V1"
	case "arm 0xd49":
		core = "Neoverse N2"
	case "arm 0xd4f":
		core = "Neoverse V2"
	case "arm 0xd84":
		core = "Neoverse V3"
	case "ampere 0xac3":
		core = "Ampere-1"
	case "ampere 0xac4":
		core = "Ampere-1A"
	case "cavium 0x0af":
		core = "ThunderX2"
	case "hisilicon 0xd01":
		core = "TSV110"
	}
	return vendor, core
}

// topology counts sockets, cores and caches. Of each group of CPUs that share
// one, only the first is asked who else does, so that a node costs one file per
// core and cache and not one per thread.
//
// The groups are those of Documentation/admin-guide/cputopology.rst and
// Documentation/ABI/testing/sysfs-devices-system-cpu. Kernels before 5.3 name
// them siblings.
func (r *reader) topology(cpu *CPU, info cpuInfo) {
	online, ok := r.cpus(cpuDir + "online")
	if !ok || online.size() == 0 {
		cpu.Threads, cpu.Cores, cpu.Sockets = count(info.processors), count(info.cores), count(info.packages)
		return
	}
	cpu.Threads = count(online.size())
	groups := func(names ...string) *int32 {
		var n int32
		for left := online.clone(); left.first() >= 0; n++ {
			shared, ok := r.shared(left.first(), names...)
			if !ok {
				return nil
			}
			left.remove(shared)
		}
		return count(n)
	}
	cpu.Cores = cmp.Or(groups("topology/core_cpus_list", "topology/thread_siblings_list"), count(info.cores))
	cpu.Sockets = cmp.Or(groups("topology/package_cpus_list", "topology/core_siblings_list"), count(info.packages))
	cpu.Caches = r.caches(online)
}

// shared reads who shares something with a CPU, by the first of the names that
// is there. A list without the CPU itself is nonsense, and would never end the
// count.
func (r *reader) shared(cpu int, names ...string) (cpuSet, bool) {
	for _, name := range names {
		file := cpuDir + "cpu" + strconv.Itoa(cpu) + "/" + name
		set, ok := r.cpus(file)
		if !ok {
			continue
		}
		if !set.has(cpu) {
			r.Problem("/%s is %q and lacks CPU %d itself, so it is ignored", file, set.String(), cpu)
			continue
		}
		return set, true
	}
	return nil, false
}

// count is nil for none: a machine has at least one of what is counted.
func count(n int32) *int32 {
	if n == 0 {
		return nil
	}
	return &n
}

// caches reads cpu*/cache/index*: level, type, size and shared_cpu_list
// (Documentation/ABI/testing/sysfs-devices-system-cpu).
func (r *reader) caches(online cpuSet) []Cache {
	found := map[Cache]int32{}
	for index := range maxCacheIndex {
		for left := online.clone(); left.first() >= 0; {
			cpu := left.first()
			dir := "cache/index" + strconv.Itoa(index)
			shared, ok := r.shared(cpu, dir+"/shared_cpu_list")
			if !ok && cpu == online.first() {
				break // there are no more of this index
			}
			if !ok {
				left.remove(cpuSet{}.with(cpu, cpu))
				continue
			}
			left.remove(shared)
			if cache, ok := r.cache(cpuDir + "cpu" + strconv.Itoa(cpu) + "/" + dir + "/"); ok {
				cache.SharedBy = shared.size()
				found[cache]++
			}
		}
	}
	caches := make([]Cache, 0, len(found))
	for cache, n := range found {
		cache.Count = n
		caches = append(caches, cache)
	}
	slices.SortFunc(caches, func(a, b Cache) int {
		return cmp.Or(cmp.Compare(a.Level, b.Level), strings.Compare(a.Kind, b.Kind), cmp.Compare(a.SizeBytes, b.SizeBytes), cmp.Compare(a.SharedBy, b.SharedBy))
	})
	return slices.Clip(caches)
}

func (r *reader) cache(dir string) (Cache, bool) {
	level := r.Int32(dir+"level", 1, 9)
	size := r.size(dir + "size")
	data := r.Bytes(dir + "type")
	if level == nil || size == nil || data == nil {
		return Cache{}, false
	}
	switch kind := strings.ToLower(sysfs.Clean(data)); kind {
	case "data", "instruction", "unified":
		return Cache{Level: *level, Kind: kind, SizeBytes: *size}, true
	default:
		r.Problem("/%stype is %s and not Data, Instruction or Unified, so the cache is ignored", dir, sysfs.Quote(data))
		return Cache{}, false
	}
}

// size reads a cache's size, e.g. 2048K.
func (r *reader) size(name string) *int64 {
	data := r.Bytes(name)
	if data == nil {
		return nil
	}
	size, ok := parseSize(data)
	if !ok {
		r.Problem("/%s is %s and not a size such as 2048K, so the cache is ignored", name, sysfs.Quote(data))
		return nil
	}
	return &size
}

// frequency reads the clocks. Base is base_frequency in kHz where intel_pstate
// has the policy (Documentation/admin-guide/pm/intel_pstate.rst), else what the
// firmware calls nominal, in MHz (Documentation/admin-guide/acpi/cppc_sysfs.rst),
// else what Intel writes behind the name of a model. Max is cpufreq's limit of
// the hardware in kHz (Documentation/admin-guide/pm/cpufreq.rst).
func (r *reader) frequency(cpu *CPU) {
	hz := func(n *int64, unit int64) *int64 {
		if n == nil || *n == 0 {
			return nil
		}
		return new(*n * unit)
	}
	cpu.MaxHz = hz(r.Int(cpuDir+"cpu0/cpufreq/cpuinfo_max_freq", 0, maxKHz), 1000)
	cpu.BaseHz = cmp.Or(
		hz(r.Int(cpuDir+"cpu0/cpufreq/base_frequency", 0, maxKHz), 1000),
		hz(r.Int(cpuDir+"cpu0/acpi_cppc/nominal_freq", 0, maxKHz/1000), 1e6),
		brandHz(cpu.Model),
	)
}

// brandHz reads the clock behind a name: "Intel(R) Xeon(R) Gold 6248R CPU @
// 3.00GHz".
func brandHz(model string) *int64 {
	at := strings.LastIndex(model, "@ ")
	if at < 0 {
		return nil
	}
	number, ok := strings.CutSuffix(model[at+2:], "GHz")
	ghz, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if !ok || err != nil || math.IsNaN(ghz) || ghz <= 0 || ghz >= maxKHz/1e6 {
		return nil
	}
	return new(int64(ghz*1000+0.5) * 1e6)
}
