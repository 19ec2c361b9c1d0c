package operation_test

import (
	"context"
	"io/fs"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	durable "github.com/dapr/durabletask-go/workflow"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/charts"
	"github.com/budecosystem/budcluster/hub/internal/chart"
	"github.com/budecosystem/budcluster/hub/internal/cluster"
	"github.com/budecosystem/budcluster/hub/internal/component"
	"github.com/budecosystem/budcluster/hub/internal/engine"
	"github.com/budecosystem/budcluster/hub/internal/equip"
	"github.com/budecosystem/budcluster/hub/internal/event"
	"github.com/budecosystem/budcluster/hub/internal/flow"
	"github.com/budecosystem/budcluster/hub/internal/inventory"
	"github.com/budecosystem/budcluster/hub/internal/operation"
	"github.com/budecosystem/budcluster/hub/internal/page"
	"github.com/budecosystem/budcluster/hub/internal/release"
	"github.com/budecosystem/budcluster/hub/internal/store"
	"github.com/budecosystem/budcluster/hub/internal/store/storetest"
	"github.com/budecosystem/budcluster/hub/internal/store/taskhub"
	"github.com/budecosystem/budcluster/hub/internal/workflow"
	"github.com/budecosystem/budcluster/internal/facts"
	agentv1 "github.com/budecosystem/budcluster/proto/agent/v1"
)

// world is a hub without edges on a real Postgres and engine, and the agents of
// its clusters, which are played.
type world struct {
	*operation.Service
	store     *store.Store
	workflows *workflow.Service
	clusters  *cluster.Service
	releases  *release.Service
	inventory *inventory.Service
	equipment *equip.Service

	// later is how much later it is for operations than for the others.
	later atomic.Int64

	mu      sync.Mutex // guards all below
	results map[uuid.UUID][]string
	closed  error // the library's answer, if any
}

// library gives any chart at once, unless it is closed.
type library struct {
	tb    testing.TB
	world *world
}

func (l library) Put(context.Context, string, []byte) (chart.Meta, error) {
	return l.meta("budcluster-gaudi", "0.1.0"), nil
}

func (l library) Meta(context.Context, string) (chart.Meta, error) {
	return chart.Meta{}, chart.ErrNotFound
}

func (l library) Resolve(_ context.Context, _ string, src chart.Source) (chart.Meta, error) {
	l.world.mu.Lock()
	defer l.world.mu.Unlock()
	if l.world.closed != nil {
		return chart.Meta{}, l.world.closed
	}
	return l.meta(src.Name+src.OCI, src.Version), nil
}

func (l library) meta(name, version string) chart.Meta {
	return chart.Meta{Digest: storetest.Chart(l.tb, l.world.store, name, version), Name: name, Version: version}
}

// unpinned takes the digests out of the catalogue: the library's charts are
// none of the publishers'.
func unpinned(t *testing.T) *component.Catalogue {
	t.Helper()
	c, err := component.Load(nil)
	require.NoError(t, err)
	folder := fstest.MapFS{}
	for _, entry := range c.Components() {
		text := "name: " + entry.Name + "\nchart:\n  digest: \"\"\n  unverified: a test\n"
		if entry.Chart.Builtin != "" {
			continue
		}
		folder[entry.Name+".yaml"] = &fstest.MapFile{Data: []byte(text)}
	}
	c, err = component.Load(folder)
	require.NoError(t, err)
	return c
}

