package inventory_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/internal/cluster"
	"github.com/budecosystem/budcluster/hub/internal/event"
	"github.com/budecosystem/budcluster/hub/internal/invalid"
	"github.com/budecosystem/budcluster/hub/internal/inventory"
	"github.com/budecosystem/budcluster/hub/internal/page"
	"github.com/budecosystem/budcluster/hub/internal/store"
	"github.com/budecosystem/budcluster/hub/internal/store/storetest"
	"github.com/budecosystem/budcluster/internal/facts"
	"github.com/budecosystem/budcluster/internal/id"
)

type bundle struct {
	*inventory.Service
	store     *store.Store
	pool      *pgxpool.Pool
	clusterID uuid.UUID
	now       time.Time
}

func setup(tb testing.TB) *bundle {
	tb.Helper()
	b := &bundle{now: time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)}
	b.store, b.pool = storetest.NewWithPool(tb)
	var err error
	b.Service, err = inventory.New(inventory.Config{Store: b.store, Logger: slog.New(slog.DiscardHandler), Now: func() time.Time { return b.now }})
	require.NoError(tb, err)
	b.clusterID = b.cluster(tb, "berlin")
	return b
}

func (b *bundle) cluster(tb testing.TB, name string) uuid.UUID {
	tb.Helper()
	c := &cluster.Cluster{ID: id.New(), Name: name, CreatedAt: b.now}
	require.NoError(tb, b.store.ClusterInsert(tb.Context(), c))
	return c.ID
}

// node is one with n GPUs and its CPU.
func node(name string, gpus int) facts.Node {
	memory, index := int64(80<<30), int32(0)
	n := facts.Node{
		Name: name, UID: "uid-" + name, Ready: true, Schedulable: true, Architecture: "amd64",
		Labels:    map[string]string{"zone": "a"},
		Capacity:  facts.Resources{CPUMillis: 64_000, MemoryBytes: 512 << 30, Pods: 110, Extended: map[string]int64{"nvidia.com/gpu": int64(gpus)}},
		Requested: facts.Resources{CPUMillis: 500},
		CreatedAt: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
		Devices:   []facts.Device{{ID: "cpu", Vendor: "intel", Kind: facts.KindCPU, Health: facts.HealthHealthy, Source: facts.SourceNode}},
	}
	n.Allocatable = n.Capacity
	for i := range gpus {
		n.Devices = append(n.Devices, facts.Device{
			ID: fmt.Sprintf("GPU-%s-%d", name, i), Vendor: "nvidia", Kind: facts.KindCUDA, Model: "H100", MemoryBytes: &memory, Index: &index,
			Health: facts.HealthHealthy, Source: facts.SourceLabel, Resource: "nvidia.com/gpu",
		})
	}
	return n
}

func (b *bundle) apply(tb testing.TB, d inventory.Delta) {
	tb.Helper()
	b.now = b.now.Add(time.Second)
	require.NoError(tb, b.Apply(tb.Context(), b.clusterID, d))
}

// since returns the events after the one with this id.
func (b *bundle) since(t *testing.T, after int64) []event.Event {
	t.Helper()
	events, err := b.store.EventList(t.Context(), event.Filter{After: after, Limit: 1000})
	require.NoError(t, err)
	return events
}

func (b *bundle) latest(t *testing.T) int64 {
	t.Helper()
	latest, err := b.store.EventLatest(t.Context())
	require.NoError(t, err)
	return latest
}

func (b *bundle) nodes(t *testing.T, f inventory.Filter) []string {
	t.Helper()
	var names []string
	p := page.Page{Limit: 2}
	for {
		nodes, next, err := b.Nodes(t.Context(), f, p)
		require.NoError(t, err)
		for _, n := range nodes {
			names = append(names, n.Name)
		}
		if p.Cursor = next; next == "" {
			return names
		}
	}
}

