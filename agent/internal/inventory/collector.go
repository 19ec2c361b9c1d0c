package inventory

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/budecosystem/budcluster/agent/internal/health"
	"github.com/budecosystem/budcluster/internal/facts"
	agentv1 "github.com/budecosystem/budcluster/proto/agent/v1"
)

// Defaults of Config.
const (
	// DefaultGrace is how long a device whose labels vanished stays. GFD came
	// back after 1 to 3 minutes when its DaemonSet was rolled.
	DefaultGrace = 10 * time.Minute
	// DefaultProbe is how often /version is asked, which also says whether the
	// API server is there.
	DefaultProbe = 10 * time.Second
	// DefaultTally is how often claims are counted and the DNS is looked at:
	// claims are pending for seconds whenever a volume is made.
	DefaultTally = 30 * time.Second
)

// Server is what is asked of the API server beside the watches; *kube.Clients.
type Server interface {
	ClusterUID(ctx context.Context) (string, error)
	Version(ctx context.Context) (string, error)
	Groups(ctx context.Context) ([]string, error)
}

// Config is what a Collector needs.
type Config struct {
	Client kubernetes.Interface
	Server Server
	Board  *health.Board
	Logger *slog.Logger

	Now   func() time.Time
	Grace time.Duration
	Probe time.Duration
	Tally time.Duration
}

// Collector keeps the facts.
type Collector struct {
	cfg   Config
	log   *slog.Logger
	ready chan struct{} // closed when everything was listed or may not be
	rearm chan struct{} // of size one: a grace time was begun

	mu      sync.Mutex // guards everything below
	kinds   map[kind]*kindState
	nodes   map[string]*node
	pods    map[string]podRequest
	claims  map[string]corev1.PersistentVolumeClaimPhase
	events  map[string]facts.NodeEvent // about nodes, by uid
	sums    map[string]facts.Resources // by node
	cluster facts.Cluster
	groups  []string
	digest  string // of cluster
	tallied bool   // tally has ended once, well or not
	feeds   map[*feed]struct{}
}

// node is what is kept of one node.
type node struct {
	base   facts.Node // without requests; devices as the labels have them
	now    facts.Node // what is reported
	digest string
	again  time.Time // when a grace time ends; zero: none runs
}

// podRequest is what is kept of one pod.
type podRequest struct {
	node string
	need facts.Resources
}

// feed is what one watcher has not taken yet.
type feed struct {
	nodes   map[string]struct{}
	cluster bool
	events  map[string]struct{}
	wake    chan struct{} // of size one
}

func (f *feed) rouse() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// New checks the configuration. It starts nothing.
func New(cfg Config) (*Collector, error) {
	cfg.Grace = cmp.Or(cfg.Grace, DefaultGrace)
	cfg.Probe = cmp.Or(cfg.Probe, DefaultProbe)
	cfg.Tally = cmp.Or(cfg.Tally, DefaultTally)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Client == nil || cfg.Server == nil || cfg.Board == nil || cfg.Logger == nil {
		return nil, errors.New("inventory needs a client, a server, a health board and a logger")
	}
	c := &Collector{
		cfg: cfg, log: cfg.Logger, ready: make(chan struct{}), rearm: make(chan struct{}, 1),
		kinds: map[kind]*kindState{}, nodes: map[string]*node{}, pods: map[string]podRequest{},
		claims: map[string]corev1.PersistentVolumeClaimPhase{}, events: map[string]facts.NodeEvent{},
		sums: map[string]facts.Resources{}, feeds: map[*feed]struct{}{},
	}
	for _, k := range kinds() {
		c.kinds[k] = &kindState{}
	}
	c.digest = c.cluster.Digest()
	return c, nil
}

// Await returns once everything was listed once.
func (c *Collector) Await(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-c.ready:
		return nil
	}
}

// Summary holds every node's digest.
func (c *Collector) Summary() *agentv1.Summary {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := &agentv1.Summary{ClusterDigest: c.digest, Nodes: make(map[string]string, len(c.nodes))}
	for name, n := range c.nodes {
		s.Nodes[name] = n.digest
	}
	return s
}

// Delta holds the named nodes as they are now; those that do not exist are
// listed as removed.
func (c *Collector) Delta(nodes []string, cluster bool) *agentv1.Delta {
	c.mu.Lock()
	defer c.mu.Unlock()
	d := &agentv1.Delta{}
	for _, name := range nodes {
		if n, ok := c.nodes[name]; ok {
			d.Nodes = append(d.Nodes, n.now.ToProto())
		} else {
			d.Removed = append(d.Removed, name)
		}
	}
	if cluster {
		d.Cluster = c.cluster.ToProto()
	}
	return d
}

// Watch wakes when something changed; take returns what did since. Events about
// nodes are, the first time, all that there are.
func (c *Collector) Watch() (wake <-chan struct{}, take func() (nodes []string, cluster bool, events []*agentv1.NodeEvent), cancel func()) {
	f := &feed{nodes: map[string]struct{}{}, events: map[string]struct{}{}, wake: make(chan struct{}, 1)}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.feeds[f] = struct{}{}
	for uid := range c.events {
		f.events[uid] = struct{}{}
		f.rouse()
	}
	take = func() ([]string, bool, []*agentv1.NodeEvent) {
		c.mu.Lock()
		defer c.mu.Unlock()
		nodes, cluster := slices.Sorted(maps.Keys(f.nodes)), f.cluster
		f.nodes, f.cluster = map[string]struct{}{}, false
		return nodes, cluster, c.takeEventsLocked(f)
	}
	return f.wake, take, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.feeds, f)
	}
}

