package facts_test

import (
	"maps"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/internal/facts"
)

const nfd = "feature.node.kubernetes.io/"

func with(base map[string]string, pairs ...string) map[string]string {
	out := maps.Clone(base)
	if out == nil {
		out = map[string]string{}
	}
	for i := 0; i < len(pairs); i += 2 {
		out[pairs[i]] = pairs[i+1]
	}
	return out
}

func a100() map[string]string {
	return map[string]string{
		"nvidia.com/gpu.present": "true", "nvidia.com/gpu.count": "8", "nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB",
		"nvidia.com/gpu.memory": "81920", "nvidia.com/gpu.family": "ampere", "nvidia.com/gpu.compute.major": "8", "nvidia.com/gpu.compute.minor": "0",
		"nvidia.com/cuda.driver.major": "580", "nvidia.com/cuda.driver.minor": "82", "nvidia.com/cuda.driver.rev": "07",
		"nvidia.com/cuda.runtime.major": "13", "nvidia.com/cuda.runtime.minor": "0",
		"nvidia.com/gpu.replicas": "1", "nvidia.com/gpu.sharing-strategy": "none", "nvidia.com/mig.strategy": "single",
	}
}

// accelerators leaves the CPU out.
func accelerators(devices []facts.Device) []facts.Device { return devices[1:] }

// deviceCase is what a node shows and what is read from it.
type deviceCase struct {
	src      facts.NodeSource
	count    int                    // accelerators
	check    func(d facts.Device)   // the first one
	all      func(d []facts.Device) // all of them
	problems []string               // a part of each
}

func (tc deviceCase) run(t *testing.T) {
	t.Helper()
	devices, problems := facts.DevicesFrom(tc.src)
	require.Len(t, accelerators(devices), tc.count)
	require.Len(t, problems, len(tc.problems), "%q", problems)
	for i, part := range tc.problems {
		require.Contains(t, problems[i], part)
	}
	if tc.check != nil {
		tc.check(devices[1])
	}
	if tc.all != nil {
		tc.all(accelerators(devices))
	}
}

func gpus(n string) map[string]string {
	return map[string]string{"cpu": "64", "memory": "512Gi", "nvidia.com/gpu": n}
}

