package accel

import (
	"bytes"
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/budecosystem/budcluster/agent/internal/sysfs"
)

// AMD is a GPU that the driver amdgpu has.
type AMD struct {
	// PCI is its place, e.g. 0000:c1:00.0, by which it is the same everywhere.
	PCI string `json:"pci"`
	// Card is its name among the displays, e.g. card1. It may change at boot.
	Card     string `json:"card"`
	NUMANode *int32 `json:"numaNode,omitempty"`
	// Product and Serial are the board's, which only server cards tell.
	Product string `json:"product,omitempty"`
	Serial  string `json:"serial,omitempty"`
	// UniqueID is the chip's, 16 hexadecimal digits; GFX9 and newer have one.
	UniqueID  string `json:"uniqueId,omitempty"`
	VRAMBytes *int64 `json:"vramBytes,omitempty"`
	VBIOS     string `json:"vbios,omitempty"`
	// Driver is the module's version, which the kernel's own amdgpu does not
	// have; then the kernel is its version.
	Driver string `json:"driver,omitempty"`
	// GFX is the instruction set that kernels are compiled for, e.g. gfx942.
	GFX string `json:"gfx,omitempty"`
	// ComputePartition and MemoryPartition are the modes of MI300 and newer,
	// such as SPX or CPX, and NPS1. Partitions counts what programs see as one
	// device each.
	ComputePartition string `json:"computePartition,omitempty"`
	MemoryPartition  string `json:"memoryPartition,omitempty"`
	Partitions       int32  `json:"partitions,omitempty"`
	// Hive names the GPUs that xGMI joins, 16 hexadecimal digits.
	Hive  string `json:"hive,omitempty"`
	Links []XGMI `json:"links,omitempty"`
}

// XGMI is a link to another GPU.
type XGMI struct {
	// To is the other's place on PCI.
	To string `json:"to"`
	// Weight is the driver's measure of distance; equal links have equal ones.
	Weight int32 `json:"weight,omitempty"`
	// BytesPerSecond is the highest bandwidth in one direction.
	BytesPerSecond *int64 `json:"bytesPerSecond,omitempty"`
}

// AMDState is how a GPU is doing.
type AMDState struct {
	PCI string `json:"pci"`
	// Suspended is true for a GPU that sleeps. Reading more would wake it.
	Suspended     bool   `json:"suspended,omitempty"`
	VRAMUsedBytes *int64 `json:"vramUsedBytes,omitempty"`
	// BusyPercent is the load of the engines, MemoryBusyPercent that of the
	// memory controller. Not every generation tells both.
	BusyPercent       *int32        `json:"busyPercent,omitempty"`
	MemoryBusyPercent *int32        `json:"memoryBusyPercent,omitempty"`
	Temperatures      []Temperature `json:"temperatures,omitempty"`
	Watts             *float64      `json:"watts,omitempty"`
	CapWatts          *float64      `json:"capWatts,omitempty"`
	// Errors are the counts since the driver was loaded, of each block of the
	// chip that counts them; umc is the memory.
	Errors []RAS `json:"errors,omitempty"`
}

// RAS counts the errors of one block of a GPU.
type RAS struct {
	Block         string `json:"block"`
	Correctable   int64  `json:"correctable"`
	Uncorrectable int64  `json:"uncorrectable"`
	// Deferred were found in data that nobody has used yet. Only the memory of
	// newer GPUs counts them.
	Deferred *int64 `json:"deferred,omitempty"`
}

const (
	drmDir = "sys/class/drm"
	pciDir = "sys/bus/pci/devices/"

	// maxVRAM is more than any device has: 16 TiB.
	maxVRAM = 16 << 40
)

