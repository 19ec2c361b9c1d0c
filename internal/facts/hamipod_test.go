package facts_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/internal/facts"
)

const allocated = "hami.io/vgpu-devices-allocated"

// holder is a pod on node n1 with one init container and two others.
func holder(annotation string, more ...string) facts.HAMiPod {
	return facts.HAMiPod{
		Namespace: "ns", Name: "p", Node: "n1",
		InitContainers: []string{"warm"}, Containers: []string{"serve", "log"},
		Annotations: with(map[string]string{allocated: annotation}, more...),
	}
}

// slice is what the pod of holder holds.
func slice(container string, index int32, uuid string, mib, cores int64) facts.HAMiSlice {
	return facts.HAMiSlice{
		Namespace: "ns", Pod: "p", Node: "n1", Container: container, ContainerIndex: index, Init: container == "warm",
		DeviceUUID: uuid, MemoryBytes: mib << 20, Cores: cores,
	}
}

func TestHAMiSlices(t *testing.T) {
	t.Parallel()
	second := slice("serve", 1, "GPU-b", 2000, 0)
	second.VDevice = 1
	mig := slice("serve", 0, "GPU-a", 10240, 14)
	mig.Part = "0-1"
	nameless := slice("", 0, "GPU-a", 1, 2)
	unbound := holder("GPU-a,NVIDIA,3000,30:;;", "hami.io/vgpu-node", "n1")
	unbound.Node = ""
	started := holder("GPU-a,NVIDIA,1000,10:;GPU-a,NVIDIA,3000,30:;;")
	started.InitEnded = true
	ended := holder("GPU-a,NVIDIA,3000,30:;;;")
	ended.Ended = true
	for name, tc := range map[string]struct {
		pod     facts.HAMiPod
		want    []facts.HAMiSlice
		problem string // part of the one sentence
	}{
		"init containers first": {
			pod:  holder("GPU-a,NVIDIA,1000,10:;GPU-a,NVIDIA,3000,30:GPU-b,NVIDIA,2000,0:;;"),
			want: []facts.HAMiSlice{slice("warm", 0, "GPU-a", 1000, 10), slice("serve", 1, "GPU-a", 3000, 30), second},
		},
		"its init container has ended": {pod: started, want: []facts.HAMiSlice{slice("serve", 1, "GPU-a", 3000, 30)}},
		"without init containers":      {pod: holder("GPU-a,NVIDIA,3000,30:;;"), want: []facts.HAMiSlice{slice("serve", 0, "GPU-a", 3000, 30)}},
		"a MIG slice of before 2.10":   {pod: holder("GPU-a[0-1],NVIDIA,10240,14:;;"), want: []facts.HAMiSlice{mig}},
		"another vendor": {
			pod:  facts.HAMiPod{Namespace: "ns", Name: "p", Node: "n1", Containers: []string{"serve"}, Annotations: map[string]string{"hami.io/dcu-devices-allocated": "DCU-0,DCU,3000,30:;"}},
			want: []facts.HAMiSlice{slice("serve", 0, "DCU-0", 3000, 30)},
		},
		"fields to come":       {pod: holder("GPU-a,NVIDIA,3000,30,more:;;"), want: []facts.HAMiSlice{slice("serve", 0, "GPU-a", 3000, 30)}},
		"planned, not bound":   {pod: unbound, want: []facts.HAMiSlice{slice("serve", 0, "GPU-a", 3000, 30)}},
		"ended":                {pod: ended},
		"could not be bound":   {pod: holder("GPU-a,NVIDIA,3000,30:;;", "hami.io/bind-phase", "failed")},
		"holds nothing":        {pod: holder(";;;")},
		"on another node":      {pod: holder("GPU-a,NVIDIA,3000,30:;;", "hami.io/vgpu-node", "n2"), problem: `runs on node "n1", but HAMi gave it devices of node "n2"`},
		"other containers":     {pod: holder("GPU-a,NVIDIA,1,2:;"), want: []facts.HAMiSlice{nameless}, problem: "lists 1 containers and the pod has 3"},
		"no semicolon":         {pod: holder("GPU-a,NVIDIA,1,2:"), problem: "no container"},
		"too few fields":       {pod: holder("GPU-a,NVIDIA:;;"), problem: "2 fields"},
		"no number":            {pod: holder("GPU-a,NVIDIA,3Gi,0:;;"), problem: "not what it should be"},
		"cut off":              {pod: holder("GPU-a,NVIDIA,3000,30:;GPU-b,NVIDIA,20"), problem: "3 fields"},
		"negative memory":      {pod: holder("GPU-a,NVIDIA,-1,0:;;"), problem: "cannot have -1 MiB"},
		"absurd memory":        {pod: holder("GPU-a,NVIDIA,9000000000000000000,0:;;"), problem: "cannot have 9000000000000000000 MiB"},
		"absurd cores":         {pod: holder("GPU-a,NVIDIA,1,99999999:;;"), problem: "percent of cores"},
		"nameless device":      {pod: holder(",NVIDIA,1,1:;;"), problem: "is no device"},
		"a line in the UUID":   {pod: holder("GPU\n,NVIDIA,1,1:;;"), problem: "is no device"},
		"thousands of devices": {pod: holder(strings.Repeat("GPU-a,NVIDIA,1,1:", 2000) + ";;"), problem: "more than 1024"},
		"thousands of parts":   {pod: holder(strings.Repeat(";", 2000)), problem: "more than 1024"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, problems := facts.HAMiSlices(tc.pod)
			require.Equal(t, tc.want, got)
			if tc.problem == "" {
				require.Empty(t, problems)
				return
			}
			require.Len(t, problems, 1)
			require.Contains(t, problems[0], tc.problem)
		})
	}
}

