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
// not a part of the suite. -run TestOneCrashPerRun/hub/07 is one such run; the
// rows of the table are appended to the file that CRASHES_TABLE names.
func TestOneCrashPerRun(t *testing.T) {
	o := newOrdeal(t)
	longest := 100 // until the first run says how many boundaries there are
	for _, b := range append([]blow{{name: "nothing", strike: func(*testing.T, *ordeal) {}}, killHub()}, others()...) {
		t.Run(b.name, func(t *testing.T) {
			for i := 0; i < longest; i++ {
				t.Run(fmt.Sprintf("%02d", i), func(t *testing.T) {
					before := o.prepare(t)
					r := o.register(t, b, fmt.Sprintf("crash-%s-%02d", b.name, i), only(i))
					d := o.remove(t, b, r.clusterID, only(i))
					awaitAsBefore(t, before)
					note(t, b, "register", r)
					note(t, b, "remove", d)
					longest = 1 + max(len(r.workflow.Steps), len(d.workflow.Steps))
				})
				if b.name == "nothing" {
					break
				}
			}
		})
	}
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
	if len(p.struck) == 0 { // the workflow has fewer boundaries
		return
	}
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
