package gpu

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestImplausible(t *testing.T) {
	t.Parallel()
	s := Sample{
		Memory:          Memory{Total: Known[uint64](80), Used: Known[uint64](81), Free: Known[uint64](math.MaxUint64), Reserved: Known[uint64](0)},
		BAR1:            Memory{Total: Known[uint64](math.MaxUint64), Used: Known[uint64](1)},
		PowerMilliwatts: Known[uint32](math.MaxUint32),
		Temperature:     Temperature{GPU: Known[uint32](255), Memory: Known[uint32](90)},
		Utilization:     Utilization{GPU: Known[uint32](101), Memory: Known[uint32](100)},
		RecoveryAction:  Known(RecoveryAction(8)),
		PCIe:            PCIe{PCIeLink: PCIeLink{Width: Known[uint32](255)}},
		ECC:             ECC{Volatile: ErrorCounts{Corrected: Known[uint64](math.MaxUint64)}},
		MIG:             MIG{Instances: []Instance{{UUID: "a"}, {UUID: "a"}, {}, {UUID: "b", Memory: Memory{Total: Known[uint64](math.MaxUint64)}}}},
		Processes:       []Process{{PID: 1, UsedMemory: Known[uint64](math.MaxUint64), SMUtilization: Known[uint32](7)}},
		ProcessesKnown:  true,
	}
	dropImplausible(&s)
	require.Equal(t, Sample{
		Memory:         Memory{Total: Known[uint64](80), Reserved: Known[uint64](0)},
		Temperature:    Temperature{Memory: Known[uint32](90)},
		Utilization:    Utilization{Memory: Known[uint32](100)},
		MIG:            MIG{Instances: []Instance{{UUID: "a"}, {UUID: "b"}}},
		Processes:      []Process{{PID: 1, SMUtilization: Known[uint32](7)}},
		ProcessesKnown: true, Problems: s.Problems,
	}, s)
	var fields []string
	for _, p := range s.Problems {
		fields = append(fields, p.Field)
	}
	require.Equal(t, []string{
		"memory.used", "memory.free", "bar1", "power", "temperature.gpu", "recovery_action", "utilization.gpu",
		"ecc.volatile.corrected", "pcie.width", "mig.instances", "mig.instances", "mig.memory", "processes.memory",
	}, fields)
	require.Equal(t, "memory.used: 81 is more than can be, so it is unknown", s.Problems[0].String())
}

// FuzzImplausible: what is left is plausible, so a second look finds nothing.
func FuzzImplausible(f *testing.F) {
	f.Add(uint64(80<<30), uint64(1), uint64(0), uint32(31), uint32(100), uint64(3), "MIG-a", "MIG-b", 2)
	f.Add(uint64(math.MaxUint64), uint64(math.MaxUint64), uint64(5), uint32(math.MaxUint32), uint32(101), uint64(math.MaxUint64), "", "", 100)
	f.Fuzz(func(t *testing.T, total, used, free uint64, small, percent uint32, errors uint64, one, two string, many int) {
		memory := Memory{Total: Known(total), Used: Known(used), Free: Known(free)}
		s := Sample{
			Memory: memory, PowerMilliwatts: Known(small), Temperature: Temperature{GPU: Known(small)},
			Clocks: Clocks{SM: Known(small)}, Utilization: Utilization{Mean: Known(percent)}, PerformanceState: Known(small),
			ECC: ECC{Aggregate: ErrorCounts{Uncorrected: Known(errors)}}, PCIe: PCIe{PCIeLink: PCIeLink{Generation: Known(small), Width: Known(small)}},
			MIG: MIG{Instances: []Instance{{UUID: one, Memory: memory}, {UUID: two}}}, ProcessesKnown: true,
		}
		for range max(0, min(many, 2*mostInstances)) {
			s.Processes = append(s.Processes, Process{UsedMemory: Known(used), SMUtilization: Known(percent)})
		}
		dropImplausible(&s)
		found := len(s.Problems)
		dropImplausible(&s)
		require.Len(t, s.Problems, found)
		require.False(t, s.Memory.Used.Known && s.Memory.Total.Known && s.Memory.Used.V > s.Memory.Total.V)
		require.LessOrEqual(t, s.Utilization.Mean.V, uint32(100))
	})
}