// versions names every row of the inventory by its table and key, with the
// transaction and place that wrote it: a row that was not touched keeps both.
func (b *bundle) versions(t *testing.T) map[string]string {
	t.Helper()
	rows, err := b.pool.Query(t.Context(), `
		SELECT 'node ' || name, xmin::text || ctid::text FROM nodes
		UNION ALL SELECT 'device ' || node_name || ' ' || id, xmin::text || ctid::text FROM devices
		UNION ALL SELECT 'cluster ' || name, xmin::text || ctid::text || xmax::text FROM clusters`)
	require.NoError(t, err)
	versions := map[string]string{}
	var key, version string
	_, err = pgx.ForEachRow(rows, []any{&key, &version}, func() error {
		versions[key] = version
		return nil
	})
	require.NoError(t, err)
	return versions
}

func touched(before, after map[string]string) []string {
	var keys []string
	for key, version := range after {
		if before[key] != version {
			keys = append(keys, key)
		}
	}
	for key := range before {
		if _, still := after[key]; !still {
			keys = append(keys, "-"+key)
		}
	}
	slices.Sort(keys)
	return keys
}

func TestADeltaTouchesOneNode(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.apply(t, inventory.Delta{Nodes: []facts.Node{node("a", 2), node("b", 2), node("c", 0)}})
	before, latest := b.versions(t), b.latest(t)

	b.apply(t, inventory.Delta{Nodes: []facts.Node{node("a", 2), node("b", 2)}})
	require.Empty(t, touched(before, b.versions(t)), "the same facts write nothing")
	require.Equal(t, latest, b.latest(t))

	cordoned := node("b", 2)
	cordoned.Schedulable = false
	b.apply(t, inventory.Delta{Nodes: []facts.Node{cordoned}})
	after := b.versions(t)
	require.Equal(t, []string{"node b"}, touched(before, after), "its devices did not change")

	sick := cordoned
	sick.Devices = slices.Clone(cordoned.Devices)
	sick.Devices[1].Health = facts.HealthUnhealthy
	b.apply(t, inventory.Delta{Nodes: []facts.Node{sick}})
	before, after = after, b.versions(t)
	require.Equal(t, []string{"device b GPU-b-0", "node b"}, touched(before, after))

	fewer := sick
	fewer.Devices = sick.Devices[:2]
	b.apply(t, inventory.Delta{Nodes: []facts.Node{fewer}})
	require.Equal(t, []string{"-device b GPU-b-1", "node b"}, touched(after, b.versions(t)))
	require.Len(t, b.since(t, latest), 3, "one event for each change")
}

func TestEvents(t *testing.T) {
	t.Parallel()
	b := setup(t)
	observed := time.Date(2026, 11, 23, 9, 59, 59, 0, time.UTC)
	b.apply(t, inventory.Delta{Nodes: []facts.Node{node("a", 1)}, ObservedAt: observed})
	added := b.since(t, 0)
	require.Len(t, added, 1)
	require.Equal(t, event.NodeAdded, added[0].Type)
	require.Equal(t, "node a was added", added[0].Message)
	require.JSONEq(t, `{"ready": true, "schedulable": true, "observedAt": "2026-11-23T09:59:59Z"}`, string(added[0].Data))

	latest := b.latest(t)
	down := node("a", 1)
	down.Ready, down.ReadyReason = false, "KubeletStopped"
	b.apply(t, inventory.Delta{Nodes: []facts.Node{down}})
	changed := b.since(t, latest)
	require.Len(t, changed, 1)
	require.Equal(t, event.NodeChanged, changed[0].Type)
	require.False(t, changed[0].Transient)
	require.Contains(t, changed[0].Message, "node a changed: ")
	var data struct{ Changes []facts.Change }
	require.NoError(t, json.Unmarshal(changed[0].Data, &data))
	require.Contains(t, fmt.Sprint(data.Changes), "KubeletStopped")

	// What pods ask for changes all day: one event, and one for watchers only.
	latest = b.latest(t)
	busy := down
	busy.Requested = facts.Resources{CPUMillis: 9_000, MemoryBytes: 1 << 30, Extended: map[string]int64{"nvidia.com/gpu": 1}}
	b.apply(t, inventory.Delta{Nodes: []facts.Node{busy}})
	changed = b.since(t, latest)
	require.Len(t, changed, 1)
	require.True(t, changed[0].Transient)

	latest = b.latest(t)
	b.apply(t, inventory.Delta{Removed: []string{"a", "never-there"}})
	gone := b.since(t, latest)
	require.Len(t, gone, 1)
	require.Equal(t, event.NodeRemoved, gone[0].Type)
	require.Equal(t, "a", gone[0].Subject)
}

