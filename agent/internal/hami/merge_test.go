package hami_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/agent/internal/hami"
	"github.com/budecosystem/budcluster/internal/facts"
	"github.com/budecosystem/budcluster/internal/testutil"
)

const (
	gpu1 = "GPU-11111111-0000-0000-0000-000000000000"
	gpu2 = "GPU-22222222-0000-0000-0000-000000000000"
)

// node is one whose annotations register gpu1 and gpu2.
func node(name string) hami.Node {
	gpu := `{"id":%q,"index":%d,"count":10,"devmem":81559,"devcore":100,"type":"NVIDIA-NVIDIA H100 80GB HBM3","mode":%q,"health":true}`
	return hami.Node{Name: name, Annotations: map[string]string{
		"hami.io/node-nvidia-register": "[" + fmt.Sprintf(gpu, gpu1, 0, "hami-core") + "," + fmt.Sprintf(gpu, gpu2, 1, "mig") + "]",
	}}
}

// pod is one of n1 with what HAMi has given it.
func pod(name, allocated string, containers ...string) facts.HAMiPod {
	return facts.HAMiPod{
		Namespace: "models", Name: name, Node: "n1", Containers: containers,
		Annotations: map[string]string{"hami.io/vgpu-devices-allocated": allocated},
	}
}

// annotated is what n1 and its pods are annotated with, a second before noon.
func annotated(pods ...facts.HAMiPod) hami.View {
	return hami.Annotated([]hami.Node{node("n1")}, pods, noon().Add(-time.Second))
}

func TestMerge(t *testing.T) {
	t.Parallel()
	from := func(name, node string) hami.View {
		return hami.Read(bytes.NewReader(recorded(t, name)), hami.Origin{Node: node, At: noon()})
	}
	llama, qwen := pod("llama-0", gpu1+",NVIDIA,20480,40:;", "serve"), pod("qwen-0", gpu1+",NVIDIA,10240,30:;", "serve")
	for name, views := range map[string][]hami.View{
		"merge-all":             {annotated(llama, qwen), from("scheduler-2.10", ""), from("monitor-2.10", "n1")},
		"merge-other-order":     {from("monitor-2.10", "n1"), from("scheduler-2.10", ""), annotated(qwen, llama)},
		"merge-annotations":     {annotated(llama, qwen)},
		"merge-metrics":         {from("scheduler-2.10", ""), from("monitor-2.10", "")},
		"merge-of-older":        {from("scheduler-older", ""), from("monitor-older", "")},
		"merge-they-differ":     {annotated(llama), from("scheduler-2.10", "")},
		"merge-device-on-nodes": {hami.Annotated([]hami.Node{node("n1"), node("n2")}, nil, noon()), from("scheduler-2.10", "")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := hami.Merge(views...)
			check(t, v, 4, 4)
			testutil.Golden(t, name, dump(v))
		})
	}
}

// only is the one slice of a view.
func only(t *testing.T, v hami.View) hami.Slice {
	t.Helper()
	require.Len(t, v.Slices, 1)
	return v.Slices[0]
}

// given is what the scheduler says of the slice of gpu1 that pod p has.
func given(memory int) string {
	return fmt.Sprintf("hami_vgpu_memory_allocated_bytes{container_index=\"0\",device_uuid=%q,namespace=\"models\",node=\"n1\",pod=\"p\"} %d", gpu1, memory)
}

// used is what a monitor says of the slice of gpu1 that a container of pod p has.
func used(container string, memory int) string {
	return fmt.Sprintf("hami_vgpu_memory_used_bytes{container=%q,device_uuid=%q,namespace=\"models\",pod=\"p\",vdevice_index=\"0\"} %d", container, gpu1, memory)
}

// TestMergeOfAPodAsAWhole: a scheduler that takes account of init containers
// gives what a pod has of a device under container 0, whichever
// container has it.
func TestMergeOfAPodAsAWhole(t *testing.T) {
	t.Parallel()
	pods := pod("p", ";"+gpu1+",NVIDIA,1024,10:;"+gpu1+",NVIDIA,2048,20:;", "proxy", "serve", "log")
	v := hami.Merge(annotated(pods), read(given(3*gib)), read(used("log", 5), used("serve", 7)))
	require.Empty(t, v.Problems)
	require.Len(t, v.Slices, 2)
	require.Equal(t, "serve", v.Slices[0].Container)
	require.EqualValues(t, 1*gib, v.Slices[0].MemoryLimitBytes.Value)
	require.EqualValues(t, 7, v.Slices[0].MemoryUsedBytes.Value)
	require.Equal(t, "n1", v.Slices[0].Node)
	require.Equal(t, "log", v.Slices[1].Container)
	require.EqualValues(t, 2*gib, v.Slices[1].MemoryLimitBytes.Value)
	require.EqualValues(t, 5, v.Slices[1].MemoryUsedBytes.Value)
	require.EqualValues(t, 3*gib, v.Devices[0].MemoryAllocatedBytes.Value)

	one := pod("p", ";"+gpu1+",NVIDIA,1024,10:;", "proxy", "serve")
	s := only(t, hami.Merge(annotated(one), read(given(1*gib))))
	require.Equal(t, "serve", s.Container)
	require.Equal(t, hami.SourceScheduler, s.MemoryLimitBytes.Source)

	v = hami.Merge(annotated(pods), read(given(4*gib)))
	require.Equal(t, []string{`two sources differ in the memory that a pod may have of a GPU: pod "models/p", GPU "` + gpu1 + `": 3 GiB by the pod annotation, 4 GiB by the HAMi scheduler`}, v.Problems)
}

