package gpumetric

import (
	"github.com/budecosystem/budcluster/agent/internal/gpu"
	"github.com/budecosystem/budcluster/agent/internal/metric"
)

// dcgmLabels are those of dcgm-exporter, in its order.
func dcgmLabels() []string {
	return []string{
		"gpu", "UUID", "pci_bus_id", "device", "modelName", "GPU_I_PROFILE", "GPU_I_ID", "Hostname", "DCGM_FI_DRIVER_VERSION",
		"namespace", "pod", "container",
	}
}

// mebi is a MiB, in which DCGM has framebuffer memory.
const mebi = 1 << 20

// dcgm are the fields of DCGM that NVML can give, with DCGM's units: °C, W, mJ,
// MHz, percent, MiB. Field names and units are those of DCGM's field list
// (dcgm_fields.h), types those of dcgm-exporter's counters.
func dcgm() []figure {
	field := func(t metric.Type, name, help string, read func(*gpu.Device, *gpu.Sample) (float64, bool)) figure {
		return figure{desc: metric.Desc{Name: "DCGM_FI_DEV_" + name, Help: help, Type: t, Labels: dcgmLabels(), Foreign: true}, read: read}
	}
	return append(memoryFields(field), []figure{
		field(metric.Gauge, "SM_CLOCK", "SM clock frequency (in MHz).", of(func(s *gpu.Sample) gpu.Value[uint32] { return s.Clocks.SM }, 1)),
		field(metric.Gauge, "MEM_CLOCK", "Memory clock frequency (in MHz).", of(func(s *gpu.Sample) gpu.Value[uint32] { return s.Clocks.Memory }, 1)),
		field(metric.Gauge, "GPU_TEMP", "GPU temperature (in C).", of(func(s *gpu.Sample) gpu.Value[uint32] { return s.Temperature.GPU }, 1)),
		field(metric.Gauge, "MEMORY_TEMP", "Memory temperature (in C).", of(func(s *gpu.Sample) gpu.Value[uint32] { return s.Temperature.Memory }, 1)),
		field(metric.Gauge, "POWER_USAGE", "Power draw (in W).", of(func(s *gpu.Sample) gpu.Value[uint32] { return s.PowerMilliwatts }, milli)),
		field(metric.Gauge, "POWER_MGMT_LIMIT", "Power limit (in W).", of(func(s *gpu.Sample) gpu.Value[uint32] { return s.PowerLimitMilliwatts }, milli)),
		field(metric.Counter, "TOTAL_ENERGY_CONSUMPTION", "Energy since the driver was loaded (in mJ).", of(func(s *gpu.Sample) gpu.Value[uint64] { return s.EnergyMillijoules }, 1)),
		field(metric.Counter, "PCIE_REPLAY_COUNTER", "PCIe retries.", of(func(s *gpu.Sample) gpu.Value[uint64] { return s.PCIe.Replays }, 1)),
		field(metric.Gauge, "PSTATE", "Performance state.", of(func(s *gpu.Sample) gpu.Value[uint32] { return s.PerformanceState }, 1)),
		field(metric.Gauge, "GPU_UTIL", "GPU utilization (in %).", of(func(s *gpu.Sample) gpu.Value[uint32] { return s.Utilization.GPU }, 1)),
		field(metric.Gauge, "MEM_COPY_UTIL", "Memory utilization (in %).", of(func(s *gpu.Sample) gpu.Value[uint32] { return s.Utilization.Memory }, 1)),
		field(metric.Gauge, "ENC_UTIL", "Encoder utilization (in %).", of(func(s *gpu.Sample) gpu.Value[uint32] { return s.Utilization.Encoder }, 1)),
		field(metric.Gauge, "DEC_UTIL", "Decoder utilization (in %).", of(func(s *gpu.Sample) gpu.Value[uint32] { return s.Utilization.Decoder }, 1)),
		field(metric.Counter, "ECC_SBE_VOL_TOTAL", "Corrected memory errors since the driver was loaded.", of(func(s *gpu.Sample) gpu.Value[uint64] { return s.ECC.Volatile.Corrected }, 1)),
		field(metric.Counter, "ECC_DBE_VOL_TOTAL", "Uncorrected memory errors since the driver was loaded.", of(func(s *gpu.Sample) gpu.Value[uint64] { return s.ECC.Volatile.Uncorrected }, 1)),
		field(metric.Counter, "ECC_SBE_AGG_TOTAL", "Corrected memory errors in the life of the device.", of(func(s *gpu.Sample) gpu.Value[uint64] { return s.ECC.Aggregate.Corrected }, 1)),
		field(metric.Counter, "ECC_DBE_AGG_TOTAL", "Uncorrected memory errors in the life of the device.", of(func(s *gpu.Sample) gpu.Value[uint64] { return s.ECC.Aggregate.Uncorrected }, 1)),
		field(metric.Counter, "RETIRED_SBE", "Pages retired for corrected errors.", of(func(s *gpu.Sample) gpu.Value[uint64] { return s.RetiredPages.SingleBit }, 1)),
		field(metric.Counter, "RETIRED_DBE", "Pages retired for uncorrected errors.", of(func(s *gpu.Sample) gpu.Value[uint64] { return s.RetiredPages.DoubleBit }, 1)),
		field(metric.Counter, "CORRECTABLE_REMAPPED_ROWS", "Rows remapped for corrected errors.", of(func(s *gpu.Sample) gpu.Value[uint64] { return s.RemappedRows.Corrected }, 1)),
		field(metric.Counter, "UNCORRECTABLE_REMAPPED_ROWS", "Rows remapped for uncorrected errors.", of(func(s *gpu.Sample) gpu.Value[uint64] { return s.RemappedRows.Uncorrected }, 1)),
		field(metric.Gauge, "ROW_REMAP_FAILURE", "Whether remapping of rows has failed.", flag(func(s *gpu.Sample) gpu.Value[bool] { return s.RemappedRows.Failed })),
		field(metric.Gauge, "CLOCK_THROTTLE_REASONS", "Bits of the reasons why the clocks are not higher.", of(func(s *gpu.Sample) gpu.Value[uint64] {
			return gpu.Value[uint64]{V: uint64(s.Throttle.V), Known: s.Throttle.Known}
		}, 1)),
	}...)
}

// memoryFigures is how many there are of memoryFields, which come first: an
// instance has them, too.
const memoryFigures = 4

func memoryFields(field func(t metric.Type, name, help string, read func(*gpu.Device, *gpu.Sample) (float64, bool)) figure) []figure {
	return []figure{
		field(metric.Gauge, "FB_TOTAL", "Framebuffer memory (in MiB).", of(func(s *gpu.Sample) gpu.Value[uint64] { return s.Memory.Total }, mebi)),
		field(metric.Gauge, "FB_USED", "Framebuffer memory used (in MiB).", of(func(s *gpu.Sample) gpu.Value[uint64] { return s.Memory.Used }, mebi)),
		field(metric.Gauge, "FB_FREE", "Framebuffer memory free (in MiB).", of(func(s *gpu.Sample) gpu.Value[uint64] { return s.Memory.Free }, mebi)),
		field(metric.Gauge, "FB_RESERVED", "Framebuffer memory reserved (in MiB).", of(func(s *gpu.Sample) gpu.Value[uint64] { return s.Memory.Reserved }, mebi)),
	}
}
