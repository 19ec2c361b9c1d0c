package gpumetric_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/agent/internal/gpu"
	"github.com/budecosystem/budcluster/agent/internal/gpumetric"
	"github.com/budecosystem/budcluster/agent/internal/metric"
	"github.com/budecosystem/budcluster/internal/testutil"
)

func system() gpu.System { return gpu.System{DriverVersion: "570.86.15", CUDAVersion: "12.8"} }

// busy is a device of which all is known, and cut a half of one.
func busy() gpumetric.Reading {
	n32, n64 := gpu.Known[uint32], gpu.Known[uint64]
	return gpumetric.Reading{
		Device: gpu.Device{
			ID: "GPU-a", UUID: "GPU-a", Index: 0, Model: "NVIDIA H100 80GB HBM3", Architecture: "Hopper", ComputeCapability: "9.0", PCIBusID: "00000000:07:00.0",
			Serial: "165", Minor: n32(3), Links: make([]gpu.Link, 2),
		},
		Sample: gpu.Sample{
			At: time.Unix(1, 0), Memory: gpu.Memory{Total: n64(80 << 30), Reserved: n64(1 << 30), Used: n64(60 << 30), Free: n64(19 << 30)},
			BAR1: gpu.Memory{Used: n64(1 << 20)}, PowerMilliwatts: n32(412345), PowerLimitMilliwatts: n32(700000), EnergyMillijoules: n64(123456789),
			Temperature: gpu.Temperature{GPU: n32(61), Memory: n32(70)}, Clocks: gpu.Clocks{Graphics: n32(1980), SM: n32(1980), Memory: n32(2619), Video: n32(1545)},
			PerformanceState: n32(0), Throttle: gpu.Known(gpu.ThrottleSWPowerCap), Utilization: gpu.Utilization{GPU: n32(97), Memory: n32(41), Encoder: n32(0), Decoder: n32(0), Mean: n32(88), Peak: n32(100)},
			ECC:          gpu.ECC{Volatile: gpu.ErrorCounts{Corrected: n64(2), Uncorrected: n64(0)}, Aggregate: gpu.ErrorCounts{Corrected: n64(5), Uncorrected: n64(1)}},
			RemappedRows: gpu.RemappedRows{Corrected: n64(1), Uncorrected: n64(0), Pending: gpu.Known(true), Failed: gpu.Known(false)},
			PCIe:         gpu.PCIe{PCIeLink: gpu.PCIeLink{Generation: n32(5), Width: n32(16)}, Replays: n64(4), SentBytes: n64(7), ReceivedBytes: n64(8)},
			NVLink:       gpu.NVLink{Links: []gpu.LinkState{gpu.LinkActive, gpu.LinkInactive}, SentBytes: n64(9), ReceivedBytes: n64(10), CRCErrors: n64(0), ReplayErrors: n64(0), Recovered: n64(0)},
			Processes:    make([]gpu.Process, 2), ProcessesKnown: true,
		},
		Condition: gpu.Condition{Health: gpu.Degraded, Reasons: []gpu.Reason{{Code: gpu.ReasonRemapPending}, {Code: gpu.ReasonXID}, {Code: gpu.ReasonXID}}},
	}
}

func cut() gpumetric.Reading {
	n64 := gpu.Known[uint64]
	return gpumetric.Reading{
		Device: gpu.Device{ID: "GPU-b", UUID: "GPU-b", Index: 1, Model: "NVIDIA H100 80GB HBM3"},
		Sample: gpu.Sample{At: time.Unix(1, 0), MIG: gpu.MIG{Enabled: gpu.Known(true), Instances: []gpu.Instance{
			{UUID: "MIG-b1", GPUInstance: gpu.Known[uint32](7), Profile: "1g.10gb", Memory: gpu.Memory{Total: n64(10 << 30), Used: n64(3 << 30), Free: n64(7 << 30)}},
		}}},
		Condition: gpu.Condition{Health: gpu.Healthy},
	}
}

func silent() gpumetric.Reading {
	return gpumetric.Reading{Device: gpu.Device{ID: "index-2", Index: 2}, Condition: gpu.Condition{Health: gpu.Unknown, Reasons: []gpu.Reason{{Code: gpu.ReasonNoAnswer}}}}
}

func owners() map[string][]gpumetric.Owner {
	return map[string][]gpumetric.Owner{
		"GPU-a":  {{Namespace: "models", Pod: "llama-0", Container: "vllm"}},
		"MIG-b1": {{Namespace: "lab", Pod: "a", Container: "x"}, {Namespace: "lab", Pod: "b", Container: "x"}},
	}
}

// TestPages shows what a scrape gets, each family of names by itself.
func TestPages(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]gpumetric.Options{
		"own": {Hostname: "node1", Own: true}, "dcgm": {Hostname: "node1", DCGM: true},
	} {
		e := gpumetric.New(o)
		for _, xid := range []uint64{79, 31, 31} {
			e.Happened(gpu.Event{Kind: gpu.EventXID, Device: "GPU-a", XID: xid})
		}
		e.Happened(gpu.Event{Kind: gpu.EventLost})
		s, err := e.Snapshot(system(), []gpumetric.Reading{busy(), cut(), silent()}, owners())
		require.NoError(t, err)
		text := s.AppendText(nil)
		testutil.Golden(t, name, text)
		problems, err := promlint.New(bytes.NewReader(text)).Lint()
		require.NoError(t, err)
		for _, p := range problems {
			require.True(t, strings.HasPrefix(p.Metric, "DCGM_"), "%s: %s", p.Metric, p.Text)
		}
	}
}

// TestCatalogue is the list of all names, which dashboards and rules rest on.
func TestCatalogue(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	all := gpumetric.Catalogue()
	slices.SortFunc(all, func(a, b metric.Desc) int { return strings.Compare(a.Name, b.Name) })
	for _, d := range all {
		require.NoError(t, d.Check())
		fmt.Fprintf(&out, "%s (%s, %s) [%s]\n  %s\n", d.Name, d.Type, d.Unit, strings.Join(d.Labels, " "), d.Help)
	}
	testutil.Golden(t, "catalogue", []byte(out.String()))
}

// What changes between two samples without a change of the series keeps the
// layout; a device that goes takes its series with it.
func TestSeriesComeAndGo(t *testing.T) {
	t.Parallel()
	e := gpumetric.New(gpumetric.Options{Own: true, DCGM: true})
	render := func(owners map[string][]gpumetric.Owner, readings ...gpumetric.Reading) string {
		s, err := e.Snapshot(system(), readings, owners)
		require.NoError(t, err)
		return string(s.AppendText(nil))
	}
	first := render(owners(), busy(), cut())
	warmer := busy()
	warmer.Sample.Temperature.GPU.V++
	require.Equal(t, strings.ReplaceAll(first, "} 61\n", "} 62\n"),
		render(owners(), warmer, cut()))
	require.NotContains(t, render(owners(), busy()), "GPU-b")
	require.NotContains(t, render(nil, busy()), "llama-0")
	require.Equal(t, first, render(owners(), busy(), cut()))
}
