package release_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/internal/cluster"
	"github.com/budecosystem/budcluster/hub/internal/event"
	"github.com/budecosystem/budcluster/hub/internal/invalid"
	"github.com/budecosystem/budcluster/hub/internal/page"
	"github.com/budecosystem/budcluster/hub/internal/release"
	"github.com/budecosystem/budcluster/hub/internal/store"
	"github.com/budecosystem/budcluster/hub/internal/store/storetest"
	"github.com/budecosystem/budcluster/internal/id"
	agentv1 "github.com/budecosystem/budcluster/proto/agent/v1"
)

type bundle struct {
	*release.Service
	store     *store.Store
	pool      *pgxpool.Pool
	clusterID uuid.UUID // one that has joined
	digest    string    // of a chart that is there

	mu  sync.Mutex // guards now
	now time.Time
}

func (b *bundle) clock() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now = b.now.Add(time.Second)
	return b.now
}

func setup(tb testing.TB) *bundle {
	tb.Helper()
	b := &bundle{now: time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)}
	b.store, b.pool = storetest.NewWithPool(tb)
	var err error
	b.Service, err = release.New(release.Config{Store: b.store, Sealer: storetest.Keyring(tb), Logger: slog.New(slog.DiscardHandler), Now: b.clock})
	require.NoError(tb, err)
	b.clusterID = b.cluster(tb, "berlin")
	require.NoError(tb, b.store.MemberJoin(tb.Context(), b.clusterID, "uid-1", "0.1.0", b.clock()))
	b.digest = storetest.Chart(tb, b.store, "nginx", "1.2.3")
	return b
}

func (b *bundle) cluster(tb testing.TB, name string) uuid.UUID {
	tb.Helper()
	c := &cluster.Cluster{ID: id.New(), Name: name, CreatedAt: b.clock()}
	require.NoError(tb, b.store.ClusterInsert(tb.Context(), c))
	return c.ID
}

// request asks for the chart with these values.
func (b *bundle) request(values string) release.Request {
	return release.Request{Name: "web", Namespace: "shop", Spec: release.Spec{
		Chart: release.Chart{Digest: b.digest}, Values: json.RawMessage(values), CreateNamespace: true,
	}}
}

func (b *bundle) apply(tb testing.TB, req release.Request) *release.Release {
	tb.Helper()
	r, _, err := b.Apply(tb.Context(), "tester", b.clusterID, req)
	require.NoError(tb, err)
	return r
}

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

func TestApply(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r, created, err := b.Apply(t.Context(), "tester", b.clusterID, b.request(`{"b": 1, "a": {"x": 1.0}}`))
	require.NoError(t, err)
	require.True(t, created)
	require.Equal(t, int64(1), r.Generation)
	require.Equal(t, release.Chart{Digest: b.digest, Name: "nginx", Version: "1.2.3"}, r.Spec.Chart, "filled from the chart")
	require.Equal(t, release.Spec{
		Chart: r.Spec.Chart, Values: json.RawMessage(`{"a":{"x":1.0},"b":1}`), CreateNamespace: true, Timeout: 5 * time.Minute,
		Remediation: release.RemediationRollback, MaxAttempts: 5, Drift: release.DriftCorrect, Adoption: release.AdoptionObserve,
	}, r.Spec)
	got, err := b.Get(t.Context(), b.clusterID, "web")
	require.NoError(t, err)
	require.Equal(t, r, got)

	same, created, err := b.Apply(t.Context(), "tester", b.clusterID, b.request("{ \"a\":{\"x\":1.0},\n\"b\":1 }"))
	require.NoError(t, err)
	require.False(t, created)
	require.Equal(t, r, same, "the same again changes nothing, not even a time")

	changed := b.apply(t, b.request(`{"b": 2}`))
	require.Equal(t, int64(2), changed.Generation)
	require.Equal(t, r.ID, changed.ID)
	require.NotEqual(t, r.Digest, changed.Digest)
	require.Equal(t, r.Digest, b.apply(t, b.request(`{"b": 1, "a": {"x": 1.0}}`)).Digest, "a digest is over what is wanted, not over when")
	require.Equal(t, []event.Type{event.ReleaseApplied, event.ReleaseApplied, event.ReleaseApplied}, b.events(t))
}

