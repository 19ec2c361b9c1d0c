package agenttest

import (
	"context"
	"crypto/tls"
	"log/slog"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"github.com/budecosystem/budcluster/agent/internal/dial"
	"github.com/budecosystem/budcluster/agent/internal/health"
	"github.com/budecosystem/budcluster/agent/internal/link"
	"github.com/budecosystem/budcluster/internal/facts"
	"github.com/budecosystem/budcluster/internal/pki"
	"github.com/budecosystem/budcluster/internal/tunnel"
	agentv1 "github.com/budecosystem/budcluster/proto/agent/v1"
)

// LinkConfig says how an agent's end reaches its hub.
type LinkConfig struct {
	// Dialer connects; its NetDial may be Net.Dial.
	Dialer *tunnel.Dialer
	// Address is host:port; with Net the host should be an IP address, so that
	// nothing is resolved.
	Address    string
	ServerName string
	// Certificate and BundlePEM are the agent's identity.
	Certificate tls.Certificate
	BundlePEM   []byte
	Logger      *slog.Logger
	// Change may tune the rest.
	Change func(*link.Config)
}

// LinkEnd is the agent's end of the tunnel with a store and a collector that
// live in memory.
type LinkEnd struct {
	*link.Link
	Board     *health.Board
	Releases  *Releases
	Inventory *Inventory
	// Presence and Retirement say what a test says.
	Presence   *Presence
	Retirement *Retirement
	// Upgrades does the same for the agent itself.
	Upgrades *Upgrades
	// Identities notes what the link says of the identity.
	Identities *StaticIdentity
	// Events holds the reasons that were told to the people on site.
	Events *Events
}

// NewLink makes an agent's end. It starts nothing: call Run.
func NewLink(t testing.TB, cfg LinkConfig) *LinkEnd {
	t.Helper()
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Address == "" {
		cfg.Address = "192.0.2.1:8443"
	}
	if cfg.ServerName == "" {
		cfg.ServerName = HubName
	}
	hub, err := dial.New(dial.Config{Addresses: []string{cfg.Address}, ServerName: cfg.ServerName, Dialer: cfg.Dialer, Logger: cfg.Logger})
	if err != nil {
		t.Fatalf("make dialer: %v", err)
	}
	end := &LinkEnd{
		Board: health.New(time.Now), Releases: NewReleases(), Inventory: NewInventory(), Events: &Events{},
		Presence: &Presence{}, Retirement: &Retirement{}, Upgrades: &Upgrades{},
		Identities: &StaticIdentity{Certificate: cfg.Certificate, BundlePEM: cfg.BundlePEM},
	}
	lc := link.Config{
		Hub: hub, Identities: end.Identities, Releases: end.Releases, Inventory: end.Inventory,
		Presence: end.Presence, Retirement: end.Retirement, Upgrades: end.Upgrades, Board: end.Board, Notifier: end.Events,
		ClusterUID: func(context.Context) (string, error) { return "uid-test", nil },
		Confirmed:  func(context.Context) error { return nil },
		Logger:     cfg.Logger, Registerer: prometheus.NewRegistry(),
		AgentVersion: "test", Instance: "agent-0", Namespace: "budcluster-system", StartedAt: time.Now(),
	}
	if cfg.Change != nil {
		cfg.Change(&lc)
	}
	if end.Link, err = link.New(lc); err != nil {
		t.Fatalf("make link: %v", err)
	}
	return end
}

// Start runs the link until the test ends or stop is called.
func (e *LinkEnd) Start(t testing.TB) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("link ended: %v", err)
			}
		})
	}
	t.Cleanup(stop)
	return stop
}

// StaticIdentity is an identity that is never renewed unless Renew is set.
type StaticIdentity struct {
	Certificate tls.Certificate
	BundlePEM   []byte
	// Err, if set, is what Current returns.
	Err error
	// Renew, if set, is called when renewal is asked for.
	Renew func(ctx context.Context, cc grpc.ClientConnInterface) error

	// Next says that a new join token lies ready.
	Next bool

	mu                   sync.Mutex // guards what follows
	distrusts, outdateds int
	awaits               int
}

// Current returns itself.
func (s *StaticIdentity) Current(context.Context) (link.Identity, error) {
	if s.Err != nil {
		return nil, s.Err
	}
	return s, nil
}

