package hub_test

import (
	"bufio"
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
	"github.com/budecosystem/budcluster/internal/install"
)

// TestMain is also the agent's program: a hub of these tests installs agents
// with this very program. It is a hub, too, for the benchmark of a registration.
func TestMain(m *testing.M) {
	if config := os.Getenv(envHub); config != "" {
		if err := runHub(config); err != nil {
			fmt.Fprintln(os.Stderr, "hub:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if len(os.Args) == 2 && os.Args[1] == "install" {
		os.Exit(pretendInstaller())
	}
	os.Exit(m.Run())
}

// script is what the installer of a test finds and does; it stands in the
// kubeconfig, for a child has neither environment nor arguments.
type script struct {
	// Dir is where it leaves what it was given, and how the test tells it things.
	Dir string
	UID string
	// Unreachable, Refused: it fails before it knows the cluster, or while it
	// installs.
	Unreachable, Refused bool
	// Dies: it is killed while it installs.
	Dies bool
}

// pretendInstaller is an installer without a cluster.
func pretendInstaller() int {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, install.MaxLine)
	say := func(s install.Stage) {
		line, _ := json.Marshal(s)
		_, _ = os.Stdout.Write(append(line, '\n'))
	}
	var req install.Request
	var file struct{ Script script }
	if !lines.Scan() || json.Unmarshal(lines.Bytes(), &req) != nil || json.Unmarshal([]byte(req.Kubeconfig), &file) != nil {
		return 4
	}
	s := file.Script
	mark := func(name, text string) { _ = os.WriteFile(filepath.Join(s.Dir, name), []byte(text), 0o600) }
	if s.Unreachable {
		say(install.Stage{Stage: install.Failed, Reason: install.Unreachable, Message: "the server at 203.0.113.7:6443 does not answer; check that the hub reaches it"})
		_, _ = io.Copy(io.Discard, os.Stdin)
		return 0
	}
	say(install.Stage{Stage: install.Checked, Server: "https://203.0.113.7:6443"})
	say(install.Stage{Stage: install.Ready, ServerVersion: "v1.33.1", ClusterUID: s.UID})
	for lines.Scan() {
		var o install.Order
		_ = json.Unmarshal(lines.Bytes(), &o)
		switch {
		case o.Undo:
			mark("undone", "")
			say(install.Stage{Stage: install.Undone, Left: []string{"namespace budcluster"}})
		case o.Go && s.Dies:
			return 3
		case o.Go && s.Refused:
			say(install.Stage{Stage: install.Failed, Reason: install.NotInstalled, Message: "the kubeconfig may not create namespaces"})
		case o.Go:
			say(install.Stage{Stage: install.Installing})
			say(install.Stage{Stage: install.Installed})
			mark("values", string(o.Values))
			mark("token", o.JoinToken)
			say(install.Stage{Stage: install.Waiting, Message: "0 of 1 ready: ErrImagePull"})
			go func() {
				for {
					if _, err := os.Stat(filepath.Join(s.Dir, "connected")); err == nil {
						say(install.Stage{Stage: install.Connected})
						return
					}
					time.Sleep(10 * time.Millisecond)
				}
			}()
		}
	}
	return 0
}

// appears waits for what the installer leaves.
func (s script) appears(t *testing.T, name string) string {
	t.Helper()
	deadline := time.NewTimer(30 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if text, err := os.ReadFile(filepath.Join(s.Dir, name)); err == nil && (len(text) > 0 || name != "token") {
			return string(text)
		}
		select {
		case <-deadline.C:
			t.Fatalf("the installer left no %s", name)
		case <-tick.C:
		}
	}
}

// platformHub is a hub beside a sidecar in memory.
func platformHub(t *testing.T, more ...func(*hub.Config)) (*hubtest.Hub, *daprtest.Fake) {
	t.Helper()
	fake := daprtest.NewFake(t, "")
	token := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(token, []byte(daprtest.Token+"\n"), 0o600))
	return hubtest.New(t, hubtest.With(func(c *hub.Config) {
		c.Dapr.Enabled, c.Dapr.HTTPAddress, c.Dapr.PubSub, c.Dapr.StateStore = true, fake.Address(), daprtest.PubSub, daprtest.StateStore
		c.Dapr.APITokenFile, c.Dapr.AppTokenFile = token, token
		for _, change := range more {
			change(c)
		}
	})), fake
}

