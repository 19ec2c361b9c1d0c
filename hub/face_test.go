package hub_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub"
	"github.com/budecosystem/budcluster/hub/hubapi"
	"github.com/budecosystem/budcluster/hub/hubtest"
	"github.com/budecosystem/budcluster/hub/internal/dapr/daprtest"
)

// platformHub is a hub beside a sidecar in memory.
func platformHub(t *testing.T) (*hubtest.Hub, *daprtest.Fake) {
	t.Helper()
	fake := daprtest.NewFake(t, "")
	token := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(token, []byte(daprtest.Token+"\n"), 0o600))
	return hubtest.New(t, hubtest.With(func(c *hub.Config) {
		c.Dapr.Enabled, c.Dapr.HTTPAddress, c.Dapr.PubSub, c.Dapr.StateStore = true, fake.Address(), daprtest.PubSub, daprtest.StateStore
		c.Dapr.APITokenFile, c.Dapr.AppTokenFile = token, token
	})), fake
}

// platformCall is a call of another service, by the hub's sidecar.
func platformCall(t *testing.T, h *hubtest.Hub, method, path, kind string, body io.Reader) map[string]any {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, h.PlatformURL+path, body)
	require.NoError(t, err)
	r.Header.Set("Content-Type", kind)
	r.Header.Set("dapr-api-token", daprtest.Token)
	answer, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer func() { require.NoError(t, answer.Body.Close()) }()
	raw, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, answer.StatusCode, string(raw))
	var out map[string]any
	require.NoError(t, json.Unmarshal(raw, &out))
	require.NotEqual(t, "error", out["object"], string(raw))
	return out
}

// heard are the messages of a topic about a workflow of the caller, as "event
// STATUS". There is one of each.
func heard(t *testing.T, fake *daprtest.Fake, topic, workflowID string) (all []string) {
	t.Helper()
	for _, p := range fake.Published() {
		payload, _ := p.Event["payload"].(map[string]any)
		if p.Topic != topic || payload["workflow_id"] != workflowID || payload["event"] == "eta" {
			continue
		}
		content, _ := payload["content"].(map[string]any)
		one := fmt.Sprint(payload["event"], " ", content["status"])
		require.NotContains(t, all, one)
		all = append(all, one)
	}
	return all
}

func awaitHeard(t *testing.T, fake *daprtest.Fake, topic, workflowID, want string) []string {
	t.Helper()
	deadline := time.NewTimer(30 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		all := heard(t, fake, topic, workflowID)
		if slices.Contains(all, want) {
			return all
		}
		select {
		case <-deadline.C:
			t.Fatalf("heard %v, and not %q", all, want)
		case <-tick.C:
		}
	}
}

func platformForm(t *testing.T, name, workflowID string) (kind string, body io.Reader) {
	t.Helper()
	request, err := json.Marshal(map[string]any{
		"enable_master_node": true, "name": name, "ingress_url": "https://models.example.com", "cluster_type": "ON_PREM", "source_topic": []string{"budAppMessages", "budpipelineEvents"},
		"notification_metadata": map[string]any{"name": "bud-internal", "subscriber_ids": "7d5e", "workflow_id": workflowID},
	})
	require.NoError(t, err)
	var buf bytes.Buffer
	w := multipart.NewWriter(&buf)
	require.NoError(t, w.WriteField("cluster_create_request", string(request)))
	require.NoError(t, w.WriteField("configuration", `{"apiVersion": "v1", "kind": "Config", "current-context": "m", "contexts": [{"name": "m", "context": {"cluster": "c", "user": "u"}}],
		"clusters": [{"name": "c", "cluster": {"server": "https://203.0.113.7:6443"}}], "users": [{"name": "u", "user": {"token": "canary-71c2"}}]}`))
	require.NoError(t, w.Close())
	return w.FormDataContentType(), &buf
}

// The platform onboards a cluster, cancels that, and removes the cluster. Its
// services hear of each step once and in order, of a failure never as a result,
// and find the hub in the shared state.
func TestPlatformOnboardsAndRemoves(t *testing.T) {
	t.Parallel()
	h, fake := platformHub(t)
	theirs := uuid.NewString()
	kind, body := platformForm(t, "Lab 7", theirs)
	began := platformCall(t, h, http.MethodPost, "/cluster", kind, body)
	require.Equal(t, "register_cluster", began["workflow_name"])
	awaitHeard(t, fake, "budAppMessages", theirs, "cluster_registration_status STARTED")

	list, err := h.Client.Clusters(t.Context(), hubapi.PageOptions{})
	require.NoError(t, err)
	require.Len(t, list.Items, 1)
	require.True(t, strings.HasPrefix(list.Items[0].Name, "lab-7-"), list.Items[0].Name)
	token, err := h.Client.CreateToken(t.Context(), list.Items[0].Name, hubapi.CreateTokenRequest{})
	require.NoError(t, err)
	agent := h.Agent("uid-of-lab-7")
	require.NoError(t, agent.Enroll(t.Context(), token.JoinToken.Token))
	live(agent.MustConnect())
	awaitHeard(t, fake, "budAppMessages", theirs, "verify_cluster_connection COMPLETED")

	platformCall(t, h, http.MethodPost, fmt.Sprintf("/cluster/cancel/%s", began["workflow_id"]), "", nil)
	all := awaitHeard(t, fake, "budpipelineEvents", theirs, "results FAILED")
	require.Equal(t, "results FAILED", all[len(all)-1])
	all = awaitHeard(t, fake, "budAppMessages", theirs, "determine_cluster_platform FAILED")
	require.Equal(t, []string{"cluster_registration_status STARTED", "verify_cluster_connection COMPLETED", "determine_cluster_platform FAILED"}, all)

	theirs = uuid.NewString()
	platformCall(t, h, http.MethodPost, "/cluster/delete", "application/json", strings.NewReader(`{"cluster_id": "`+list.Items[0].ID+`", "force": true,
		"source_topic": "budAppMessages", "notification_metadata": {"name": "bud-internal", "subscriber_ids": "7d5e", "workflow_id": "`+theirs+`"}}`))
	all = awaitHeard(t, fake, "budAppMessages", theirs, "results COMPLETED")
	require.Equal(t, []string{"delete_namespace STARTED", "delete_namespace COMPLETED", "results COMPLETED"}, all)

	require.Contains(t, string(fake.State("__metadata__budcluster")), `"budClusterMessages"`)
	require.NotContains(t, h.Log.String(), "canary-71c2")
}

// Without the token nobody gets in, and without a sidecar there is no door.
func TestPlatformDoor(t *testing.T) {
	t.Parallel()
	h, _ := platformHub(t)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, h.PlatformURL+"/health", nil)
	require.NoError(t, err)
	answer, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	require.Equal(t, http.StatusUnauthorized, answer.StatusCode)
	require.Empty(t, hubtest.New(t).PlatformURL)
}