func TestClusterFacts(t *testing.T) {
	t.Parallel()
	b := setup(t)
	f := facts.Cluster{
		UID: "uid-1", Version: "v1.37.2", Platform: facts.PlatformKubernetes, Distribution: "k3s",
		StorageClasses: []facts.StorageClass{{Name: "local", Provisioner: "x"}},
	}
	b.apply(t, inventory.Delta{Cluster: &f})
	b.apply(t, inventory.Delta{Cluster: &f})
	f.Version, f.StorageClasses = "v1.38.0", []facts.StorageClass{{Name: "local", Provisioner: "x", Default: true}}
	b.apply(t, inventory.Delta{Cluster: &f})
	events := b.since(t, 0)
	require.Len(t, events, 2)
	require.Equal(t, "cluster berlin changed: version v1.37.2 → v1.38.0, storageClasses local → local (changed)", events[1].Message)
	c, err := b.store.ClusterByID(t.Context(), b.clusterID)
	require.NoError(t, err)
	require.Equal(t, &f, c.Facts)
	require.Equal(t, f.Digest(), c.FactsDigest)

	// Claims come and go all day; the DNS does not.
	latest := b.latest(t)
	f.Claims = &facts.Claims{Bound: 2, Pending: 1, PendingNames: []string{"a/b"}}
	b.apply(t, inventory.Delta{Cluster: &f})
	f.DNS = &facts.DNS{Service: "kube-system/kube-dns", Ready: new(int32(2))}
	b.apply(t, inventory.Delta{Cluster: &f})
	events = b.since(t, latest)
	require.Len(t, events, 2)
	require.True(t, events[0].Transient)
	require.Equal(t, "cluster berlin changed: claims (none) → 2 bound, 1 pending, 0 lost", events[0].Message)
	require.False(t, events[1].Transient)
	require.Equal(t, "cluster berlin changed: dns (none) → kube-system/kube-dns, 2 ready", events[1].Message)
}

func TestSummary(t *testing.T) {
	t.Parallel()
	b := setup(t)
	a, c := node("a", 1), node("c", 0)
	b.apply(t, inventory.Delta{Nodes: []facts.Node{a, node("b", 1), c}, Cluster: &facts.Cluster{UID: "uid-1"}})
	digest := facts.Cluster{UID: "uid-1"}.Digest()
	changed := c
	changed.Ready = false
	summary := func(clusterDigest string, nodes map[string]string) ([]string, bool) {
		need, needCluster, err := b.Summary(t.Context(), b.clusterID, clusterDigest, nodes)
		require.NoError(t, err)
		return need, needCluster
	}

	need, needCluster := summary(digest, map[string]string{})
	require.Empty(t, need)
	require.False(t, needCluster)
	require.Equal(t, []string{"a", "b", "c"}, b.nodes(t, inventory.Filter{}), "nothing at all is no word about anything")

	need, needCluster = summary("sha256:other", map[string]string{"a": a.Digest(), "c": changed.Digest(), "d": "sha256:new"})
	require.Equal(t, []string{"c", "d"}, need)
	require.True(t, needCluster)
	require.Equal(t, []string{"a", "c"}, b.nodes(t, inventory.Filter{}), "b is gone")

	b.apply(t, inventory.Delta{Nodes: []facts.Node{changed, node("d", 0)}})
	need, needCluster = summary(digest, map[string]string{"a": a.Digest(), "c": changed.Digest(), "d": node("d", 0).Digest()})
	require.Empty(t, need)
	require.False(t, needCluster)

	_, _, err := b.Summary(t.Context(), id.New(), "", nil)
	require.ErrorIs(t, err, inventory.ErrNoCluster)
	require.ErrorIs(t, b.Apply(t.Context(), id.New(), inventory.Delta{Nodes: []facts.Node{a}}), inventory.ErrNoCluster)
}

