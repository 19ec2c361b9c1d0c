package hub_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub"
	"github.com/budecosystem/budcluster/hub/hubapi"
	"github.com/budecosystem/budcluster/hub/hubtest"
	"github.com/budecosystem/budcluster/hub/internal/dapr/daprtest"
)

// onDapr makes a hub whose workflows a real sidecar keeps.
func onDapr(t *testing.T, appID string) (*hubtest.Hub, *daprtest.Sidecar) {
	t.Helper()
	sidecar := daprtest.Start(t, daprtest.SidecarConfig{Store: daprtest.Redis, AppID: appID})
	token := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(token, []byte(daprtest.Token+"\n"), 0o600))
	return hubtest.New(t, hubtest.With(func(c *hub.Config) {
		c.Workflows.Engine = hub.EngineDapr
		c.Dapr.Enabled, c.Dapr.AppID, c.Dapr.APITokenFile = true, appID, token
		c.Dapr.HTTPAddress, c.Dapr.GRPCAddress = sidecar.Forward(t)
		c.Dapr.PubSub, c.Dapr.AppListen = daprtest.PubSub, "127.0.0.1:0"
	})), sidecar
}

// TestWorkflowsOnDapr: the workflows of a hub are the same on the other engine.
// One that waits outlives its sidecar and its hub, and can be cancelled then;
// one that need not wait ends by itself.
func TestWorkflowsOnDapr(t *testing.T) {
	t.Parallel()
	h, sidecar := onDapr(t, "hub-workflows")
	waiting, err := h.Client.Register(t.Context(), hubapi.RegisterRequest{Name: "alpha"})
	require.NoError(t, err)
	await(t, h, waiting.ID, hubapi.StepWaiting)

	sidecar.Restart(t)
	require.NoError(t, h.Stop())
	h.Start()
	_, err = h.Client.CancelWorkflow(t.Context(), waiting.ID)
	require.NoError(t, err)
	_, err = h.Client.WaitWorkflow(t.Context(), waiting.ID, nil)
	require.Error(t, err, "it has not completed")
	ended, err := h.Client.Workflow(t.Context(), waiting.ID)
	require.NoError(t, err)
	require.Equal(t, hubapi.WorkflowCancelled, ended.Status, ended.Message)

	made := h.Create("beta")
	removal, err := h.Client.Remove(t.Context(), made.Cluster.Name, hubapi.RemoveRequest{Force: true})
	require.NoError(t, err)
	ended, err = h.Client.WaitWorkflow(t.Context(), removal.ID, nil)
	require.NoError(t, err)
	require.Equal(t, hubapi.WorkflowCompleted, ended.Status, ended.Message)
}

// await watches a workflow until one of its steps has a status.
func await(t *testing.T, h *hubtest.Hub, id string, want hubapi.StepStatus) {
	t.Helper()
	for w, err := range h.Client.WatchWorkflow(t.Context(), id) {
		require.NoError(t, err)
		for _, s := range w.Steps {
			if s.Status == want {
				return
			}
		}
		require.False(t, w.Status.Terminal(), "it ended: %s %s", w.Status, w.Message)
	}
	t.Fatalf("no step of %s became %s", id, want)
}