// TLS is the configuration of the control lane.
func (s *StaticIdentity) TLS(serverName string) (*tls.Config, error) {
	return pki.AgentConfig(s.Certificate, s.BundlePEM, serverName)
}

// Keep calls Renew when asked.
func (s *StaticIdentity) Keep(ctx context.Context, cc grpc.ClientConnInterface, asked <-chan struct{}) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-asked:
			if s.Renew != nil {
				return s.Renew(ctx, cc)
			}
		}
	}
}

// Distrust counts.
func (s *StaticIdentity) Distrust() { s.count(&s.distrusts) }

// Outdated counts.
func (s *StaticIdentity) Outdated() { s.count(&s.outdateds) }

// Successor is Next, once: then the token was tried.
func (s *StaticIdentity) Successor() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := s.Next
	s.Next = false
	return next
}

// Counts are those of Distrust, Outdated and Await.
func (s *StaticIdentity) Counts() (distrusts, outdateds, awaits int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.distrusts, s.outdateds, s.awaits
}

func (s *StaticIdentity) count(n *int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	*n++
}

// Trust does nothing.
func (s *StaticIdentity) Trust(context.Context, []byte) error { return nil }

// Await waits for five minutes.
func (s *StaticIdentity) Await(ctx context.Context) {
	s.count(&s.awaits)
	timer := time.NewTimer(5 * time.Minute)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// NotAfter is the certificate's.
func (s *StaticIdentity) NotAfter() time.Time { return s.Certificate.Leaf.NotAfter }

// Events keeps what was told to the people on site.
type Events struct {
	mu      sync.Mutex // guards reasons
	reasons []string
}

// Warn keeps the reason.
func (e *Events) Warn(_ context.Context, reason, _ string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.reasons = append(e.reasons, reason)
	return nil
}

// Note keeps the reason.
func (e *Events) Note(ctx context.Context, reason, message string) error {
	return e.Warn(ctx, reason, message)
}

// Reasons are those kept so far.
func (e *Events) Reasons() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]string(nil), e.reasons...)
}

// Releases is a store of desired state in memory that reports what SetStatus
// says.
type Releases struct {
	mu       sync.Mutex // guards what follows
	releases map[string]*agentv1.Release
	statuses map[string]*agentv1.ReleaseStatus
	subs     map[chan *agentv1.ReleaseStatus]context.Context
	snapshot int
	changed  chan struct{}
}

// NewReleases makes an empty store.
func NewReleases() *Releases {
	return &Releases{
		releases: map[string]*agentv1.Release{}, statuses: map[string]*agentv1.ReleaseStatus{},
		subs: map[chan *agentv1.ReleaseStatus]context.Context{}, changed: make(chan struct{}),
	}
}

// Have lists what is stored.
func (r *Releases) Have(context.Context) ([]*agentv1.ReleaseRef, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var refs []*agentv1.ReleaseRef
	for _, rel := range r.releases {
		refs = append(refs, &agentv1.ReleaseRef{Id: rel.GetId(), Generation: rel.GetGeneration(), Digest: rel.GetDigest()})
	}
	return refs, nil
}

// ApplySnapshot counts.
func (r *Releases) ApplySnapshot(context.Context, []*agentv1.ReleaseRef) error {
	r.change(func() { r.snapshot++ })
	return nil
}

// Upsert stores.
func (r *Releases) Upsert(_ context.Context, rel *agentv1.Release) error {
	r.change(func() { r.releases[rel.GetId()] = rel })
	return nil
}

// Forget drops.
func (r *Releases) Forget(_ context.Context, id string) error {
	r.change(func() {
		delete(r.releases, id)
		delete(r.statuses, id)
	})
	return nil
}

// SetStatus reports a status to whoever is subscribed.
func (r *Releases) SetStatus(s *agentv1.ReleaseStatus) {
	r.mu.Lock()
	r.statuses[s.GetId()] = s
	subs := maps.Clone(r.subs)
	r.mu.Unlock()
	for c, ctx := range subs {
		select {
		case c <- s:
		case <-ctx.Done():
		}
	}
}

