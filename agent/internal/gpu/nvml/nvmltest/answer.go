package nvmltest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/budecosystem/budcluster/agent/internal/gpu"
)

// answers writes what one device answers. What is unknown is not said, so that the
// stand-in answers that it is not supported.
type answers struct {
	device string
	state  State
}

func (a answers) say(function, format string, args ...any) {
	a.state.Set(a.device, function, format, args...)
}

// number says a value, if it is known.
func number(a answers, function string, v gpu.Value[uint32]) {
	if v.Known {
		a.say(function, "%d", v.V)
	}
}

// field says one of nvmlDeviceGetFieldValues, in NVML's type: 1 unsigned int, 3
// unsigned long long.
func field(a answers, id string, kind int, v gpu.Value[uint64]) {
	if v.Known {
		a.say("nvmlDeviceGetFieldValues."+id, "%d %d", kind, v.V)
	}
}

func flag(v gpu.Value[bool]) gpu.Value[uint64] {
	switch {
	case !v.Known:
		return gpu.Value[uint64]{}
	case v.V:
		return gpu.Known[uint64](1)
	default:
		return gpu.Known[uint64](0)
	}
}

func wide(v gpu.Value[uint32]) gpu.Value[uint64] {
	return gpu.Value[uint64]{V: uint64(v.V), Known: v.Known}
}

func (a answers) describe(d gpu.Device) {
	a.say("nvmlDeviceGetHandleByIndex_v2", "")
	a.say("nvmlDeviceGetUUID", "%s", d.UUID)
	a.say("nvmlDeviceGetSerial", "%s", d.Serial)
	a.say("nvmlDeviceGetName", "%s", d.Model)
	a.say("nvmlDeviceGetArchitecture", "9") // Hopper
	a.say("nvmlDeviceGetCudaComputeCapability", "%s", strings.Replace(d.ComputeCapability, ".", " ", 1))
	a.say("nvmlDeviceGetPciInfo_v3", "%s", d.PCIBusID)
	number(a, "nvmlDeviceGetMinorNumber", d.Minor)
	a.say("nvmlDeviceGetMemoryAffinity", "%d", 1<<d.NUMANode.V)
	a.say("nvmlDeviceGetPowerManagementLimitConstraints", "%d %d", d.PowerLimits.MinMilliwatts.V, d.PowerLimits.MaxMilliwatts.V)
	number(a, "nvmlDeviceGetPowerManagementDefaultLimit", d.PowerLimits.DefaultMilliwatts)
	a.clocks("nvmlDeviceGetMaxClockInfo", d.MaxClocks)
	number(a, "nvmlDeviceGetTemperatureThreshold.0", d.TemperatureLimits.Shutdown)
	number(a, "nvmlDeviceGetTemperatureThreshold.1", d.TemperatureLimits.Slowdown)
	number(a, "nvmlDeviceGetTemperatureThreshold.2", d.TemperatureLimits.MemoryMax)
	number(a, "nvmlDeviceGetMaxPcieLinkGeneration", d.MaxPCIe.Generation)
	number(a, "nvmlDeviceGetMaxPcieLinkWidth", d.MaxPCIe.Width)
	number(a, "nvmlDeviceGetMaxMigDeviceCount", d.MaxInstances)
	a.say("nvmlDeviceGetFieldValues", "")
	a.say("nvmlDeviceGetFieldValues.91", "1 %d", len(d.Links))
	peers := map[gpu.Peer]int{gpu.PeerGPU: 0, gpu.PeerNPU: 1, gpu.PeerSwitch: 2, "": 255}
	for _, l := range d.Links {
		number(a, fmt.Sprintf("nvmlDeviceGetNvLinkVersion.%d", l.Number), l.Version)
		a.say(fmt.Sprintf("nvmlDeviceGetNvLinkRemotePciInfo_v2.%d", l.Number), "%s", l.PeerPCIBusID)
		a.say(fmt.Sprintf("nvmlDeviceGetNvLinkRemoteDeviceType.%d", l.Number), "%d", peers[l.Peer])
	}
	a.say("nvmlDeviceGetSupportedEventTypes", "%d", 1|2|4|8|16)
	a.say("nvmlDeviceRegisterEvents", "")
}

