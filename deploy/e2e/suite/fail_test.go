//go:build e2e && crashes

package suite_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/hubapi"
)

// TestFailedHAMiFailsTheRegistration: what keeps HAMi's pods from running is why
// the registration failed, in the pod's own words, for programs and for people.
// What the run installed is gone again; the agent, which a person installed,
// stays connected.
func TestFailedHAMiFailsTheRegistration(t *testing.T) {
	node := pretendGPUs(t)
	overlay, _ := standIns(t)
	hasty(t, filepath.Join(overlay, "hami.yaml"))
	s := own(t, "--components-dir", overlay)
	before, agent := undisturbed(t), s.awaitState(t, hubapi.ClusterConnected, time.Minute).Session.Instance

	failed := func(t *testing.T, w hubapi.Workflow, started time.Time, reasons ...string) {
		t.Helper()
		require.Equal(t, hubapi.WorkflowFailed, w.Status)
		step := stepOf(t, w, "component/hami")
		require.Equal(t, hubapi.StepFailed, step.Status)
		shown := s.hub.cli(t, "workflow", "show", w.ID)
		t.Logf("$ budcluster workflow show %s\n%s", w.ID, shown)
		event := s.hub.endOf(t, w.ID)
		for _, reason := range append(reasons, "hami-device-plugin") {
			for where, text := range map[string]string{"workflow": w.Message, "step": step.Message, "command line": unwrapped(shown), "event": event.Message} {
				require.Contains(t, text, reason, where)
			}
		}
		for _, later := range []string{"component/prometheus-stack", "inventory"} {
			require.NotEqual(t, hubapi.StepCompleted, stepOf(t, w, later).Status, later)
		}
		awaitAsBefore(t, before)
		now := s.cluster(t)
		require.Equal(t, hubapi.ClusterConnected, now.State)
		require.Equal(t, agent, now.Session.Instance, "the same agent, on the same connection")
		measured(t, "a registration that HAMi failed, and taken back: %s", time.Since(started).Round(100*time.Millisecond))
	}

	t.Run("no-image", func(t *testing.T) {
		started := time.Now()
		w, err := s.hub.client.Register(t.Context(), hubapi.RegisterRequest{Name: s.name, Existing: true, Components: map[string]hubapi.ComponentWish{
			"hami": {Wanted: "yes", Values: map[string]any{"standin": map[string]any{"fakegpu": "registry.e2e.budcluster.test/absent:1"}}},
		}})
		require.NoError(t, err)
		w = finished(t, s.hub, w.ID)
		for _, installed := range []string{"component/nfd", "component/nvidia-gpu-operator"} {
			require.Equal(t, hubapi.StepCompleted, stepOf(t, w, installed).Status, installed)
		}
		failed(t, w, started, "registry.e2e.budcluster.test/absent:1", "Image")
		proved(t, "an image that nobody has: %s", w.Message)
	})
	t.Run("crash", func(t *testing.T) {
		const why, key = "cannot initialise NVML: driver not loaded", "fail.e2e.budcluster.test/hami-device-plugin"
		annotate(t, node, map[string]any{key: why})
		defer annotate(t, node, map[string]any{key: nil})
		started := time.Now()
		w, err := s.hub.client.Register(t.Context(), hubapi.RegisterRequest{Name: s.name, Existing: true, Components: map[string]hubapi.ComponentWish{
			"hami": {Wanted: "yes"},
		}})
		require.NoError(t, err)
		out, err := s.hub.cliError(t, "workflow", "watch", w.ID)
		require.Error(t, err, "the command line's status says so too")
		t.Logf("$ budcluster workflow watch %s\n%s", w.ID, out)
		w, err = s.hub.client.Workflow(t.Context(), w.ID)
		require.NoError(t, err)
		failed(t, w, started, why)
		proved(t, "a device plugin that ends at once: %s", w.Message)
	})
}

// hasty makes a component of the overlay fail soon: the chart's own hooks are
// done in that time on a machine that has more to do.
func hasty(t *testing.T, file string) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.WriteString("timeout: 30s\n")
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
