//go:build e2e

package suite_test

import (
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/budecosystem/budcluster/deploy/e2e/standin"
	"github.com/budecosystem/budcluster/hub/hubapi"
)

// standIns serves the charts that stand in for those of components. It gives
// the folder that makes a hub install these, and the one in which they are.
func standIns(t *testing.T) (componentsDir, charts string) {
	t.Helper()
	repository, overlay := t.TempDir(), t.TempDir()
	written, err := standin.Write(repository)
	require.NoError(t, err)
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", net.JoinHostPort(env.cluster.Address(), "0"))
	require.NoError(t, err)
	server := &http.Server{Handler: http.FileServer(http.Dir(repository)), ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	require.NoError(t, standin.Catalogue(overlay, "http://"+listener.Addr().String(), written))
	return overlay, repository
}

// TestClusterIsEquippedAndLeft registers a cluster with pretended GPUs, sees its
// components come in their order, and removes it: nothing of ours is left and
// nothing else has changed. Then the same charts are installed with Helm by
// hand: to see what the registration took beside that, and that what they leave
// behind is what the catalogue says.
func TestClusterIsEquippedAndLeft(t *testing.T) {
	node := pretendGPUs(t)
	components, charts := standIns(t)
	h := newHub(t, "--components-dir", components)
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
	registered := time.Since(started)
	measured(t, "a cluster registered with its components: %s, of which %s are the steps' own", registered.Round(100*time.Millisecond), overhead(w))
	releases, err := hubapi.Collect(h.client.AllReleases(t.Context(), hubapi.ReleaseQuery{Cluster: s.name}))
	require.NoError(t, err)

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
	equipment, err := h.client.ClusterComponents(t.Context(), s.name)
	require.NoError(t, err)
	for _, c := range equipment.Items {
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

	typed := s.byHand(t, node, releases, charts)
	measured(t, "the agent and %d components by `helm install --wait`, typed one after the other: %s; a registration takes %.2f times that (bar: 1.15)",
		len(releases), typed.Round(100*time.Millisecond), registered.Seconds()/typed.Seconds())
}

// byHand installs the agent and the charts of the releases as a person would who
// has no hub to do it, and takes them away again. What is left then is what the
// catalogue says, and once that is removed the cluster is as it was.
func (s *site) byHand(t *testing.T, node string, releases []hubapi.Release, charts string) (took time.Duration) {
	t.Helper()
	before := undisturbed(t)
	typed := &site{hub: s.hub, name: "typed", namespace: s.namespace}
	command := printedCommand(t, s.hub.cli(t, "cluster", "create", typed.name)) + " --wait"
	slices.SortFunc(releases, func(a, b hubapi.Release) int { return a.CreatedAt.Compare(b.CreatedAt) })
	values := make([]string, len(releases))
	var entries []entry
	for i, r := range releases {
		values[i] = filepath.Join(t.TempDir(), r.Name+".json")
		require.NoError(t, os.WriteFile(values[i], r.Spec.Values, 0o600))
		entries = append(entries, entryOf(t, r))
		t.Cleanup(func() {
			_ = env.cluster.Helm(context.WithoutCancel(t.Context()), "uninstall", r.Name, "-n", r.Namespace, "--ignore-not-found").Run()
		})
	}
	began := time.Now()
	typed.install(t, command)
	for i, r := range releases {
		chart := filepath.Join(charts, r.Spec.Chart.Name+"-"+r.Spec.Chart.Version+".tgz")
		helm(t, "install", r.Name, chart, "-n", r.Namespace, "--create-namespace", "-f", values[i], "--wait", "--timeout", r.Spec.Timeout)
		t.Logf("%s typed after %s", r.Name, time.Since(began).Round(100*time.Millisecond))
	}
	took = time.Since(began)
	for _, e := range entries {
		awaitComponent(t, e.Name, node)
	}
	proved(t, "in the catalogue's order each component finds what it selects nodes by")
	failsWithItsReason(t, node)

	for _, r := range slices.Backward(releases) {
		helm(t, "uninstall", r.Name, "-n", r.Namespace, "--cascade", "foreground", "--wait", "--timeout", "2m") // definitions follow
	}
	typed.leave(t)
	definition := thing{resource: schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}, name: "releases.budcluster.io"}
	removeObject(t, definition) // Helm leaves it to other agents, and there is none
	tidy(t, before, entries, node)
	awaitAsBefore(t, before)
	proved(t, "what %d components leave behind after Helm's uninstall is what the catalogue lists; without it the cluster is as before", len(entries))
	return took
}

// entryOf is the entry of the catalogue that a release comes from.
func entryOf(t *testing.T, r hubapi.Release) entry {
	t.Helper()
	for _, name := range standin.Names() {
		if e := catalogueEntry(t, name); e.Release == r.Name {
			return e
		}
	}
	t.Fatalf("no stand-in is installed as release %s", r.Name)
	return entry{}
}

// finished watches a workflow to its end.
func finished(t *testing.T, h *hub, id string) hubapi.Workflow {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	began, said := time.Now(), map[string]string{}
	var last hubapi.Workflow
	for w, err := range h.client.WatchWorkflow(ctx, id) {
		if err != nil {
			t.Fatalf("the workflow is %s: %v", last.Status, err)
		}
		last = w
		for _, step := range w.Steps {
			if now := string(step.Status) + " " + step.Message; said[step.Name] != now && step.Status != hubapi.StepPending {
				said[step.Name] = now
				t.Logf("%6.1fs  %s: %s", time.Since(began).Seconds(), step.Name, now)
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
