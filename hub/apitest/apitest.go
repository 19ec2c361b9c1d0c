// Package apitest serves the hub's real API over rules that are kept in memory,
// for tests of what speaks /v1: the API itself, its client and the command
// line. Time stands still and ids are counted, so that answers are the same
// each time.
//
//	test ── hubapi.Client, budcluster ─► api.Server ─► Hub (in memory)
//	  └───── AddCluster, SetNode, Report, … ──────────────┘
//
// What the rules check is checked by the rules' own functions where they have
// one; there is no second opinion here.
package apitest

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/budecosystem/budcluster/hub/hubapi"
	"github.com/budecosystem/budcluster/hub/internal/access"
	"github.com/budecosystem/budcluster/hub/internal/api"
	"github.com/budecosystem/budcluster/hub/internal/bootstrap"
	"github.com/budecosystem/budcluster/hub/internal/chart"
	"github.com/budecosystem/budcluster/hub/internal/cluster"
	"github.com/budecosystem/budcluster/hub/internal/enroll"
	"github.com/budecosystem/budcluster/hub/internal/event"
	"github.com/budecosystem/budcluster/hub/internal/notify"
	"github.com/budecosystem/budcluster/hub/internal/release"
	"github.com/budecosystem/budcluster/hub/internal/webhook"
	"github.com/budecosystem/budcluster/hub/internal/workflow"
	"github.com/budecosystem/budcluster/internal/facts"
	"github.com/budecosystem/budcluster/internal/install"
	"github.com/budecosystem/budcluster/internal/secret"
	agentv1 "github.com/budecosystem/budcluster/proto/agent/v1"
)

// Now is the time at which everything here happens.
func Now() time.Time { return time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC) }

// Key is the text of the key that every Hub has for a role.
func Key(r access.Role) string { return "budk_" + string(r) + "_secret" }

// AdminKey is the text of the administrator's key.
const AdminKey = "budk_admin_secret"

// Hub is a hub's API with all that stands behind it.
type Hub struct {
	// URL is where it listens.
	URL string
	// Server is the API under test.
	Server *api.Server
	// Metrics is what it registers with.
	Metrics *prometheus.Registry

	charts *chart.Service
	conn   *grpc.ClientConn

	mu        sync.Mutex // guards everything below
	ids       int
	clusters  map[uuid.UUID]*cluster.Cluster
	tokens    map[uuid.UUID][]enroll.Token
	keys      []access.Key
	roles     map[string]access.Principal // by text of the key
	nodes     map[uuid.UUID]map[string]facts.Node
	releases  map[uuid.UUID]*release.Release
	packed    map[string]chart.Chart
	events    []event.Event
	workflows []*workflow.Workflow
	webhooks  []webhook.Sealed
	sent      []webhook.Delivery
	letters   []notify.Letter
	watchers  map[chan struct{}]bool
	fault     error
	// foreign is what is wrong with the clusters of kubeconfigs.
	foreign error
}

// Options change what New makes.
type Options struct {
	Logger    *slog.Logger
	Heartbeat time.Duration
	// BodyTimeout is api.Config's.
	BodyTimeout time.Duration
	ChartsDir   string
	PublicURL   string
	// Ready are the checks of /readyz.
	Ready map[string]func(context.Context) error
}