func (a answers) clocks(function string, c gpu.Clocks) {
	number(a, function+".0", c.Graphics)
	number(a, function+".1", c.SM)
	number(a, function+".2", c.Memory)
	number(a, function+".3", c.Video)
}

func (a answers) memory(m gpu.Memory) {
	if m.Total.Known {
		a.say("nvmlDeviceGetMemoryInfo_v2", "%d %d %d %d", m.Total.V, m.Reserved.V, m.Free.V, m.Used.V)
		a.say("nvmlDeviceGetMemoryInfo", "%d %d %d", m.Total.V, m.Free.V, m.Used.V+m.Reserved.V)
	}
}

func (a answers) sample(s gpu.Sample) {
	a.memory(s.Memory)
	if s.BAR1.Total.Known {
		a.say("nvmlDeviceGetBAR1MemoryInfo", "%d %d %d", s.BAR1.Total.V, s.BAR1.Free.V, s.BAR1.Used.V)
	}
	number(a, "nvmlDeviceGetPowerUsage", s.PowerMilliwatts)
	number(a, "nvmlDeviceGetEnforcedPowerLimit", s.PowerLimitMilliwatts)
	number(a, "nvmlDeviceGetTemperature.0", s.Temperature.GPU)
	a.clocks("nvmlDeviceGetClockInfo", s.Clocks)
	number(a, "nvmlDeviceGetPerformanceState", s.PerformanceState)
	if s.Throttle.Known { // by both names
		a.say("nvmlDeviceGetCurrentClocksEventReasons", "%d", uint64(s.Throttle.V))
		a.say("nvmlDeviceGetCurrentClocksThrottleReasons", "%d", uint64(s.Throttle.V))
	}
	a.utilization(s.Utilization)
	number(a, "nvmlDeviceGetCurrPcieLinkGeneration", s.PCIe.Generation)
	number(a, "nvmlDeviceGetCurrPcieLinkWidth", s.PCIe.Width)
	if s.PCIe.SentPerSecond.Known { // in KB
		a.say("nvmlDeviceGetPcieThroughput.0", "%d", s.PCIe.SentPerSecond.V/1000)
		a.say("nvmlDeviceGetPcieThroughput.1", "%d", s.PCIe.ReceivedPerSecond.V/1000)
	}
	if s.MIG.Enabled.Known {
		a.say("nvmlDeviceGetMigMode", "%d %d", flag(s.MIG.Enabled).V, flag(s.MIG.Pending).V)
	}
	a.fields(s)
	if s.ProcessesKnown && !s.MIG.Enabled.V {
		a.processes(s.Processes)
	}
	var shares []string
	for _, p := range s.Processes {
		if p.SMUtilization.Known {
			shares = append(shares, fmt.Sprintf("%d %d %d", p.PID, a.now(), p.SMUtilization.V))
		}
	}
	a.say("nvmlDeviceGetProcessUtilization", "%s", strings.Join(shares, " "))
}

// now is after all that was said before.
func (a answers) now() int { return 1_000_000 * (edition + 1) }

func (a answers) utilization(u gpu.Utilization) {
	if u.GPU.Known {
		a.say("nvmlDeviceGetUtilizationRates", "%d %d", u.GPU.V, u.Memory.V)
	}
	if u.Encoder.Known {
		a.say("nvmlDeviceGetEncoderUtilization", "%d 200000", u.Encoder.V)
	}
	if u.Decoder.Known {
		a.say("nvmlDeviceGetDecoderUtilization", "%d 200000", u.Decoder.V)
	}
	if u.Mean.Known { // two samples with that mean and peak
		a.say("nvmlDeviceGetSamples.1", "%d %d %d %d", a.now(), u.Peak.V, a.now()+1, 2*u.Mean.V-u.Peak.V)
	}
}