func TestApplyTogether(t *testing.T) {
	t.Parallel()
	b := setup(t)
	type outcome struct {
		r       *release.Release
		created bool
		err     error
	}
	outcomes := make(chan outcome, 8)
	for range cap(outcomes) {
		go func() {
			r, created, err := b.Apply(context.WithoutCancel(t.Context()), "tester", b.clusterID, b.request(`{"a": 1}`))
			outcomes <- outcome{r, created, err}
		}()
	}
	created := 0
	for range cap(outcomes) {
		o := <-outcomes
		require.NoError(t, o.err)
		require.Equal(t, int64(1), o.r.Generation)
		if o.created {
			created++
		}
	}
	require.Equal(t, 1, created)
}

func TestPreconditions(t *testing.T) {
	t.Parallel()
	b := setup(t)
	generation := func(n int64) release.Request {
		req := b.request(fmt.Sprintf(`{"n": %d}`, n))
		req.IfGeneration = &n
		return req
	}
	_, _, err := b.Apply(t.Context(), "tester", b.clusterID, generation(1))
	require.ErrorIs(t, err, release.ErrConflict)
	b.apply(t, generation(0))
	_, _, err = b.Apply(t.Context(), "tester", b.clusterID, generation(0))
	require.ErrorIs(t, err, release.ErrConflict)
	require.Equal(t, int64(2), b.apply(t, generation(1)).Generation)
	_, _, err = b.Apply(t.Context(), "tester", b.clusterID, generation(1))
	var conflict *release.ConflictError
	require.ErrorAs(t, err, &conflict)
	require.Equal(t, release.ConflictError{Name: "web", Want: 1, Have: 2}, *conflict)

	moved := b.request(`{}`)
	moved.Namespace = "elsewhere"
	_, _, err = b.Apply(t.Context(), "tester", b.clusterID, moved)
	require.Equal(t, "namespace", invalid.Of(err)[0].Field)
	_, _, err = b.Apply(t.Context(), "tester", id.New(), b.request(`{}`))
	require.ErrorIs(t, err, release.ErrNoCluster)
	_, err = b.Get(t.Context(), b.clusterID, "nothing")
	require.ErrorIs(t, err, release.ErrNotFound)
}

func TestSecretValues(t *testing.T) {
	t.Parallel()
	b := setup(t)
	req := b.request(`{}`)
	req.Spec.SecretValues = json.RawMessage(`{"password": "hunter2"}`)
	r := b.apply(t, req)
	require.Nil(t, r.Spec.SecretValues, "they never come back")

	sent := func() string {
		releases, err := b.ByIDs(t.Context(), b.clusterID, []uuid.UUID{r.ID})
		require.NoError(t, err)
		require.Len(t, releases, 1)
		return string(releases[0].Spec.SecretValues)
	}
	require.JSONEq(t, `{"password": "hunter2"}`, sent(), "but through the tunnel")
	for _, table := range []string{"releases", "events"} {
		var found int
		require.NoError(t, b.pool.QueryRow(t.Context(), "SELECT count(*) FROM "+table+" x WHERE x::text LIKE '%hunter2%' OR x::text LIKE '%68756e74657232%'").Scan(&found))
		require.Zero(t, found, "sealed at rest: %s", table)
	}

	require.Equal(t, int64(1), b.apply(t, req).Generation, "the same secret again")
	kept := b.request(`{}`)
	require.Equal(t, int64(1), b.apply(t, kept).Generation, "leaving it away keeps it")
	kept = b.request(`{"a": 1}`)
	require.Equal(t, int64(2), b.apply(t, kept).Generation)
	require.JSONEq(t, `{"password": "hunter2"}`, sent())
	req.Spec.Values, req.Spec.SecretValues = kept.Spec.Values, json.RawMessage(`{"password": "hunter3"}`)
	changed := b.apply(t, req)
	require.Equal(t, int64(3), changed.Generation, "a change of it is seen")
	req.Spec.SecretValues = json.RawMessage(`{}`)
	require.Equal(t, int64(4), b.apply(t, req).Generation)
	require.Empty(t, sent())

	other := b.request(`{}`)
	other.Name, other.Spec.SecretValues = "twin-a", json.RawMessage(`{"password": "hunter2"}`)
	a := b.apply(t, other)
	_, err := b.pool.Exec(t.Context(), "UPDATE releases SET secret_values = (SELECT secret_values FROM releases WHERE id = $1) WHERE id = $2", a.ID, r.ID)
	require.NoError(t, err)
	_, err = b.ByIDs(t.Context(), b.clusterID, []uuid.UUID{r.ID})
	require.ErrorContains(t, err, "open secret values of release web", "they are bound to their release")
}

