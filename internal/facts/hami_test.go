package facts_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/internal/facts"
)

const (
	registered = "hami.io/node-nvidia-register"
	handshake  = "hami.io/node-handshake"
)

// hami is a node with a register of HAMi's, whose resource counts ten shares of
// each of two GPUs.
func hami(labels map[string]string, register string, more ...string) facts.NodeSource {
	return facts.NodeSource{
		Labels: labels, Capacity: gpus("20"), Allocatable: gpus("20"),
		Annotations: with(map[string]string{registered: register}, more...),
	}
}

const (
	twoAsJSON = `[{"id":"GPU-a","count":10,"devmem":46068,"devcore":100,"type":"NVIDIA-NVIDIA L40S","mode":"hami-core","health":true},` +
		`{"id":"GPU-b","index":1,"count":10,"devmem":46068,"devcore":100,"type":"NVIDIA-NVIDIA L40S","numa":1,"mode":"hami-core"}]`
	twoAsText = "GPU-a,10,46068,100,NVIDIA-NVIDIA L40S,0,true,0,hami-core:GPU-b,10,46068,100,NVIDIA-NVIDIA L40S,1,false,1,hami-core:"
	twoOfOld  = "GPU-a,10,46068,100,NVIDIA-NVIDIA L40S,0,true:GPU-b,10,46068,100,NVIDIA-NVIDIA L40S,1,false:"
)

func TestDevicesFromHAMi(t *testing.T) {
	t.Parallel()
	one := `[{"id":"GPU-a","devmem":%,"type":"NVIDIA-X","health":true}]`
	for name, tc := range map[string]deviceCase{
		"JSON":                {src: hami(nil, twoAsJSON), count: 2, all: theTwo(t)},
		"text":                {src: hami(nil, twoAsText), count: 2, all: theTwo(t)},
		"text of before 2.5":  {src: hami(nil, twoOfOld), count: 2, all: theTwo(t)},
		"the plugin is there": {src: hami(nil, twoAsJSON, handshake, "Reported 2026-11-30 10:00:00"), count: 2, all: theTwo(t)},
		"labels say more than HAMi": {
			src: hami(with(a100(), "nvidia.com/gpu.count", "2", "nvidia.com/gpu.memory", "40960"), twoAsJSON), count: 2,
			check: func(d facts.Device) {
				require.Equal(t, "NVIDIA-A100-SXM4-80GB", d.Model)
				require.Equal(t, int64(40<<30), *d.MemoryBytes, "HAMi's may be scaled up")
				require.Equal(t, "580.82.07", d.DriverVersion)
				require.Equal(t, facts.SourceHAMi, d.Source)
			},
		},
		"labels count others": {src: hami(a100(), twoAsJSON), count: 2, problems: []string{"has 8 GPUs, and HAMi has registered 2"}},
		"the plugin is gone":  {src: hami(nil, twoAsJSON, handshake, "Deleted_2026.11.30 10:00:00"), count: 20},
		"cut into MIG slices": {
			src: hami(nil, strings.ReplaceAll(twoAsJSON, "hami-core", "mig")), count: 2,
			check: func(d facts.Device) { require.Equal(t, facts.SharingMIG, d.Sharing) },
		},
		"no memory":          {src: hami(nil, strings.Replace(one, "%", "0", 1)), count: 1, problems: []string{"has 0 MiB"}},
		"absurd memory":      {src: hami(nil, strings.Replace(one, "%", "99999999999", 1)), count: 1, problems: []string{"has 99999999999 MiB"}},
		"the same UUID":      {src: hami(nil, strings.ReplaceAll(twoAsJSON, "GPU-b", "GPU-a")), count: 1, problems: []string{"twice"}},
		"cut off":            {src: hami(nil, twoAsJSON[:80]), count: 20, problems: []string{"no list of devices"}},
		"not a number":       {src: hami(nil, "GPU-a,10,many,100,NVIDIA-X,0,true:"), count: 20, problems: []string{"not what it should be"}},
		"too few fields":     {src: hami(nil, "GPU-a,10:"), count: 20, problems: []string{"2 fields"}},
		"no device":          {src: hami(nil, "[]"), count: 20, problems: []string{"0 devices"}},
		"a thousand of them": {src: hami(nil, strings.Repeat("GPU-a,10,1,100,NVIDIA-X,0,true:", 2000)), count: 20, problems: []string{"1025 devices"}},
		"nameless":           {src: hami(nil, "a\x00b,10,1,100,NVIDIA-X,0,true:"), count: 20, problems: []string{"is no device"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tc.run(t)
		})
	}
}

func theTwo(t *testing.T) func(d []facts.Device) {
	t.Helper()
	return func(d []facts.Device) {
		require.Equal(t, "GPU-a", d[0].ID)
		require.Equal(t, "GPU-b", d[1].UUID)
		require.Equal(t, int32(1), *d[1].Index)
		require.Equal(t, "NVIDIA-L40S", d[1].Model)
		require.Equal(t, int64(46068<<20), *d[1].MemoryBytes)
		require.Equal(t, facts.HealthHealthy, d[0].Health)
		require.Equal(t, facts.HealthUnhealthy, d[1].Health)
		require.Equal(t, facts.SharingHAMi, d[0].Sharing)
		require.Equal(t, "nvidia.com/gpu", d[0].Resource)
		require.Equal(t, facts.SourceHAMi, d[0].Source)
	}
}

func FuzzDevicesFromHAMi(f *testing.F) {
	for _, register := range []string{twoAsJSON, twoAsText, twoOfOld, "[]", "[null]", `[{"id":1}]`, "a,b:c", "GPU-a,10,-1,100,X,0,true,99999999999,mig:"} {
		f.Add(register)
	}
	f.Fuzz(func(t *testing.T, register string) {
		devices, problems := facts.DevicesFrom(hami(nil, register))
		seen := map[string]bool{}
		for _, d := range devices {
			require.False(t, seen[d.ID], "two devices %s", d.ID)
			seen[d.ID] = true
			require.True(t, utf8.ValidString(d.ID+d.Model))
			if d.MemoryBytes != nil {
				require.Positive(t, *d.MemoryBytes)
			}
		}
		registered, more := facts.HAMiDevices(map[string]string{registered: register})
		require.LessOrEqual(t, len(registered), 1024)
		for _, d := range registered {
			require.True(t, utf8.ValidString(d.UUID+d.Type+d.Mode))
			require.GreaterOrEqual(t, d.Cores, int64(0))
		}
		for _, p := range append(problems, more...) {
			require.True(t, utf8.ValidString(p))
			require.False(t, strings.ContainsAny(p, "\n\x00"))
		}
	})
}