// Statuses yields all, then what SetStatus says.
func (r *Releases) Statuses(ctx context.Context) <-chan *agentv1.ReleaseStatus {
	out := make(chan *agentv1.ReleaseStatus)
	in := make(chan *agentv1.ReleaseStatus)
	r.mu.Lock()
	var queue []*agentv1.ReleaseStatus
	for _, s := range r.statuses {
		queue = append(queue, s)
	}
	r.subs[in] = ctx
	r.mu.Unlock()
	go func() {
		defer close(out)
		defer func() {
			r.mu.Lock()
			defer r.mu.Unlock()
			delete(r.subs, in)
		}()
		for {
			var next *agentv1.ReleaseStatus
			var send chan *agentv1.ReleaseStatus
			if len(queue) > 0 {
				next, send = queue[0], out
			}
			select {
			case <-ctx.Done():
				return
			case s := <-in:
				queue = append(queue, s)
			case send <- next:
				queue = queue[1:]
			}
		}
	}()
	return out
}

// Await returns once a release of that generation is stored, or with
// generation 0 once there is none.
func (r *Releases) Await(t testing.TB, id string, generation int64) {
	t.Helper()
	for {
		r.mu.Lock()
		got, changed := r.releases[id].GetGeneration(), r.changed
		r.mu.Unlock()
		if got == generation {
			return
		}
		timer := time.NewTimer(30 * time.Second)
		select {
		case <-changed:
			timer.Stop()
		case <-timer.C:
			t.Fatalf("release %s stayed at generation %d and should be at %d", id, got, generation)
		}
	}
}

func (r *Releases) change(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
	close(r.changed)
	r.changed = make(chan struct{})
}

// Inventory is a collector without a cluster.
type Inventory struct {
	mu      sync.Mutex // guards what follows
	nodes   map[string]facts.Node
	cluster facts.Cluster
	dirty   map[string]bool
	events  []*agentv1.NodeEvent
	wake    chan struct{}
}

// NewInventory makes one without nodes.
func NewInventory() *Inventory {
	return &Inventory{nodes: map[string]facts.Node{}, dirty: map[string]bool{}, wake: make(chan struct{}, 1), cluster: facts.Cluster{UID: "uid-test", Version: "v1.37.2"}}
}

// SetNode adds or changes a node.
func (i *Inventory) SetNode(n facts.Node) { i.set(n.Name, func() { i.nodes[n.Name] = n }) }

// RemoveNode removes a node.
func (i *Inventory) RemoveNode(name string) { i.set(name, func() { delete(i.nodes, name) }) }

// Happen has something happen to a node.
func (i *Inventory) Happen(e facts.NodeEvent) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.events = append(i.events, e.ToProto())
	i.rouse()
}

func (i *Inventory) set(name string, f func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	f()
	i.dirty[name] = true
	i.rouse()
}

func (i *Inventory) rouse() {
	select {
	case i.wake <- struct{}{}:
	default:
	}
}

// Forge changes a node without waking anybody: a gap for the summary to find.
func (i *Inventory) Forge(n facts.Node) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.nodes[n.Name] = n
}

// Await returns at once.
func (i *Inventory) Await(context.Context) error { return nil }

// Summary holds every node's digest.
func (i *Inventory) Summary() *agentv1.Summary {
	i.mu.Lock()
	defer i.mu.Unlock()
	s := &agentv1.Summary{ClusterDigest: i.cluster.Digest(), Nodes: map[string]string{}}
	for name, n := range i.nodes {
		s.Nodes[name] = n.Digest()
	}
	return s
}

// Delta holds the named nodes.
func (i *Inventory) Delta(nodes []string, cluster bool) *agentv1.Delta {
	i.mu.Lock()
	defer i.mu.Unlock()
	d := &agentv1.Delta{}
	for _, name := range nodes {
		if n, ok := i.nodes[name]; ok {
			d.Nodes = append(d.Nodes, n.ToProto())
		} else {
			d.Removed = append(d.Removed, name)
		}
	}
	if cluster {
		d.Cluster = i.cluster.ToProto()
	}
	return d
}

// Watch wakes at SetNode and RemoveNode. There is one watcher at a time.
func (i *Inventory) Watch() (<-chan struct{}, func() ([]string, bool, []*agentv1.NodeEvent), func()) {
	take := func() ([]string, bool, []*agentv1.NodeEvent) {
		i.mu.Lock()
		defer i.mu.Unlock()
		var names []string
		for name := range i.dirty {
			names = append(names, name)
		}
		clear(i.dirty)
		events := i.events
		i.events = nil
		return names, false, events
	}
	return i.wake, take, func() {}
}
