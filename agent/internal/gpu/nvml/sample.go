//go:build cgo && linux

package nvml

import (
	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/budecosystem/budcluster/agent/internal/gpu"
)

// Sample reads what changes.
func (d *driver) Sample(id string) (gpu.Sample, error) {
	dev, r, err := d.device(id)
	if err != nil {
		return gpu.Sample{}, err
	}
	r.register(d.events, dev)
	s := gpu.Sample{
		Memory:               r.memory("memory"),
		BAR1:                 r.bar1(),
		PowerMilliwatts:      get(r, "power", "nvmlDeviceGetPowerUsage", nvml.Device.GetPowerUsage),
		PowerLimitMilliwatts: get(r, "power.limit", "nvmlDeviceGetEnforcedPowerLimit", nvml.Device.GetEnforcedPowerLimit),
		Clocks:               r.clocks("clocks", "nvmlDeviceGetClockInfo", nvml.Device.GetClockInfo),
		Throttle:             r.throttle(),
		Utilization:          r.utilization(dev),
		MIG:                  r.mode(),
	}
	s.Temperature.GPU = get(r, "temperature.gpu", "nvmlDeviceGetTemperature", func(d nvml.Device) (uint32, nvml.Return) {
		return d.GetTemperature(nvml.TEMPERATURE_GPU)
	})
	if state := get(r, "performance_state", "nvmlDeviceGetPerformanceState", nvml.Device.GetPerformanceState); state.Known && state.V != nvml.PSTATE_UNKNOWN {
		s.PerformanceState = gpu.Known(uint32(state.V)) //nolint:gosec // an enumeration
	}
	s.PCIe.Generation = count(r, "pcie.generation", "nvmlDeviceGetCurrPcieLinkGeneration", nvml.Device.GetCurrPcieLinkGeneration)
	s.PCIe.Width = count(r, "pcie.width", "nvmlDeviceGetCurrPcieLinkWidth", nvml.Device.GetCurrPcieLinkWidth)
	r.fieldValues(&s, dev.fields)
	if !s.PCIe.SentBytes.Known && !s.PCIe.ReceivedBytes.Known {
		s.PCIe.SentPerSecond, s.PCIe.ReceivedPerSecond = r.throughput(nvml.PCIE_UTIL_TX_BYTES), r.throughput(nvml.PCIE_UTIL_RX_BYTES)
	}
	if s.MIG.Enabled.V {
		r.instances(dev, &s)
	} else {
		s.ProcessesKnown = r.processes(&s)
	}
	r.processUtilization(dev, s.Processes)
	switch {
	case r.replaced:
		return gpu.Sample{}, gpu.ErrReplaced
	case r.lost: // nothing that was read on the way down is worth anything
		return gpu.Sample{Lost: true, Problems: r.problems}, nil
	}
	s.Problems = r.problems
	return s, nil
}

// memory asks for the newer form first, which tells what is reserved from what is
// used; drivers have it since 510.
func (r *reader) memory(field string) gpu.Memory {
	if v := get(r, field, "nvmlDeviceGetMemoryInfo_v2", nvml.Device.GetMemoryInfo_v2); v.Known {
		return gpu.Memory{Total: gpu.Known(v.V.Total), Reserved: gpu.Known(v.V.Reserved), Used: gpu.Known(v.V.Used), Free: gpu.Known(v.V.Free)}
	}
	v := get(r, field, "nvmlDeviceGetMemoryInfo", nvml.Device.GetMemoryInfo)
	if !v.Known {
		return gpu.Memory{}
	}
	return gpu.Memory{Total: gpu.Known(v.V.Total), Used: gpu.Known(v.V.Used), Free: gpu.Known(v.V.Free)}
}

func (r *reader) bar1() gpu.Memory {
	v := get(r, "bar1", "nvmlDeviceGetBAR1MemoryInfo", nvml.Device.GetBAR1MemoryInfo)
	if !v.Known {
		return gpu.Memory{}
	}
	return gpu.Memory{Total: gpu.Known(v.V.Bar1Total), Used: gpu.Known(v.V.Bar1Used), Free: gpu.Known(v.V.Bar1Free)}
}

