package hami_test

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/agent/internal/hami"
)

// Parts of series.
const (
	onA     = `{device_index="0",device_type="T",device_uuid="GPU-a",node="n1"} `
	onB     = `{device_index="1",device_type="T",device_uuid="GPU-b",node="n1"} `
	ofPod   = `{container_index="0",device_uuid="GPU-a",namespace="ns",node="n1",pod="p"} `
	limitOf = "hami_gpu_memory_limit_bytes"
	coresOf = "hami_gpu_core_allocated_ratio"
	gib     = 1 << 30
)

func TestReadDropsWhatCannotBeRight(t *testing.T) {
	t.Parallel()
	good := limitOf + onB + "8.589934592e+10"
	for name, tc := range map[string]struct {
		lines   []string
		problem string // part of the one sentence; empty for none
		devices int    // beside that of good
	}{
		"not a number":       {lines: []string{limitOf + onA + "NaN"}, problem: `metric hami_gpu_memory_limit_bytes gives no amount of memory, so it was left out: NaN for GPU "GPU-a" of node "n1"`, devices: 1},
		"infinite":           {lines: []string{limitOf + onA + "+Inf", limitOf + onA + "-Inf"}, problem: "+Inf for GPU \"GPU-a\" of node \"n1\", and 1 more", devices: 1},
		"negative":           {lines: []string{"hami_gpu_memory_allocated_bytes" + onA + "-1.073741824e+09"}, problem: "gives no amount of memory", devices: 1},
		"a part of a byte":   {lines: []string{"hami_gpu_memory_allocated_bytes" + onA + "0.5"}, problem: "gives no amount of memory", devices: 1},
		"absurd memory":      {lines: []string{limitOf + onA + "1e+300"}, problem: "gives no amount of memory", devices: 1},
		"MiB for bytes":      {lines: []string{limitOf + onA + "46068"}, problem: "as if it were in MiB", devices: 1},
		"absurd cores":       {lines: []string{coresOf + onA + "1e9"}, problem: "gives no share of cores", devices: 1},
		"more than all":      {lines: []string{coresOf + onA + "101"}, problem: `more cores than a device has are said to be allocated, so how many is unknown: 101 percent of GPU "GPU-a"`, devices: 1},
		"more than busy":     {lines: []string{"hami_host_gpu_utilization_ratio" + onA + "250"}, problem: "gives no share of cores", devices: 1},
		"half a container":   {lines: []string{"hami_gpu_shared_count" + onA + "1.5"}, problem: "gives no number of containers", devices: 1},
		"the same twice":     {lines: []string{limitOf + onA + "8.589934592e+10", limitOf + onA + "4.294967296e+10"}, problem: "is there twice for one thing, and the first counts", devices: 1},
		"two indices":        {lines: []string{limitOf + onA + "8.589934592e+10", coresOf + strings.Replace(onA, `"0"`, `"7"`, 1) + "1"}, problem: "listed with two indices", devices: 1},
		"no device":          {lines: []string{limitOf + `{node="n1"} 8.589934592e+10`}, problem: "names no device"},
		"only a part":        {lines: []string{limitOf + `{device_uuid="[0-1]",node="n1"} 8.589934592e+10`}, problem: "names no device"},
		"a line in its UUID": {lines: []string{limitOf + `{device_uuid="GPU\na",node="n1"} 8.589934592e+10`}, problem: "names no device"},
		"a line in a node":   {lines: []string{limitOf + `{device_uuid="GPU-a",node="n\n1"} 8.589934592e+10`}, problem: "names an impossible node"},
		"a long UUID":        {lines: []string{limitOf + `{device_uuid="` + strings.Repeat("x", 500) + `",node="n1"} 8.589934592e+10`}, problem: "names no device"},
		"no pod":             {lines: []string{"hami_vgpu_memory_used_bytes" + onA + "1"}, problem: "names no pod"},
		"a new metric":       {lines: []string{"hami_gpu_smell_ratio" + onA + "1", "hami_gpu_taste_ratio" + onA + "1"}, problem: `not known here were left out: "hami_gpu_smell_ratio", and 1 more`},
		"other programs'":    {lines: []string{"go_goroutines 8", "promhttp_metric_handler_requests_total{code=\"200\"} 3", "hami_scheduler_is_leader 1"}},
		"names in quotes":    {lines: []string{`{"hami_gpu_memory_limit_bytes",device_uuid="GPU-a",node="n1"} 8.589934592e+10`}},
		"no text format":     {lines: []string{"<html>not found</html>"}, problem: `not in Prometheus's text format was left out: "<html>not found</html>"`},
		"a value cut off":    {lines: []string{limitOf + onA}, problem: "not in Prometheus's text format"},
		"labels cut off":     {lines: []string{limitOf + `{device_uuid="GPU-`}, problem: "not in Prometheus's text format"},
		"words for numbers":  {lines: []string{limitOf + onA + "80GiB"}, problem: "not in Prometheus's text format"},
		"no UTF-8":           {lines: []string{limitOf + "{device_uuid=\"GPU-\xff\",node=\"n1\"} 1"}, problem: "not in Prometheus's text format"},
		"a wrong type":       {lines: []string{"# TYPE hami_gpu_memory_limit_bytes weather"}, problem: "not in Prometheus's text format"},
		"blank lines":        {lines: []string{"", " ", "\t", "# a comment", "#", ""}},
		"a line of 10 KiB":   {lines: []string{"# " + strings.Repeat("x", 10<<10)}},
		"a line of 100 KiB":  {lines: []string{"# " + strings.Repeat("x", 100<<10)}, problem: "a line longer than 65536 bytes was left out"},
		"a line of 1 MiB":    {lines: []string{"# " + strings.Repeat("x", 1<<20)}, problem: "a line longer than 65536 bytes was left out"},
		"escapes and braces": {lines: []string{limitOf + `{device_type="a \"}\" b\\",device_uuid="GPU-a",node="n1",} 8.589934592e+10 1764536400000`}, devices: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := read(append(tc.lines, good)...)
			require.False(t, v.Partial)
			require.Len(t, v.Devices, tc.devices+1)
			require.EqualValues(t, 80*gib, v.Devices[tc.devices].MemoryLimitBytes.Value, "what follows is read")
			if tc.problem == "" {
				require.Empty(t, v.Problems)
				return
			}
			require.Len(t, v.Problems, 1)
			require.Contains(t, v.Problems[0], tc.problem)
		})
	}
}