func TestLists(t *testing.T) {
	t.Parallel()
	b := setup(t)
	down, cordoned := node("n2", 2), node("n3", 0)
	down.Ready, cordoned.Schedulable = false, false
	b.apply(t, inventory.Delta{Nodes: []facts.Node{node("n1", 1), down, cordoned}})
	paris := b.cluster(t, "paris")
	require.NoError(t, b.Apply(t.Context(), paris, inventory.Delta{Nodes: []facts.Node{node("n1", 1)}}))

	yes, no := true, false
	for name, c := range map[string]struct {
		filter inventory.Filter
		want   []string
	}{
		"all":         {inventory.Filter{}, []string{"n1", "n2", "n3", "n1"}},
		"cluster":     {inventory.Filter{ClusterID: &paris}, []string{"n1"}},
		"ready":       {inventory.Filter{Ready: &yes}, []string{"n1", "n3", "n1"}},
		"not ready":   {inventory.Filter{Ready: &no}, []string{"n2"}},
		"cordoned":    {inventory.Filter{Schedulable: &no}, []string{"n3"}},
		"with CUDA":   {inventory.Filter{Kind: facts.KindCUDA, ClusterID: &b.clusterID}, []string{"n1", "n2"}},
		"with ROCm":   {inventory.Filter{Kind: facts.KindROCm}, nil},
		"combination": {inventory.Filter{Kind: facts.KindCUDA, Ready: &yes, ClusterID: &b.clusterID}, []string{"n1"}},
	} {
		require.Equal(t, c.want, b.nodes(t, c.filter), name)
	}

	devices := func(f inventory.DeviceFilter) []string {
		var keys []string
		p := page.Page{Limit: 2}
		for {
			found, next, err := b.Devices(t.Context(), f, p)
			require.NoError(t, err)
			for _, d := range found {
				keys = append(keys, d.ClusterName+"/"+d.Node+"/"+d.ID)
			}
			if p.Cursor = next; next == "" {
				return keys
			}
		}
	}
	require.Equal(t, []string{
		"berlin/n1/GPU-n1-0", "berlin/n1/cpu", "berlin/n2/GPU-n2-0", "berlin/n2/GPU-n2-1", "berlin/n2/cpu", "berlin/n3/cpu",
		"paris/n1/GPU-n1-0", "paris/n1/cpu",
	}, devices(inventory.DeviceFilter{}))
	require.Equal(t, []string{"berlin/n2/GPU-n2-0", "berlin/n2/GPU-n2-1"}, devices(inventory.DeviceFilter{Node: "n2", Kind: facts.KindCUDA}))
	require.Len(t, devices(inventory.DeviceFilter{Vendor: "intel"}), 4)
	require.Len(t, devices(inventory.DeviceFilter{Model: "H100", ClusterID: &paris}), 1)

	got, err := b.Node(t.Context(), b.clusterID, "n2")
	require.NoError(t, err)
	require.Equal(t, "berlin", got.ClusterName)
	require.Equal(t, b.now, got.UpdatedAt)
	require.Equal(t, down.Digest(), got.Digest())
	_, err = b.Node(t.Context(), paris, "n2")
	require.ErrorIs(t, err, inventory.ErrNotFound)
	found, _, err := b.Devices(t.Context(), inventory.DeviceFilter{Node: "n2", Kind: facts.KindCUDA}, page.Page{})
	require.NoError(t, err)
	require.False(t, found[0].NodeReady)
	require.Nil(t, found[0].LastSeen)
	require.Equal(t, down.Devices[1], found[0].Device)

	_, err = b.store.SessionOpen(t.Context(), b.clusterID, cluster.Session{Replica: "hub-0", ConnectedAt: b.now, LeaseUntil: b.now}, "0.1.0")
	require.NoError(t, err)
	got, err = b.Node(t.Context(), b.clusterID, "n2")
	require.NoError(t, err)
	require.Equal(t, b.now, *got.LastSeen)
	c, err := b.store.ClusterByID(t.Context(), b.clusterID)
	require.NoError(t, err)
	require.Equal(t, []int{3, 2}, []int{c.Nodes, c.ReadyNodes})
}