func setup(t *testing.T) *world {
	t.Helper()
	st, pool := storetest.NewWithPool(t)
	log := slog.New(slog.DiscardHandler)
	w := &world{store: st, results: map[uuid.UUID][]string{}}
	var err error
	w.clusters, err = cluster.New(cluster.Config{Store: st, Logger: log, SessionLease: time.Hour})
	require.NoError(t, err)
	w.releases, err = release.New(release.Config{Store: st, Sealer: storetest.Keyring(t), Logger: log})
	require.NoError(t, err)
	w.inventory, err = inventory.New(inventory.Config{Store: st, Logger: log})
	require.NoError(t, err)
	w.equipment, err = equip.New(equip.Config{
		Catalogue: unpinned(t), Store: st, Clusters: w.clusters, Inventory: w.inventory, Releases: w.releases, Charts: library{t, w},
		Builtin: func(name string) (fs.FS, error) { return charts.Chart(name) }, Logger: log,
		Presence: func(ctx context.Context, id uuid.UUID) ([]facts.Presence, error) {
			p, err := w.clusters.Presence(ctx, id)
			return p.Answers, err
		},
	})
	require.NoError(t, err)
	w.workflows, err = workflow.New(workflow.Config{Store: st, Logger: log, Notify: func(_ context.Context, wf *workflow.Workflow, n workflow.Notice) error {
		if n.Event == workflow.NoticeResults {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.results[wf.ID] = append(w.results[wf.ID], string(n.Status))
		}
		return nil
	}})
	require.NoError(t, err)
	w.Service, err = operation.New(operation.Config{
		Store: st, Workflows: w.workflows, Clusters: w.clusters, Equipment: w.equipment, Releases: w.releases, Inventory: w.inventory,
		Logger: log, JoinWithin: time.Hour, Now: func() time.Time { return time.Now().Add(time.Duration(w.later.Load())) },
		AgentChart: func(context.Context, string, string) (chart.Meta, error) {
			return chart.Meta{Digest: storetest.Chart(t, st, "budcluster-agent", "1.1.0"), Name: "budcluster-agent", Version: "1.1.0", AppVersion: "1.1.0"}, nil
		},
	})
	require.NoError(t, err)
	events, err := event.New(event.Config{Store: st, Logger: log})
	require.NoError(t, err)
	runner, err := flow.New(flow.Config{Record: w.workflows, Book: w.Service, Logger: log})
	require.NoError(t, err)
	hub, err := taskhub.Open(t.Context(), taskhub.Config{Pool: pool, Log: log, Lease: 3 * time.Second, Poll: 20 * time.Millisecond})
	require.NoError(t, err)
	registry := durable.NewRegistry()
	require.NoError(t, runner.Register(registry))
	e, err := engine.NewEmbedded(engine.EmbeddedConfig{Hub: hub, Registry: registry, Log: log})
	require.NoError(t, err)
	d, err := workflow.NewDispatcher(workflow.DispatcherConfig{Store: st, Engine: flow.Door{Engine: e}, Feed: events, Logger: log, Sweep: 20 * time.Millisecond})
	require.NoError(t, err)
	var running sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	running.Go(func() { _ = e.Run(ctx) })
	running.Go(func() { _ = d.Run(ctx) })
	t.Cleanup(func() {
		stop()
		running.Wait()
		hub.Close()
	})
	return w
}

// end waits for a workflow's end.
func (w *world) end(t *testing.T, wf *workflow.Workflow) *workflow.Workflow {
	t.Helper()
	return w.reach(t, wf, func(now *workflow.Workflow) bool { return now.Status.Terminal() })
}

func (w *world) reach(t *testing.T, wf *workflow.Workflow, as func(*workflow.Workflow) bool) *workflow.Workflow {
	t.Helper()
	var now *workflow.Workflow
	require.Eventually(t, func() bool {
		var err error
		now, err = w.workflows.Get(t.Context(), wf.ID.String())
		require.NoError(t, err)
		return as(now)
	}, 2*time.Minute, 20*time.Millisecond)
	return now
}

func (w *world) told(wf *workflow.Workflow) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.results[wf.ID]
}

// close lets the library answer with err; nil opens it.
func (w *world) close(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = err
}

func (w *world) wanted(t *testing.T, clusterID uuid.UUID) []string {
	t.Helper()
	all, _, err := w.releases.List(t.Context(), release.Filter{ClusterID: &clusterID}, page.Page{})
	require.NoError(t, err)
	var names []string
	for _, r := range all {
		names = append(names, r.Name)
	}
	return names
}

func step(wf *workflow.Workflow, name string) workflow.Step {
	for _, s := range wf.Steps {
		if s.Name == name {
			return s
		}
	}
	return workflow.Step{}
}

// agent plays a cluster's agent: it does what is wanted there, one release at a
// time, and says so.
type agent struct {
	w       *world
	cluster uuid.UUID
	// gpu: the node has an NVIDIA GPU, as feature discovery will show.
	gpu bool
	// fails are releases that fail, by name or by name and chart's version, with
	// this sentence; of an empty one nothing more is heard.
	fails map[string]string

	mu   sync.Mutex // guards log
	log  []string
	node facts.Node
}