func TestMergeOfInitContainers(t *testing.T) {
	t.Parallel()
	p := pod("p", gpu1+",NVIDIA,4096,10:;"+gpu1+",NVIDIA,1024,30:;", "serve")
	p.InitContainers = []string{"warm"}
	d := annotated(p).Devices[0]
	require.EqualValues(t, 4*gib, d.MemoryAllocatedBytes.Value, "before the others, not beside them")
	require.InDelta(t, 30, d.CoreAllocatedPercent.Value, 0)
	require.EqualValues(t, 1, d.Containers.Value)
	p.InitEnded = true
	d = annotated(p).Devices[0]
	require.EqualValues(t, 1*gib, d.MemoryAllocatedBytes.Value)
}

func TestMergeWithoutNames(t *testing.T) {
	t.Parallel()
	v := hami.Merge(read(given(1)), read(used("serve", 2)))
	s := only(t, v)
	require.Empty(t, v.Problems)
	require.Equal(t, "serve", s.Container)
	require.EqualValues(t, 0, s.ContainerIndex)
	require.EqualValues(t, 0, s.VDevice)
	require.EqualValues(t, 1, s.MemoryLimitBytes.Value)
	require.EqualValues(t, 2, s.MemoryUsedBytes.Value)

	v = hami.Merge(read(given(1)), read(used("serve", 2), used("log", 3)))
	require.Len(t, v.Slices, 3, "which of them is which is unknown")
	require.Equal(t, []string{`a monitor's slice is none of those that the scheduler gave the pod: container "log" of pod "models/p", GPU "` + gpu1 + `", and 1 more`}, v.Problems)
}

func TestMergeKeepsTheNewestOfOneSource(t *testing.T) {
	t.Parallel()
	at := func(after time.Duration, bytes string) hami.View {
		return hami.Read(strings.NewReader("hami_host_gpu_memory_used_bytes"+onA+bytes+"\n"), hami.Origin{At: noon().Add(after)})
	}
	for _, views := range [][]hami.View{{at(0, "1"), at(time.Second, "2")}, {at(time.Second, "2"), at(0, "1")}} {
		v := hami.Merge(views...)
		require.Empty(t, v.Problems, "a source may change its mind")
		require.EqualValues(t, 2, v.Devices[0].MemoryUsedBytes.Value)
	}
}

func TestMergeIsPartialWhenASourceIs(t *testing.T) {
	t.Parallel()
	require.False(t, hami.Merge(read("up 1"), read("up 1")).Partial)
	require.True(t, hami.Merge(read("up 1"), hami.View{Partial: true, Problems: []string{"why"}}).Partial)
	many := hami.Merge(hami.View{Problems: make([]string, 1000)})
	require.Len(t, many.Problems, 257)
	require.Equal(t, "744 more such things are not listed", many.Problems[256])
}

func TestMergeWithoutAnyNode(t *testing.T) {
	t.Parallel()
	v := hami.Merge(read(`HostCoreUtilization{deviceidx="0",deviceuuid="GPU-z"} 5`))
	require.Empty(t, v.Devices)
	require.Equal(t, []string{`a GPU is on no node that is known, so what is said of it was left out: "GPU-z"`}, v.Problems)
}

func TestAvailable(t *testing.T) {
	t.Parallel()
	lines := func(allocated, cores, memory, busy string) []string {
		return []string{
			limitOf + onA + "1.073741824e+11", "hami_gpu_memory_allocated_bytes" + onA + allocated, coresOf + onA + cores,
			"hami_host_gpu_memory_used_bytes" + onA + memory, "hami_host_gpu_utilization_ratio" + onA + busy,
		}
	}
	for name, tc := range map[string]struct {
		lines  []string
		reason string
	}{
		"nothing taken":           {lines: lines("0", "0", "0", "0")},
		"below":                   {lines: lines("8.4825604096e+10", "79", "8.4825604096e+10", "79")},
		"memory allocated":        {lines: lines("8.589934592e+10", "0", "0", "0"), reason: "80 percent of the GPU's memory is allocated, and the threshold is 80"},
		"cores allocated":         {lines: lines("0", "80", "0", "0"), reason: "80 percent of the GPU's cores are allocated, and the threshold is 80"},
		"memory used":             {lines: lines("0", "0", "1.073741824e+11", "0"), reason: "100 percent of the GPU's memory is used, and the threshold is 80"},
		"cores used":              {lines: lines("0", "0", "0", "95"), reason: "95 percent of the GPU's cores are used, and the threshold is 80"},
		"use is unknown":          {lines: lines("0", "0", "NaN", "NaN")},
		"allocation is unknown":   {lines: lines("NaN", "0", "0", "0"), reason: "nothing says how much of the GPU's memory is allocated"},
		"the device is elsewhere": {lines: append(lines("0", "0", "0", "0"), limitOf+strings.Replace(onA, "n1", "n2", 1)+"1.073741824e+11"), reason: "another node lists a GPU of the same UUID"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := hami.Merge(read(tc.lines...))
			ok, reason := v.Devices[0].Available(hami.DefaultThreshold)
			require.Equal(t, tc.reason, reason)
			require.Equal(t, tc.reason == "", ok)
		})
	}
	sick := node("n1")
	sick.Annotations["hami.io/node-nvidia-register"] = strings.ReplaceAll(sick.Annotations["hami.io/node-nvidia-register"], `"health":true`, `"health":false`)
	v := hami.Annotated([]hami.Node{sick}, nil, noon())
	ok, reason := v.Devices[0].Available(100)
	require.False(t, ok)
	require.Equal(t, "HAMi says that the GPU is unhealthy", reason)
	v = annotated()
	ok, _ = v.Devices[0].Available(hami.DefaultThreshold)
	require.True(t, ok, "annotations alone do: no pod has anything")
}