func TestErrorsThatUsersSee(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, _, err := b.Nodes(t.Context(), inventory.Filter{Kind: "abacus"}, page.Page{})
	require.EqualError(t, err, `kind: "abacus" is not a kind of device; use cuda, rocm, hpu or cpu`)
	_, _, err = b.Devices(t.Context(), inventory.DeviceFilter{}, page.Page{Cursor: page.Cursor("a", "b", "c")})
	require.Len(t, invalid.Of(err), 1)
	_, err = b.Node(t.Context(), b.clusterID, "nothing")
	require.EqualError(t, err, "there is no node \"nothing\" in this cluster; `budcluster node list` shows those that there are")
}

// What one agent sends twice in one delta, or wrongly, costs nobody else.
func TestOddDeltas(t *testing.T) {
	t.Parallel()
	b := setup(t)
	twice := node("a", 1)
	twice.Devices = append(twice.Devices, twice.Devices[1], facts.Device{ID: "cpu", Vendor: "other"})
	older := node("a", 0)
	b.apply(t, inventory.Delta{Nodes: []facts.Node{older, twice, {}}, Removed: []string{"b", "b"}})
	devices, _, err := b.Devices(t.Context(), inventory.DeviceFilter{}, page.Page{})
	require.NoError(t, err)
	require.Len(t, devices, 2)
	require.Equal(t, []string{"a"}, b.nodes(t, inventory.Filter{}), "a node without a name is none")
	b.apply(t, inventory.Delta{})
}

func TestManyNodesAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	d := inventory.Delta{}
	for i := range 1000 {
		d.Nodes = append(d.Nodes, node(fmt.Sprintf("node-%04d", i), 8))
	}
	start := time.Now()
	b.apply(t, d)
	t.Logf("1000 nodes with 8 GPUs each: %s", time.Since(start).Round(time.Millisecond))
	require.Len(t, b.since(t, 0), 1000)
	c, err := b.store.ClusterByID(t.Context(), b.clusterID)
	require.NoError(t, err)
	require.Equal(t, 1000, c.Nodes)
}

func TestSuspicion(t *testing.T) {
	t.Parallel()
	b := setup(t)
	n := node("a", 1)
	b.apply(t, inventory.Delta{Nodes: []facts.Node{n}})
	since := time.Date(2026, 11, 23, 9, 0, 0, 123_000_000, time.UTC)
	n.Devices = slices.Clone(n.Devices)
	n.Devices[1].SuspectSince = &since
	b.apply(t, inventory.Delta{Nodes: []facts.Node{n}})
	devices, _, err := b.Devices(t.Context(), inventory.DeviceFilter{Kind: facts.KindCUDA}, page.Page{})
	require.NoError(t, err)
	require.Equal(t, since, *devices[0].SuspectSince)
	before := b.versions(t)
	b.apply(t, inventory.Delta{Nodes: []facts.Node{n}})
	require.Empty(t, touched(before, b.versions(t)))
	require.NotEmpty(t, strings.TrimSpace(devices[0].Model))
}

func BenchmarkApplyOneNode(b *testing.B) {
	s := setup(b)
	d := inventory.Delta{}
	for i := range 100 {
		d.Nodes = append(d.Nodes, node(fmt.Sprintf("node-%03d", i), 8))
	}
	s.apply(b, d)
	n := d.Nodes[42]
	for i := 0; b.Loop(); i++ {
		n.Requested.CPUMillis = int64(i)
		require.NoError(b, s.Apply(b.Context(), s.clusterID, inventory.Delta{Nodes: []facts.Node{n}}))
	}
}

func BenchmarkSummaryUnchanged(b *testing.B) {
	s := setup(b)
	d, summary := inventory.Delta{}, map[string]string{}
	for i := range 100 {
		n := node(fmt.Sprintf("node-%03d", i), 8)
		d.Nodes, summary[n.Name] = append(d.Nodes, n), n.Digest()
	}
	s.apply(b, d)
	for b.Loop() {
		need, _, err := s.Summary(b.Context(), s.clusterID, "", summary)
		require.NoError(b, err)
		require.Empty(b, need)
	}
}