// TestReadOfBothFamilies: with --legacy-metrics HAMi gives each figure twice, and
// where they count in different units the newer one's is percents.
func TestReadOfBothFamilies(t *testing.T) {
	t.Parallel()
	older := `GPUDeviceCoreAllocated{deviceidx="0",deviceuuid="GPU-a",nodeid="n1"} 152`
	limit := `GPUDeviceCoreLimit{deviceidx="0",deviceuuid="GPU-a",nodeid="n1"} 304`
	newer := []string{coresOf + onA + "50", "hami_gpu_core_limit_ratio" + onA + "100"}
	for name, lines := range map[string][]string{
		"older":              {older, limit},
		"older, then newer":  append([]string{older, limit}, newer...),
		"newer, then older":  append(newer[:2:2], older, limit),
		"one, then another":  {older, newer[0], limit, newer[1]},
		"only newer":         newer,
		"the limit at first": {limit, older},
	} {
		v := read(lines...)
		require.Empty(t, v.Problems, name)
		require.Len(t, v.Devices, 1, name)
		require.InDelta(t, 100, v.Devices[0].CoreLimitPercent.Value, 0, name)
		require.InDelta(t, 50, v.Devices[0].CoreAllocatedPercent.Value, 1e-9, name)
	}
}

func TestReadSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	first, second := limitOf+onA+"8.589934592e+10", limitOf+onB+"8.589934592e+10"
	slices := "hami_vgpu_memory_allocated_bytes" + ofPod + "1\n" + "hami_vgpu_memory_allocated_bytes" + strings.Replace(ofPod, `"p"`, `"q"`, 1) + "1\n"
	whole := first + "\n" + second + "\n"
	long := strings.Repeat("# a comment\n", 100)
	broken := errors.New("connection reset by peer")
	for name, tc := range map[string]struct {
		text    io.Reader
		problem string
		devices int
	}{
		"whole":                   {text: strings.NewReader(whole), devices: 2},
		"byte by byte":            {text: iotest.OneByteReader(strings.NewReader(whole)), devices: 2},
		"end with the last bytes": {text: iotest.DataErrReader(strings.NewReader(whole)), devices: 2},
		"nothing":                 {text: strings.NewReader("")},
		"cut within a number":     {text: strings.NewReader(whole[:len(whole)-4]), problem: "ends in the middle of a line", devices: 1},
		"cut before the newline":  {text: strings.NewReader(whole[:len(whole)-1]), problem: "ends in the middle of a line", devices: 1},
		"cut within a long line":  {text: strings.NewReader(whole + strings.Repeat("x", 2<<10)), problem: "longer than 1024 bytes", devices: 2},
		"connection lost":         {text: io.MultiReader(strings.NewReader(whole+first[:20]), iotest.ErrReader(broken)), problem: `could not be read to its end: "connection reset by peer"`, devices: 2},
		"too long":                {text: strings.NewReader(whole + strings.Repeat(long, 100)), problem: "longer than 0 MiB", devices: 2},
		"too many series":         {text: strings.NewReader(whole + strings.Repeat("up 1\n", 20)), problem: "more than 10 series", devices: 2},
		"too many devices":        {text: strings.NewReader(whole + limitOf + `{device_uuid="GPU-c",node="n1"} 8.589934592e+10` + "\n"), problem: "more than 2 devices", devices: 2},
		"too many slices":         {text: strings.NewReader(slices + whole), problem: "more than 1 slices", devices: 2},
		"too many bad lines":      {text: strings.NewReader(whole + strings.Repeat("!\n", 20)), problem: "too many such lines", devices: 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := hami.ReadWithin(tc.text, hami.Origin{At: noon()}, 20<<10, 10, 2, 1)
			require.Len(t, v.Devices, tc.devices)
			require.Equal(t, tc.problem != "", v.Partial)
			if tc.problem != "" {
				require.Contains(t, strings.Join(v.Problems, "\n"), tc.problem)
			}
		})
	}
}

