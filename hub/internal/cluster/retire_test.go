package cluster_test

import (
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/internal/cluster"
	"github.com/budecosystem/budcluster/hub/internal/event"
	"github.com/budecosystem/budcluster/hub/internal/inventory"
	"github.com/budecosystem/budcluster/hub/internal/page"
	"github.com/budecosystem/budcluster/hub/internal/release"
	"github.com/budecosystem/budcluster/hub/internal/store/storetest"
	"github.com/budecosystem/budcluster/internal/facts"
)

// join makes a cluster that has joined, with a node, a device and a release.
func (b *bundle) join(t *testing.T, name string) *cluster.Cluster {
	t.Helper()
	c := b.create(t, name)
	require.NoError(t, b.store.MemberJoin(t.Context(), c.ID, "uid-"+name, "1.0.0", b.clock.now()))
	nodes, err := inventory.New(inventory.Config{Store: b.store, Logger: slog.New(slog.DiscardHandler), Now: b.clock.now})
	require.NoError(t, err)
	require.NoError(t, nodes.Apply(t.Context(), c.ID, inventory.Delta{Nodes: []facts.Node{node("n1")}, ObservedAt: b.clock.now()}))
	_, _, err = b.releases(t).Apply(t.Context(), "tester", c.ID, release.Request{
		Name: "web", Namespace: "web", Spec: release.Spec{Chart: release.Chart{Digest: storetest.Chart(t, b.store, "web", "1.0.0")}},
	})
	require.NoError(t, err)
	c, err = b.Get(t.Context(), name)
	require.NoError(t, err)
	require.Equal(t, 1, c.Nodes)
	return c
}

func node(name string) facts.Node {
	return facts.Node{Name: name, Ready: true, Devices: []facts.Device{{ID: "gpu-0", Vendor: "nvidia", Kind: facts.KindCUDA, Model: "A100"}}}
}

func (b *bundle) releases(t *testing.T) *release.Service {
	t.Helper()
	s, err := release.New(release.Config{Store: b.store, Sealer: storetest.Keyring(t), Logger: slog.New(slog.DiscardHandler), Now: b.clock.now})
	require.NoError(t, err)
	return s
}

// requireClosed: the cluster is in no list, its name and UID are free, and its
// history is still there.
func (b *bundle) requireClosed(t *testing.T, c *cluster.Cluster) {
	t.Helper()
	ctx := t.Context()
	all, _, err := b.List(ctx, page.Page{})
	require.NoError(t, err)
	require.NotContains(t, names(all), c.Name)
	retired, _, err := b.ListRetired(ctx, page.Page{})
	require.NoError(t, err)
	require.Contains(t, names(retired), c.Name)
	_, err = b.Get(ctx, c.Name)
	require.ErrorIs(t, err, cluster.ErrNotFound)
	got, err := b.Get(ctx, c.ID.String())
	require.NoError(t, err)
	require.Equal(t, cluster.StateRetired, got.State(b.clock.now()))
	require.Zero(t, got.Nodes)
	devices, err := b.store.DeviceList(ctx, inventory.DeviceFilter{ClusterID: &c.ID}, inventory.DeviceKey{}, 10)
	require.NoError(t, err)
	require.Empty(t, devices)
	left, err := b.store.ClusterReleaseCount(ctx, c.ID)
	require.NoError(t, err)
	require.Zero(t, left)
	_, err = b.store.MemberByUID(ctx, c.UID)
	require.Error(t, err, "the uid is free")
	again := b.create(t, c.Name)
	require.NoError(t, b.store.MemberJoin(ctx, again.ID, c.UID, "1.0.0", b.clock.now()))
	events, err := b.store.EventList(ctx, event.Filter{ClusterID: &c.ID, Limit: 100})
	require.NoError(t, err)
	require.NotEmpty(t, events)
}

func names(all []*cluster.Cluster) []string {
	out := make([]string, 0, len(all))
	for _, c := range all {
		out = append(out, c.Name)
	}
	return out
}

