package mirror_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/internal/cluster"
	"github.com/budecosystem/budcluster/hub/internal/dapr"
	"github.com/budecosystem/budcluster/hub/internal/dapr/daprtest"
	"github.com/budecosystem/budcluster/hub/internal/event"
	"github.com/budecosystem/budcluster/hub/internal/inventory"
	"github.com/budecosystem/budcluster/hub/internal/mirror"
	"github.com/budecosystem/budcluster/hub/internal/notify"
	"github.com/budecosystem/budcluster/hub/internal/page"
	"github.com/budecosystem/budcluster/hub/internal/pg/pgtest"
	"github.com/budecosystem/budcluster/hub/internal/store"
	"github.com/budecosystem/budcluster/hub/internal/store/storetest"
	"github.com/budecosystem/budcluster/hub/internal/workflow"
	"github.com/budecosystem/budcluster/internal/facts"
)

type bundle struct {
	t         *testing.T
	store     *store.Store
	pool      *pgxpool.Pool
	clusters  *cluster.Service
	inventory *inventory.Service
	workflows *workflow.Service
	events    *event.Service
	notify    *notify.Service
	// state is a sidecar, in memory unless the test has a real one.
	state interface {
		Client(tb testing.TB) *dapr.Client
	}
	fake *daprtest.Fake
	// reader reads the key.
	reader *dapr.Client
}

func setup(t *testing.T) *bundle {
	t.Helper()
	b := &bundle{t: t, fake: daprtest.NewFake(t, "")}
	b.state = b.fake
	b.reader = b.fake.Client(t)
	b.store, b.pool = storetest.NewWithPool(t)
	log := slog.New(slog.DiscardHandler)
	var err error
	b.clusters, err = cluster.New(cluster.Config{Store: b.store, Logger: log})
	require.NoError(t, err)
	b.inventory, err = inventory.New(inventory.Config{Store: b.store, Logger: log})
	require.NoError(t, err)
	b.events, err = event.New(event.Config{Store: b.store, Logger: log})
	require.NoError(t, err)
	b.notify, err = notify.New(notify.Config{Store: b.store})
	require.NoError(t, err)
	b.workflows, err = workflow.New(workflow.Config{Store: b.store, Logger: log})
	require.NoError(t, err)
	return b
}

// config is what a replica is made of.
type config struct {
	mirror.Config
	follow mirror.FollowerConfig
}

// replica runs a mirror for the time of the test.
func (b *bundle) replica(change ...func(*config)) *mirror.Service {
	b.t.Helper()
	cfg := config{
		mirror.Config{Store: b.store, Clusters: b.clusters, Inventory: b.inventory, Workflows: b.workflows, Tell: b.notify.Tell},
		mirror.FollowerConfig{
			Feed: b.events, Logger: slog.New(slog.DiscardHandler), State: &dapr.App{Client: b.state.Client(b.t)},
			Settle: 5 * time.Millisecond, Sweep: 40 * time.Millisecond,
		},
	}
	for _, f := range change {
		f(&cfg)
	}
	s, err := mirror.New(cfg.Config)
	require.NoError(b.t, err)
	cfg.follow.Service = s
	f, err := mirror.NewFollower(cfg.follow)
	require.NoError(b.t, err)
	ctx, stop := context.WithCancel(b.t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = f.Run(ctx) })
	b.t.Cleanup(func() {
		stop()
		running.Wait()
	})
	return s
}

// asked is a cluster that the platform asked for, connected, with nodes.
func (b *bundle) asked(name string, complete bool) uuid.UUID {
	b.t.Helper()
	c, err := b.clusters.Create(b.t.Context(), "platform", name, nil)
	require.NoError(b.t, err)
	_, err = b.pool.Exec(b.t.Context(), `UPDATE clusters SET joined_at = now(), uid = $2 WHERE id = $1`, c.ID, uuid.NewString())
	require.NoError(b.t, err)
	w, err := b.workflows.Start(b.t.Context(), "platform", workflow.Request{
		Kind: workflow.RegisterCluster, ClusterID: c.ID, ClusterName: name, Input: struct{}{}, Steps: []workflow.Step{{Name: "inventory", Title: "Reading"}},
		Reply: json.RawMessage(`{"source_topic": "budAppMessages", "name": "The ` + name + `"}`),
	})
	require.NoError(b.t, err)
	b.session(c.ID)
	b.nodes(c.ID, gpus(2, 1, 0).Node)
	if complete {
		b.complete(w)
	}
	return c.ID
}