func TestDevicesFromNVIDIA(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]deviceCase{
		"eight labelled GPUs": {
			src: facts.NodeSource{Labels: a100(), Capacity: gpus("8"), Allocatable: gpus("8")}, count: 8,
			check: func(d facts.Device) {
				require.Equal(t, "nvidia-cuda-0", d.ID)
				require.Equal(t, "NVIDIA-A100-SXM4-80GB", d.Model)
				require.Equal(t, int64(80<<30), *d.MemoryBytes)
				require.Equal(t, "580.82.07", d.DriverVersion)
				require.Equal(t, "13.0", d.CUDAVersion)
				require.Equal(t, "8.0", d.ComputeCapability)
				require.Equal(t, facts.SharingNone, d.Sharing)
				require.Equal(t, facts.HealthHealthy, d.Health)
				require.Equal(t, facts.SourceLabel, d.Source)
			},
		},
		"only the extended resource": {
			src: facts.NodeSource{Capacity: gpus("4"), Allocatable: gpus("4")}, count: 4,
			check: func(d facts.Device) {
				require.Equal(t, facts.SourceResource, d.Source)
				require.Empty(t, d.Model)
				require.Nil(t, d.MemoryBytes)
			},
		},
		"time-sliced: four replicas of each of two": {
			src: facts.NodeSource{
				Labels: with(a100(), "nvidia.com/gpu.count", "2", "nvidia.com/gpu.replicas", "4", "nvidia.com/gpu.sharing-strategy", "time-slicing",
					"nvidia.com/gpu.product", "NVIDIA-A100-SXM4-80GB-SHARED"),
				Capacity: gpus("8"), Allocatable: gpus("8"),
			}, count: 2,
			check: func(d facts.Device) {
				require.Equal(t, facts.SharingTimeSlicing, d.Sharing)
				require.Equal(t, "NVIDIA-A100-SXM4-80GB", d.Model)
			},
		},
		"replicas known, count lost": {
			src:   facts.NodeSource{Labels: map[string]string{"nvidia.com/gpu.replicas": "4"}, Capacity: gpus("8"), Allocatable: gpus("8")},
			count: 2, check: func(d facts.Device) { require.Equal(t, facts.SharingTimeSlicing, d.Sharing) },
		},
		"MIG, strategy single": {
			src: facts.NodeSource{
				Labels:   with(a100(), "nvidia.com/gpu.count", "7", "nvidia.com/gpu.product", "NVIDIA-A100-SXM4-80GB-MIG-1g.10gb", "nvidia.com/gpu.memory", "9728"),
				Capacity: gpus("7"), Allocatable: gpus("7"),
			}, count: 7,
			check: func(d facts.Device) { require.Equal(t, facts.SharingMIG, d.Sharing) },
		},
		"MIG, strategy mixed: one whole GPU and slices of another": {
			src: facts.NodeSource{
				Labels: with(a100(), "nvidia.com/gpu.count", "2", "nvidia.com/mig.strategy", "mixed",
					"nvidia.com/mig-1g.10gb.count", "7", "nvidia.com/mig-1g.10gb.memory", "9728", "nvidia.com/mig-1g.10gb.product", "NVIDIA-A100-SXM4-80GB-MIG-1g.10gb"),
				Capacity: with(gpus("1"), "nvidia.com/mig-1g.10gb", "7"), Allocatable: with(gpus("1"), "nvidia.com/mig-1g.10gb", "7"),
			}, count: 8,
			all: func(d []facts.Device) {
				require.Equal(t, "nvidia-cuda-0", d[0].ID)
				require.Equal(t, "nvidia-mig-1g.10gb-6", d[7].ID)
				require.Equal(t, "nvidia.com/mig-1g.10gb", d[7].Resource)
				require.Equal(t, int64(9728<<20), *d[7].MemoryBytes)
			},
		},
		"garbage count falls back to the resource": {
			src:   facts.NodeSource{Labels: with(a100(), "nvidia.com/gpu.count", "eight"), Capacity: gpus("8"), Allocatable: gpus("8")},
			count: 8, problems: []string{`nvidia.com/gpu.count="eight"`},
		},
		"negative and absurd values are told of": {
			src: facts.NodeSource{
				Labels:   with(a100(), "nvidia.com/gpu.count", "-8", "nvidia.com/gpu.memory", "99999999999999999999", "nvidia.com/cuda.driver.major", "v580;rm"),
				Capacity: gpus("2"), Allocatable: gpus("2"),
			}, count: 2,
			check:    func(d facts.Device) { require.Nil(t, d.MemoryBytes); require.Empty(t, d.DriverVersion) },
			problems: []string{"nvidia.com/cuda.driver.major", "nvidia.com/gpu.count", "nvidia.com/gpu.memory"},
		},
		"a million GPUs are capped": {
			src:   facts.NodeSource{Capacity: gpus("1000000"), Allocatable: gpus("1000000")},
			count: 1024, problems: []string{"more than any node has"},
		},
		"MiB is understood": {
			src:   facts.NodeSource{Labels: with(a100(), "nvidia.com/gpu.memory", "81920MiB"), Capacity: gpus("8"), Allocatable: gpus("8")},
			count: 8, check: func(d facts.Device) { require.Equal(t, int64(80<<30), *d.MemoryBytes) },
		},
		"Mi is understood": {
			src:   facts.NodeSource{Labels: with(a100(), "nvidia.com/gpu.memory", "81920Mi"), Capacity: gpus("8"), Allocatable: gpus("8")},
			count: 8, check: func(d facts.Device) { require.Equal(t, int64(80<<30), *d.MemoryBytes) },
		},
		"the card is there, nothing else": {
			src:      facts.NodeSource{Labels: map[string]string{nfd + "pci-0302_10de.present": "true"}},
			problems: []string{"install the GPU operator"},
		},
		"two of eight unhealthy": {
			src:   facts.NodeSource{Labels: a100(), Capacity: gpus("8"), Allocatable: gpus("6")},
			count: 8, check: func(d facts.Device) { require.Equal(t, facts.HealthUnknown, d.Health) },
			problems: []string{"2 of 8"},
		},
		"all unhealthy": {
			src:   facts.NodeSource{Labels: a100(), Capacity: gpus("8"), Allocatable: gpus("0")},
			count: 8, check: func(d facts.Device) { require.Equal(t, facts.HealthUnhealthy, d.Health) },
		},
		"labels but no device plugin": {
			src: facts.NodeSource{Labels: a100()}, count: 8,
			check: func(d facts.Device) { require.Equal(t, facts.HealthUnknown, d.Health) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tc.run(t)
		})
	}
}

