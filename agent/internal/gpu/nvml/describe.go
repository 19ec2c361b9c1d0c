//go:build cgo && linux

package nvml

import (
	"fmt"
	"math/bits"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/budecosystem/budcluster/agent/internal/gpu"
)

// Describe reads what does not change, and has the driver tell events of the
// device.
func (d *driver) Describe(id string) (gpu.Device, error) {
	dev, r, err := d.device(id)
	if err != nil {
		return gpu.Device{}, err
	}
	out := gpu.Device{
		ID: id, UUID: id,
		Serial:            text(r, "serial", "nvmlDeviceGetSerial", nvml.Device.GetSerial),
		Model:             text(r, "model", "nvmlDeviceGetName", nvml.Device.GetName),
		Architecture:      architecture(get(r, "architecture", "nvmlDeviceGetArchitecture", nvml.Device.GetArchitecture)),
		ComputeCapability: r.computeCapability(),
		Minor:             count(r, "minor", "nvmlDeviceGetMinorNumber", nvml.Device.GetMinorNumber),
		NUMANode:          r.numaNode(),
		PowerLimits:       r.powerLimits(),
		MaxClocks:         r.clocks("max_clocks", "nvmlDeviceGetMaxClockInfo", nvml.Device.GetMaxClockInfo),
		TemperatureLimits: r.temperatureLimits(),
	}
	pci := get(r, "pci_bus_id", "nvmlDeviceGetPciInfo", nvml.Device.GetPciInfo)
	out.PCIBusID = busID(pci.V)
	out.MaxPCIe.Generation = count(r, "max_pcie.generation", "nvmlDeviceGetMaxPcieLinkGeneration", nvml.Device.GetMaxPcieLinkGeneration)
	out.MaxPCIe.Width = count(r, "max_pcie.width", "nvmlDeviceGetMaxPcieLinkWidth", nvml.Device.GetMaxPcieLinkWidth)
	out.MaxInstances = count(r, "mig.max_instances", "nvmlDeviceGetMaxMigDeviceCount", nvml.Device.GetMaxMigDeviceCount)
	out.Links = r.links()
	dev.instances, dev.fields = out.MaxInstances.V, query(out.Links)
	r.register(d.events, dev)
	if r.replaced {
		return gpu.Device{}, gpu.ErrReplaced
	}
	out.Lost, out.Problems = r.lost, r.problems
	return out, nil
}

// register has the driver tell what happens on the device, once for a handle.
func (r *reader) register(set nvml.EventSet, dev *device) {
	if set == nil || dev.registered == r.device {
		return
	}
	dev.registered = r.device
	const wanted = nvml.EventTypeXidCriticalError | nvml.EventTypeDoubleBitEccError | nvml.EventTypeGpuUnavailableError | nvml.EventTypeGpuRecoveryAction
	supported := get(r, "events", "nvmlDeviceGetSupportedEventTypes", nvml.Device.GetSupportedEventTypes)
	if supported.V&wanted != 0 && r.may("nvmlDeviceRegisterEvents") {
		r.ok("events", r.device.RegisterEvents(supported.V&wanted, set))
	}
}

func (r *reader) computeCapability() string {
	type version struct{ major, minor int }
	v := get(r, "compute_capability", "nvmlDeviceGetCudaComputeCapability", func(d nvml.Device) (version, nvml.Return) {
		major, minor, ret := d.GetCudaComputeCapability()
		return version{major, minor}, ret
	})
	if !v.Known {
		return ""
	}
	return fmt.Sprintf("%d.%d", v.V.major, v.V.minor)
}

// numaNode is the only node that the driver names as near; several are as good as
// none.
func (r *reader) numaNode() (node gpu.Value[uint32]) {
	// go-nvml makes one word for each 8 nodes that it is asked for, and each word
	// holds 64 of them: this asks for 1,024, as many as Linux has at the most.
	near := get(r, "numa_node", "nvmlDeviceGetMemoryAffinity", func(d nvml.Device) ([]uint, nvml.Return) {
		return d.GetMemoryAffinity(1024/8, nvml.AFFINITY_SCOPE_NODE)
	})
	for i, word := range near.V {
		switch {
		case word == 0:
		case node.Known || bits.OnesCount(word) > 1:
			return gpu.Value[uint32]{}
		default:
			node = gpu.Known(uint32(i*bits.UintSize + bits.TrailingZeros(word))) //nolint:gosec // below 1,024
		}
	}
	return node
}

