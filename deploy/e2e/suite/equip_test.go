//go:build e2e

package suite_test

import (
	"context"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/deploy/e2e/standin"
	"github.com/budecosystem/budcluster/hub/hubapi"
)

// standIns serves the charts that stand in for those of components, and gives
// the folder that makes a hub install these.
func standIns(t *testing.T) (componentsDir string) {
	t.Helper()
	repository, overlay := t.TempDir(), t.TempDir()
	charts, err := standin.Write(repository)
	require.NoError(t, err)
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", net.JoinHostPort(env.cluster.Address(), "0"))
	require.NoError(t, err)
	server := &http.Server{Handler: http.FileServer(http.Dir(repository)), ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	require.NoError(t, standin.Catalogue(overlay, "http://"+listener.Addr().String(), charts))
	return overlay
}

// TestClusterIsEquippedAndLeft registers a cluster with pretended GPUs, sees its
// components come in their order, and removes it: nothing of ours is left and
// nothing else has changed.
func TestClusterIsEquippedAndLeft(t *testing.T) {
	node := env.cluster.Nodes()[0]
	annotate(t, node, map[string]any{"e2e.budcluster.test/pci": "0302_10de_20b2,0200_15b3_1017"})
	t.Cleanup(func() { annotate(t, node, map[string]any{"e2e.budcluster.test/pci": nil}) })
	withoutGPUs(t)
	h := newHub(t, "--components-dir", standIns(t))
	before := undisturbed(t)

	started := time.Now()
	w, err := h.client.Register(t.Context(), hubapi.RegisterRequest{Name: "equipped"})
	require.NoError(t, err)
	s := &site{hub: h, name: "equipped", namespace: "budcluster-system"}
	t.Cleanup(func() {
		if t.Failed() {
			s.explain(t)
			s.leave(t)
		}
	})
	s.command = printedCommand(t, h.cli(t, "token", "create", s.name))
	s.install(t, s.command)
	w = finished(t, h, w.ID)
	require.Equal(t, hubapi.WorkflowCompleted, w.Status, "%s: %s", w.Reason, w.Message)
	measured(t, "a cluster registered with its components: %s, of which %s are the steps' own", time.Since(started).Round(100*time.Millisecond), overhead(w))

	order := map[string]time.Time{}
	for _, step := range w.Steps {
		if step.Status == hubapi.StepCompleted {
			require.NotNil(t, step.FinishedAt, step.Name)
			order[step.Release] = *step.FinishedAt
		}
	}
	for _, pair := range [][2]string{
		{"node-feature-discovery", "nvidia-gpu-operator"}, {"nvidia-gpu-operator", "hami"}, {"hami", "bud-metrics"},
	} {
		require.False(t, order[pair[0]].IsZero(), "%s did not come: %+v", pair[0], w.Steps)
		require.True(t, order[pair[0]].Before(order[pair[1]]), "%s comes before %s", pair[0], pair[1])
	}
	for _, name := range []string{"nfd", "nvidia-gpu-operator", "hami"} {
		awaitComponent(t, name, node)
	}
	components, err := h.client.ClusterComponents(t.Context(), s.name)
	require.NoError(t, err)
	for _, c := range components.Items {
		if c.Present {
			require.True(t, c.Owned, c.Name)
			require.Equal(t, "Ready", c.Health, "%s: %s", c.Name, c.Message)
		}
	}
	proved(t, "feature discovery, then the GPU operator, then HAMi, then monitoring; each ready before the next")

	started = time.Now()
	w, err = h.client.Remove(t.Context(), s.name, hubapi.RemoveRequest{})
	require.NoError(t, err)
	w = finished(t, h, w.ID)
	require.Equal(t, hubapi.WorkflowCompleted, w.Status, "%s: %s", w.Reason, w.Message)
	measured(t, "the cluster removed with its components: %s", time.Since(started).Round(100*time.Millisecond))
	awaitAsBefore(t, before)
	proved(t, "the cluster is as it was before: no object, label or annotation is new, missing or changed")
}

// finished watches a workflow to its end.
func finished(t *testing.T, h *hub, id string) hubapi.Workflow {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	said := map[string]string{}
	var last hubapi.Workflow
	for w, err := range h.client.WatchWorkflow(ctx, id) {
		if err != nil {
			t.Fatalf("the workflow is %s: %v", last.Status, err)
		}
		last = w
		for _, step := range w.Steps {
			if now := string(step.Status) + " " + step.Message; said[step.Name] != now && step.Status != hubapi.StepPending {
				said[step.Name] = now
				t.Logf("%s: %s", step.Name, now)
			}
		}
		if w.Status.Terminal() {
			return w
		}
	}
	t.Fatalf("the workflow is %s, and nobody tells more of it", last.Status)
	return last
}

// overhead is what the steps took beside waiting for the cluster.
func overhead(w hubapi.Workflow) time.Duration {
	var sum time.Duration
	for _, step := range w.Steps {
		sum += time.Duration(step.OverheadMillis) * time.Millisecond
	}
	return sum
}
