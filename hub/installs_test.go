package hub_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/hubapi"
	"github.com/budecosystem/budcluster/hub/hubtest"
)

// scripted is a kubeconfig whose installer does as scripted.
func scripted(t *testing.T, s script) string {
	t.Helper()
	raw, err := json.Marshal(s)
	require.NoError(t, err)
	return fmt.Sprintf(`{"script": %s, "apiVersion": "v1", "kind": "Config", "current-context": "m", "contexts": [{"name": "m", "context": {"cluster": "c", "user": "u"}}],
		"clusters": [{"name": "c", "cluster": {"server": "https://203.0.113.7:6443"}}], "users": [{"name": "u", "user": {"token": "canary-71c2"}}]}`, raw)
}

// A kubeconfig at /v1 has the hub install the agent, with no platform near. A
// hub that ends meanwhile loses the kubeconfig, and nothing else: the agent
// comes by itself and the registration goes on.
func TestAnUploadOutlivesItsHub(t *testing.T) {
	t.Parallel()
	h := hubtest.New(t)
	lab := script{Dir: t.TempDir(), UID: "uid-of-lab"}
	w, err := h.Client.Register(t.Context(), hubapi.RegisterRequest{Name: "lab", Kubeconfig: scripted(t, lab)})
	require.NoError(t, err)
	require.NotContains(t, string(w.Input), "canary")
	token := lab.appears(t, "token")

	require.NoError(t, h.Stop())
	h.Start()
	agent := h.Agent(lab.UID)
	require.NoError(t, agent.Enroll(t.Context(), token))
	live(agent.MustConnect())
	for now, err := range h.Client.WatchWorkflow(t.Context(), w.ID) {
		require.NoError(t, err)
		require.False(t, now.Status.Terminal(), now.Message)
		if now.Steps[0].Status == hubapi.StepCompleted {
			break
		}
	}

	_, err = h.Client.Register(t.Context(), hubapi.RegisterRequest{Name: "lab-again", Kubeconfig: scripted(t, script{Dir: t.TempDir(), UID: lab.UID})})
	require.True(t, hubapi.IsConflict(err), "%v", err)
	require.ErrorContains(t, err, `as "lab"`)
	_, err = h.Client.Register(t.Context(), hubapi.RegisterRequest{Name: "away", Kubeconfig: scripted(t, script{Dir: t.TempDir(), Unreachable: true})})
	problem := new(hubapi.Problem)
	require.ErrorAs(t, err, &problem)
	require.Equal(t, http.StatusBadGateway, problem.Status)
	require.Contains(t, problem.Detail, "does not answer; check")
	list, err := h.Client.Clusters(t.Context(), hubapi.PageOptions{})
	require.NoError(t, err)
	require.Len(t, list.Items, 1, "nothing was made of those that were refused")
	require.NotContains(t, h.Log.String(), "canary-71c2")
}

// What goes wrong after the upload was taken is the workflow's end, and taken
// back; a cluster that was entered before stays, and may be tried again.
func TestAnUploadFailsAndIsTriedAgain(t *testing.T) {
	t.Parallel()
	h := hubtest.New(t)
	h.Create("lab")
	for range 2 { // what the first said is not taken for the second's
		lab := script{Dir: t.TempDir(), UID: "uid-of-lab", Refused: true}
		w, err := h.Client.Register(t.Context(), hubapi.RegisterRequest{Name: "lab", Existing: true, Kubeconfig: scripted(t, lab)})
		require.NoError(t, err)
		_, err = h.Client.WaitWorkflow(t.Context(), w.ID, nil)
		require.ErrorContains(t, err, "the kubeconfig may not create namespaces; this is still there: namespace budcluster")
		lab.appears(t, "undone")
	}
	lab := script{Dir: t.TempDir(), UID: "uid-of-lab", Dies: true}
	w, err := h.Client.Register(t.Context(), hubapi.RegisterRequest{Name: "lab", Existing: true, Kubeconfig: scripted(t, lab)})
	require.NoError(t, err)
	_, err = h.Client.WaitWorkflow(t.Context(), w.ID, nil)
	require.ErrorContains(t, err, "the installer has ended; what it began stays in the cluster, and is taken over when the kubeconfig is uploaded again")

	lab = script{Dir: t.TempDir(), UID: "uid-of-lab"}
	w, err = h.Client.Register(t.Context(), hubapi.RegisterRequest{Name: "lab", Existing: true, Kubeconfig: scripted(t, lab)})
	require.NoError(t, err)
	agent := h.Agent(lab.UID)
	require.NoError(t, agent.Enroll(t.Context(), lab.appears(t, "token")))
	live(agent.MustConnect())
	require.NoError(t, os.WriteFile(filepath.Join(lab.Dir, "connected"), nil, 0o600))
	for now, err := range h.Client.WatchWorkflow(t.Context(), w.ID) {
		require.NoError(t, err)
		require.False(t, now.Status.Terminal(), now.Message)
		if strings.Contains(now.Steps[0].Message, "is connected") {
			break
		}
	}
}
