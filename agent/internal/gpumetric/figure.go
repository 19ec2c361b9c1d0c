package gpumetric

import (
	"github.com/budecosystem/budcluster/agent/internal/gpu"
	"github.com/budecosystem/budcluster/agent/internal/metric"
)

// figure is one number of a device.
type figure struct {
	desc metric.Desc
	// more are the values of desc's labels after the device's.
	more []string
	// read gives the number in the unit of desc.
	read func(d *gpu.Device, s *gpu.Sample) (float64, bool)
}

type number interface{ ~uint32 | ~uint64 }

// of is a value that a sample may have, by so many for one of the unit. It is
// divided: 41 % times 0.01 is not 0.41.
func of[T number](value func(s *gpu.Sample) gpu.Value[T], by float64) func(*gpu.Device, *gpu.Sample) (float64, bool) {
	return func(_ *gpu.Device, s *gpu.Sample) (float64, bool) {
		v, known := value(s).Get()
		return float64(v) / by, known
	}
}

// hertz is a clock, which NVML has in MHz.
func hertz(value func(s *gpu.Sample) gpu.Value[uint32]) func(*gpu.Device, *gpu.Sample) (float64, bool) {
	return func(_ *gpu.Device, s *gpu.Sample) (float64, bool) {
		v, known := value(s).Get()
		return float64(v) * 1e6, known
	}
}

// flag is 1 for yes and 0 for no.
func flag(value func(s *gpu.Sample) gpu.Value[bool]) func(*gpu.Device, *gpu.Sample) (float64, bool) {
	return func(_ *gpu.Device, s *gpu.Sample) (float64, bool) {
		v, known := value(s).Get()
		if v {
			return 1, known
		}
		return 0, known
	}
}

// throttled is whether a reason holds the clocks down.
func throttled(bit gpu.Throttle) func(*gpu.Device, *gpu.Sample) (float64, bool) {
	return flag(func(s *gpu.Sample) gpu.Value[bool] {
		return gpu.Value[bool]{V: s.Throttle.V&bit != 0, Known: s.Throttle.Known}
	})
}

// How many of NVML's units make one of ours.
const (
	milli   = 1000
	percent = 100
)

