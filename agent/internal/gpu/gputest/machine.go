package gputest

import (
	"fmt"

	"github.com/budecosystem/budcluster/agent/internal/gpu"
)

const (
	gib  = 1 << 30
	gpus = 8
)

// Machine is a node with eight GPUs that a test can change, before and while a
// Source reads them.
type Machine interface {
	// Open is for gpu.NewOpener.
	Open() (gpu.Driver, gpu.Absence, error)
	// Set makes the device look so from now on.
	Set(index int, s gpu.Sample)
	// Fail has the driver fail to read one field of a device: "power".
	Fail(index int, field string)
	// Lose has a device fall off the bus, and Recover brings it back.
	Lose(index int)
	Recover(index int)
	// Remove takes the last device out.
	Remove()
	// Emit has something happen.
	Emit(e gpu.Event)
	// Hang has Sample of a device not come back until it is released.
	Hang(index int) (release func())
}

// Inventory is what the machine of the suite has: eight GPUs of one kind, joined by
// NVLink through switches.
func Inventory() gpu.Inventory {
	inv := gpu.Inventory{System: gpu.System{DriverVersion: "570.86.15", LibraryVersion: "12.570.86.15", CUDAVersion: "12.8"}}
	for i := range gpus {
		inv.Devices = append(inv.Devices, Device(i))
	}
	return inv
}

// Device is one of them.
func Device(index int) gpu.Device {
	uuid := fmt.Sprintf("GPU-5a1c0de0-0000-4000-8000-%012d", index)
	d := gpu.Device{
		ID: uuid, UUID: uuid, Index: index,
		Serial: fmt.Sprintf("165042300%04d", index), Model: "NVIDIA H100 80GB HBM3", Architecture: "Hopper", ComputeCapability: "9.0",
		PCIBusID: fmt.Sprintf("00000000:%02X:00.0", 0x18+index), Minor: known(index), NUMANode: known(index / (gpus / 2)),
		PowerLimits:       gpu.PowerLimits{MinMilliwatts: known(200_000), MaxMilliwatts: known(700_000), DefaultMilliwatts: known(700_000)},
		MaxClocks:         gpu.Clocks{Graphics: known(1980), SM: known(1980), Memory: known(2619), Video: known(1545)},
		TemperatureLimits: gpu.TemperatureLimits{Slowdown: known(87), Shutdown: known(92), MemoryMax: known(95)},
		MaxPCIe:           gpu.PCIeLink{Generation: known(5), Width: known(16)},
		MaxInstances:      known(7),
	}
	for n := range 18 {
		d.Links = append(d.Links, gpu.Link{Number: n, Version: known(7), Peer: gpu.PeerSwitch, PeerPCIBusID: fmt.Sprintf("00000000:%02X:00.0", 5+n%4)})
	}
	return d
}

// Samples are what its devices do: the second is cut by MIG, the third computes,
// the fourth has bad memory and is throttled, the others idle.
func Samples() []gpu.Sample {
	var all []gpu.Sample
	for range gpus {
		all = append(all, Idle())
	}
	all[1], all[2], all[3] = Cut(), Busy(), Sick()
	return all
}

// Idle is a GPU that nobody uses, in a driver that knows everything.
func Idle() gpu.Sample {
	s := gpu.Sample{
		Memory:          gpu.Memory{Total: gpu.Known[uint64](80 * gib), Reserved: gpu.Known[uint64](gib / 2), Used: gpu.Known[uint64](0), Free: gpu.Known[uint64](80*gib - gib/2)},
		BAR1:            gpu.Memory{Total: gpu.Known[uint64](128 * gib), Used: gpu.Known[uint64](gib), Free: gpu.Known[uint64](127 * gib)},
		PowerMilliwatts: known(69_510), PowerLimitMilliwatts: known(700_000), EnergyMillijoules: gpu.Known[uint64](5_123_456_789_012),
		Temperature:      gpu.Temperature{GPU: known(31), Memory: known(40)},
		Clocks:           gpu.Clocks{Graphics: known(345), SM: known(345), Memory: known(2619), Video: known(765)},
		PerformanceState: known(0), Throttle: gpu.Known(gpu.ThrottleGPUIdle),
		Utilization: gpu.Utilization{GPU: known(0), Memory: known(0), Encoder: known(0), Decoder: known(0), Mean: known(0), Peak: known(0)},
		ECC: gpu.ECC{
			Volatile:  gpu.ErrorCounts{Corrected: gpu.Known[uint64](0), Uncorrected: gpu.Known[uint64](0)},
			Aggregate: gpu.ErrorCounts{Corrected: gpu.Known[uint64](2), Uncorrected: gpu.Known[uint64](0)},
		},
		RemappedRows:   gpu.RemappedRows{Corrected: gpu.Known[uint64](0), Uncorrected: gpu.Known[uint64](0), Pending: gpu.Known(false), Failed: gpu.Known(false)},
		RecoveryAction: gpu.Known(gpu.RecoveryNone),
		PCIe: gpu.PCIe{
			PCIeLink: gpu.PCIeLink{Generation: known(5), Width: known(16)}, Replays: gpu.Known[uint64](0),
			SentBytes: gpu.Known[uint64](1 << 40), ReceivedBytes: gpu.Known[uint64](1 << 41),
		},
		NVLink: gpu.NVLink{
			SentBytes: gpu.Known[uint64](3 << 40), ReceivedBytes: gpu.Known[uint64](3 << 40),
			CRCErrors: gpu.Known[uint64](0), ReplayErrors: gpu.Known[uint64](0), Recovered: gpu.Known[uint64](0),
		},
		MIG:            gpu.MIG{Enabled: gpu.Known(false), Pending: gpu.Known(false)},
		ProcessesKnown: true,
	}
	for range 18 {
		s.NVLink.Links = append(s.NVLink.Links, gpu.LinkActive)
	}
	return s
}

