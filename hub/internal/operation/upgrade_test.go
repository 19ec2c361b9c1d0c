package operation_test

import (
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/internal/component"
	"github.com/budecosystem/budcluster/hub/internal/invalid"
	"github.com/budecosystem/budcluster/hub/internal/operation"
	"github.com/budecosystem/budcluster/hub/internal/release"
	"github.com/budecosystem/budcluster/hub/internal/store/storetest"
	"github.com/budecosystem/budcluster/hub/internal/workflow"
)

// ready registers a cluster with a played agent.
func (w *world) ready(t *testing.T, name string, a *agent, wishes map[string]component.Wish) *agent {
	t.Helper()
	wf, c, err := w.Register(t.Context(), "ann", operation.Register{Name: name, Components: wishes})
	require.NoError(t, err)
	a.cluster = c.ID
	w.join(t, a)
	done := w.end(t, wf)
	require.Equal(t, workflow.StatusCompleted, done.Status, done.Message)
	return a
}

// release is what is wanted for a component.
func (w *world) release(t *testing.T, clusterID uuid.UUID, name string) *release.Release {
	t.Helper()
	components, _, err := w.equipment.Releases(t.Context(), clusterID)
	require.NoError(t, err)
	require.Contains(t, components, name)
	return components[name]
}

// age makes a component be what an older hub has installed.
func (a *agent) age(t *testing.T, name, version string) {
	t.Helper()
	r := a.w.release(t, a.cluster, name)
	spec := r.Spec
	spec.Chart = release.Chart{Digest: storetest.Chart(t, a.w.store, spec.Chart.Name, version)}
	_, _, err := a.w.releases.Apply(t.Context(), "old hub", a.cluster, release.Request{Name: r.Name, Namespace: r.Namespace, Spec: spec})
	require.NoError(t, err)
}

// An upgrade that names no version goes to the catalogue's, which is not kept as
// the cluster's own, as its values are.
func TestUpgradeToTheCataloguesVersion(t *testing.T) {
	t.Parallel()
	w := setup(t)
	a := w.ready(t, "nice", &agent{}, calm)
	entry, err := w.equipment.Catalogue().Component("nfd")
	require.NoError(t, err)
	own := map[string]any{"worker": map[string]any{"tolerations": []any{}}}
	require.NoError(t, w.equipment.SetWish(t.Context(), "ann", a.cluster, "nfd", component.Wish{Values: own}))
	a.age(t, "nfd", "0.1.0")

	up, err := w.Upgrade(t.Context(), "ann", operation.Component{Cluster: "nice", Name: "nfd"})
	require.NoError(t, err)
	done := w.end(t, up)
	require.Equal(t, workflow.StatusCompleted, done.Status, done.Message)
	require.Equal(t, "node-feature-discovery "+entry.Chart.Version+" is ready", step(done, "component/nfd").Message)
	r := w.release(t, a.cluster, "nfd")
	require.Equal(t, entry.Chart.Version, r.Spec.Chart.Version)
	require.Contains(t, string(r.Spec.Values), `"tolerations":[]`)
	wishes, err := w.equipment.Wishes(t.Context(), a.cluster)
	require.NoError(t, err)
	require.Equal(t, component.Wish{Wanted: component.WantYes, Values: own}, wishes["nfd"], "no version is pinned")
}

// The hub has one version of a chart that it carries itself.
func TestNoOtherVersionOfABuiltInChart(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.ready(t, "nice", &agent{}, calm)
	_, err := w.Install(t.Context(), "ann", operation.Component{Cluster: "nice", Name: "intel-gaudi", Wish: component.Wish{Version: "99.0.0"}})
	require.NotEmpty(t, invalid.Of(err))
	require.ErrorContains(t, err, `version: this hub carries Intel Gaudi`)
}

func TestRolloutToTheCataloguesVersion(t *testing.T) {
	t.Parallel()
	w := setup(t)
	entry, err := w.equipment.Catalogue().Component("nfd")
	require.NoError(t, err)
	var agents []*agent
	for _, name := range []string{"a", "b", "c"} {
		a := w.ready(t, name, &agent{}, calm)
		a.age(t, "nfd", "0.1.0")
		agents = append(agents, a)
	}
	roll, err := w.Rollout(t.Context(), "ann", operation.Rollout{Name: "nfd", Clusters: []string{"a", "b", "c"}, Size: 2, Canary: 1})
	require.NoError(t, err)
	done := w.end(t, roll)
	require.Equal(t, workflow.StatusCompleted, done.Status, done.Message)
	for _, a := range agents {
		require.Equal(t, entry.Chart.Version, w.release(t, a.cluster, "nfd").Spec.Chart.Version)
	}
}