func (r *reader) clocks(field string, f function, call func(nvml.Device, nvml.ClockType) (uint32, nvml.Return)) gpu.Clocks {
	clock := func(kind nvml.ClockType, name string) (v gpu.Value[uint32]) {
		if !r.may(f) {
			return v
		}
		mhz, ret := call(r.device, kind)
		if !r.ok(name, ret) {
			return v
		}
		return gpu.Known(mhz)
	}
	return gpu.Clocks{
		Graphics: clock(nvml.CLOCK_GRAPHICS, field), SM: clock(nvml.CLOCK_SM, field),
		Memory: clock(nvml.CLOCK_MEM, field), Video: clock(nvml.CLOCK_VIDEO, field),
	}
}

// throttle: the function had another name before driver 535.
func (r *reader) throttle() (v gpu.Value[gpu.Throttle]) {
	reasons := get(r, "throttle", "nvmlDeviceGetCurrentClocksEventReasons", nvml.Device.GetCurrentClocksEventReasons)
	if !r.has["nvmlDeviceGetCurrentClocksEventReasons"] {
		reasons = get(r, "throttle", "nvmlDeviceGetCurrentClocksThrottleReasons", nvml.Device.GetCurrentClocksThrottleReasons)
	}
	if !reasons.Known {
		return v
	}
	return gpu.Known(gpu.Throttle(reasons.V))
}

func (r *reader) utilization(dev *device) (u gpu.Utilization) {
	rates := get(r, "utilization", "nvmlDeviceGetUtilizationRates", nvml.Device.GetUtilizationRates)
	if rates.Known {
		u.GPU, u.Memory = gpu.Known(rates.V.Gpu), gpu.Known(rates.V.Memory)
	}
	u.Encoder = get(r, "utilization.encoder", "nvmlDeviceGetEncoderUtilization", func(d nvml.Device) (uint32, nvml.Return) {
		percent, _, ret := d.GetEncoderUtilization()
		return percent, ret
	})
	u.Decoder = get(r, "utilization.decoder", "nvmlDeviceGetDecoderUtilization", func(d nvml.Device) (uint32, nvml.Return) {
		percent, _, ret := d.GetDecoderUtilization()
		return percent, ret
	})
	if !r.may("nvmlDeviceGetSamples") {
		return u
	}
	kind, samples, ret := r.device.GetSamples(nvml.GPU_UTILIZATION_SAMPLES, dev.sampled)
	if ret == nvml.ERROR_NOT_FOUND || !r.ok("utilization.samples", ret) { // not found: none since the last
		return u
	}
	u.Mean, u.Peak = meanAndPeak(kind, samples)
	for _, s := range samples {
		dev.sampled = max(dev.sampled, s.TimeStamp)
	}
	return u
}

// meanAndPeak are of samples in percent. One that is none is left out.
func meanAndPeak(kind nvml.ValueType, samples []nvml.Sample) (mean, peak gpu.Value[uint32]) {
	var sum, most, n uint64
	for _, s := range samples {
		if v, ok := decode(kind, s.SampleValue); ok && v <= 100 {
			sum, most, n = sum+v, max(most, v), n+1
		}
	}
	if n == 0 {
		return mean, peak
	}
	return gpu.Known(uint32((sum + n/2) / n)), gpu.Known(uint32(most)) //nolint:gosec // percent
}

// throughput is in bytes per second. The driver counts for 20 ms before it answers,
// so it is asked only where there are no counters. It says KB, and not of which size.
func (r *reader) throughput(counter nvml.PcieUtilCounter) (v gpu.Value[uint64]) {
	const kilobyte = 1000
	rate := get(r, "pcie.throughput", "nvmlDeviceGetPcieThroughput", func(d nvml.Device) (uint32, nvml.Return) {
		return d.GetPcieThroughput(counter)
	})
	if !rate.Known {
		return v
	}
	return gpu.Known(uint64(rate.V) * kilobyte)
}

// mode is whether the device is cut.
func (r *reader) mode() (m gpu.MIG) {
	type modes struct{ now, pending int }
	v := get(r, "mig", "nvmlDeviceGetMigMode", func(d nvml.Device) (modes, nvml.Return) {
		now, pending, ret := d.GetMigMode()
		return modes{now, pending}, ret
	})
	if v.Known {
		m.Enabled, m.Pending = gpu.Known(v.V.now == nvml.DEVICE_MIG_ENABLE), gpu.Known(v.V.pending == nvml.DEVICE_MIG_ENABLE)
	}
	return m
}