// amd finds the GPUs. The files of a device are described in
// Documentation/gpu/amdgpu/driver-misc.rst and, where it points, in
// drivers/gpu/drm/amd/{amdgpu/amdgpu_vram_mgr.c,amdgpu/amdgpu_fru_eeprom.c,pm/amdgpu_pm.c}.
func (r *reader) amd() []AMD {
	var gpus []AMD
	for _, card := range r.Numbered(drmDir, "card") {
		dir := drmDir + "/" + card + "/device"
		pci := r.LinkName(dir)
		// The partitions of a GPU are cards too, of a device that is not on PCI.
		if r.LinkName(dir+"/driver") != "amdgpu" || !sysfs.PCIAddress(pci) {
			continue
		}
		gpus = append(gpus, AMD{
			PCI: pci, Card: card, NUMANode: r.NUMANode(dir + "/numa_node"),
			Product: r.Text(dir + "/product_name"), Serial: r.Text(dir + "/serial_number"), UniqueID: r.uniqueID(dir + "/unique_id"),
			VRAMBytes: r.Int(dir+"/mem_info_vram_total", 0, maxVRAM), VBIOS: r.Text(dir + "/vbios_version"),
			Driver: r.Text("sys/module/amdgpu/version"), ComputePartition: r.Text(dir + "/current_compute_partition"),
			MemoryPartition: r.Text(dir + "/current_memory_partition"),
		})
	}
	if len(gpus) > 0 {
		r.addTopology(gpus)
	}
	slices.SortFunc(gpus, func(a, b AMD) int { return strings.Compare(a.PCI, b.PCI) })
	return gpus
}

// uniqueID reads 16 hexadecimal digits without a prefix.
func (r *reader) uniqueID(file string) string {
	data := r.Bytes(file)
	if data == nil {
		return ""
	}
	id := bytes.TrimSpace(data)
	if n, err := strconv.ParseUint(string(id), 16, 64); err != nil || len(id) != 16 || n == 0 {
		r.Problem("/%s is %s and not 16 hexadecimal digits, so it is ignored", file, sysfs.Quote(data))
		return ""
	}
	return string(id)
}

func (r *reader) amdState(gpu AMD) AMDState {
	dir := pciDir + gpu.PCI
	state := AMDState{PCI: gpu.PCI}
	if r.Text(dir+"/power/runtime_status") == "suspended" {
		state.Suspended = true
		return state
	}
	state.VRAMUsedBytes = r.Int(dir+"/mem_info_vram_used", 0, maxVRAM)
	state.BusyPercent = r.Int32(dir+"/gpu_busy_percent", 0, 100)
	state.MemoryBusyPercent = r.Int32(dir+"/mem_busy_percent", 0, 100)
	s := r.hwmon(dir)
	state.Temperatures, state.Watts, state.CapWatts = s.temperatures, s.watts, s.capWatts
	for _, file := range r.Names(dir + "/ras") {
		block, ok := strings.CutSuffix(file, "_err_count")
		if !ok {
			continue
		}
		data := r.Bytes(dir + "/ras/" + file)
		if data == nil {
			continue
		}
		count, ok := parseRAS(data)
		if !ok {
			r.Problem("/%s/ras/%s is %s and not counts such as ue: 0 and ce: 0, so they are unknown", dir, file, sysfs.Quote(data))
			continue
		}
		count.Block = block
		state.Errors = append(state.Errors, count)
	}
	return state
}

// parseRAS reads "ue: 0" and "ce: 0" in lines of their own, and of some blocks
// "de: 0" (Documentation/gpu/amdgpu/ras.rst; amdgpu_ras_sysfs_read in
// drivers/gpu/drm/amd/amdgpu/amdgpu_ras.c).
func parseRAS(data []byte) (RAS, bool) {
	var count RAS
	var ue, ce *int64
	for line := range bytes.Lines(data) {
		name, value, ok := bytes.Cut(line, []byte(":"))
		n, err := strconv.ParseInt(string(bytes.TrimSpace(value)), 10, 64)
		if !ok || err != nil || n < 0 {
			return RAS{}, false
		}
		switch string(bytes.TrimSpace(name)) {
		case "ue":
			ue = &n
		case "ce":
			ce = &n
		case "de":
			count.Deferred = &n
		}
	}
	if ue == nil || ce == nil {
		return RAS{}, false
	}
	count.Uncorrectable, count.Correctable = *ue, *ce
	return count, true
}

// compareLinks orders links by where they lead.
func compareLinks(a, b XGMI) int {
	return cmp.Or(strings.Compare(a.To, b.To), cmp.Compare(a.Weight, b.Weight))
}