func TestPodAnnotations(t *testing.T) {
	t.Parallel()
	require.Nil(t, facts.PodAnnotations(map[string]string{"hami.io/vgpu-node": "n1", "nvidia.com/use-gputype": "A100"}))
	kept := map[string]string{allocated: ";", "hami.io/vgpu-node": "n1", "hami.io/bind-phase": "success"}
	require.Equal(t, kept, facts.PodAnnotations(with(kept, "hami.io/vgpu-devices-to-allocate", ";", "other", "x")))
}

func TestHAMiDevices(t *testing.T) {
	t.Parallel()
	memory := int64(46068 << 20)
	want := []facts.HAMiDevice{
		{UUID: "GPU-a", MemoryBytes: &memory, Cores: 100, Type: "NVIDIA-NVIDIA L40S", Mode: "hami-core", Healthy: true},
		{UUID: "GPU-b", Index: 1, MemoryBytes: &memory, Cores: 100, Type: "NVIDIA-NVIDIA L40S", Mode: "hami-core"},
	}
	for name, register := range map[string]string{"JSON": twoAsJSON, "text": twoAsText} {
		got, problems := facts.HAMiDevices(map[string]string{registered: register})
		require.Empty(t, problems, name)
		require.Equal(t, want, got, name)
	}
	got, problems := facts.HAMiDevices(map[string]string{registered: twoAsJSON, handshake: "Deleted_2026-11-30 10:00:00"})
	require.Empty(t, got)
	require.Empty(t, problems)
	got, problems = facts.HAMiDevices(map[string]string{registered: strings.ReplaceAll(twoAsJSON, "GPU-b", "GPU-a")})
	require.Equal(t, want[:1], got)
	require.Equal(t, []string{`HAMi has registered GPU "GPU-a" twice; the first counts`}, problems)
	_, problems = facts.HAMiDevices(map[string]string{registered: strings.Replace(twoAsText, ",100,", ",-5,", 1)})
	require.Len(t, problems, 1)
	require.Contains(t, problems[0], "cannot have -5 percent of cores")
}

func FuzzHAMiSlices(f *testing.F) {
	for _, annotation := range []string{"GPU-a,NVIDIA,1000,10:;GPU-a,NVIDIA,3000,30:GPU-b,NVIDIA,2000,0:;;", "GPU-a[0-1],NVIDIA,1,1:;;", ";;;", "", ":;", "a,b,c,d:;", "[],x,1,1:;"} {
		f.Add(annotation)
	}
	f.Fuzz(func(t *testing.T, annotation string) {
		held, problems := facts.HAMiSlices(holder(annotation))
		require.LessOrEqual(t, len(held), 1024)
		for _, s := range held {
			require.NotEmpty(t, s.DeviceUUID)
			require.True(t, utf8.ValidString(s.DeviceUUID+s.Part))
			require.GreaterOrEqual(t, s.MemoryBytes, int64(0))
			require.GreaterOrEqual(t, s.Cores, int64(0))
		}
		for _, p := range problems {
			require.True(t, utf8.ValidString(p))
			require.False(t, strings.ContainsAny(p, "\n\x00"))
		}
	})
}