func TestDevicesFromOtherVendors(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]deviceCase{
		"eight AMD GPUs": {
			src: facts.NodeSource{
				Labels:   map[string]string{"amd.com/gpu.device-id": "74a1", "amd.com/gpu.vram": "192G", "beta.amd.com/gpu.device-id.74a1": "8"},
				Capacity: map[string]string{"amd.com/gpu": "8"}, Allocatable: map[string]string{"amd.com/gpu": "8"},
			}, count: 8,
			check: func(d facts.Device) {
				require.Equal(t, "amd-rocm-0", d.ID)
				require.Equal(t, facts.KindROCm, d.Kind)
				require.Equal(t, "MI300X", d.Model)
				require.Equal(t, int64(192<<30), *d.MemoryBytes)
			},
		},
		"AMD counted by labels, both prefixes": {
			src:   facts.NodeSource{Labels: map[string]string{"beta.amd.com/gpu.device-id.74a1": "4", "amd.com/gpu.device-id.74a1": "4", "beta.amd.com/gpu.vram.192G": "4"}},
			count: 4, check: func(d facts.Device) { require.Equal(t, int64(192<<30), *d.MemoryBytes) },
		},
		"Gaudi with its model": {
			src: facts.NodeSource{
				Labels:   map[string]string{nfd + "pci-1200_1da3_1020.present": "true"},
				Capacity: map[string]string{"habana.ai/gaudi": "8"}, Allocatable: map[string]string{"habana.ai/gaudi": "8"},
			}, count: 8,
			check: func(d facts.Device) {
				require.Equal(t, facts.KindHPU, d.Kind)
				require.Equal(t, "intel", d.Vendor)
				require.Equal(t, "Gaudi2", d.Model)
			},
		},
		"Gaudi without its plugin": {
			src:      facts.NodeSource{Labels: map[string]string{nfd + "pci-1da3.present": "true"}},
			problems: []string{"install the Intel Gaudi operator"},
		},
		"a display chip of AMD is no accelerator": {
			src: facts.NodeSource{Labels: map[string]string{nfd + "pci-0300_1002.present": "true"}},
		},
		"three vendors on one node": {
			src: facts.NodeSource{
				Labels:      a100(),
				Capacity:    map[string]string{"nvidia.com/gpu": "8", "amd.com/gpu": "2", "habana.ai/gaudi": "1"},
				Allocatable: map[string]string{"nvidia.com/gpu": "8", "amd.com/gpu": "2", "habana.ai/gaudi": "1"},
			}, count: 11,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tc.run(t)
		})
	}
}