// changedLocked tells the feeds; an empty name is the cluster.
func (c *Collector) changedLocked(name string) {
	for f := range c.feeds {
		if name == "" {
			f.cluster = true
		} else {
			f.nodes[name] = struct{}{}
		}
		f.rouse()
	}
}

// setNodeLocked takes a Node object in.
func (c *Collector) setNodeLocked(obj *corev1.Node) {
	n, ok := c.nodes[obj.Name]
	// A node that was deleted and made again under its name is another one.
	if !ok || n.base.UID != string(obj.UID) {
		n = &node{}
		c.nodes[obj.Name] = n
	}
	n.base = read(obj)
	c.settleLocked(n)
	c.describeClusterLocked()
}

// settleLocked makes what is reported of a node out of what is known.
func (c *Collector) settleLocked(n *node) {
	now := n.base
	now.Devices, n.again = settle(n.now.Devices, n.base.Devices, c.cfg.Now(), c.cfg.Grace)
	now.Requested = c.sums[now.Name]
	if why := c.kinds[kindPods].denied; why != "" {
		now.Problems = append(slices.Clone(now.Problems), "what pods request is unknown: "+why)
	}
	n.now = now
	if !n.again.IsZero() {
		select {
		case c.rearm <- struct{}{}:
		default:
		}
	}
	if digest := now.Digest(); digest != n.digest {
		n.digest = digest
		c.changedLocked(now.Name)
	}
}

func (c *Collector) removeNodeLocked(name string) {
	if _, ok := c.nodes[name]; !ok {
		return
	}
	delete(c.nodes, name)
	c.changedLocked(name)
	c.describeClusterLocked()
}

// setPodLocked counts a pod's requests on its node.
func (c *Collector) setPodLocked(pod *corev1.Pod) {
	key := pod.Namespace + "/" + pod.Name
	ended := pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
	if ended || pod.Spec.NodeName == "" {
		c.removePodLocked(key)
		return
	}
	next := podRequest{node: pod.Spec.NodeName, need: requests(pod)}
	was, ok := c.pods[key]
	if ok && was.node == next.node && sameResources(was.need, next.need) {
		return
	}
	c.removePodLocked(key)
	c.pods[key] = next
	c.addSumLocked(next, 1)
}

func (c *Collector) removePodLocked(key string) {
	was, ok := c.pods[key]
	if !ok {
		return
	}
	delete(c.pods, key)
	c.addSumLocked(was, -1)
}

func (c *Collector) addSumLocked(p podRequest, sign int64) {
	sum := plus(c.sums[p.node], p.need, sign)
	if sum.Pods == 0 {
		delete(c.sums, p.node) // the last pod: no remainder of rounding stays
	} else {
		c.sums[p.node] = sum
	}
	if n, ok := c.nodes[p.node]; ok {
		c.settleLocked(n)
	}
}

func sameResources(a, b facts.Resources) bool {
	return a.CPUMillis == b.CPUMillis && a.MemoryBytes == b.MemoryBytes && a.EphemeralBytes == b.EphemeralBytes &&
		a.Pods == b.Pods && maps.Equal(a.Extended, b.Extended)
}

// describeClusterLocked works out what depends on several sources.
func (c *Collector) describeClusterLocked() {
	c.cluster.Platform = facts.PlatformOf(c.groups)
	var labels map[string]string
	if len(c.nodes) > 0 {
		labels = c.nodes[slices.Min(slices.Collect(maps.Keys(c.nodes)))].base.Labels
	}
	c.cluster.Distribution = facts.Distribution(c.cluster.Version, labels, c.groups)
	if digest := c.cluster.Digest(); digest != c.digest {
		c.digest = digest
		c.changedLocked("")
	}
}

// expireLocked settles the nodes whose grace time is over, and says when to
// look again.
func (c *Collector) expireLocked(now time.Time) (again time.Time) {
	for _, n := range c.nodes {
		if !n.again.IsZero() && !now.Before(n.again) {
			c.settleLocked(n)
		}
		if !n.again.IsZero() && (again.IsZero() || n.again.Before(again)) {
			again = n.again
		}
	}
	return again
}

// sayLocked writes on the board which kinds of objects are missing.
func (c *Collector) sayLocked() {
	var why []string
	for _, k := range kinds() {
		if state := c.kinds[k]; state.denied != "" {
			why = append(why, fmt.Sprintf("%s: %s", k, state.denied))
		}
	}
	if len(why) == 0 {
		c.cfg.Board.Clear(health.InventoryIncomplete)
		return
	}
	c.cfg.Board.Set(health.InventoryIncomplete, "some objects cannot be listed; install the agent's chart with rbac.create, or give its service account that right: "+strings.Join(why, "; "))
}
