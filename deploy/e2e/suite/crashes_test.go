//go:build e2e && crashes

package suite_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/hubapi"
)

// others are the blows beside killHub.
func others() []blow {
	return []blow{
		{name: "agent", strike: func(t *testing.T, o *ordeal) { t.Helper(); o.killAgent(t) }, retries: true},
		{name: "postgres", strike: func(t *testing.T, o *ordeal) { t.Helper(); o.database.restart(t) }},
	}
}

// TestOthersCrashAtEveryStep kills the agent at every step, and PostgreSQL.
func TestOthersCrashAtEveryStep(t *testing.T) { crashAtEveryStep(t, others()...) }

// TestOneCrashPerRun takes a cluster through registration and removal again and
// again. Each time one blow is struck at one boundary of the registration, and
// at one of the removal, until each was struck at each. It takes hours and is
// not a part of the suite. -run TestOneCrashPerRun/(nothing|hub/07) is one such
// run: the first says what boundaries there are. The rows of the table are
// appended to the file that CRASHES_TABLE names.
func TestOneCrashPerRun(t *testing.T) {
	o := newOrdeal(t)
	var registers, removes []int
	t.Run("nothing", func(t *testing.T) {
		r, d := o.once(t, blow{name: "nothing"}, "crash-nothing", -1, -1)
		registers, removes = r.boundaries, d.boundaries
		t.Logf("boundaries of the registration: %v; of the removal: %v", registers, removes)
	})
	for _, b := range append([]blow{killHub()}, others()...) {
		t.Run(b.name, func(t *testing.T) {
			for i := range max(len(registers), len(removes)) {
				t.Run(fmt.Sprintf("%02d", i), func(t *testing.T) {
					r, d := o.once(t, b, fmt.Sprintf("crash-%s-%02d", b.name, i), registers[min(i, len(registers)-1)], removes[min(i, len(removes)-1)])
					note(t, b, "register", r)
					note(t, b, "remove", d)
				})
			}
		})
	}
}

// once registers and removes the cluster, with one blow in each.
func (o *ordeal) once(t *testing.T, b blow, name string, register, remove int) (r, d passage) {
	t.Helper()
	before := o.prepare(t)
	r = o.register(t, b, name, only(register))
	d = o.remove(t, b, r.clusterID, only(remove))
	awaitAsBefore(t, before)
	return r, d
}

// TestAbsentImageFailsTheRegistration: nobody has the image of HAMi's device
// plugin. It is as TestFailedHAMiFailsTheRegistration, and takes as long.
func TestAbsentImageFailsTheRegistration(t *testing.T) {
	const absent = "registry.e2e.budcluster.test/absent:1"
	f := newFailure(t)
	w, err := f.hub.client.Register(t.Context(), hubapi.RegisterRequest{Name: f.name, Existing: true, Components: map[string]hubapi.ComponentWish{
		"hami": {Wanted: "yes", Values: map[string]any{"standin": map[string]any{"fakegpu": absent}}},
	}})
	require.NoError(t, err)
	f.requireHAMi(t, finished(t, f.hub, w.ID).ID, absent, "Image")
}

// only is a choice of the i-th boundary.
func only(i int) func(int) bool {
	return func(boundary int) bool { return boundary == i }
}

// note appends a row to the table: who was struck, in which workflow, at which
// boundary, how long the workflow took, and how it ended.
func note(t *testing.T, b blow, workflow string, p passage) {
	t.Helper()
	require.Len(t, p.struck, 1)
	row := fmt.Sprintf("| %s | %s | %s | %s | %s |", b.name, workflow, p.struck[0], p.took.Round(100*time.Millisecond), p.workflow.Status)
	t.Log(row)
	path := os.Getenv("CRASHES_TABLE")
	if path == "" {
		return
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	require.NoError(t, err)
	_, err = fmt.Fprintln(file, row)
	require.NoError(t, err)
	require.NoError(t, file.Close())
}