func TestProblemsAreBounded(t *testing.T) {
	t.Parallel()
	var lines []string
	for i := range 10_000 {
		lines = append(lines,
			fmt.Sprintf(`hami_gpu_memory_limit_bytes{device_uuid="GPU-%d",node="n1"} NaN`, i),
			fmt.Sprintf(`hami_new_%d{device_uuid="GPU-%d",node="n1"} 1`, i, i))
	}
	for _, metric := range []string{
		limitOf, coresOf, "hami_gpu_memory_allocated_bytes", "hami_gpu_core_limit_ratio", "hami_gpu_shared_count", "hami_host_gpu_memory_used_bytes",
		"hami_host_gpu_utilization_ratio", "hami_vgpu_memory_used_bytes", "hami_vgpu_memory_limit_bytes", "hami_vgpu_core_allocated_ratio",
		"GPUDeviceMemoryLimit", "GPUDeviceCoreLimit", "GPUDeviceMemoryAllocated", "GPUDeviceSharedNum", "GPUDeviceCoreAllocated", "vGPUMemoryAllocated",
	} {
		lines = append(lines, metric+onA+"NaN", metric+ofPod+"NaN", metric+` 1`, metric+`{device_uuid="GPU-a",node="\n"} 1`)
	}
	v := read(lines...)
	require.Len(t, v.Problems, hami.MaxProblems)
	require.Contains(t, v.Problems[0], "and 10001 more")
	require.Contains(t, v.Problems[hami.MaxProblems-1], "more such things are not listed")
}

func FuzzRead(f *testing.F) {
	for _, name := range []string{"scheduler-2.10", "scheduler-older", "monitor-2.10", "monitor-older"} {
		f.Add(recorded(f, name))
	}
	for _, text := range []string{"", "\n", limitOf + onA + "NaN\n", limitOf + onA + "1e400\n", "!\n" + limitOf + onA + "1 2\n", "# HELP \n# TYPE x gauge\nx{a=\"\n\"} 1\n", "{\"x\"} 1\n", "\x00{a=\"\x00\x00\n"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		one := hami.ReadWithin(strings.NewReader(string(text)), hami.Origin{Node: "n1", At: noon()}, 1<<20, 1000, 100, 100)
		check(t, one, 100, 100)
		check(t, hami.Merge(one, read(limitOf+onA+"8.589934592e+10"), one), 101, 200)
	})
}

// check is what holds of every view.
func check(t *testing.T, v hami.View, devices, slices int) {
	t.Helper()
	require.LessOrEqual(t, len(v.Devices), devices)
	require.LessOrEqual(t, len(v.Slices), slices)
	require.LessOrEqual(t, len(v.Problems), 4*hami.MaxProblems)
	seen := map[[2]string]bool{}
	for i := range v.Devices {
		d := &v.Devices[i]
		require.False(t, seen[[2]string{d.Node, d.UUID}], "device %s of %s twice", d.UUID, d.Node)
		seen[[2]string{d.Node, d.UUID}] = true
		require.NotEmpty(t, d.UUID)
		require.True(t, utf8.ValidString(d.UUID+d.Node+d.Type.Value))
		for _, amount := range []hami.Fact[int64]{d.MemoryLimitBytes, d.MemoryAllocatedBytes, d.MemoryUsedBytes, d.Containers} {
			require.GreaterOrEqual(t, amount.Value, int64(0))
			require.LessOrEqual(t, amount.Value, int64(16<<40))
		}
		for _, share := range []hami.Fact[float64]{d.CoreLimitPercent, d.CoreAllocatedPercent, d.CoreUsedPercent} {
			require.True(t, share.Value >= 0 && share.Value <= 100.1, "share %v", share.Value)
		}
		_, _ = d.Available(hami.DefaultThreshold)
	}
	for _, s := range v.Slices {
		require.NotEmpty(t, s.Pod)
		require.NotEmpty(t, s.DeviceUUID)
		require.True(t, s.CoreAllocatedPercent.Value >= 0 && s.CoreAllocatedPercent.Value <= 100.1)
	}
	for _, problem := range v.Problems {
		require.True(t, utf8.ValidString(problem))
		require.False(t, strings.ContainsAny(problem, "\n\x00"), problem)
	}
}
