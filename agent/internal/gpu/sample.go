package gpu

import (
	"strings"
	"time"
)

// Sample is what changes about a GPU, as it was at one moment. Counters only
// grow, and start anew when the driver is loaded, if nothing else is said.
type Sample struct {
	At time.Time
	// Lost: the device has fallen off the bus; no number is known.
	Lost   bool
	Memory Memory
	// BAR1 is the window through which CPU and other devices reach the memory; it
	// has no reserved part.
	BAR1            Memory
	PowerMilliwatts Value[uint32]
	// PowerLimitMilliwatts is the one that is enforced.
	PowerLimitMilliwatts Value[uint32]
	EnergyMillijoules    Value[uint64] // counter
	Temperature          Temperature
	Clocks               Clocks
	// PerformanceState is from 0, the fastest, to 15.
	PerformanceState Value[uint32]
	Throttle         Value[Throttle]
	Utilization      Utilization
	ECC              ECC
	RetiredPages     RetiredPages
	RemappedRows     RemappedRows
	RecoveryAction   Value[RecoveryAction]
	PCIe             PCIe
	NVLink           NVLink
	MIG              MIG
	// Processes are those with a context on the device or on an instance of it, as
	// the host counts process ids. Nil and unknown unless ProcessesKnown.
	Processes      []Process
	ProcessesKnown bool
	Problems       []Problem
}

// Memory is in bytes. Used has no part in Reserved where that is known; drivers
// before 510 count what they reserve as used.
type Memory struct {
	Total, Reserved, Used, Free Value[uint64]
}

// Temperature is in °C.
type Temperature struct {
	GPU, Memory Value[uint32]
}

// Clocks are in MHz.
type Clocks struct {
	Graphics, SM, Memory, Video Value[uint32]
}

// Utilization is in percent of time. It says that something ran, not how much of
// the device it took.
type Utilization struct {
	// GPU and Memory are of the driver's last sample period, between 1/6 s and 1 s.
	GPU, Memory, Encoder, Decoder Value[uint32]
	// Mean and Peak are over all of the driver's samples of GPU since the last
	// Sample of this device, so that no interval hides what happened in it.
	Mean, Peak Value[uint32]
}

// ECC counts errors of the memory. Volatile ones since the driver was loaded,
// Aggregate ones in the life of the device.
type ECC struct {
	Volatile, Aggregate ErrorCounts
}

// ErrorCounts are counters.
type ErrorCounts struct {
	Corrected, Uncorrected Value[uint64]
}

// RetiredPages are taken out of use for good: on GPUs before Ampere.
type RetiredPages struct {
	SingleBit, DoubleBit Value[uint64]
	// Pending: a reset is needed to take out more.
	Pending Value[bool]
}

// RemappedRows are replaced by spare ones: on Ampere and later.
type RemappedRows struct {
	Corrected, Uncorrected Value[uint64] // by the kind of error that was the cause
	// Pending: a reset is needed to replace more.
	Pending Value[bool]
	// Failed: there was no spare row. The device is to be replaced.
	Failed Value[bool]
}

// PCIe is the link as it is now: it is slower while the device idles.
type PCIe struct {
	PCIeLink
	Replays Value[uint64] // counter
	// SentBytes and ReceivedBytes are the device's counters, which wrap.
	SentBytes, ReceivedBytes Value[uint64]
	// SentPerSecond and ReceivedPerSecond are in bytes, over 20 ms, and known only
	// of a device that does not count.
	SentPerSecond, ReceivedPerSecond Value[uint64]
}

// NVLink adds up the links of a device.
type NVLink struct {
	// Links are in the order of Device.Links.
	Links                              []LinkState
	SentBytes, ReceivedBytes           Value[uint64] // counters of data, without protocol
	CRCErrors, ReplayErrors, Recovered Value[uint64] // counters
}

// LinkState is whether a link carries data.
type LinkState string

