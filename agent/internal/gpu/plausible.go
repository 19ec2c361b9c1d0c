package gpu

import (
	"cmp"
	"fmt"
	"slices"
)

// What no GPU has, so that a number above it is a fault of the driver: far above
// anything built, and below what a wrong unit or an uninitialised field gives.
const (
	mostMemory     = 1 << 50 // 1 PiB
	mostMilliwatts = 100_000_000
	mostCelsius    = 250
	mostMHz        = 100_000
	mostPercent    = 100
	mostGeneration = 16
	mostLanes      = 64
	mostPState     = 15
	mostProcesses  = 10_000
	mostInstances  = 64
	mostErrors     = 1 << 62
)

// dropImplausible makes unknown what cannot be.
func dropImplausible(s *Sample) {
	drop := &dropper{problems: &s.Problems}
	dropMemory(drop, "memory", &s.Memory)
	dropMemory(drop, "bar1", &s.BAR1)
	atMost(drop, "power", &s.PowerMilliwatts, mostMilliwatts)
	atMost(drop, "power.limit", &s.PowerLimitMilliwatts, mostMilliwatts)
	atMost(drop, "temperature.gpu", &s.Temperature.GPU, mostCelsius)
	atMost(drop, "temperature.memory", &s.Temperature.Memory, mostCelsius)
	atMost(drop, "clocks.graphics", &s.Clocks.Graphics, mostMHz)
	atMost(drop, "clocks.sm", &s.Clocks.SM, mostMHz)
	atMost(drop, "clocks.memory", &s.Clocks.Memory, mostMHz)
	atMost(drop, "clocks.video", &s.Clocks.Video, mostMHz)
	atMost(drop, "performance_state", &s.PerformanceState, mostPState)
	atMost(drop, "recovery_action", &s.RecoveryAction, RecoverySystemReboot)
	atMost(drop, "utilization.gpu", &s.Utilization.GPU, mostPercent)
	atMost(drop, "utilization.memory", &s.Utilization.Memory, mostPercent)
	atMost(drop, "utilization.encoder", &s.Utilization.Encoder, mostPercent)
	atMost(drop, "utilization.decoder", &s.Utilization.Decoder, mostPercent)
	atMost(drop, "utilization.mean", &s.Utilization.Mean, mostPercent)
	atMost(drop, "utilization.peak", &s.Utilization.Peak, mostPercent)
	atMost(drop, "ecc.volatile.corrected", &s.ECC.Volatile.Corrected, mostErrors)
	atMost(drop, "ecc.volatile.uncorrected", &s.ECC.Volatile.Uncorrected, mostErrors)
	atMost(drop, "ecc.aggregate.corrected", &s.ECC.Aggregate.Corrected, mostErrors)
	atMost(drop, "ecc.aggregate.uncorrected", &s.ECC.Aggregate.Uncorrected, mostErrors)
	atMost(drop, "pcie.generation", &s.PCIe.Generation, mostGeneration)
	atMost(drop, "pcie.width", &s.PCIe.Width, mostLanes)
	dropInstances(drop, s)
	dropProcesses(drop, s)
}

type dropper struct{ problems *[]Problem }

func (d *dropper) because(field, format string, args ...any) {
	*d.problems = append(*d.problems, Problem{Field: field, Reason: fmt.Sprintf(format, args...)})
}

func atMost[T cmp.Ordered](d *dropper, field string, v *Value[T], most T) {
	if v.Known && v.V > most {
		d.because(field, "%v is more than can be, so it is unknown", v.V)
		*v = Value[T]{}
	}
}

func dropMemory(d *dropper, field string, m *Memory) {
	if m.Total.V > mostMemory {
		d.because(field, "a total of %d bytes is more than can be, so the memory is unknown", m.Total.V)
		*m = Memory{}
		return
	}
	most := uint64(mostMemory)
	if m.Total.Known {
		most = m.Total.V
	}
	atMost(d, field+".reserved", &m.Reserved, most)
	atMost(d, field+".used", &m.Used, most)
	atMost(d, field+".free", &m.Free, most)
}

func dropInstances(d *dropper, s *Sample) {
	if n := len(s.MIG.Instances); n > mostInstances {
		d.because("mig.instances", "%d are more than can be, so they are unknown", n)
		s.MIG.Instances = nil
	}
	seen := map[string]bool{}
	s.MIG.Instances = slices.DeleteFunc(s.MIG.Instances, func(i Instance) bool {
		if i.UUID == "" || seen[i.UUID] {
			d.because("mig.instances", "one has no UUID, or that of another (%q), so it is left out", i.UUID)
			return true
		}
		seen[i.UUID] = true
		return false
	})
	for i := range s.MIG.Instances {
		dropMemory(d, "mig.memory", &s.MIG.Instances[i].Memory)
	}
}

func dropProcesses(d *dropper, s *Sample) {
	if n := len(s.Processes); n > mostProcesses {
		d.because("processes", "%d are more than can be, so they are unknown", n)
		s.Processes, s.ProcessesKnown = nil, false
	}
	for i := range s.Processes {
		atMost(d, "processes.memory", &s.Processes[i].UsedMemory, mostMemory)
		atMost(d, "processes.sm_utilization", &s.Processes[i].SMUtilization, mostPercent)
	}
}
