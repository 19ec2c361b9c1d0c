package platform_test

import (
	"net/http"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/internal/component"
	"github.com/budecosystem/budcluster/hub/internal/inventory"
	"github.com/budecosystem/budcluster/internal/facts"
)

// outcome is what a gate reads of a check.
type outcome struct {
	Healthy *bool
	Message string
	Count   *int
	Details map[string]any
}

func (b *bundle) health(id uuid.UUID) map[string]outcome {
	b.t.Helper()
	status, text := b.call(http.MethodGet, "/cluster/"+id.String()+"/health", nil)
	require.Equal(b.t, http.StatusOK, status, text)
	return read[struct{ Data map[string]outcome }](b.t, text).Data
}

// Each check has something that makes it unhealthy, and then no other is.
func TestEachCheckCanFail(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.joined("edge")
	well := *c.Facts
	change := func(change func(f *facts.Cluster)) {
		f := well
		change(&f)
		b.report(c.ID, inventory.Delta{Cluster: &f})
	}
	plugin := func(p ...facts.Presence) { require.NoError(t, b.clusters.SetPresence(t.Context(), c.ID, p)) }
	absent := facts.Presence{Probe: "hami/device-plugin", State: facts.PresenceAbsent}
	ready := facts.Presence{Probe: "nvidia-gpu-operator/device-plugin", State: facts.PresenceFound, Kind: "DaemonSet", Object: "nvidia-device-plugin-daemonset", Ready: new(true)}
	notReady := ready
	notReady.Ready = new(false)
	operatorOnly := facts.Presence{Probe: "nvidia-gpu-operator/operator", State: facts.PresenceFound, Kind: "Deployment", Object: "gpu-operator", Ready: new(true)}
	for _, one := range []struct {
		name, check, says string
		make              func()
	}{
		{"a node is not ready", "nodes", "1/2 nodes ready", func() {
			n := cpuNode("master-1")
			n.Ready = false
			b.report(c.ID, inventory.Delta{Nodes: []facts.Node{n}})
		}},
		{"a claim is pending", "storage", "3/4 PVCs bound, 1 pending, 0 lost", func() {
			change(func(f *facts.Cluster) {
				f.Claims = &facts.Claims{Bound: 3, Pending: 1, PendingNames: []string{"models/data"}}
			})
		}},
		{"a claim has lost its volume", "storage", "0/1 PVCs bound, 0 pending, 1 lost", func() {
			change(func(f *facts.Cluster) { f.Claims = &facts.Claims{Lost: 1, LostNames: []string{"models/data"}} })
		}},
		{"there is no DNS", "network", "No DNS service in kube-system or openshift-dns", func() {
			change(func(f *facts.Cluster) { f.DNS = &facts.DNS{} })
		}},
		{"no pod of the DNS is ready", "network", "DNS service kube-system/kube-dns has no ready pod", func() {
			change(func(f *facts.Cluster) { f.DNS = &facts.DNS{Service: "kube-system/kube-dns", Ready: new(int32(0))} })
		}},
		{"there is no device plugin", "gpu", "2 GPUs in cluster, and no device plugin for nvidia.com/gpu", func() { plugin(absent, operatorOnly) }},
		{"the device plugin is not ready", "gpu", "The device plugin for nvidia.com/gpu is not ready", func() { plugin(absent, notReady) }},
		{"a GPU cannot be had", "gpu", "1/2 GPUs available", func() {
			n := gpuNode("gpu-1")
			n.Allocatable.Extended = map[string]int64{"nvidia.com/gpu": 1}
			b.report(c.ID, inventory.Delta{Nodes: []facts.Node{n}})
		}},
	} {
		b.report(c.ID, inventory.Delta{Cluster: &well, Nodes: []facts.Node{gpuNode("gpu-1"), cpuNode("master-1")}})
		plugin(absent, ready)
		for check, o := range b.health(c.ID) {
			require.True(t, *o.Healthy, "before %s: %s: %s", one.name, check, o.Message)
		}
		one.make()
		for check, o := range b.health(c.ID) {
			require.Equal(t, check != one.check, *o.Healthy, "%s: %s: %s", one.name, check, o.Message)
			if check == one.check {
				require.Equal(t, one.says, o.Message, one.name)
			}
		}
	}
	change(func(f *facts.Cluster) {
		f.Claims = &facts.Claims{Pending: 1, Lost: 1, PendingNames: []string{"a/b"}, LostNames: []string{"c/d"}}
	})
	storage := b.health(c.ID)["storage"]
	require.Equal(t, []any{"a/b"}, storage.Details["pending_pvcs"])
	require.Equal(t, []any{"c/d"}, storage.Details["failed_pvcs"])
	require.Equal(t, 2, *storage.Count)
	change(func(f *facts.Cluster) { f.Claims = &facts.Claims{} })
	storage = b.health(c.ID)["storage"]
	require.True(t, *storage.Healthy)
	require.Equal(t, "No PVCs in cluster", storage.Message)
}

// What the checks know they know of the agent: when it is away, all fail.
func TestHealthOfAClusterThatIsAway(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c, err := b.clusters.Create(t.Context(), "ann", "edge", nil)
	require.NoError(t, err)
	checks := b.health(c.ID)
	require.Len(t, checks, 5)
	for name, o := range checks {
		require.False(t, *o.Healthy, name)
		require.Equal(t, "The agent of the cluster has never been connected", o.Message)
	}
}

// An agent of an older version tells of no claims and no DNS, and one that has
// not looked for components of no device plugin: that is neither healthy nor
// unhealthy.
func TestWhatIsNotReportedIsUnknown(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.joined("edge")
	old := *c.Facts
	old.Claims, old.DNS = nil, nil
	b.report(c.ID, inventory.Delta{Cluster: &old})
	silent := facts.Presence{Probe: "nvidia-gpu-operator/device-plugin", State: facts.PresenceUnknown, Reason: "forbidden"}
	for _, answers := range [][]facts.Presence{nil, {silent, {Probe: "hami/device-plugin", State: facts.PresenceAbsent}}} {
		require.NoError(t, b.clusters.SetPresence(t.Context(), c.ID, answers))
		checks := b.health(c.ID)
		for _, name := range []string{"storage", "network", "gpu"} {
			require.Nil(t, checks[name].Healthy, name)
			require.Contains(t, checks[name].Message, "Unknown", name)
		}
		require.True(t, *checks["nodes"].Healthy)
		require.True(t, *checks["api"].Healthy)
	}
}

// The components whose DaemonSets are looked for are the catalogue's, and each
// has one that is asked for.
func TestDevicePluginsAreTheCatalogues(t *testing.T) {
	t.Parallel()
	catalogue, err := component.Load(nil)
	require.NoError(t, err)
	for _, name := range []string{"nvidia-gpu-operator", "hami", "amd-gpu", "intel-gaudi"} {
		entry, err := catalogue.Component(name)
		require.NoError(t, err)
		asked := false
		for _, p := range entry.Presence {
			asked = asked || p.Kind == "DaemonSet"
		}
		require.True(t, asked, name)
	}
}