// The states of a link; an empty one is unknown.
const (
	LinkInactive LinkState = "Inactive"
	LinkActive   LinkState = "Active"
	LinkSleep    LinkState = "Sleep" // saves power, wakes by itself
	LinkBlocked  LinkState = "Blocked"
)

// MIG is how the device is cut.
type MIG struct {
	// Enabled is now, Pending after the next reset. Unknown: the device has no MIG.
	Enabled, Pending Value[bool]
	Instances        []Instance
}

// Instance is one MIG device: a compute instance within a GPU instance.
type Instance struct {
	UUID                         string
	GPUInstance, ComputeInstance Value[uint32]
	// Profile is of the form 1g.10gb.
	Profile string
	Memory  Memory
}

// Process has a context on a device.
type Process struct {
	PID  uint32
	Kind ProcessKind
	// UsedMemory is in bytes.
	UsedMemory Value[uint64]
	// GPUInstance and ComputeInstance say where it runs, if the device is cut.
	GPUInstance, ComputeInstance Value[uint32]
	// SMUtilization is in percent, over the time since the last Sample.
	SMUtilization Value[uint32]
}

// ProcessKind is what a process uses a device for.
type ProcessKind string

// The kinds of processes.
const (
	ProcessCompute  ProcessKind = "compute"
	ProcessGraphics ProcessKind = "graphics"
	ProcessMPS      ProcessKind = "mps" // through the Multi-Process Service
)

// Throttle is the set of reasons why the clocks are not higher, with the bits of
// nvmlClocksEventReason* in NVML's header.
type Throttle uint64

// The reasons.
const (
	ThrottleGPUIdle Throttle = 1 << iota
	ThrottleApplicationsClocksSetting
	ThrottleSWPowerCap
	ThrottleHWSlowdown
	ThrottleSyncBoost
	ThrottleSWThermalSlowdown
	ThrottleHWThermalSlowdown
	ThrottleHWPowerBrakeSlowdown
	ThrottleDisplayClockSetting
	ThrottleBoardLimit
	ThrottleReliability
)

// throttleNames are in the order of the bits, as nvidia-smi writes them after
// "clocks_event_reasons.".
func throttleNames() []string {
	return []string{
		"gpu_idle", "applications_clocks_setting", "sw_power_cap", "hw_slowdown", "sync_boost", "sw_thermal_slowdown",
		"hw_thermal_slowdown", "hw_power_brake_slowdown", "display_clock_setting", "board_limit", "reliability",
	}
}

// Names lists the reasons by nvidia-smi's names. Bits that have no name yet are
// left out.
func (t Throttle) Names() []string {
	var names []string
	for i, name := range throttleNames() {
		if t&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return names
}

func (t Throttle) String() string { return strings.Join(t.Names(), ",") }

// RecoveryAction is what the driver wants done before a device is used again.
type RecoveryAction uint32

// The actions, numbered as nvmlDeviceGpuRecoveryAction_t.
const (
	RecoveryNone RecoveryAction = iota
	RecoveryReset
	RecoveryReboot
	RecoveryDrainP2P
	RecoveryDrainAndReset
	RecoveryIMEXDomain
	RecoveryBusReset
	RecoverySystemReboot
)

// String says the action in words.
func (a RecoveryAction) String() string {
	switch a {
	case RecoveryNone:
		return "nothing"
	case RecoveryReset:
		return "reset the GPU"
	case RecoveryReboot:
		return "reboot the node"
	case RecoveryDrainP2P:
		return "end the work that uses peer-to-peer memory"
	case RecoveryDrainAndReset:
		return "end the work and reset the GPU"
	case RecoveryIMEXDomain:
		return "recover the IMEX domain"
	case RecoveryBusReset:
		return "reset the PCIe bus of the GPU"
	case RecoverySystemReboot:
		return "reboot the system"
	default:
		return "do what this version does not know"
	}
}