func (b *bundle) session(id uuid.UUID) int64 {
	b.t.Helper()
	epoch, err := b.clusters.OpenSession(b.t.Context(), id, cluster.SessionInfo{Replica: "r", Instance: "i", RemoteAddr: "10.0.0.1:1", AgentVersion: "1"})
	require.NoError(b.t, err)
	return epoch
}

func (b *bundle) nodes(id uuid.UUID, nodes ...facts.Node) {
	b.t.Helper()
	require.NoError(b.t, b.inventory.Apply(b.t.Context(), id, inventory.Delta{Nodes: nodes}))
}

func (b *bundle) complete(w *workflow.Workflow) {
	b.t.Helper()
	turn, err := b.workflows.Begin(b.t.Context(), w.ID)
	require.NoError(b.t, err)
	_, _, err = b.workflows.Settle(b.t.Context(), turn, 1, workflow.Completed("done"))
	require.NoError(b.t, err)
	_, err = b.workflows.Finish(b.t.Context(), w.ID)
	require.NoError(b.t, err)
}

func (b *bundle) raw() json.RawMessage {
	b.t.Helper()
	got, err := b.reader.Get(b.t.Context(), daprtest.StateStore, mirror.DefaultKey)
	require.NoError(b.t, err)
	return got.Value
}

// key is what the planner reads.
func (b *bundle) key() planner {
	b.t.Helper()
	raw := b.raw()
	if raw == nil {
		return nil
	}
	return requirePlannable(b.t, raw)
}

// message is what the platform's main service reads of one.
type message struct {
	Name    string
	Type    string
	Payload struct {
		Type, Event, Category string
		WorkflowID            uuid.UUID `json:"workflow_id"`
		Content               struct {
			Title, Message, Status string
			Result                 struct {
				ClusterID uuid.UUID `json:"cluster_id"`
				Status    string
				NodeInfo  struct {
					ID    uuid.UUID
					Nodes []struct {
						Name    string
						Status  bool
						Devices []struct {
							Type           string
							AvailableCount int `json:"available_count"`
						}
					}
				} `json:"node_info"`
			}
		}
	}
}

func (b *bundle) told() (all []message) {
	b.t.Helper()
	rows, err := b.pool.Query(b.t.Context(), "SELECT body FROM outbox WHERE topic = 'budAppMessages' ORDER BY id")
	require.NoError(b.t, err)
	defer rows.Close()
	for rows.Next() {
		var raw []byte
		require.NoError(b.t, rows.Scan(&raw))
		var m message
		require.NoError(b.t, json.Unmarshal(raw, &m))
		all = append(all, m)
	}
	require.NoError(b.t, rows.Err())
	return all
}

// soon waits for what other goroutines do with the database and the sidecar,
// which tell nobody.
func (b *bundle) soon(what string, is func() bool) {
	b.t.Helper()
	deadline := time.NewTimer(30 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-deadline.C:
			b.t.Fatal("it did not happen: " + what)
		case <-tick.C:
		}
	}
}

