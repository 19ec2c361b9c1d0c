//go:build e2e

package suite_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/hubapi"
)

// TestFailedHAMiFailsTheRegistration: HAMi's device plugin ends with a message.
// That it does so is why the registration failed, in the pod's own words, for
// programs and for people. What the run installed is gone again; the agent,
// which a person installed, stays connected.
func TestFailedHAMiFailsTheRegistration(t *testing.T) {
	const why, key = "cannot initialise NVML: driver not loaded", "fail.e2e.budcluster.test/hami-device-plugin"
	f := newFailure(t)
	annotate(t, f.node, map[string]any{key: why})
	mended := sync.OnceFunc(func() { annotate(t, f.node, map[string]any{key: nil}) })
	defer mended()
	w, err := f.hub.client.Register(t.Context(), hubapi.RegisterRequest{
		Name: f.name, Existing: true, Components: map[string]hubapi.ComponentWish{"hami": {Wanted: "yes"}},
	})
	require.NoError(t, err)
	out, err := f.hub.cliError(t, "workflow", "watch", w.ID)
	require.Error(t, err, "the command line's status says so too")
	t.Logf("$ budcluster workflow watch %s\n%s", w.ID, out)
	mended()
	f.requireHAMi(t, w.ID, why)
}

// failure is a cluster in which HAMi is going to fail, with a hub.
type failure struct {
	*site
	node, agent string
	before      map[thing]string
	started     time.Time
}

func newFailure(t *testing.T) *failure {
	t.Helper()
	f := &failure{node: pretendGPUs(t)}
	overlay, _ := standIns(t)
	hasty(t, filepath.Join(overlay, "hami.yaml"), 30*time.Second)
	f.site = own(t, "--components-dir", overlay)
	f.before, f.agent = undisturbed(t), f.awaitState(t, hubapi.ClusterConnected, time.Minute).Session.Instance
	f.started = time.Now()
	return f
}

// requireHAMi requires that the registration failed with HAMi, for the reasons,
// as soon as the agent gave up, and that all is as before.
func (f *failure) requireHAMi(t *testing.T, id string, reasons ...string) {
	t.Helper()
	w, err := f.hub.client.Workflow(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, hubapi.WorkflowFailed, w.Status)
	for _, installed := range []string{"component/nfd", "component/nvidia-gpu-operator"} {
		require.Equal(t, hubapi.StepCompleted, stepOf(t, w, installed).Status, installed)
	}
	step := stepOf(t, w, "component/hami")
	require.Equal(t, hubapi.StepFailed, step.Status)
	require.NotContains(t, step.Message, "not done after", "the agent gave up, and that was heard")
	shown := f.hub.cli(t, "workflow", "show", w.ID)
	t.Logf("$ budcluster workflow show %s\n%s", w.ID, shown)
	event := f.hub.endOf(t, w.ID)
	for _, reason := range append(reasons, "hami-device-plugin") {
		for where, text := range map[string]string{"workflow": w.Message, "step": step.Message, "command line": unwrapped(shown), "event": event.Message} {
			require.Contains(t, text, reason, where)
		}
	}
	for _, later := range []string{"component/prometheus-stack", "inventory"} {
		require.NotEqual(t, hubapi.StepCompleted, stepOf(t, w, later).Status, later)
	}
	awaitAsBefore(t, f.before)
	now := f.cluster(t)
	require.Equal(t, hubapi.ClusterConnected, now.State)
	require.Equal(t, f.agent, now.Session.Instance, "the same agent, on the same connection")
	measured(t, "a registration that HAMi failed, and taken back: %s", time.Since(f.started).Round(100*time.Millisecond))
	proved(t, "a failing HAMi fails the registration: %s", w.Message)
}

// hasty makes a component of the overlay fail soon. In the time the chart's own
// hooks must be done, on a machine that has more to do.
func hasty(t *testing.T, file string, timeout time.Duration) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = fmt.Fprintf(f, "timeout: %s\n", timeout)
	require.NoError(t, err)
	require.NoError(t, f.Close())
}

func stepOf(t *testing.T, w hubapi.Workflow, name string) hubapi.WorkflowStep {
	t.Helper()
	for _, step := range w.Steps {
		if step.Name == name {
			return step
		}
	}
	t.Fatalf("workflow %s has no step %s", w.ID, name)
	return hubapi.WorkflowStep{}
}

// endOf is the one event of a workflow's end.
func (h *hub) endOf(t *testing.T, id string) hubapi.Event {
	t.Helper()
	page, err := h.client.Events(t.Context(), hubapi.EventQuery{Types: []string{"workflow.finished"}, Limit: 1000})
	require.NoError(t, err)
	found := slices.DeleteFunc(page.Items, func(e hubapi.Event) bool { return e.Subject != id })
	require.Len(t, found, 1, "a workflow ends once")
	return found[0]
}