func (a answers) fields(s gpu.Sample) {
	field(a, "82", 1, wide(s.Temperature.Memory))
	field(a, "83", 3, s.EnergyMillijoules)
	field(a, "3", 3, s.ECC.Volatile.Corrected)
	field(a, "4", 3, s.ECC.Volatile.Uncorrected)
	field(a, "5", 3, s.ECC.Aggregate.Corrected)
	field(a, "6", 3, s.ECC.Aggregate.Uncorrected)
	field(a, "29", 3, s.RetiredPages.SingleBit)
	field(a, "30", 3, s.RetiredPages.DoubleBit)
	field(a, "31", 1, flag(s.RetiredPages.Pending))
	field(a, "142", 1, s.RemappedRows.Corrected)
	field(a, "143", 1, s.RemappedRows.Uncorrected)
	field(a, "144", 1, flag(s.RemappedRows.Pending))
	field(a, "145", 1, flag(s.RemappedRows.Failed))
	field(a, "94", 3, s.PCIe.Replays)
	field(a, "197", 3, s.PCIe.SentBytes)
	field(a, "198", 3, s.PCIe.ReceivedBytes)
	field(a, "230", 1, gpu.Value[uint64]{V: uint64(s.RecoveryAction.V), Known: s.RecoveryAction.Known})
	const all, kib = "4294967295", 1024
	field(a, "138."+all, 3, gpu.Value[uint64]{V: s.NVLink.SentBytes.V / kib, Known: s.NVLink.SentBytes.Known})
	field(a, "139."+all, 3, gpu.Value[uint64]{V: s.NVLink.ReceivedBytes.V / kib, Known: s.NVLink.ReceivedBytes.Known})
	field(a, "38."+all, 3, s.NVLink.CRCErrors)
	field(a, "52."+all, 3, s.NVLink.ReplayErrors)
	field(a, "59."+all, 3, s.NVLink.Recovered)
	for i, state := range s.NVLink.Links {
		n := slices.Index([]gpu.LinkState{gpu.LinkInactive, gpu.LinkActive, gpu.LinkSleep, gpu.LinkBlocked}, state)
		id := fmt.Sprintf("165.%d", i)
		if i == 0 {
			id = "165"
		}
		field(a, id, 1, gpu.Value[uint64]{V: uint64(max(n, 0)), Known: n >= 0})
	}
}

func (a answers) processes(processes []gpu.Process) {
	lists := map[gpu.ProcessKind][]string{gpu.ProcessCompute: nil, gpu.ProcessGraphics: nil, gpu.ProcessMPS: nil}
	for _, p := range processes {
		memory := uint64(1<<64 - 1) // not available
		if p.UsedMemory.Known {
			memory = p.UsedMemory.V
		}
		lists[p.Kind] = append(lists[p.Kind], fmt.Sprintf("%d %d %d %d", p.PID, memory, uint32(none), uint32(none)))
	}
	a.say("nvmlDeviceGetComputeRunningProcesses_v3", "%s", strings.Join(lists[gpu.ProcessCompute], " "))
	a.say("nvmlDeviceGetGraphicsRunningProcesses_v3", "%s", strings.Join(lists[gpu.ProcessGraphics], " "))
	a.say("nvmlDeviceGetMPSComputeRunningProcesses_v3", "%s", strings.Join(lists[gpu.ProcessMPS], " "))
}

func (a answers) instance(model string, i gpu.Instance, processes []gpu.Process) {
	a.say("nvmlDeviceGetMigDeviceHandleByIndex", "")
	a.say("nvmlDeviceGetUUID", "%s", i.UUID)
	a.say("nvmlDeviceGetName", "%s MIG %s", model, i.Profile)
	number(a, "nvmlDeviceGetGpuInstanceId", i.GPUInstance)
	number(a, "nvmlDeviceGetComputeInstanceId", i.ComputeInstance)
	a.memory(i.Memory)
	var own []gpu.Process
	for _, p := range processes {
		if p.GPUInstance == i.GPUInstance {
			own = append(own, p)
		}
	}
	a.processes(own)
}