func TestRetireWaitsForTheAgent(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	c := b.join(t, "old")
	none, err := b.Retirement(ctx, c.ID)
	require.NoError(t, err)
	require.Zero(t, none)

	for range 2 { // the same again changes nothing
		got, err := b.Retire(ctx, "tester", "old", false)
		require.NoError(t, err)
		require.NotNil(t, got.RetiringAt)
		require.Nil(t, got.RetiredAt)
	}
	told, err := b.Retirement(ctx, c.ID)
	require.NoError(t, err)
	require.Equal(t, cluster.Retirement{Generation: 1}, told)
	_, _, err = b.releases(t).Apply(ctx, "tester", c.ID, release.Request{
		Name: "late", Namespace: "web", Spec: release.Spec{Chart: release.Chart{Digest: storetest.Chart(t, b.store, "web", "2.0.0")}},
	})
	require.ErrorIs(t, err, release.ErrBusy, "nothing new goes in")

	require.NoError(t, b.Retired(ctx, c.ID, 7, nil), "of another decision")
	still, err := b.Get(ctx, "old")
	require.NoError(t, err)
	require.Nil(t, still.RetiredAt)

	for range 2 {
		require.NoError(t, b.Retired(ctx, c.ID, 1, []string{"Namespace x stays: others live in it", "a\x00b", ""}))
	}
	told, err = b.Retirement(ctx, c.ID)
	require.NoError(t, err)
	require.Equal(t, cluster.Retirement{Generation: 1, Recorded: true}, told)
	got, err := b.Get(ctx, c.ID.String())
	require.NoError(t, err)
	require.Equal(t, []string{"Namespace x stays: others live in it", "ab"}, got.Left)
	types := b.events(t)
	require.Equal(t, []event.Type{event.ClusterRetiring, event.ClusterRetired}, types[len(types)-2:])
	b.requireClosed(t, c)
	_, err = b.Retire(ctx, "tester", c.ID.String(), true)
	require.NoError(t, err, "it is retired already")
}

func TestRetireByForce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	c := b.join(t, "lost")
	got, err := b.Retire(ctx, "tester", "lost", true)
	require.NoError(t, err)
	require.NotNil(t, got.RetiredAt)
	require.Nil(t, got.GoneAt)
	b.requireClosed(t, c)

	// It comes back: it is let in, told, and nothing of it is kept.
	epoch, err := b.OpenSession(ctx, c.ID, cluster.SessionInfo{Replica: "hub-0"})
	require.NoError(t, err)
	lost, err := b.Lost(ctx, map[uuid.UUID]int64{c.ID: epoch})
	require.NoError(t, err)
	require.Empty(t, lost, "its session may go on")
	told, err := b.Retirement(ctx, c.ID)
	require.NoError(t, err)
	require.Equal(t, cluster.Retirement{Generation: 1}, told)
	nodes, err := inventory.New(inventory.Config{Store: b.store, Logger: slog.New(slog.DiscardHandler), Now: b.clock.now})
	require.NoError(t, err)
	need, _, err := nodes.Summary(ctx, c.ID, "x", map[string]string{"n1": "x"})
	require.NoError(t, err)
	require.Empty(t, need)
	require.NoError(t, nodes.Apply(ctx, c.ID, inventory.Delta{Nodes: []facts.Node{node("n1")}}))
	back, err := b.Get(ctx, c.ID.String())
	require.NoError(t, err)
	require.Zero(t, back.Nodes)

	require.NoError(t, b.Retired(ctx, c.ID, 1, nil))
	back, err = b.Get(ctx, c.ID.String())
	require.NoError(t, err)
	require.NotNil(t, back.GoneAt)
	types := b.events(t)
	require.Equal(t, event.ClusterCleared, types[len(types)-1])
}

func TestForceHastens(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.join(t, "slow")
	_, err := b.Retire(t.Context(), "tester", "slow", false)
	require.NoError(t, err)
	_, err = b.Retire(t.Context(), "tester", "slow", true)
	require.NoError(t, err)
	require.NoError(t, b.Retired(t.Context(), c.ID, 1, nil), "of the decision before")
	got, err := b.Get(t.Context(), c.ID.String())
	require.NoError(t, err)
	require.Nil(t, got.GoneAt)
	require.NoError(t, b.Retired(t.Context(), c.ID, 2, nil))
	got, err = b.Get(t.Context(), c.ID.String())
	require.NoError(t, err)
	require.NotNil(t, got.GoneAt)
}

