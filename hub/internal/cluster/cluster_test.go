package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/internal/cluster"
	"github.com/budecosystem/budcluster/hub/internal/event"
	"github.com/budecosystem/budcluster/hub/internal/invalid"
	"github.com/budecosystem/budcluster/hub/internal/page"
	"github.com/budecosystem/budcluster/hub/internal/release"
	"github.com/budecosystem/budcluster/hub/internal/store"
	"github.com/budecosystem/budcluster/hub/internal/store/storetest"
	"github.com/budecosystem/budcluster/internal/id"
	"github.com/budecosystem/budcluster/internal/testutil"
)

// clock is a time that only the test moves.
type clock struct {
	mu sync.Mutex // guards at
	at time.Time
}

func newClock() *clock { return &clock{at: time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

type bundle struct {
	*cluster.Service
	store *store.Store
	clock *clock
}

func setup(t *testing.T) *bundle {
	t.Helper()
	b := &bundle{store: storetest.New(t), clock: newClock()}
	var err error
	b.Service, err = cluster.New(cluster.Config{Store: b.store, Logger: slog.New(slog.DiscardHandler), Now: b.clock.now})
	require.NoError(t, err)
	return b
}

func (b *bundle) create(t *testing.T, name string) *cluster.Cluster {
	t.Helper()
	c, err := b.Create(t.Context(), "tester", name, nil)
	require.NoError(t, err)
	return c
}

// events are the types of what happened, in order.
func (b *bundle) events(t *testing.T) []event.Type {
	t.Helper()
	events, err := b.store.EventList(t.Context(), event.Filter{Limit: 1000})
	require.NoError(t, err)
	types := make([]event.Type, 0, len(events))
	for _, e := range events {
		types = append(types, e.Type)
	}
	return types
}

func TestCreateAndGet(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c, err := b.Create(t.Context(), "tester", "berlin-1", map[string]string{"site": "Berlin", "example.com/tier": "gold"})
	require.NoError(t, err)
	for _, ref := range []string{"berlin-1", c.ID.String(), strings.ToUpper(c.ID.String())} {
		got, err := b.Get(t.Context(), ref)
		require.NoError(t, err, ref)
		require.Equal(t, c, got)
		require.Equal(t, cluster.StatePending, got.State(b.clock.now()))
	}
	_, err = b.Create(t.Context(), "tester", "berlin-1", nil)
	require.ErrorIs(t, err, cluster.ErrExists)
	for _, ref := range []string{"nowhere", id.New().String(), "No Such\x00Thing", ""} {
		_, err = b.Get(t.Context(), ref)
		require.ErrorIs(t, err, cluster.ErrNotFound, ref)
	}
	require.Equal(t, []event.Type{event.ClusterCreated}, b.events(t))
}

func TestCreateTogether(t *testing.T) {
	t.Parallel()
	b := setup(t)
	errs := make(chan error, 8)
	for range cap(errs) {
		go func() {
			_, err := b.Create(context.WithoutCancel(t.Context()), "tester", "one", nil)
			errs <- err
		}()
	}
	won := 0
	for range cap(errs) {
		if err := <-errs; err == nil {
			won++
		} else {
			require.ErrorIs(t, err, cluster.ErrExists)
		}
	}
	require.Equal(t, 1, won)
}

func TestErrorsThatUsersSee(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.create(t, "taken")
	var seen strings.Builder
	show := func(err error) {
		require.Error(t, err)
		fmt.Fprintln(&seen, err)
	}
	for _, name := range []string{"", "Upper", "-a", "a-", "a.b", "ä", strings.Repeat("a", 64), "$(reboot)", "0192f0c4-0000-7000-8000-000000000000"} {
		_, err := b.Create(t.Context(), "tester", name, nil)
		require.NotEmpty(t, invalid.Of(err))
		show(err)
	}
	for _, labels := range []map[string]string{
		{"": "v"}, {"a b": "v"}, {"/x": "v"}, {"Example.com/x": "v"}, {"k": "a b"}, {"k": strings.Repeat("a", 64)},
	} {
		_, err := b.Create(t.Context(), "tester", "fine", labels)
		require.NotEmpty(t, invalid.Of(err))
		show(err)
	}
	_, err := b.Create(t.Context(), "tester", "taken", nil)
	show(err)
	_, err = b.Get(t.Context(), "nowhere")
	show(err)
	_, _, err = b.List(t.Context(), page.Page{Cursor: "x"})
	show(err)
	show((&cluster.HasReleasesError{Name: "berlin", Releases: 3}))
	show((&cluster.RevokedError{Name: "berlin"}))
	testutil.Golden(t, "errors", []byte(seen.String()))
}

func TestList(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, name := range []string{"c", "a", "b"} {
		b.create(t, name)
	}
	var names []string
	p := page.Page{Limit: 2}
	for {
		clusters, next, err := b.List(t.Context(), p)
		require.NoError(t, err)
		for _, c := range clusters {
			names = append(names, c.Name)
		}
		if p.Cursor = next; next == "" {
			break
		}
	}
	require.Equal(t, []string{"a", "b", "c"}, names)
}

func TestSessions(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.create(t, "one")
	ctx := t.Context()
	require.NoError(t, b.store.MemberJoin(ctx, c.ID, "uid-1", "0.1.0", b.clock.now()))
	info := cluster.SessionInfo{Replica: "hub-a", Instance: "agent-x", RemoteAddr: "10.0.0.1:1234", AgentVersion: "0.1.0"}
	first, err := b.OpenSession(ctx, c.ID, info)
	require.NoError(t, err)
	got, err := b.Get(ctx, "one")
	require.NoError(t, err)
	require.Equal(t, cluster.StateConnected, got.State(b.clock.now()))
	require.Equal(t, &cluster.Session{
		Replica: "hub-a", Epoch: first, Instance: "agent-x", RemoteAddr: "10.0.0.1:1234",
		ConnectedAt: b.clock.now(), LeaseUntil: b.clock.now().Add(30 * time.Second),
	}, got.Session)

	b.clock.add(20 * time.Second)
	require.NoError(t, b.RenewSessions(ctx, "hub-a", []uuid.UUID{c.ID, id.New()}))
	require.NoError(t, b.RenewSessions(ctx, "hub-a", nil))
	b.clock.add(20 * time.Second)
	got, err = b.Get(ctx, "one")
	require.NoError(t, err)
	require.Equal(t, cluster.StateConnected, got.State(b.clock.now()), "renewed")
	require.Equal(t, b.clock.now().Add(-20*time.Second), *got.LastSeen)

	// A newer session fences the older one, whose replica cannot renew or close it.
	info.Replica = "hub-b"
	second, err := b.OpenSession(ctx, c.ID, info)
	require.NoError(t, err)
	require.Greater(t, second, first)
	lost, err := b.Lost(ctx, map[uuid.UUID]int64{c.ID: first})
	require.NoError(t, err)
	require.Equal(t, []uuid.UUID{c.ID}, lost)
	lost, err = b.Lost(ctx, map[uuid.UUID]int64{c.ID: second})
	require.NoError(t, err)
	require.Empty(t, lost)
	require.NoError(t, b.CloseSession(ctx, c.ID, first, "replaced"))
	b.clock.add(time.Second)
	require.NoError(t, b.RenewSessions(ctx, "hub-a", []uuid.UUID{c.ID}))
	got, err = b.Get(ctx, "one")
	require.NoError(t, err)
	require.Equal(t, second, got.Session.Epoch)
	require.Equal(t, b.clock.now().Add(29*time.Second), got.Session.LeaseUntil)

	require.NoError(t, b.CloseSession(ctx, c.ID, second, "agent said goodbye"))
	require.NoError(t, b.CloseSession(ctx, c.ID, second, "twice"))
	got, err = b.Get(ctx, "one")
	require.NoError(t, err)
	require.Nil(t, got.Session)
	require.Equal(t, cluster.StateUnknown, got.State(b.clock.now()), "silence is not absence")
	require.Equal(t, b.clock.now(), *got.LastSeen)
	require.Equal(t, []event.Type{event.ClusterCreated, event.ClusterConnected, event.ClusterConnected, event.ClusterDisconnected}, b.events(t))

	third, err := b.OpenSession(ctx, c.ID, info)
	require.NoError(t, err)
	require.Greater(t, third, second, "epochs outlive sessions")
	_, err = b.OpenSession(ctx, id.New(), info)
	require.ErrorIs(t, err, cluster.ErrNotFound)
	require.NoError(t, b.CloseSession(ctx, id.New(), 1, "deleted meanwhile"))
}

// A replica that dies closes nothing; the others see the lease end, and only
// one of them says so.
func TestExpireSessions(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.create(t, "one")
	opened := b.clock.now()
	_, err := b.OpenSession(t.Context(), c.ID, cluster.SessionInfo{Replica: "hub-a"})
	require.NoError(t, err)
	n, err := b.ExpireSessions(t.Context())
	require.NoError(t, err)
	require.Zero(t, n)
	b.clock.add(31 * time.Second)
	counts := make(chan int, 4)
	for range cap(counts) {
		go func() {
			n, err := b.ExpireSessions(context.WithoutCancel(t.Context()))
			if err != nil {
				n = 1000
			}
			counts <- n
		}()
	}
	total := 0
	for range cap(counts) {
		total += <-counts
	}
	require.Equal(t, 1, total)
	got, err := b.Get(t.Context(), "one")
	require.NoError(t, err)
	require.Nil(t, got.Session)
	require.Equal(t, opened, *got.LastSeen)
	require.Equal(t, []event.Type{event.ClusterCreated, event.ClusterConnected, event.ClusterDisconnected}, b.events(t))
}

func TestRevoke(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.create(t, "one")
	epoch, err := b.OpenSession(t.Context(), c.ID, cluster.SessionInfo{Replica: "hub-a"})
	require.NoError(t, err)
	require.NoError(t, b.Revoke(t.Context(), "tester", "one"))
	require.NoError(t, b.Revoke(t.Context(), "tester", "one"), "twice is once")
	got, err := b.Get(t.Context(), "one")
	require.NoError(t, err)
	require.Equal(t, cluster.StateRevoked, got.State(b.clock.now()))
	lost, err := b.Lost(t.Context(), map[uuid.UUID]int64{c.ID: epoch})
	require.NoError(t, err)
	require.Equal(t, []uuid.UUID{c.ID}, lost, "the gateway cuts it off")
	_, err = b.OpenSession(t.Context(), c.ID, cluster.SessionInfo{})
	require.ErrorIs(t, err, cluster.ErrRevoked)
	require.ErrorIs(t, b.Revoke(t.Context(), "tester", "nowhere"), cluster.ErrNotFound)
	require.Equal(t, []event.Type{event.ClusterCreated, event.ClusterConnected, event.ClusterRevoked}, b.events(t))
}

func TestDelete(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.create(t, "one")
	digest := storetest.Chart(t, b.store, "nginx", "1.0.0")
	r := &release.Release{
		ID: id.New(), ClusterID: c.ID, Name: "web", Namespace: "web", Generation: 1, Digest: "sha256:x",
		Spec: release.Spec{Chart: release.Chart{Digest: digest}}, CreatedAt: b.clock.now(), UpdatedAt: b.clock.now(),
	}
	require.NoError(t, b.store.ReleaseWrite(t.Context(), release.Sealed{Release: r}))

	var has *cluster.HasReleasesError
	require.ErrorAs(t, b.Delete(t.Context(), "tester", "one", false), &has)
	require.Equal(t, cluster.HasReleasesError{Name: "one", Releases: 1}, *has)
	require.NoError(t, b.Delete(t.Context(), "tester", "one", true))
	_, err := b.Get(t.Context(), "one")
	require.ErrorIs(t, err, cluster.ErrNotFound)
	require.ErrorIs(t, b.Delete(t.Context(), "tester", "one", true), cluster.ErrNotFound)
	lost, err := b.Lost(t.Context(), map[uuid.UUID]int64{c.ID: 1})
	require.NoError(t, err)
	require.Len(t, lost, 1)
	require.Equal(t, []event.Type{event.ClusterCreated, event.ClusterDeleted}, b.events(t))
	require.Equal(t, c.Name, b.create(t, "one").Name, "the name is free again")
}

func TestSetDegraded(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.create(t, "one")
	down := cluster.Degradation{Reason: "APIServerUnreachable", Message: "the API server does not answer"}
	rbac := cluster.Degradation{Reason: "AccessDenied", Message: "nodes cannot be listed", Since: b.clock.now().Add(-time.Hour)}
	require.NoError(t, b.SetDegraded(t.Context(), c.ID, nil), "nothing to say")
	require.NoError(t, b.SetDegraded(t.Context(), c.ID, []cluster.Degradation{down, rbac}))
	b.clock.add(time.Minute)
	require.NoError(t, b.SetDegraded(t.Context(), c.ID, []cluster.Degradation{rbac, down}), "the same again")
	got, err := b.Get(t.Context(), "one")
	require.NoError(t, err)
	down.Since = b.clock.now().Add(-time.Minute)
	require.Equal(t, []cluster.Degradation{down, rbac}, got.Degraded, "in order of reason")
	require.NoError(t, b.SetDegraded(t.Context(), c.ID, []cluster.Degradation{}))
	require.Equal(t, []event.Type{event.ClusterCreated, event.ClusterDegraded, event.ClusterRecovered}, b.events(t))

	many := make([]cluster.Degradation, 1000)
	for i := range many {
		many[i] = cluster.Degradation{Reason: strings.Repeat("R", 1000), Message: strings.Repeat("ä", 5000) + "\x00"}
	}
	require.NoError(t, b.SetDegraded(t.Context(), c.ID, many))
	got, err = b.Get(t.Context(), "one")
	require.NoError(t, err)
	require.Len(t, got.Degraded, 32)
	require.ErrorIs(t, b.SetDegraded(t.Context(), id.New(), nil), cluster.ErrNotFound)
}

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	_, err := cluster.New(cluster.Config{})
	require.Error(t, err)
	_, err = cluster.New(cluster.Config{Store: storetest.New(t), Logger: slog.New(slog.DiscardHandler), SessionLease: -1})
	require.ErrorContains(t, err, "session.lease")
}

func TestRunEndsWithItsContext(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("enough"))
	require.NoError(t, b.Run(ctx))
}
