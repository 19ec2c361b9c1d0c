package hami_test

import (
	"bytes"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/agent/internal/hami"
)

// payload is what the scheduler of HAMi 2.10 serves for 20 nodes with 8 GPUs, each
// in the slices of 4 pods: 15 series of a GPU.
func payload() []byte {
	const nodes, gpus, slices = 20, 8, 4
	var text bytes.Buffer
	family := func(name, help string, each func(node, gpu int)) {
		fmt.Fprintf(&text, "# HELP %s %s\n# TYPE %s gauge\n", name, help, name)
		for node := range nodes {
			for gpu := range gpus {
				each(node, gpu)
			}
		}
	}
	uuid := func(node, gpu int) string {
		return fmt.Sprintf("GPU-%08x-5c87-89ac-b1a6-%012x", node*7919+gpu, node*gpus+gpu)
	}
	device := func(name, help, more string, value float64) {
		family(name, help, func(node, gpu int) {
			fmt.Fprintf(&text, "%s{%sdevice_index=\"%d\",device_type=\"NVIDIA-NVIDIA H100 80GB HBM3\",device_uuid=%q,node=\"gpu-node-%03d\",zone=\"vGPU\"} %v\n",
				name, more, gpu, uuid(node, gpu), node, value)
		})
	}
	slice := func(name, help string, value float64) {
		family(name, help, func(node, gpu int) {
			for i := range slices {
				fmt.Fprintf(&text, "%s{container_index=\"0\",device_uuid=%q,namespace=\"models\",node=\"gpu-node-%03d\",pod=\"llama-3-8b-%d-%d-%05x\",zone=\"vGPU\"} %v\n",
					name, uuid(node, gpu), node, gpu, i, node*4096+gpu*64+i, value)
			}
		})
	}
	device("hami_gpu_core_allocated_ratio", "Device core allocated for a certain GPU", "", 60)
	device("hami_gpu_core_limit_ratio", "Device core limit for a certain GPU", "", 100)
	device("hami_gpu_memory_allocated_bytes", "Device memory allocated for a certain GPU", `device_cores="100",`, 4*1.7179869184e+10)
	device("hami_gpu_memory_limit_bytes", "Device memory limit for a certain GPU", "", 8.5520809984e+10)
	device("hami_gpu_shared_count", "Number of containers sharing this GPU", "", float64(slices))
	device("hami_node_gpu_memory_allocated_ratio", "GPU Memory Allocated Percentage on a certain GPU", "", 0.8035)
	device("hami_node_gpu_overview", "GPU overview on a certain node", `device_cores="100",device_memory_limit="81559",`, 4*1.7179869184e+10)
	slice("hami_vgpu_core_allocated_ratio", "vGPU core allocated from a container", 15)
	slice("hami_vgpu_memory_allocated_bytes", "vGPU memory allocated from a container", 1.7179869184e+10)
	return text.Bytes()
}

// direct reads with Prometheus's parser that streams.
func direct(text []byte) hami.View {
	return hami.Merge(hami.Read(bytes.NewReader(text), hami.Origin{At: noon()}))
}

// families reads with the parser that makes a tree of all first.
func families(tb testing.TB, text []byte) hami.View {
	tb.Helper()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	all, err := parser.TextToMetricFamilies(bytes.NewReader(text))
	require.NoError(tb, err)
	return hami.Merge(hami.ReadFamilies(all, hami.Origin{At: noon()}))
}

func TestPayload(t *testing.T) {
	t.Parallel()
	text := payload()
	require.InDelta(t, 471_000, len(text), 20_000)
	require.Equal(t, 2400, bytes.Count(text, []byte("\n"))-2*9)
	v := direct(text)
	require.Empty(t, v.Problems)
	require.Len(t, v.Devices, 160)
	require.Len(t, v.Slices, 640)
	require.Equal(t, dump(families(t, text)), dump(v), "both parsers tell the same")
}

// BenchmarkHAMiMetrics reads and merges 471 KB, 2,400 series of 20 nodes with 8
// GPUs in 4 slices each, by turns with both parsers. The fastest turn of each is
// compared: what else a machine does makes turns slower, and none faster.
func BenchmarkHAMiMetrics(b *testing.B) {
	text := payload()
	ours, theirs := time.Hour, time.Hour
	var ourAllocs, theirAllocs uint64
	for b.Loop() {
		took, allocs := measured(func() { direct(text) })
		ours, ourAllocs = min(ours, took), ourAllocs+allocs
		took, allocs = measured(func() { families(b, text) })
		theirs, theirAllocs = min(theirs, took), theirAllocs+allocs
	}
	b.ReportMetric(float64(theirs.Microseconds()), "baseline-µs")
	b.ReportMetric(float64(ours.Microseconds()), "textparse-µs")
	b.ReportMetric(float64(ours)/float64(theirs), "ratio")
	b.ReportMetric(float64(theirAllocs)/float64(b.N), "allocs/baseline")
	b.ReportMetric(float64(ourAllocs)/float64(b.N), "allocs/textparse")
	b.ReportMetric(float64(ourAllocs)/float64(theirAllocs), "allocs-ratio")
}

func measured(f func()) (time.Duration, uint64) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	began := time.Now()
	f()
	took := time.Since(began)
	runtime.ReadMemStats(&after)
	return took, after.Mallocs - before.Mallocs
}