// own are our figures. Each has the device's uuid and index as labels, and then
// those that are named.
func own() []figure {
	gauge := func(name, unit, help string, read func(*gpu.Device, *gpu.Sample) (float64, bool), more ...string) figure {
		return ours(metric.Gauge, name, unit, help, read, more...)
	}
	counter := func(name, unit, help string, read func(*gpu.Device, *gpu.Sample) (float64, bool), more ...string) figure {
		return ours(metric.Counter, name, unit, help, read, more...)
	}
	const (
		memory   = "Memory of the device by state: used by programs, free, or reserved by the driver."
		clock    = "Clock of a part of the device."
		busy     = "Share of time in which a part of the device was busy, over the driver's last sample period (1/6 s to 1 s)."
		ecc      = "Errors of the memory since the driver was loaded (volatile) or in the life of the device (aggregate)."
		remapped = "Rows of the memory that were replaced by spare ones, by the kind of error."
		retired  = "Pages of the memory that were taken out of use, by the kind of error."
		traffic  = "Data over PCIe, as the device counts it."
		links    = "Data over all NVLinks, without protocol."
		linkErrs = "Errors on all NVLinks."
		temp     = "Temperature of a part of the device."
		power    = "Power that the device is allowed at most."
	)
	figures := []figure{
		gauge("memory_total_bytes", "bytes", "Memory of the device.", of(func(s *gpu.Sample) gpu.Value[uint64] { return s.Memory.Total }, 1)),
		gauge("memory_bytes", "bytes", memory, of(func(s *gpu.Sample) gpu.Value[uint64] { return s.Memory.Used }, 1), "state", "used"),
		gauge("memory_bytes", "bytes", memory, of(func(s *gpu.Sample) gpu.Value[uint64] { return s.Memory.Free }, 1), "state", "free"),
		gauge("memory_bytes", "bytes", memory, of(func(s *gpu.Sample) gpu.Value[uint64] { return s.Memory.Reserved }, 1), "state", "reserved"),
		gauge("bar1_used_bytes", "bytes", "Part of the window to the memory that is mapped.", of(func(s *gpu.Sample) gpu.Value[uint64] { return s.BAR1.Used }, 1)),
		gauge("power_watts", "watts", "Power that the device draws.", of(func(s *gpu.Sample) gpu.Value[uint32] { return s.PowerMilliwatts }, milli)),
		gauge("power_limit_watts", "watts", power, of(func(s *gpu.Sample) gpu.Value[uint32] { return s.PowerLimitMilliwatts }, milli)),
		counter("energy_joules_total", "joules", "Energy that the device has used since the driver was loaded.", of(func(s *gpu.Sample) gpu.Value[uint64] { return s.EnergyMillijoules }, milli)),
		gauge("temperature_celsius", "celsius", temp, of(func(s *gpu.Sample) gpu.Value[uint32] { return s.Temperature.GPU }, 1), "part", "gpu"),
		gauge("temperature_celsius", "celsius", temp, of(func(s *gpu.Sample) gpu.Value[uint32] { return s.Temperature.Memory }, 1), "part", "memory"),
		gauge("clock_hertz", "hertz", clock, hertz(func(s *gpu.Sample) gpu.Value[uint32] { return s.Clocks.Graphics }), "part", "graphics"),
		gauge("clock_hertz", "hertz", clock, hertz(func(s *gpu.Sample) gpu.Value[uint32] { return s.Clocks.SM }), "part", "sm"),
		gauge("clock_hertz", "hertz", clock, hertz(func(s *gpu.Sample) gpu.Value[uint32] { return s.Clocks.Memory }), "part", "memory"),
		gauge("clock_hertz", "hertz", clock, hertz(func(s *gpu.Sample) gpu.Value[uint32] { return s.Clocks.Video }), "part", "video"),
		gauge("busy_ratio", "ratio", busy, of(func(s *gpu.Sample) gpu.Value[uint32] { return s.Utilization.GPU }, percent), "part", "gpu"),
		gauge("busy_ratio", "ratio", busy, of(func(s *gpu.Sample) gpu.Value[uint32] { return s.Utilization.Memory }, percent), "part", "memory"),
		gauge("busy_ratio", "ratio", busy, of(func(s *gpu.Sample) gpu.Value[uint32] { return s.Utilization.Encoder }, percent), "part", "encoder"),
		gauge("busy_ratio", "ratio", busy, of(func(s *gpu.Sample) gpu.Value[uint32] { return s.Utilization.Decoder }, percent), "part", "decoder"),
		gauge("busy_mean_ratio", "ratio", "Share of time in which something ran on the device, over the whole sample interval.", of(func(s *gpu.Sample) gpu.Value[uint32] { return s.Utilization.Mean }, percent)),
		gauge("busy_peak_ratio", "ratio", "The largest share within the sample interval.", of(func(s *gpu.Sample) gpu.Value[uint32] { return s.Utilization.Peak }, percent)),
		gauge("performance_state", "", "Performance state, from 0 (fastest) to 15.", of(func(s *gpu.Sample) gpu.Value[uint32] { return s.PerformanceState }, 1)),
		counter("ecc_errors_total", "", ecc, of(func(s *gpu.Sample) gpu.Value[uint64] { return s.ECC.Volatile.Corrected }, 1), "scope", "volatile", "kind", "corrected"),
		counter("ecc_errors_total", "", ecc, of(func(s *gpu.Sample) gpu.Value[uint64] { return s.ECC.Volatile.Uncorrected }, 1), "scope", "volatile", "kind", "uncorrected"),
		counter("ecc_errors_total", "", ecc, of(func(s *gpu.Sample) gpu.Value[uint64] { return s.ECC.Aggregate.Corrected }, 1), "scope", "aggregate", "kind", "corrected"),
		counter("ecc_errors_total", "", ecc, of(func(s *gpu.Sample) gpu.Value[uint64] { return s.ECC.Aggregate.Uncorrected }, 1), "scope", "aggregate", "kind", "uncorrected"),
		counter("remapped_rows_total", "", remapped, of(func(s *gpu.Sample) gpu.Value[uint64] { return s.RemappedRows.Corrected }, 1), "kind", "corrected"),
		counter("remapped_rows_total", "", remapped, of(func(s *gpu.Sample) gpu.Value[uint64] { return s.RemappedRows.Uncorrected }, 1), "kind", "uncorrected"),
		gauge("row_remap_pending", "", "1 if a row is replaced at the next reset.", flag(func(s *gpu.Sample) gpu.Value[bool] { return s.RemappedRows.Pending })),
		gauge("row_remap_failed", "", "1 if there was no spare row: the device is to be replaced.", flag(func(s *gpu.Sample) gpu.Value[bool] { return s.RemappedRows.Failed })),
		counter("retired_pages_total", "", retired, of(func(s *gpu.Sample) gpu.Value[uint64] { return s.RetiredPages.SingleBit }, 1), "kind", "single_bit"),
		counter("retired_pages_total", "", retired, of(func(s *gpu.Sample) gpu.Value[uint64] { return s.RetiredPages.DoubleBit }, 1), "kind", "double_bit"),
		gauge("page_retirement_pending", "", "1 if pages are taken out of use at the next reset.", flag(func(s *gpu.Sample) gpu.Value[bool] { return s.RetiredPages.Pending })),
		gauge("pcie_link_generation", "", "Generation of PCIe now; it is lower while the device idles.", of(func(s *gpu.Sample) gpu.Value[uint32] { return s.PCIe.Generation }, 1)),
		gauge("pcie_link_lanes", "", "Lanes of the PCIe link now.", of(func(s *gpu.Sample) gpu.Value[uint32] { return s.PCIe.Width }, 1)),
		counter("pcie_replays_total", "", "Packets that were sent again over PCIe.", of(func(s *gpu.Sample) gpu.Value[uint64] { return s.PCIe.Replays }, 1)),
		counter("pcie_bytes_total", "bytes", traffic, of(func(s *gpu.Sample) gpu.Value[uint64] { return s.PCIe.SentBytes }, 1), "direction", "sent"),
		counter("pcie_bytes_total", "bytes", traffic, of(func(s *gpu.Sample) gpu.Value[uint64] { return s.PCIe.ReceivedBytes }, 1), "direction", "received"),
		counter("nvlink_bytes_total", "bytes", links, of(func(s *gpu.Sample) gpu.Value[uint64] { return s.NVLink.SentBytes }, 1), "direction", "sent"),
		counter("nvlink_bytes_total", "bytes", links, of(func(s *gpu.Sample) gpu.Value[uint64] { return s.NVLink.ReceivedBytes }, 1), "direction", "received"),
		counter("nvlink_errors_total", "", linkErrs, of(func(s *gpu.Sample) gpu.Value[uint64] { return s.NVLink.CRCErrors }, 1), "kind", "crc"),
		counter("nvlink_errors_total", "", linkErrs, of(func(s *gpu.Sample) gpu.Value[uint64] { return s.NVLink.ReplayErrors }, 1), "kind", "replay"),
		counter("nvlink_errors_total", "", linkErrs, of(func(s *gpu.Sample) gpu.Value[uint64] { return s.NVLink.Recovered }, 1), "kind", "recovery"),
		gauge("nvlinks_active", "", "NVLinks that carry data.", activeLinks),
		gauge("processes", "", "Processes that have a context on the device.", processes),
	}
	const held = "1 if the clocks are held down for a reason, by nvidia-smi's names."
	for bit := gpu.ThrottleGPUIdle; bit <= gpu.ThrottleReliability; bit <<= 1 {
		figures = append(figures, gauge("throttle_active", "", held, throttled(bit), "reason", bit.String()))
	}
	return figures
}

// ours makes a figure; more are further labels and their values by turns.
func ours(t metric.Type, name, unit, help string, read func(*gpu.Device, *gpu.Sample) (float64, bool), more ...string) figure {
	f := figure{desc: metric.Desc{Name: "budcluster_gpu_" + name, Help: help, Type: t, Unit: unit, Labels: []string{"uuid", "index"}}, read: read}
	for i := 0; i < len(more); i += 2 {
		f.desc.Labels, f.more = append(f.desc.Labels, more[i]), append(f.more, more[i+1])
	}
	return f
}

func activeLinks(_ *gpu.Device, s *gpu.Sample) (float64, bool) {
	n, known := 0, false
	for _, state := range s.NVLink.Links {
		known = known || state != ""
		if state == gpu.LinkActive {
			n++
		}
	}
	return float64(n), known
}

func processes(_ *gpu.Device, s *gpu.Sample) (float64, bool) {
	return float64(len(s.Processes)), s.ProcessesKnown
}
