package upgrade_test

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/agent/internal/helm"
	"github.com/budecosystem/budcluster/agent/internal/upgrade"
	"github.com/budecosystem/budcluster/internal/chartfile"
	agentv1 "github.com/budecosystem/budcluster/proto/agent/v1"
)

// world is a cluster with agents in it, in memory: one record, one lease, one
// Helm release whose revisions start pods of a template.
type world struct {
	t *testing.T

	mu       sync.Mutex // guards what follows
	record   upgrade.Record
	edition  int
	history  helm.History
	template string // of the newest deployed revision
	leader   string
	pods     map[string]*pod
	failing  error         // of Helm's next upgrade
	slow     time.Duration // of Helm's next upgrade
	// image is whether the program of the new template ever starts.
	image bool
	// links is how long a new agent that leads takes to reach the hub; 0: for ever.
	links time.Duration
	next  string // the template of the chart
	log   []string
}

// pod is one agent.
type pod struct {
	w      *world
	name   string
	hash   string
	aside  bool
	led    time.Time // since when it leads
	keeper *upgrade.Keeper
	stop   context.CancelFunc
	done   chan struct{}
}

var chart = []byte("the chart")

func newWorld(t *testing.T) *world {
	t.Helper()
	return &world{
		t: t, template: "old", next: "new", image: true, links: 5 * time.Second, pods: map[string]*pod{},
		history: helm.History{{Revision: 1, Status: helm.StatusDeployed}},
	}
}

func target(generation int64) *agentv1.AgentTarget {
	return &agentv1.AgentTarget{Generation: generation, AppVersion: "2.0.0", Chart: &agentv1.Chart{Digest: chartfile.Digest(chart), Version: "2.0.0"}}
}

// start runs an agent.
func (w *world) start(name, hash string) *pod {
	w.t.Helper()
	p := &pod{w: w, name: name, hash: hash, done: make(chan struct{})}
	k, err := upgrade.New(upgrade.Config{
		Store: w, Helm: w, Cluster: p, Standing: p, Pod: name, Ref: helm.Ref{Namespace: "ns", Name: "agent"},
		FetchChart: func(context.Context, string) ([]byte, error) { return chart, nil }, Logger: slog.New(slog.DiscardHandler),
	})
	require.NoError(w.t, err)
	p.keeper = k
	ctx, cancel := context.WithCancel(w.t.Context())
	p.stop = cancel
	w.mu.Lock()
	w.pods[name] = p
	w.elect()
	w.mu.Unlock()
	go func() {
		defer close(p.done)
		if err := k.Run(ctx); err != nil {
			w.t.Error(err)
		}
	}()
	return p
}

// kill ends an agent without a word.
func (w *world) kill(name string) {
	w.mu.Lock()
	p := w.pods[name]
	delete(w.pods, name)
	if w.leader == name {
		w.leader = ""
	}
	w.elect()
	w.mu.Unlock()
	if p != nil {
		p.stop()
		<-p.done
	}
}

func (w *world) killAll() {
	for _, name := range []string{"old-1", "old-2", "new-1", "new-2"} {
		w.kill(name)
	}
}

// elect gives the lease to one that wants it; the caller holds mu.
func (w *world) elect() {
	if p := w.pods[w.leader]; p != nil && !p.aside {
		return
	}
	w.leader = ""
	for _, name := range []string{"old-1", "old-2", "new-1", "new-2"} {
		if p := w.pods[name]; p != nil && !p.aside {
			w.leader, p.led = name, time.Now()
			p.keeper.Look()
			w.log = append(w.log, "leads "+name)
			return
		}
	}
}

func (w *world) state() (upgrade.Record, string, string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.record, w.template, w.leader
}

// Load and Save are the record.
func (w *world) Load(context.Context) (upgrade.Record, string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.edition == 0 {
		return upgrade.Record{}, "", nil
	}
	return w.record, strconv.Itoa(w.edition), nil
}

func (w *world) Save(_ context.Context, r upgrade.Record, version string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if want := strconv.Itoa(w.edition); version != want && (w.edition > 0 || version != "") {
		return upgrade.ErrConflict
	}
	w.record = r
	w.edition++
	return nil
}

// What follows is Helm.
func (w *world) History(context.Context, helm.Ref) (helm.History, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append(helm.History(nil), w.history...), nil
}

func (w *world) Given(context.Context, helm.Ref, int) (helm.Given, error) {
	return helm.Given{AppVersion: "1.0.0"}, nil
}

func (w *world) add(op string, status helm.Status) {
	w.history = append(helm.History{{Revision: len(w.history) + 1, Status: status, Labels: helm.Labels{Operation: op}}}, w.history...)
}

func (w *world) Upgrade(ctx context.Context, op helm.Operation) error {
	w.mu.Lock()
	slow, failing := w.slow, w.failing
	w.mu.Unlock()
	if slow > 0 {
		select {
		case <-ctx.Done():
			w.mu.Lock()
			defer w.mu.Unlock()
			w.add(op.Operation, helm.StatusFailed)
			return ctx.Err()
		case <-time.After(slow):
		}
	}
	w.mu.Lock()
	if failing != nil {
		defer w.mu.Unlock()
		w.add(op.Operation, helm.StatusFailed)
		return failing
	}
	w.add(op.Operation, helm.StatusDeployed)
	w.template = w.next
	starts := w.image && w.next != "old"
	w.mu.Unlock()
	if starts {
		w.start("new-1", w.next)
	}
	return nil
}

func (w *world) Rollback(_ context.Context, _ helm.Ref, _ int, labels helm.Labels, _ time.Duration) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.add(labels.Operation, helm.StatusDeployed)
	w.template = "old"
	w.log = append(w.log, "rolled back")
	return nil
}

func (w *world) Unlock(context.Context, helm.Ref, int, string) error { return nil }

// What follows is what a pod sees, and its standing.
func (p *pod) Hash(context.Context) (string, error) { return p.hash, nil }

func (p *pod) NewRuns(_ context.Context, hash string) (bool, error) {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	for _, other := range p.w.pods {
		if other.hash != hash {
			return true, nil
		}
	}
	return false, nil
}

func (p *pod) Template(context.Context) (string, error) {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	return p.w.template, nil
}

func (p *pod) Trouble(context.Context) string          { return "ErrImagePull pulling x" }
func (p *pod) Allowed(context.Context) (string, error) { return "", nil }
func (p *pod) Leads() bool                             { p.w.mu.Lock(); defer p.w.mu.Unlock(); return p.w.leader == p.name }

func (p *pod) StandAside(aside bool) {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	if p.aside == aside {
		return
	}
	p.aside = aside
	p.w.elect()
}

func (p *pod) Linked() bool {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	if p.w.leader != p.name {
		return false
	}
	return p.hash == "old" || p.w.links > 0 && time.Since(p.led) >= p.w.links
}

var errRefused = errors.New("attempting to grant RBAC permissions not currently held")