// The digest is public; a short password must not be found by trying.
func TestDigestHidesSecretValues(t *testing.T) {
	t.Parallel()
	b := setup(t)
	digests := map[string]bool{}
	for range 3 {
		req := b.request(`{}`)
		req.Spec.SecretValues = json.RawMessage(`{"pin": 1234}`)
		digests[b.apply(t, req).Digest] = true
		_, err := b.Delete(t.Context(), "tester", b.clusterID, "web", true)
		require.NoError(t, err)
	}
	require.Len(t, digests, 3, "the same secret has another digest in each release")
}

func TestDeleteAndRemoved(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := b.apply(t, b.request(`{"a": 1}`))
	gone, err := b.Delete(t.Context(), "tester", b.clusterID, "web", false)
	require.NoError(t, err)
	require.Equal(t, int64(2), gone.Generation)
	require.NotNil(t, gone.RemovedAt)
	require.NotEqual(t, r.Digest, gone.Digest)
	again, err := b.Delete(t.Context(), "tester", b.clusterID, "web", false)
	require.NoError(t, err)
	require.Equal(t, gone, again, "twice is once")
	desired, err := b.Desired(t.Context(), b.clusterID)
	require.NoError(t, err)
	require.Equal(t, []release.Desired{{ID: r.ID, Generation: 2, Digest: gone.Digest}}, desired, "a tombstone is desired state")

	forget := func(status release.Status) bool {
		forget, err := b.Observe(t.Context(), b.clusterID, r.ID, status)
		require.NoError(t, err)
		return forget
	}
	require.False(t, forget(release.Status{ObservedGeneration: 1, Phase: agentv1.PhaseRemoved}), "that was about what came before the tombstone")
	require.False(t, forget(release.Status{ObservedGeneration: 2, Phase: agentv1.PhaseRemoving}))
	require.True(t, forget(release.Status{ObservedGeneration: 2, Phase: agentv1.PhaseRemoved}))
	require.True(t, forget(release.Status{ObservedGeneration: 2, Phase: agentv1.PhaseRemoved}), "said again after a crash")
	require.False(t, forget(release.Status{ObservedGeneration: 2, Phase: agentv1.PhaseReady}), "an orphan is kept")
	_, err = b.Get(t.Context(), b.clusterID, "web")
	require.ErrorIs(t, err, release.ErrNotFound)
	_, err = b.Delete(t.Context(), "tester", b.clusterID, "web", false)
	require.ErrorIs(t, err, release.ErrNotFound)
	require.Equal(t, []event.Type{event.ReleaseApplied, event.ReleaseDeleted, event.ReleaseStatus, event.ReleaseStatus, event.ReleaseRemoved}, b.events(t))
}