// New starts a hub that ends with the test.
func New(t testing.TB, o Options) *Hub {
	t.Helper()
	h := &Hub{
		Metrics:  prometheus.NewRegistry(),
		clusters: map[uuid.UUID]*cluster.Cluster{}, tokens: map[uuid.UUID][]enroll.Token{},
		roles: map[string]access.Principal{}, nodes: map[uuid.UUID]map[string]facts.Node{},
		releases: map[uuid.UUID]*release.Release{}, packed: map[string]chart.Chart{}, watchers: map[chan struct{}]bool{},
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	for _, r := range access.Roles() {
		h.roles[Key(r)] = access.Principal{Name: string(r), Role: r}
	}
	var err error
	h.charts, err = chart.New(chart.Config{Store: chartStore{h}, Logger: o.Logger, Dir: o.ChartsDir, Now: Now})
	require.NoError(t, err)
	h.conn = startAgent(t)
	if o.PublicURL == "" {
		o.PublicURL = "http://hub.example.com:8080"
	}
	work := newWorks(t, h)
	letters, err := notify.NewLetters(letterStore{webhookStore{h}}, Now)
	require.NoError(t, err)
	h.Server, err = api.New(api.Config{
		Logger: o.Logger, Metrics: h.Metrics,
		Clusters: clusters{h}, Tokens: tokens{h}, Releases: releases{h}, Inventory: nodes{h}, Charts: h.charts,
		Access: keys{h}, Events: events{h}, Agents: h, Webhooks: h.hooks(t, o.Logger), Messages: letters, Watch: h.watch, Ready: o.Ready,
		Workflows: work, Operations: work, Upload: work.upload, Equipment: work,
		AgentChart: AgentChart(), PublicURL: o.PublicURL, TunnelAddress: "hub.example.com:8443",
		Now: Now, Heartbeat: o.Heartbeat, BodyTimeout: o.BodyTimeout,
	})
	require.NoError(t, err)
	srv := httptest.NewServer(h.Server.Handler())
	t.Cleanup(srv.Close)
	t.Cleanup(srv.CloseClientConnections)
	h.URL = srv.URL
	return h
}

// AgentChart stands in for the agent's chart.
func AgentChart() fs.FS {
	return fstest.MapFS{"Chart.yaml": {Data: []byte("apiVersion: v2\nname: budcluster-agent\nversion: 0.1.0\n")}}
}

// Client calls the hub with a key of the role.
func (h *Hub) Client(t testing.TB, r access.Role) *hubapi.Client {
	t.Helper()
	c, err := hubapi.New(h.URL, Key(r), hubapi.Options{RetryBase: 10 * time.Millisecond, PollInterval: time.Hour})
	require.NoError(t, err)
	return c
}

// Fail makes every rule answer with err; nil ends it.
func (h *Hub) Fail(err error) {
	defer h.lock()()
	h.fault = err
}

// Refuse makes the clusters of kubeconfigs refuse who comes with one.
func (h *Hub) Refuse(reason install.Reason, message string) {
	defer h.lock()()
	h.foreign = &bootstrap.Error{Reason: reason, Message: message}
}

// AddCluster enters a cluster that joined and is connected.
func (h *Hub) AddCluster(name string) uuid.UUID {
	defer h.lock()()
	now := Now()
	seen, joined := now.Add(-3*time.Second), now.Add(-2*time.Hour)
	c := &cluster.Cluster{
		ID: h.idLocked(), Name: name, UID: "uid-" + name, AgentVersion: "0.1.0",
		CreatedAt: joined.Add(-time.Minute), JoinedAt: &joined, LastSeen: &seen,
		Facts: &facts.Cluster{UID: "uid-" + name, Version: "v1.37.2", Platform: facts.PlatformKubernetes, Distribution: "k3s"},
		Session: &cluster.Session{
			Replica: "hub-0", Epoch: 1, Instance: "budcluster-agent-0", RemoteAddr: "203.0.113.7:40000",
			ConnectedAt: joined, LeaseUntil: now.Add(30 * time.Second),
		},
	}
	h.clusters[c.ID] = c
	return c.ID
}

// Change lets fn change a cluster.
func (h *Hub) Change(id uuid.UUID, fn func(*cluster.Cluster)) {
	defer h.lock()()
	fn(h.clusters[id])
}

// Leave makes a cluster be away since the time given.
func (h *Hub) Leave(id uuid.UUID, since time.Duration) {
	h.Change(id, func(c *cluster.Cluster) {
		seen := Now().Add(-since)
		c.Session, c.LastSeen = nil, &seen
	})
}

// SetNode enters or replaces a node.
func (h *Hub) SetNode(id uuid.UUID, n facts.Node) {
	defer h.lock()()
	if h.nodes[id] == nil {
		h.nodes[id] = map[string]facts.Node{}
	}
	h.nodes[id][n.Name] = n
	c := h.clusters[id]
	c.Nodes, c.ReadyNodes = len(h.nodes[id]), 0
	for _, n := range h.nodes[id] {
		if n.Ready {
			c.ReadyNodes++
		}
	}
}

// Report sets what the agent says of a release, and makes the event.
func (h *Hub) Report(clusterID uuid.UUID, name string, st hubapi.ReleaseStatus) {
	defer h.lock()()
	r := h.releaseLocked(clusterID, name)
	if r == nil {
		panic("no release " + name)
	}
	r.Status = release.Status{
		ObservedGeneration: st.ObservedGeneration, Phase: agentv1.Phase(st.Phase), Reason: st.Reason, Message: st.Message,
		Ready: st.Ready, Total: st.Total, WaitingFor: st.WaitingFor, ChartVersion: st.ChartVersion, AppVersion: st.AppVersion,
		Revision: st.Revision, Owned: st.Owned, Outputs: st.Outputs, Attempts: st.Attempts, Corrections: st.Corrections,
		ChangedAt: st.ChangedAt, RetryAt: st.RetryAt,
	}
	for _, d := range st.Drift {
		r.Status.Drift = append(r.Status.Drift, release.Drift(d))
	}
	kind := event.ReleaseStatus
	if st.Phase == hubapi.PhaseRemoved {
		delete(h.releases, r.ID)
		kind = event.ReleaseRemoved
	}
	h.emitLocked(event.Event{Type: kind, ClusterID: clusterID, Subject: name, Actor: "agent", Message: string(st.Phase)})
}

// Emit records an event.
func (h *Hub) Emit(e event.Event) {
	defer h.lock()()
	h.emitLocked(e)
}

// Streams is how many event streams are open.
func (h *Hub) Streams() int {
	defer h.lock()()
	return len(h.watchers)
}

func (h *Hub) lock() (unlock func()) {
	h.mu.Lock()
	return h.mu.Unlock
}

// enter is lock, for a rule: it fails when the test wants it to.
func (h *Hub) enter() (unlock func(), err error) {
	h.mu.Lock()
	return h.mu.Unlock, h.fault
}

func (h *Hub) idLocked() uuid.UUID {
	h.ids++
	return uuid.MustParse(fmt.Sprintf("00000000-0000-7000-8000-%012d", h.ids))
}

func (h *Hub) emitLocked(e event.Event) {
	e.ID, e.At = int64(len(h.events)+1), Now()
	h.events = append(h.events, e)
	for w := range h.watchers {
		select {
		case w <- struct{}{}:
		default:
		}
	}
}

func (h *Hub) watch(string) (<-chan struct{}, func()) {
	defer h.lock()()
	w := make(chan struct{}, 1)
	h.watchers[w] = true
	return w, func() {
		defer h.lock()()
		delete(h.watchers, w)
	}
}

func (h *Hub) releaseLocked(clusterID uuid.UUID, name string) *release.Release {
	for _, r := range h.releases {
		if r.ClusterID == clusterID && r.Name == name {
			return r
		}
	}
	return nil
}

// Conn is api.Agents: every connected cluster has the same agent.
func (h *Hub) Conn(id uuid.UUID) (*grpc.ClientConn, error) {
	defer h.lock()()
	if c := h.clusters[id]; c == nil || c.Session == nil {
		return nil, fmt.Errorf("cluster %s has no tunnel", id)
	}
	return h.conn, nil
}

// agent answers Inspect.
type agent struct {
	agentv1.UnimplementedAgentServiceServer
}

// Inspect is the agent's.
func (agent) Inspect(context.Context, *agentv1.InspectRequest) (*agentv1.InspectResponse, error) {
	return &agentv1.InspectResponse{
		AgentVersion: "0.1.0", Instance: "budcluster-agent-0", Namespace: "budcluster-system",
		ResidentBytes: 32 << 20, Goroutines: 70, Releases: 1, Nodes: 2,
	}, nil
}

func startAgent(t testing.TB) *grpc.ClientConn {
	t.Helper()
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	srv := grpc.NewServer()
	agentv1.RegisterAgentServiceServer(srv, agent{})
	go func() { _ = srv.Serve(ln) }()
	t.Cleanup(srv.Stop)
	conn, err := grpc.NewClient("passthrough:///"+ln.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// sorted gives the values of m in the order of a name.
func sorted[K comparable, V any](m map[K]V, name func(V) string) []V {
	return slices.SortedFunc(maps.Values(m), func(a, b V) int {
		if name(a) < name(b) {
			return -1
		}
		return 1
	})
}

// Node makes a ready node with one CPU and the GPUs given.
func Node(name string, gpus int) facts.Node {
	n := facts.Node{
		Name: name, UID: "uid-" + name, Ready: true, Schedulable: true, Roles: []string{"worker"},
		Architecture: "amd64", OperatingSystem: "linux", KubeletVersion: "v1.37.2",
		Capacity:    facts.Resources{CPUMillis: 16000, MemoryBytes: 64 << 30, Pods: 110},
		Allocatable: facts.Resources{CPUMillis: 15500, MemoryBytes: 60 << 30, Pods: 110},
		Requested:   facts.Resources{CPUMillis: 1500, MemoryBytes: 4 << 30, Pods: 7},
		CreatedAt:   Now().Add(-48 * time.Hour),
		Devices:     []facts.Device{{ID: "cpu-0", Vendor: "intel", Kind: facts.KindCPU, Model: "Xeon Gold 6430", Health: facts.HealthHealthy, Source: facts.SourceNode}},
	}
	memory := int64(80 << 30)
	for i := range gpus {
		n.Devices = append(n.Devices, facts.Device{
			ID: fmt.Sprintf("nvidia-cuda-%d", i), Vendor: "nvidia", Kind: facts.KindCUDA, Model: "H100", MemoryBytes: &memory,
			Health: facts.HealthHealthy, Source: facts.SourceLabel, Resource: "nvidia.com/gpu", DriverVersion: "570.86",
		})
	}
	return n
}

// made is a text that is secret and the same each time.
func made(text string) secret.String { return secret.New(text) }