// A cluster is shown from the end of its registration on, then whenever it
// changes, with one message for each change however many replicas there are,
// and is taken away when it leaves.
func TestClusterIsShown(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for range 3 {
		b.replica()
	}
	id := b.asked("edge", false)
	foreign, err := b.clusters.Create(t.Context(), "ann", "not-the-platforms", nil)
	require.NoError(t, err)
	runs, _, err := b.workflows.List(t.Context(), workflow.Filter{ClusterID: &id}, pageOf(1))
	require.NoError(t, err)
	require.Empty(t, b.key(), "it is not ready for models")

	w, err := b.workflows.Get(t.Context(), runs[0].ID.String())
	require.NoError(t, err)
	b.complete(w)
	b.soon("the cluster is in the key", func() bool { return len(b.key()) == 1 })
	require.Equal(t, id.String(), b.key()[0].ID)
	require.Len(t, b.key()[0].Nodes[0].Devices, 2)
	require.Empty(t, b.told(), "the results of the registration have told that")

	busy := gpus(2, 1, 1).Node
	b.nodes(id, busy)
	b.soon("one GPU is busy", func() bool { return len(b.told()) == 1 && *b.key()[0].Nodes[0].Devices[1].AvailableCount == 0 })
	m := b.told()[0]
	require.Equal(t, "cluster-status-update", m.Name)
	require.Equal(t, "notification", m.Type)
	require.Equal(t, "cluster-status-update", m.Payload.Type)
	require.Equal(t, "results", m.Payload.Event)
	require.Equal(t, "internal", m.Payload.Category)
	require.Equal(t, "COMPLETED", m.Payload.Content.Status)
	require.Equal(t, "Cluster status updated", m.Payload.Content.Title)
	require.Equal(t, id, m.Payload.Content.Result.ClusterID)
	require.Equal(t, "available", m.Payload.Content.Result.Status)
	require.Equal(t, id, m.Payload.Content.Result.NodeInfo.ID)
	require.Equal(t, 0, m.Payload.Content.Result.NodeInfo.Nodes[0].Devices[1].AvailableCount)

	busy.Requested.CPUMillis += 100 // of no interest
	b.nodes(id, busy)
	busy.Ready = false
	b.nodes(id, busy)
	b.soon("no node is ready", func() bool { return len(b.told()) == 2 })
	require.Equal(t, "not_available", b.told()[1].Payload.Content.Result.Status)
	require.False(t, b.told()[1].Payload.Content.Result.NodeInfo.Nodes[0].Status)

	_, err = b.clusters.Retire(t.Context(), "platform", id.String(), true)
	require.NoError(t, err)
	b.soon("the cluster is gone", func() bool { return len(b.key()) == 0 })
	require.Len(t, b.told(), 2, "its removal tells that")
	told, err := b.store.MirrorGet(t.Context(), foreign.ID)
	require.NoError(t, err)
	require.Nil(t, told)
}

// Time alone changes things too.
func TestSilenceIsTold(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var mu sync.Mutex
	shift := time.Duration(0)
	b.replica(func(c *config) {
		c.Now = func() time.Time {
			mu.Lock()
			defer mu.Unlock()
			return time.Now().Add(shift)
		}
	})
	id := b.asked("edge", true)
	b.soon("the cluster is in the key", func() bool { return len(b.key()) == 1 })
	mu.Lock()
	shift = time.Hour
	mu.Unlock()
	b.soon("it is not available", func() bool { return len(b.told()) == 1 })
	require.Equal(t, "not_available", b.told()[0].Payload.Content.Result.Status)
	b.soon("nothing may be planned there", func() bool { return !*b.key()[0].Nodes[0].Status })
	require.Len(t, b.key()[0].Nodes[0].Devices, 2, "what it has stays")
	mu.Lock()
	shift = 0
	mu.Unlock()
	b.soon("it is back", func() bool { return len(b.told()) == 2 })
	require.Equal(t, "available", b.told()[1].Payload.Content.Result.Status)
	require.Equal(t, id, b.told()[1].Payload.Content.Result.ClusterID)
}

// Ten clusters change at once on three replicas while the old service's entries
// and another writer are there: no entry is lost. The service that was there
// lost whole clusters so.
func TestNoEntryIsLost(t *testing.T) {
	t.Parallel()
	noEntryIsLost(t, setup(t))
}

// The same with the stores that the platform really has.
func TestNoEntryIsLostInRealStores(t *testing.T) {
	t.Parallel()
	for _, kind := range []daprtest.Store{daprtest.Redis, daprtest.Postgres} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			sidecar := daprtest.Start(t, daprtest.SidecarConfig{Store: kind, Database: pgtest.Empty(t), AppID: "mirror-" + string(kind)})
			b.state, b.reader = sidecar, sidecar.Client(t)
			noEntryIsLost(t, b)
		})
	}
}

func noEntryIsLost(t *testing.T, b *bundle) {
	t.Helper()
	c := b.state.Client(t)
	const theirs = `[{"id": "7c9e6679-7425-40de-944b-e07fc1f90ae7", "nodes": []}]`
	require.NoError(t, c.Put(t.Context(), daprtest.StateStore, dapr.Write{Key: mirror.DefaultKey, Value: json.RawMessage(theirs)}))
	for range 3 {
		b.replica()
	}
	ids := map[string]bool{"7c9e6679-7425-40de-944b-e07fc1f90ae7": true, "7c9e6679-7425-40de-944b-e07fc1f90ae8": true}
	for i := range 10 {
		ids[b.asked("edge-"+string(rune('a'+i)), true).String()] = true
	}
	require.NoError(t, c.Update(t.Context(), daprtest.StateStore, mirror.DefaultKey, func(old json.RawMessage) (json.RawMessage, error) {
		var list []json.RawMessage
		if err := json.Unmarshal(old, &list); err != nil {
			return nil, err
		}
		return json.Marshal(append(list, json.RawMessage(`{"id": "7c9e6679-7425-40de-944b-e07fc1f90ae8", "nodes": []}`)))
	}))
	b.soon("all are there", func() bool { return len(b.key()) == len(ids) })
	for _, e := range b.key() {
		require.True(t, ids[e.ID], e.ID)
		delete(ids, e.ID)
	}
	require.Empty(t, ids)
}