// platformTry is a call of another service, by the hub's sidecar.
func platformTry(t *testing.T, h *hubtest.Hub, method, path, kind string, body io.Reader) (status int, text string) {
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
	return answer.StatusCode, string(raw)
}

// platformCall is a call that succeeds.
func platformCall(t *testing.T, h *hubtest.Hub, method, path, kind string, body io.Reader) map[string]any {
	t.Helper()
	status, text := platformTry(t, h, method, path, kind, body)
	require.Equal(t, http.StatusOK, status, text)
	var out map[string]any
	require.NoError(t, json.Unmarshal([]byte(text), &out))
	require.NotEqual(t, "error", out["object"], text)
	return out
}

// onboard asks for a cluster whose installer does as scripted.
func onboard(t *testing.T, h *hubtest.Hub, name, workflowID string, s script) (status int, text string) {
	t.Helper()
	kind, body := platformForm(t, name, workflowID, s)
	return platformTry(t, h, http.MethodPost, "/cluster", kind, body)
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

func platformForm(t *testing.T, name, workflowID string, s script) (kind string, body io.Reader) {
	t.Helper()
	request, err := json.Marshal(map[string]any{
		"enable_master_node": true, "name": name, "ingress_url": "https://models.example.com", "cluster_type": "ON_PREM", "source_topic": []string{"budAppMessages", "budpipelineEvents"},
		"notification_metadata": map[string]any{"name": "bud-internal", "subscriber_ids": "7d5e", "workflow_id": workflowID},
	})
	require.NoError(t, err)
	var buf bytes.Buffer
	w := multipart.NewWriter(&buf)
	require.NoError(t, w.WriteField("cluster_create_request", string(request)))
	require.NoError(t, w.WriteField("configuration", scripted(t, s)))
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
	lab := script{Dir: t.TempDir(), UID: "uid-of-lab-7"}
	status, text := onboard(t, h, "Lab 7", theirs, lab)
	require.Equal(t, http.StatusOK, status, text)
	var began map[string]any
	require.NoError(t, json.Unmarshal([]byte(text), &began))
	require.Equal(t, "register_cluster", began["workflow_name"])
	awaitHeard(t, fake, "budAppMessages", theirs, "cluster_registration_status STARTED")

	list, err := h.Client.Clusters(t.Context(), hubapi.PageOptions{})
	require.NoError(t, err)
	require.Len(t, list.Items, 1)
	require.True(t, strings.HasPrefix(list.Items[0].Name, "lab-7-"), list.Items[0].Name)
	agent := h.Agent(lab.UID)
	require.NoError(t, agent.Enroll(t.Context(), lab.appears(t, "token")))
	live(agent.MustConnect())
	require.NoError(t, os.WriteFile(filepath.Join(lab.Dir, "connected"), nil, 0o600))
	awaitHeard(t, fake, "budAppMessages", theirs, "verify_cluster_connection COMPLETED")

	status, text = onboard(t, h, "Lab 8", uuid.NewString(), script{Dir: t.TempDir(), UID: lab.UID})
	require.Equal(t, http.StatusConflict, status, text)
	require.Contains(t, text, list.Items[0].Name)

	// Cancelled: the agent that the hub installed is told to go, and only when it
	// is gone is that over. This one is silent, so it is removed by force.
	mine := fmt.Sprint(began["workflow_id"])
	_, _ = h.Client.CancelWorkflow(t.Context(), mine)
	awaitState(t, h, mine, "Undoing")
	_, err = h.Client.RetireCluster(t.Context(), list.Items[0].ID, true)
	require.NoError(t, err)
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

// What goes wrong with an installation is the answer or the end of the workflow,
// with the installer's own reason, and is taken back.
func TestPlatformInstallationsFail(t *testing.T) {
	t.Parallel()
	h, fake := platformHub(t)
	status, text := onboard(t, h, "away", uuid.NewString(), script{Dir: t.TempDir(), Unreachable: true})
	require.Equal(t, http.StatusServiceUnavailable, status, text)
	require.Contains(t, text, "does not answer; check")
	list, err := h.Client.Clusters(t.Context(), hubapi.PageOptions{})
	require.NoError(t, err)
	require.Empty(t, list.Items, "nothing was made")

	theirs, refused := uuid.NewString(), script{Dir: t.TempDir(), UID: "uid-refused", Refused: true}
	status, text = onboard(t, h, "refused", theirs, refused)
	require.Equal(t, http.StatusOK, status, text)
	awaitHeard(t, fake, "budpipelineEvents", theirs, "results FAILED")
	refused.appears(t, "undone")
	require.Contains(t, fmt.Sprint(fake.Published()), "the kubeconfig may not create namespaces; this is still there: namespace budcluster")
	require.Contains(t, awaitHeard(t, fake, "budAppMessages", theirs, "verify_cluster_connection FAILED"), "verify_cluster_connection FAILED")

	theirs = uuid.NewString()
	stuck := script{Dir: t.TempDir(), UID: "uid-stuck"}
	status, text = onboard(t, h, "stuck", theirs, stuck)
	require.Equal(t, http.StatusOK, status, text)
	var began map[string]any
	require.NoError(t, json.Unmarshal([]byte(text), &began))
	stuck.appears(t, "token")
	platformCall(t, h, http.MethodPost, fmt.Sprintf("/cluster/cancel/%s", began["workflow_id"]), "", nil)
	stuck.appears(t, "undone")
	awaitHeard(t, fake, "budpipelineEvents", theirs, "results FAILED")
	list, err = h.Client.Clusters(t.Context(), hubapi.PageOptions{})
	require.NoError(t, err)
	require.Empty(t, list.Items, "nothing is left")
	require.NotContains(t, h.Log.String(), "canary-71c2")
}

// What the hub's settings say of uploads holds for those of the platform: which
// networks are not dialed, and where the agent's image comes from.
func TestPlatformUploadsHeedTheSettings(t *testing.T) {
	t.Parallel()
	h, _ := platformHub(t, func(c *hub.Config) { c.Bootstrap.DenyNetworks = []string{"203.0.113.0/24"} })
	status, text := onboard(t, h, "denied", uuid.NewString(), script{Dir: t.TempDir(), UID: "uid-denied"})
	require.Equal(t, http.StatusBadRequest, status, text)
	require.Contains(t, text, "203.0.113.7")

	h, _ = platformHub(t, func(c *hub.Config) { c.Bootstrap.ImageRegistry = "registry.example.com/mirror" })
	mirrored := script{Dir: t.TempDir(), UID: "uid-mirrored"}
	status, text = onboard(t, h, "mirrored", uuid.NewString(), mirrored)
	require.Equal(t, http.StatusOK, status, text)
	mirrored.appears(t, "token")
	require.JSONEq(t, `{"global": {"imageRegistry": "registry.example.com/mirror"}}`, mirrored.appears(t, "values"))
}

// awaitState waits until a workflow is at a status.
func awaitState(t *testing.T, h *hubtest.Hub, id, want string) {
	t.Helper()
	deadline := time.NewTimer(30 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		w, err := h.Client.Workflow(t.Context(), id)
		require.NoError(t, err)
		if string(w.Status) == want {
			return
		}
		select {
		case <-deadline.C:
			t.Fatalf("workflow %s is %s", id, w.Status)
		case <-tick.C:
		}
	}
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
