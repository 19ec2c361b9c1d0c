//go:build e2e

package suite_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/budecosystem/budcluster/hub/hubapi"
)

// TestWhatWasThereStays: somebody has feature discovery in the cluster, under a
// name and in a namespace of their own. A registration uses it; a cancelled one
// takes back what it installed and nothing else; a component of ours is
// upgraded, and an upgrade that fails is taken back; and the removal of the
// cluster leaves what was there.
func TestWhatWasThereStays(t *testing.T) {
	node := pretendGPUs(t)
	components, charts := standIns(t)
	clean, theirs := undisturbed(t), catalogueEntry(t, "nfd")
	theirs.Release, theirs.Namespace = "features", "somebodys"
	helm(t, "package", filepath.Join(env.repo, "deploy/e2e/standin/charts/scaler"), "--version", "0.2.0", "--destination", charts)
	broken := filepath.Join(t.TempDir(), "scaler")
	require.NoError(t, os.CopyFS(broken, os.DirFS(filepath.Join(env.repo, "deploy/e2e/standin/charts/scaler"))))
	require.NoError(t, os.WriteFile(filepath.Join(broken, "values.yaml"), []byte("standin: {image: registry.e2e.budcluster.test/absent:1, fakegpu: none}\n"), 0o600))
	helm(t, "package", broken, "--version", "0.3.0", "--destination", charts)
	helm(t, "repo", "index", charts)
	hasty(t, filepath.Join(components, "scaler.yaml"), 10*time.Second)
	helm(t, "install", theirs.Release, filepath.Join(env.repo, "deploy/e2e/standin/charts/node-feature-discovery"), "-n", theirs.Namespace, "--create-namespace",
		"-f", filepath.Join(env.repo, "hub/internal/component/testdata/values/kubernetes/nfd.golden"), "--wait", "--timeout", "3m")
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		_ = env.cluster.Helm(ctx, "uninstall", theirs.Release, "-n", theirs.Namespace, "--wait", "--timeout", "2m").Run()
		_ = env.cluster.Kube().CoreV1().Namespaces().Delete(ctx, theirs.Namespace, metav1.DeleteOptions{})
	})
	awaitComponent(t, "nfd", node)
	before := undisturbed(t)

	s := own(t, "--components-dir", components)
	joined := undisturbed(t)
	wishes := map[string]hubapi.ComponentWish{"prometheus-stack": {Wanted: "no"}}
	w, err := s.hub.client.Register(t.Context(), hubapi.RegisterRequest{Name: s.name, Existing: true, Components: wishes})
	require.NoError(t, err)
	s.awaitStep(t, w.ID, "component/hami", hubapi.StepWaiting)
	t.Logf("$ budcluster workflow cancel %s\n%s", w.ID, s.hub.cli(t, "workflow", "cancel", w.ID))
	w = finished(t, s.hub, w.ID)
	require.Equal(t, hubapi.WorkflowCancelled, w.Status, w.Message)
	require.Contains(t, s.hub.endOf(t, w.ID).Message, "cancelled by")
	awaitAsBefore(t, joined)
	proved(t, "a cancelled registration took back the GPU operator and HAMi, and left the feature discovery that was there")

	w, err = s.hub.client.Register(t.Context(), hubapi.RegisterRequest{Name: s.name, Existing: true, Components: wishes})
	require.NoError(t, err)
	w = finished(t, s.hub, w.ID)
	require.Equal(t, hubapi.WorkflowCompleted, w.Status, w.Message)
	nfd := stepOf(t, w, "component/nfd")
	require.Equal(t, hubapi.StepCompleted, nfd.Status)
	require.Contains(t, nfd.Message, "it was there before")
	shown := s.component(t, "nfd")
	require.True(t, shown.Present)
	require.False(t, shown.Owned)

	started := time.Now()
	t.Logf("$ budcluster component upgrade scaler\n%s", s.hub.cli(t, "component", "upgrade", "scaler", "-c", s.name, "--version", "0.2.0", "--watch"))
	require.Equal(t, "0.2.0", s.component(t, "scaler").Version)
	require.Equal(t, []string{"1 superseded", "2 deployed"}, helmRecords(t)[releaseOf(t, "scaler")])
	measured(t, "a component upgraded in one cluster: %s", time.Since(started).Round(100*time.Millisecond))

	out, err := s.hub.cliError(t, "component", "upgrade", "scaler", "-c", s.name, "--version", "0.3.0", "--watch")
	t.Logf("$ budcluster component upgrade scaler --version 0.3.0\n%s", out)
	require.Error(t, err)
	require.Contains(t, unwrapped(out), "not ready after 10s: deployment scaler: 0 of 1 ready")
	await(t, time.Minute, "the scaler to be as it was", func(context.Context) error {
		if c := s.component(t, "scaler"); c.Version != "0.2.0" || c.Health != "Ready" {
			return fmt.Errorf("it is %s, %s: %s", c.Version, c.Health, c.Message)
		}
		return nil
	})
	records := helmRecords(t)[releaseOf(t, "scaler")]
	require.Contains(t, records[len(records)-1], " deployed", "%v", records)
	proved(t, "an upgrade that failed was taken back, by the agent and then by the hub: Helm has %s", strings.Join(records, ", "))

	w, err = s.hub.client.Remove(t.Context(), s.name, hubapi.RemoveRequest{})
	require.NoError(t, err)
	w = finished(t, s.hub, w.ID)
	require.Equal(t, hubapi.WorkflowCompleted, w.Status, w.Message)
	awaitAsBefore(t, before)
	proved(t, "what was there before the registration is there after the removal, untouched")
	helm(t, "uninstall", theirs.Release, "-n", theirs.Namespace, "--wait", "--timeout", "2m")
	tidy(t, clean, []entry{theirs}, node)
	awaitAsBefore(t, clean)
}

// awaitStep waits until a step of a workflow has a status.
func (s *site) awaitStep(t *testing.T, workflow, step string, status hubapi.StepStatus) {
	t.Helper()
	for w, err := range s.hub.client.WatchWorkflow(t.Context(), workflow) {
		require.NoError(t, err)
		require.False(t, w.Status.Terminal(), "the workflow is over: %s", w.Message)
		if stepOf(t, w, step).Status == status {
			return
		}
	}
}

// component is how the cluster stands with a component.
func (s *site) component(t *testing.T, name string) hubapi.ClusterComponent {
	t.Helper()
	all, err := s.hub.client.ClusterComponents(t.Context(), s.name)
	require.NoError(t, err)
	i := slices.IndexFunc(all.Items, func(c hubapi.ClusterComponent) bool { return c.Name == name })
	require.GreaterOrEqual(t, i, 0, name)
	return all.Items[i]
}

// releaseOf is the namespace and the name of a component's Helm release.
func releaseOf(t *testing.T, name string) string {
	t.Helper()
	e := catalogueEntry(t, name)
	return e.Namespace + "/" + e.Release
}