// A key that nobody can read is written anew; a sidecar that is away costs time
// and nothing else; a cluster that was deleted is forgotten.
func TestTroubleWithTheKey(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.state.Client(t)
	require.NoError(t, c.Put(t.Context(), daprtest.StateStore, dapr.Write{Key: mirror.DefaultKey, Value: json.RawMessage(`"garbage"`)}))
	b.fake.SetDown(true)
	b.replica()
	id := b.asked("edge", true)
	b.soon("the registration is known", func() bool {
		told, err := b.store.MirrorGet(t.Context(), id)
		return err == nil && told != nil && told.RegisteredAt != nil
	})
	require.Equal(t, `"garbage"`, string(b.fake.State(mirror.DefaultKey)))
	b.fake.SetDown(false)
	b.soon("the key is whole", func() bool {
		var p planner
		return json.Unmarshal(b.fake.State(mirror.DefaultKey), &p) == nil && len(p) == 1
	})
	require.NoError(t, b.clusters.Delete(t.Context(), "ann", id.String(), true))
	b.soon("it is forgotten", func() bool {
		told, err := b.store.MirrorGet(t.Context(), id)
		return err == nil && told == nil && len(b.key()) == 0
	})
}

// Results name a cluster as the platform does.
func TestResults(t *testing.T) {
	t.Parallel()
	b := setup(t)
	s := b.replica()
	id := b.asked("edge", false)
	c, err := b.clusters.Get(t.Context(), id.String())
	require.NoError(t, err)
	nodes, _, err := b.inventory.Nodes(t.Context(), inventory.Filter{ClusterID: &id}, pageOf(10))
	require.NoError(t, err)
	raw, err := s.Describe(t.Context(), c, nodes)
	require.NoError(t, err)
	var r struct {
		ID    uuid.UUID
		Name  string
		Nodes []any
	}
	require.NoError(t, json.Unmarshal(raw, &r))
	require.Equal(t, id, r.ID)
	require.Equal(t, "The edge", r.Name)
	require.Len(t, r.Nodes, 1)
	raw, err = s.DescribeStatus(t.Context(), c, nodes)
	require.NoError(t, err)
	var u map[string]any
	require.NoError(t, json.Unmarshal(raw, &u))
	require.Equal(t, "available", u["status"])
	require.Equal(t, id.String(), u["cluster_id"])

	other, err := b.clusters.Create(t.Context(), "ann", "other", nil)
	require.NoError(t, err)
	raw, err = s.Describe(t.Context(), other, nil)
	require.NoError(t, err)
	require.JSONEq(t, `{"id": "`+other.ID.String()+`", "name": "other", "nodes": []}`, string(raw))
}

// A message that cannot be written is not taken for told.
func TestMessageAndMemoryAreOne(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var mu sync.Mutex
	broken, tries := false, 0
	b.replica(func(c *config) {
		tell := c.Tell
		c.Tell = func(ctx context.Context, stream uuid.UUID, key string, r notify.Reply, p notify.Payload) error {
			mu.Lock()
			defer mu.Unlock()
			if tries++; broken {
				return errors.New("disk full")
			}
			return tell(ctx, stream, key, r, p)
		}
	})
	id := b.asked("edge", true)
	b.soon("the cluster is in the key", func() bool { return len(b.key()) == 1 })
	mu.Lock()
	broken = true
	mu.Unlock()
	b.nodes(id, gpus(2, 1, 2).Node)
	b.soon("it was tried twice", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return tries >= 2
	})
	require.Empty(t, b.told())
	mu.Lock()
	broken = false
	mu.Unlock()
	b.soon("it is told", func() bool { return len(b.told()) == 1 })
}

func pageOf(limit int) page.Page { return page.Page{Limit: limit} }