func (r *reader) powerLimits() (l gpu.PowerLimits) {
	type limits struct{ least, most uint32 }
	v := get(r, "power_limits", "nvmlDeviceGetPowerManagementLimitConstraints", func(d nvml.Device) (limits, nvml.Return) {
		least, most, ret := d.GetPowerManagementLimitConstraints()
		return limits{least, most}, ret
	})
	if v.Known {
		l.MinMilliwatts, l.MaxMilliwatts = gpu.Known(v.V.least), gpu.Known(v.V.most)
	}
	l.DefaultMilliwatts = get(r, "power_limits.default", "nvmlDeviceGetPowerManagementDefaultLimit", nvml.Device.GetPowerManagementDefaultLimit)
	return l
}

func (r *reader) temperatureLimits() (l gpu.TemperatureLimits) {
	const f = "nvmlDeviceGetTemperatureThreshold"
	l.Slowdown = get(r, "temperature_limits.slowdown", f, func(d nvml.Device) (uint32, nvml.Return) {
		return d.GetTemperatureThreshold(nvml.TEMPERATURE_THRESHOLD_SLOWDOWN)
	})
	l.Shutdown = get(r, "temperature_limits.shutdown", f, func(d nvml.Device) (uint32, nvml.Return) {
		return d.GetTemperatureThreshold(nvml.TEMPERATURE_THRESHOLD_SHUTDOWN)
	})
	l.MemoryMax = get(r, "temperature_limits.memory_max", f, func(d nvml.Device) (uint32, nvml.Return) {
		return d.GetTemperatureThreshold(nvml.TEMPERATURE_THRESHOLD_MEM_MAX)
	})
	return l
}

// links lists the NVLinks. The peer of a link that is not connected is unknown.
func (r *reader) links() []gpu.Link {
	n := r.linkCount()
	var links []gpu.Link
	for i := range n {
		link := gpu.Link{Number: i}
		link.Version = get(r, "nvlink.version", "nvmlDeviceGetNvLinkVersion", func(d nvml.Device) (uint32, nvml.Return) {
			return d.GetNvLinkVersion(i)
		})
		remote := get(r, "nvlink.peer", "nvmlDeviceGetNvLinkRemotePciInfo", func(d nvml.Device) (nvml.PciInfo, nvml.Return) {
			return d.GetNvLinkRemotePciInfo(i)
		})
		link.PeerPCIBusID = busID(remote.V)
		link.Peer = peer(get(r, "nvlink.peer", "nvmlDeviceGetNvLinkRemoteDeviceType", func(d nvml.Device) (nvml.IntNvLinkDeviceType, nvml.Return) {
			return d.GetNvLinkRemoteDeviceType(i)
		}))
		links = append(links, link)
	}
	return links
}

func (r *reader) linkCount() int {
	fields := []nvml.FieldValue{{FieldId: nvml.FI_DEV_NVLINK_LINK_COUNT}}
	if !r.may("nvmlDeviceGetFieldValues") || !r.ok("nvlink", r.device.GetFieldValues(fields)) {
		return 0
	}
	n, _ := r.field(fields[0])
	return int(min(n, nvml.NVLINK_MAX_LINKS)) //nolint:gosec // bounded
}

func peer(kind gpu.Value[nvml.IntNvLinkDeviceType]) gpu.Peer {
	switch {
	case !kind.Known:
		return ""
	case kind.V == nvml.NVLINK_DEVICE_TYPE_GPU:
		return gpu.PeerGPU
	case kind.V == nvml.NVLINK_DEVICE_TYPE_SWITCH:
		return gpu.PeerSwitch
	case kind.V == nvml.NVLINK_DEVICE_TYPE_IBMNPU:
		return gpu.PeerNPU
	default:
		return ""
	}
}

// busID is the bus id of a PCI device, which NVML ends with a zero.
func busID(info nvml.PciInfo) string {
	var id []byte
	for _, c := range info.BusId {
		if c == 0 {
			break
		}
		id = append(id, byte(c))
	}
	return clean(string(id))
}

func architecture(a gpu.Value[nvml.DeviceArchitecture]) string {
	if !a.Known {
		return ""
	}
	switch a.V {
	case nvml.DEVICE_ARCH_KEPLER:
		return "Kepler"
	case nvml.DEVICE_ARCH_MAXWELL:
		return "Maxwell"
	case nvml.DEVICE_ARCH_PASCAL:
		return "Pascal"
	case nvml.DEVICE_ARCH_VOLTA:
		return "Volta"
	case nvml.DEVICE_ARCH_TURING:
		return "Turing"
	case nvml.DEVICE_ARCH_AMPERE:
		return "Ampere"
	case nvml.DEVICE_ARCH_ADA:
		return "Ada"
	case nvml.DEVICE_ARCH_HOPPER:
		return "Hopper"
	case nvml.DEVICE_ARCH_BLACKWELL:
		return "Blackwell"
	case nvml.DEVICE_ARCH_RUBIN:
		return "Rubin"
	default:
		return ""
	}
}
