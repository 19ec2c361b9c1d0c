package component_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/internal/component"
)

// targets reads one letter per cluster: w(aiting) a(way) r(unning) d(one)
// f(ailed) s(kipped).
func targets(states string) []component.Target {
	of := map[rune]component.TargetState{
		'w': component.TargetWaiting, 'a': component.TargetAway, 'r': component.TargetRunning,
		'd': component.TargetDone, 'f': component.TargetFailed, 's': component.TargetSkipped,
	}
	var out []component.Target
	for i, s := range states {
		t := component.Target{Cluster: fmt.Sprintf("c%d", i+1), State: of[s]}
		if s == 'f' {
			t.Message = "no space"
		}
		out = append(out, t)
	}
	return out
}

func TestWave(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		states                 string
		size, canary, tolerate int
		state                  component.WaveState
		start                  []string
		reason                 string
	}{
		"nothing to do":                       {"", 2, 0, 0, component.WaveDone, nil, ""},
		"the first wave":                      {"wwww", 2, 0, 0, component.WaveStart, []string{"c1", "c2"}, ""},
		"a canary":                            {"wwww", 2, 1, 0, component.WaveStart, []string{"c1"}, ""},
		"after the canary":                    {"dwww", 2, 1, 0, component.WaveStart, []string{"c2", "c3"}, ""},
		"a size that makes no sense":          {"ww", 0, 0, 0, component.WaveStart, []string{"c1"}, ""},
		"the last wave is smaller":            {"dddw", 2, 0, 0, component.WaveStart, []string{"c4"}, ""},
		"a wave that runs":                    {"drww", 2, 0, 0, component.WaveWait, nil, "waiting for c2"},
		"all done":                            {"dsd", 2, 0, 0, component.WaveDone, nil, ""},
		"one failed":                          {"dfww", 2, 0, 0, component.WavePaused, nil, "c2 (no space) failed; resume to go on with the other 2"},
		"one failed while another runs":       {"frww", 2, 0, 0, component.WaveWait, nil, "c1 (no space) failed, so no more clusters begin; waiting for c2"},
		"one failure is allowed":              {"dfww", 2, 0, 1, component.WaveStart, []string{"c3", "c4"}, ""},
		"a second one is not":                 {"dffw", 2, 0, 1, component.WavePaused, nil, "c2 (no space), c3 (no space) failed"},
		"the last one failed":                 {"ddf", 2, 0, 0, component.WaveDone, nil, ""},
		"those that are away are passed over": {"awwa", 2, 0, 0, component.WaveStart, []string{"c2", "c3"}, ""},
		"only those that are away are left":   {"adda", 2, 0, 0, component.WaveWait, nil, "c1, c4 cannot be reached"},
		"many run":                            {"rrrrr", 9, 0, 0, component.WaveWait, nil, "waiting for c1, c2, c3 and 2 more"},
		"a negative tolerance":                {"w", 1, 0, -3, component.WaveStart, []string{"c1"}, ""},
		"an unknown state has not begun":      {"?d", 1, 0, 0, component.WaveStart, []string{"c1"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := component.Wave{Size: c.size, Canary: c.canary, Tolerate: c.tolerate, Targets: targets(c.states)}.Decide()
			require.Equal(t, c.state, d.State, d.Reason)
			require.Equal(t, c.start, d.Start)
			require.Contains(t, d.Reason, c.reason)
		})
	}
}

// FuzzWave plays a rollout to its end: never more than a wave runs, a cluster
// begins once, nothing begins after too many failures, and it ends.
func FuzzWave(f *testing.F) {
	f.Add("wwwwwww", 3, 1, 1, uint64(5))
	f.Add("awswdwf", 2, 0, 0, uint64(0))
	f.Fuzz(func(t *testing.T, states string, size, canary, tolerate int, luck uint64) {
		if len(states) > 64 {
			return
		}
		w := component.Wave{Size: size, Canary: canary, Tolerate: tolerate, Targets: targets(states)}
		begun := map[string]bool{}
		for range 4 * (len(states) + 1) {
			d := w.Decide()
			require.Equal(t, d, w.Decide())
			if d.State != component.WaveStart {
				require.Empty(t, d.Start)
			}
			if d.State == component.WaveDone || d.State == component.WavePaused {
				return
			}
			require.LessOrEqual(t, len(d.Start), max(size, canary, 1))
			for i := range w.Targets {
				target := &w.Targets[i]
				switch {
				case slices.Contains(d.Start, target.Cluster):
					require.False(t, begun[target.Cluster], "%s begins twice", target.Cluster)
					begun[target.Cluster], target.State = true, component.TargetRunning
				case d.State == component.WaveWait && target.State == component.TargetRunning:
					target.State = component.TargetDone
					if luck>>(i%64)&1 == 1 {
						target.State = component.TargetFailed
					}
				case d.State == component.WaveWait && target.State == component.TargetAway:
					target.State = component.TargetWaiting
				}
			}
		}
		t.Fatal("the rollout does not end")
	})
}