func TestRetireWithoutAnAgent(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.create(t, "never")
	got, err := b.Retire(t.Context(), "tester", "never", false)
	require.NoError(t, err)
	require.NotNil(t, got.RetiredAt, "nobody has to be waited for")

	revoked := b.join(t, "revoked")
	require.NoError(t, b.Revoke(t.Context(), "tester", "revoked"))
	_, err = b.Retire(t.Context(), "tester", "revoked", false)
	require.ErrorIs(t, err, cluster.ErrUnreachable)
	_, err = b.Retire(t.Context(), "tester", "revoked", true)
	require.NoError(t, err)
	b.requireClosed(t, revoked)
	_, err = b.Retire(t.Context(), "tester", "nowhere", true)
	require.ErrorIs(t, err, cluster.ErrNotFound)
}

// Two replicas: whoever decides at once with another, the cluster retires once,
// and nodes that come meanwhile do not stay.
func TestRetireTogether(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.join(t, "busy")
	nodes, err := inventory.New(inventory.Config{Store: b.store, Logger: slog.New(slog.DiscardHandler), Now: b.clock.now})
	require.NoError(t, err)
	var wg sync.WaitGroup
	errs := make(chan error, 12)
	for i := range cap(errs) {
		wg.Go(func() {
			if i%2 == 0 {
				_, err := b.Retire(t.Context(), "tester", c.ID.String(), true)
				errs <- err
				return
			}
			errs <- nodes.Apply(t.Context(), c.ID, inventory.Delta{Nodes: []facts.Node{node("n" + strings.Repeat("x", i))}})
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		require.NoError(t, err)
	}
	got, err := b.Get(t.Context(), c.ID.String())
	require.NoError(t, err)
	require.Zero(t, got.Nodes)
	require.Equal(t, int64(1), got.RetireGeneration)
	count := 0
	for _, kind := range b.events(t) {
		if kind == event.ClusterRetired {
			count++
		}
	}
	require.Equal(t, 1, count)
}

func TestRetiredListsInPages(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for range 5 { // all of one name
		b.create(t, "again")
		_, err := b.Retire(t.Context(), "tester", "again", true)
		require.NoError(t, err)
	}
	var got []*cluster.Cluster
	for p := (page.Page{Limit: 2}); ; {
		items, next, err := b.ListRetired(t.Context(), p)
		require.NoError(t, err)
		got = append(got, items...)
		if next == "" {
			break
		}
		p.Cursor = next
	}
	require.Len(t, got, 5)
}

func TestPresence(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	c := b.create(t, "one")
	got, err := b.Presence(ctx, c.ID)
	require.NoError(t, err)
	require.Nil(t, got.At, "nothing was said yet")

	yes := true
	found := facts.Presence{Probe: "nfd/worker", State: facts.PresenceFound, Kind: "DaemonSet", Namespace: "nfd", Object: "worker", Version: "v0.17\x00", Ready: &yes}
	absent := facts.Presence{Probe: "hami/scheduler", State: facts.PresenceAbsent}
	odd := facts.Presence{Probe: "x/y", State: "someday"}
	require.NoError(t, b.SetPresence(ctx, c.ID, []facts.Presence{found, odd, absent, {State: facts.PresenceFound}, absent}))
	got, err = b.Presence(ctx, c.ID)
	require.NoError(t, err)
	require.Equal(t, b.clock.now(), got.At.UTC())
	found.Version, odd.State = "v0.17", facts.PresenceUnknown
	require.Equal(t, []facts.Presence{absent, found, odd}, got.Answers)

	b.clock.add(time.Minute)
	alsoYes := true
	found.Ready = &alsoYes
	require.NoError(t, b.SetPresence(ctx, c.ID, []facts.Presence{absent, odd, found}))
	got, err = b.Presence(ctx, c.ID)
	require.NoError(t, err)
	require.Equal(t, b.clock.now(), got.At.UTC(), "it still holds")
	require.Equal(t, []event.Type{event.ClusterCreated, event.ClusterPresence}, b.events(t), "and is no news")

	no := false
	found.Ready = &no
	require.NoError(t, b.SetPresence(ctx, c.ID, []facts.Presence{absent, odd, found}))
	require.Len(t, b.events(t), 3)
	many := make([]facts.Presence, 10_000)
	for i := range many {
		many[i] = facts.Presence{Probe: strings.Repeat("p", i), State: facts.PresenceAbsent}
	}
	require.NoError(t, b.SetPresence(ctx, c.ID, many))
	got, err = b.Presence(ctx, c.ID)
	require.NoError(t, err)
	require.LessOrEqual(t, len(got.Answers), facts.MaxProbes*facts.MaxPresences)
	require.ErrorIs(t, b.SetPresence(ctx, uuid.New(), nil), cluster.ErrNotFound)
}