func TestWantedAgainWhileItIsRemoved(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := b.apply(t, b.request(`{"a": 1}`))
	_, err := b.Delete(t.Context(), "tester", b.clusterID, "web", false)
	require.NoError(t, err)
	moved := b.request(`{}`)
	moved.Namespace = "elsewhere"
	_, _, err = b.Apply(t.Context(), "tester", b.clusterID, moved)
	require.ErrorIs(t, err, release.ErrBusy)
	back, created, err := b.Apply(t.Context(), "tester", b.clusterID, b.request(`{"a": 1}`))
	require.NoError(t, err)
	require.True(t, created)
	require.Equal(t, r.ID, back.ID)
	require.Equal(t, int64(3), back.Generation)
	require.Nil(t, back.RemovedAt)
	forget, err := b.Observe(t.Context(), b.clusterID, r.ID, release.Status{ObservedGeneration: 2, Phase: agentv1.PhaseRemoved})
	require.NoError(t, err)
	require.False(t, forget, "the removal that was wanted before is news of yesterday")
}

func TestForget(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := b.apply(t, b.request(`{}`))
	_, err := b.Delete(t.Context(), "tester", b.clusterID, "web", true)
	require.NoError(t, err)
	_, err = b.Get(t.Context(), b.clusterID, "web")
	require.ErrorIs(t, err, release.ErrNotFound)
	forget, err := b.Observe(t.Context(), b.clusterID, r.ID, release.Status{ObservedGeneration: 1, Phase: agentv1.PhaseReady})
	require.NoError(t, err)
	require.False(t, forget, "the agent keeps its orphan")

	// In a cluster that never joined there is nothing to remove.
	pending := b.cluster(t, "paris")
	_, _, err = b.Apply(t.Context(), "tester", pending, b.request(`{}`))
	require.NoError(t, err)
	_, err = b.Delete(t.Context(), "tester", pending, "web", false)
	require.NoError(t, err)
	_, err = b.Get(t.Context(), pending, "web")
	require.ErrorIs(t, err, release.ErrNotFound)
}

func TestObserve(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := b.apply(t, b.request(`{}`))
	b.apply(t, b.request(`{"a": 1}`))
	observe := func(s release.Status) {
		forget, err := b.Observe(t.Context(), b.clusterID, r.ID, s)
		require.NoError(t, err)
		require.False(t, forget)
	}
	status := func() release.Status {
		got, err := b.Get(t.Context(), b.clusterID, "web")
		require.NoError(t, err)
		return got.Status
	}
	at := time.Date(2026, 11, 23, 12, 0, 0, 0, time.FixedZone("x", 3600))
	ready := release.Status{
		ObservedGeneration: 2, Phase: agentv1.PhaseReady, Message: "all is well", Ready: 3, Total: 3, Owned: true,
		Outputs: map[string]string{"ip": "10.0.0.1"}, Drift: []release.Drift{{Object: "ConfigMap/shop/web", Field: ".data.x"}}, ChangedAt: &at,
	}
	observe(ready)
	utc := at.UTC()
	ready.ChangedAt = &utc
	require.Equal(t, ready, status())

	observe(release.Status{ObservedGeneration: 1, Phase: agentv1.PhaseFailed})
	require.Equal(t, ready, status(), "an older generation is ignored")
	events := len(b.events(t))
	observe(ready)
	require.Len(t, b.events(t), events, "the same again writes nothing")

	progress := ready
	progress.Ready = 2
	observe(progress)
	// An operator says long after its chart was ready that all is there. What waits
	// for that slept on, since mere progress wakes nobody.
	progress.Outputs = map[string]string{"ip": "10.0.0.2"}
	observe(progress)
	failed := release.Status{ObservedGeneration: 2, Phase: agentv1.PhaseFailed, Message: "no\x00 more \xff memory", Reason: "HelmFailed"}
	observe(failed)
	require.Equal(t, "no more \uFFFD memory", status().Message)
	all, err := b.store.EventList(t.Context(), event.Filter{After: int64(events), Limit: 10})
	require.NoError(t, err)
	require.Len(t, all, 3)
	require.True(t, all[0].Transient, "mere progress")
	require.False(t, all[1].Transient, "another output")
	require.False(t, all[2].Transient)

	_, err = b.Observe(t.Context(), b.cluster(t, "paris"), r.ID, release.Status{ObservedGeneration: 9, Phase: agentv1.PhaseReady})
	require.NoError(t, err)
	require.Equal(t, int64(2), status().ObservedGeneration, "another cluster has no say")
}