// join makes a played agent and keeps it at work until the test ends. Present is
// what it finds in the cluster from before.
func (w *world) join(t *testing.T, a *agent, present ...facts.Presence) *agent {
	t.Helper()
	ctx := t.Context()
	a.w = w
	require.NoError(t, w.store.MemberJoin(ctx, a.cluster, "uid-"+a.cluster.String(), "1.0.0", time.Now()))
	_, err := w.clusters.OpenSession(ctx, a.cluster, cluster.SessionInfo{Replica: "hub-0", Instance: "agent-0", AgentVersion: "1.0.0"})
	require.NoError(t, err)
	a.node = facts.Node{Name: "node-1", UID: "n1", Ready: true, Schedulable: true, Labels: map[string]string{}, Architecture: "amd64"}
	require.NoError(t, w.inventory.Apply(ctx, a.cluster, inventory.Delta{
		Cluster: &facts.Cluster{UID: "uid-" + a.cluster.String(), Version: "v1.37.2", Platform: facts.PlatformKubernetes, Distribution: "kubernetes"},
		Nodes:   []facts.Node{a.node}, ObservedAt: time.Now(),
	}))
	for _, probe := range w.equipment.Catalogue().Probes() {
		if !slices.ContainsFunc(present, func(p facts.Presence) bool { return p.Probe == probe.Name }) {
			present = append(present, facts.Presence{Probe: probe.Name, State: facts.PresenceAbsent})
		}
	}
	require.NoError(t, w.clusters.SetPresence(ctx, a.cluster, present))
	var working sync.WaitGroup
	work, stop := context.WithCancel(ctx)
	working.Go(func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for work.Err() == nil {
			a.once(work)
			select {
			case <-tick.C:
			case <-work.Done():
			}
		}
	})
	t.Cleanup(func() { stop(); working.Wait() })
	return a
}

func (a *agent) once(ctx context.Context) {
	all, _, err := a.w.releases.List(ctx, release.Filter{ClusterID: &a.cluster}, page.Page{})
	if err != nil {
		return
	}
	for _, r := range all {
		if r.Status.ObservedGeneration < r.Generation {
			a.act(ctx, r)
		}
	}
	if r, err := a.w.clusters.Retirement(ctx, a.cluster); err == nil && r.Generation > 0 && !r.Recorded && len(all) == 0 {
		a.note("retired")
		_ = a.w.clusters.Retired(ctx, a.cluster, r.Generation, nil)
	}
}

func (a *agent) act(ctx context.Context, r *release.Release) {
	now := time.Now()
	status := release.Status{
		ObservedGeneration: r.Generation, Phase: agentv1.PhaseReady, Message: "ready", Owned: true, Revision: 1,
		ChartVersion: r.Spec.Chart.Version, ChangedAt: &now, Ready: 1, Total: 1,
	}
	sentence, fails := a.fails[r.Name]
	if !fails {
		sentence, fails = a.fails[r.Name+" "+r.Spec.Chart.Version]
	}
	switch {
	case fails && sentence == "" && r.RemovedAt == nil:
		return
	case r.RemovedAt != nil:
		a.note("-" + r.Name)
		status.Phase = agentv1.PhaseRemoved
	case fails:
		a.note("!" + r.Name)
		status.Phase, status.Reason, status.Message = agentv1.PhaseFailed, "NotReadyInTime", sentence
	default:
		a.note("+" + r.Name)
		a.effect(ctx, r, &status)
	}
	_, _ = a.w.releases.Observe(ctx, a.cluster, r.ID, status)
}

// effect is what the real charts would bring about.
func (a *agent) effect(ctx context.Context, r *release.Release, status *release.Status) {
	n := a.node
	labels := map[string]string{}
	maps.Copy(labels, n.Labels)
	switch r.Spec.Component {
	case "nfd":
		labels["feature.node.kubernetes.io/kernel-version.full"] = "6.12.0"
		if a.gpu {
			labels["feature.node.kubernetes.io/pci-0302_10de.present"] = "true"
			labels["feature.node.kubernetes.io/pci-10de.present"] = "true"
		}
	case "nvidia-gpu-operator":
		labels["nvidia.com/gpu.present"] = "true"
		status.Outputs = map[string]string{"clusterPolicyState": "ready"}
	case "hami":
		n.Allocatable.Extended = map[string]int64{"nvidia.com/gpu": 10}
	default:
		return
	}
	n.Labels = labels
	a.node = n
	_ = a.w.inventory.Apply(ctx, a.cluster, inventory.Delta{Nodes: []facts.Node{n}, ObservedAt: time.Now()})
}

func (a *agent) note(what string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.log = append(a.log, what)
}

func (a *agent) did() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.log)
}
