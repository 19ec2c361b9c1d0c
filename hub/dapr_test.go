package hub_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub"
	"github.com/budecosystem/budcluster/hub/hubapi"
	"github.com/budecosystem/budcluster/hub/hubtest"
	"github.com/budecosystem/budcluster/hub/internal/dapr"
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
		c.Dapr.PubSub, c.Dapr.StateStore = daprtest.PubSub, daprtest.StateStore
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

// behind makes what a sidecar sees of a hub that is not there yet: the sidecar
// asks for the hub's subscriptions when it starts, and the hub starts after it.
func behind(t *testing.T) (app http.Handler, open func(platformURL string)) {
	t.Helper()
	there := make(chan struct{})
	var proxy *httputil.ReverseProxy // set before there is closed
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			select {
			case <-there:
				proxy.ServeHTTP(w, r)
			case <-r.Context().Done():
			}
		}), func(platformURL string) {
			to, err := url.Parse(platformURL)
			require.NoError(t, err)
			proxy = httputil.NewSingleHostReverseProxy(to)
			close(there)
		}
}

// TestPlatformHearsOfWhatItAskedFor: another service calls the hub by its
// app-id, and gets what becomes of that on its own topic: in order, with one
// result at the end. What happens while the sidecar is away comes when it is
// back.
func TestPlatformHearsOfWhatItAskedFor(t *testing.T) {
	t.Parallel()
	app, open := behind(t)
	sidecar := daprtest.Start(t, daprtest.SidecarConfig{Store: daprtest.Redis, App: app})
	token := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(token, []byte(daprtest.Token), 0o600))
	h := hubtest.New(t, hubtest.With(func(c *hub.Config) {
		c.Dapr.Enabled, c.Dapr.APITokenFile, c.Dapr.AppTokenFile = true, token, token
		c.Dapr.HTTPAddress, c.Dapr.GRPCAddress = sidecar.Forward(t)
		c.Dapr.PubSub, c.Dapr.StateStore = daprtest.PubSub, daprtest.StateStore
		c.Dapr.ConfigStore, c.Dapr.SecretStore = daprtest.ConfigurationStore, daprtest.SecretStore
	}))
	open(h.PlatformURL)
	budapp := daprtest.NewApp(daprtest.TopicPeers)
	peer := daprtest.Start(t, daprtest.SidecarConfig{Store: daprtest.Redis, AppID: "budapp", App: budapp})
	const first, second = "3c0ffee0-0000-4000-8000-000000000001", "3c0ffee0-0000-4000-8000-000000000002"
	whole := []string{"delete_namespace STARTED", "eta RUNNING", "delete_namespace COMPLETED", "results COMPLETED"}

	status, answer := peer.Invoke(t, daprtest.AppID, deletion(t, h.Create("alpha").Cluster.ID, first))
	require.Equal(t, http.StatusOK, status, "%s", answer)
	require.Equal(t, whole, delivered(t, budapp, first))
	names, err := peer.Client(t).Get(t.Context(), daprtest.StateStore, "__metadata__"+daprtest.AppID)
	require.NoError(t, err)
	require.Contains(t, string(names.Value), daprtest.TopicOwn, "peers find the hub's topic there")

	sidecar.Kill()
	direct := deletion(t, h.Create("beta").Cluster.ID, second)
	to, err := url.Parse(h.PlatformURL + direct.URL.Path)
	require.NoError(t, err)
	direct.URL, direct.Host, direct.RequestURI = to, "", ""
	direct.Header.Set("dapr-api-token", daprtest.Token)
	response, err := http.DefaultClient.Do(direct)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, http.StatusOK, response.StatusCode)
	runs, err := h.Client.Workflows(t.Context(), hubapi.WorkflowQuery{Kind: "delete_cluster"})
	require.NoError(t, err)
	for _, run := range runs.Items {
		_, err := h.Client.WaitWorkflow(t.Context(), run.ID, nil)
		require.NoError(t, err)
	}
	sidecar.Restart(t)
	require.Equal(t, whole, delivered(t, budapp, second))
}

// deletion is how budapp asks for the end of a cluster.
func deletion(t *testing.T, clusterID, workflowID string) *http.Request {
	t.Helper()
	body := fmt.Sprintf(`{"cluster_id":%q,"force":true,"source":"budapp","source_topic":%q,`+
		`"notification_metadata":{"name":"bud-internal","subscriber_ids":null,"workflow_id":%q}}`, clusterID, daprtest.TopicPeers, workflowID)
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/cluster/delete", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	return r
}

// delivered is what came on the service's topic, up to the first result.
func delivered(t *testing.T, app *daprtest.App, workflowID string) []string {
	t.Helper()
	var all []string
	for {
		e, err := dapr.ParseEvent(app.Delivered(t, daprtest.TopicPeers))
		require.NoError(t, err)
		require.Equal(t, daprtest.AppID, e.Source)
		var payload struct {
			Type       string `json:"type"`
			Event      string `json:"event"`
			WorkflowID string `json:"workflow_id"`
			Content    struct {
				Status string `json:"status"`
			} `json:"content"`
		}
		require.NoError(t, json.Unmarshal(e.Fields["payload"], &payload))
		require.Equal(t, workflowID, payload.WorkflowID)
		require.Equal(t, "delete_cluster", payload.Type)
		all = append(all, payload.Event+" "+payload.Content.Status)
		if payload.Event == "results" {
			return all
		}
	}
}