// The hub was restored from a backup: the agent knows of generations that the
// hub has not yet made, and refuses what is older.
func TestGenerationsPassWhatTheAgentHasSeen(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := b.apply(t, b.request(`{}`))
	_, err := b.Observe(t.Context(), b.clusterID, r.ID, release.Status{ObservedGeneration: 7, Phase: agentv1.PhaseReady})
	require.NoError(t, err)
	require.Equal(t, int64(8), b.apply(t, b.request(`{"a": 1}`)).Generation)
	gone, err := b.Delete(t.Context(), "tester", b.clusterID, "web", false)
	require.NoError(t, err)
	require.Equal(t, int64(9), gone.Generation)
}

func TestObserveBoundsWhatAnAgentSays(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := b.apply(t, b.request(`{}`))
	huge := release.Status{ObservedGeneration: 1, Phase: agentv1.Phase(strings.Repeat("P", 1000)), Message: strings.Repeat("ä", 10_000), Outputs: map[string]string{}}
	for i := range 500 {
		huge.Drift = append(huge.Drift, release.Drift{Object: strings.Repeat("o", 10_000)})
		huge.Outputs[fmt.Sprintf("o%03d", i)] = strings.Repeat("v", 10_000)
	}
	_, err := b.Observe(t.Context(), b.clusterID, r.ID, huge)
	require.NoError(t, err)
	got, err := b.Get(t.Context(), b.clusterID, "web")
	require.NoError(t, err)
	require.Len(t, got.Status.Drift, 100)
	require.Len(t, got.Status.Outputs, 6)
	require.LessOrEqual(t, len(got.Status.Message), 4096)
}

func TestListAndCharts(t *testing.T) {
	t.Parallel()
	b := setup(t)
	other := b.cluster(t, "paris")
	for _, name := range []string{"c", "a", "b"} {
		req := b.request(`{}`)
		req.Name = name
		b.apply(t, req)
	}
	_, _, err := b.Apply(t.Context(), "tester", other, b.request(`{}`))
	require.NoError(t, err)
	ready, err := b.Get(t.Context(), b.clusterID, "b")
	require.NoError(t, err)
	_, err = b.Observe(t.Context(), b.clusterID, ready.ID, release.Status{ObservedGeneration: 1, Phase: agentv1.PhaseReady})
	require.NoError(t, err)

	list := func(f release.Filter) []string {
		var names []string
		p := page.Page{Limit: 2}
		for {
			releases, next, err := b.List(t.Context(), f, p)
			require.NoError(t, err)
			for _, r := range releases {
				names = append(names, r.Name)
			}
			if p.Cursor = next; next == "" {
				return names
			}
		}
	}
	require.Equal(t, []string{"a", "b", "c", "web"}, list(release.Filter{}))
	require.Equal(t, []string{"a", "b", "c"}, list(release.Filter{ClusterID: &b.clusterID}))
	require.Equal(t, []string{"b"}, list(release.Filter{Phase: agentv1.PhaseReady}))
	_, _, err = b.List(t.Context(), release.Filter{Phase: "Happy"}, page.Page{})
	require.Len(t, invalid.Of(err), 1)
	_, _, err = b.List(t.Context(), release.Filter{}, page.Page{Cursor: page.Cursor("nonsense", "x")})
	require.Len(t, invalid.Of(err), 1)

	unused := storetest.Chart(t, b.store, "redis", "1.0.0")
	for digest, want := range map[string]bool{b.digest: true, unused: false, "nonsense": false} {
		allowed, err := b.ChartAllowed(t.Context(), other, digest)
		require.NoError(t, err)
		require.Equal(t, want, allowed, digest)
	}
}