func TestDevicesFromCPU(t *testing.T) {
	t.Parallel()
	labels := map[string]string{
		nfd + "cpu-model.vendor_id": "Intel", nfd + "cpu-model.family": "6", nfd + "cpu-model.id": "143",
		nfd + "cpu-cpuid.AVX2": "true", nfd + "cpu-cpuid.AVX512F": "true", nfd + "cpu-cpuid.AMXTILE": "true", nfd + "cpu-cpuid.AMXBF16": "true",
		nfd + "cpu-cpuid.AMXINT8": "true", nfd + "cpu-cpuid.AVX512VNNI": "true", nfd + "cpu-cpuid.FMA3": "true", nfd + "cpu-cpuid.SVE": "false",
	}
	devices, problems := facts.DevicesFrom(facts.NodeSource{
		Labels:      labels,
		Capacity:    map[string]string{"cpu": "96", "memory": "512Gi"},
		Allocatable: map[string]string{"cpu": "95500m", "memory": "500Gi"},
	})
	require.Empty(t, problems)
	require.Len(t, devices, 1)
	cpu := devices[0]
	require.Equal(t, "cpu-0", cpu.ID)
	require.Equal(t, "intel", cpu.Vendor)
	require.Equal(t, "Sapphire Rapids", cpu.Model)
	require.Equal(t, int32(95), *cpu.Cores)
	require.Equal(t, int32(96), *cpu.Threads)
	require.Equal(t, int64(500<<30), *cpu.MemoryBytes)
	require.Equal(t, []string{"AMX", "AMXBF16", "AMXINT8", "AVX2", "AVX512", "FMA3", "VNNI"}, cpu.InstructionSets)

	t.Run("a node without NFD still has its CPU", func(t *testing.T) {
		t.Parallel()
		devices, problems := facts.DevicesFrom(facts.NodeSource{Capacity: map[string]string{"cpu": "1500m"}, Allocatable: map[string]string{"cpu": "1500m"}})
		require.Empty(t, problems)
		require.Equal(t, int32(1), *devices[0].Cores)
		require.Empty(t, devices[0].Vendor)
	})
	t.Run("garbage costs a field, not the node", func(t *testing.T) {
		t.Parallel()
		devices, problems := facts.DevicesFrom(facts.NodeSource{
			Labels:      map[string]string{nfd + "cpu-model.family": "six"},
			Capacity:    map[string]string{"cpu": "many"},
			Allocatable: map[string]string{"cpu": "-1", "memory": "-5Gi"},
		})
		require.Len(t, devices, 1)
		require.Len(t, problems, 4)
		require.Nil(t, devices[0].Cores)
	})
}

func FuzzDevicesFrom(f *testing.F) {
	for key, value := range a100() {
		f.Add(key, value, "nvidia.com/gpu", "8", "8")
	}
	f.Add("nvidia.com/mig-1g.10gb.count", "7", "nvidia.com/mig-1g.10gb", "7", "6")
	f.Add("beta.amd.com/gpu.vram.192G", "8", "amd.com/gpu", "1e3", "-1")
	f.Add(nfd+"pci-1200_1da3_1020.present", "true", "habana.ai/gaudi", "9999999999999999999999", "0")
	f.Add(nfd+"cpu-model.id", "143", "cpu", "1500m", "\xff")
	f.Fuzz(func(t *testing.T, label, value, resource, capacity, allocatable string) {
		src := facts.NodeSource{
			Labels:   with(a100(), label, value),
			Capacity: map[string]string{resource: capacity}, Allocatable: map[string]string{resource: allocatable},
		}
		devices, problems := facts.DevicesFrom(src)
		require.NotEmpty(t, devices)
		require.Equal(t, facts.KindCPU, devices[0].Kind)
		seen := map[string]bool{}
		for _, d := range devices {
			require.False(t, seen[d.ID], "two devices %s", d.ID)
			seen[d.ID] = true
			require.True(t, utf8.ValidString(d.Model))
			if d.MemoryBytes != nil {
				require.Positive(t, *d.MemoryBytes)
			}
		}
		for _, p := range problems {
			require.True(t, utf8.ValidString(p))
			require.False(t, strings.ContainsAny(p, "\n\x00"))
		}
	})
}