// Busy is a GPU that three processes use.
func Busy() gpu.Sample {
	s := Idle()
	s.Memory.Used, s.Memory.Free = gpu.Known[uint64](70*gib), gpu.Known[uint64](10*gib-gib/2)
	s.PowerMilliwatts, s.Temperature.GPU = known(655_000), known(66)
	s.Clocks.SM, s.Throttle = known(1755), gpu.Known(gpu.ThrottleSWPowerCap)
	s.Utilization = gpu.Utilization{GPU: known(97), Memory: known(61), Encoder: known(0), Decoder: known(3), Mean: known(80), Peak: known(100)}
	s.Processes = []gpu.Process{
		{PID: 4021, Kind: gpu.ProcessCompute, UsedMemory: gpu.Known[uint64](60 * gib), SMUtilization: known(90)},
		{PID: 4022, Kind: gpu.ProcessCompute}, // the driver does not know how much
		{PID: 377, Kind: gpu.ProcessMPS, UsedMemory: gpu.Known[uint64](30 << 20)},
	}
	return s
}

// Cut is a GPU with two MIG instances and a process on one of them. What has no
// meaning for a GPU that is cut is unknown.
func Cut() gpu.Sample {
	s := Idle()
	s.Utilization = gpu.Utilization{}
	s.MIG = gpu.MIG{Enabled: gpu.Known(true), Pending: gpu.Known(true), Instances: []gpu.Instance{
		{
			UUID: "MIG-41a40000-0000-5000-8000-000000000001", GPUInstance: known(1), ComputeInstance: known(0), Profile: "3g.40gb",
			Memory: gpu.Memory{Total: gpu.Known[uint64](40 * gib), Reserved: gpu.Known[uint64](0), Used: gpu.Known[uint64](10 * gib), Free: gpu.Known[uint64](30 * gib)},
		},
		{
			UUID: "MIG-41a40000-0000-5000-8000-000000000002", GPUInstance: known(9), ComputeInstance: known(0), Profile: "1g.10gb",
			Memory: gpu.Memory{Total: gpu.Known[uint64](10 * gib), Reserved: gpu.Known[uint64](0), Used: gpu.Known[uint64](0), Free: gpu.Known[uint64](10 * gib)},
		},
	}}
	s.Processes = []gpu.Process{{PID: 5150, Kind: gpu.ProcessCompute, UsedMemory: gpu.Known[uint64](9 * gib), GPUInstance: known(1), ComputeInstance: known(0)}}
	return s
}

// Sick is a GPU that should not be used.
func Sick() gpu.Sample {
	s := Idle()
	s.ECC.Volatile.Uncorrected, s.ECC.Aggregate.Uncorrected = gpu.Known[uint64](1), gpu.Known[uint64](4)
	s.RemappedRows.Uncorrected, s.RemappedRows.Pending = gpu.Known[uint64](1), gpu.Known(true)
	s.RecoveryAction = gpu.Known(gpu.RecoveryDrainAndReset)
	s.Throttle = gpu.Known(gpu.ThrottleHWSlowdown | gpu.ThrottleHWThermalSlowdown)
	s.NVLink.Links[4] = gpu.LinkInactive
	s.PCIe.Generation, s.PCIe.Width = known(1), known(8)
	return s
}

func known(n int) gpu.Value[uint32] { return gpu.Known(uint32(n)) }
