package release

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"

	"github.com/budecosystem/budcluster/agent/api/v1alpha1"
	"github.com/budecosystem/budcluster/agent/internal/helm"
	"github.com/budecosystem/budcluster/internal/id"
	"github.com/budecosystem/budcluster/internal/logkey"
)

const (
	// DefaultInterval is how often a quiet release is looked at.
	DefaultInterval = time.Minute
	defaultAttempts = 5
	// retryBase and retryCap bound the time between attempts.
	retryBase = 5 * time.Second
	retryCap  = 5 * time.Minute
	// maxSteps of one release before others have a turn.
	maxSteps = 16
)

// Config of a Manager.
type Config struct {
	// REST reaches the API server.
	REST *rest.Config
	// Namespace is the agent's own.
	Namespace string
	// Pod is this agent's name; locks of an earlier process of the same pod
	// are taken over at once.
	Pod string
	// Charts fetches charts from the hub.
	Charts ChartFetcher
	Logger *slog.Logger
	// Mirrors maps image registries to the site's own.
	Mirrors map[string]string
	// Workers is how many Helm operations render and apply at once.
	Workers int
	// Interval between looks at a quiet release, for drift and readiness.
	Interval time.Duration
	// Now is the clock.
	Now func() time.Time
	// RetirePatience is how long a retirement waits since a release went.
	RetirePatience time.Duration
	// Registerer takes the metrics, if there is one.
	Registerer prometheus.Registerer
	// Backend replaces Helm's backend in tests.
	Backend helm.Backend
}

// Manager keeps the releases of this cluster as the hub wants them.
type Manager struct {
	namespace string
	log       *slog.Logger
	mirrors   map[string]string
	interval  time.Duration
	now       func() time.Time

	typed    kubernetes.Interface
	dynamic  dynamic.Interface
	helm     *helm.Client
	kinds    *helm.Kinds
	checker  *helm.Checker
	store    *store
	charts   *charts
	locks    *locks
	surveyor *surveyor
	cleaner  *cleaner
	reporter *reporter
	board    *board
	metrics  *metrics
	queue    workqueue.TypedRateLimitingInterface[string]
	patience time.Duration
	// retiring: the cluster leaves the fleet, nothing new is taken in.
	retiring atomic.Bool

	mu      sync.Mutex // guards tracks, notes, ids, running
	tracks  map[string]*track
	notes   map[string]note
	ids     map[string]string // of the custom resources that were told of, by name
	running map[string]context.CancelCauseFunc
}

// note is what the hub said about a release beside its spec.
type note struct {
	orphaned, refused string
	// fresh: the hub was here a moment ago, so a missing chart may be had.
	fresh bool
}

// New checks the configuration and makes a Manager. Nothing runs before Run.
func New(cfg Config) (*Manager, error) {
	if cfg.REST == nil || cfg.Namespace == "" || cfg.Charts == nil || cfg.Logger == nil {
		return nil, errors.New("release manager: REST, Namespace, Charts and Logger are required")
	}
	typed, err := kubernetes.NewForConfig(cfg.REST)
	if err != nil {
		return nil, fmt.Errorf("make client: %w", err)
	}
	dyn, err := dynamic.NewForConfig(cfg.REST)
	if err != nil {
		return nil, fmt.Errorf("make dynamic client: %w", err)
	}
	disco, err := discovery.NewDiscoveryClientForConfig(cfg.REST)
	if err != nil {
		return nil, fmt.Errorf("make discovery client: %w", err)
	}
	mirrors, err := helm.NewMirrors(cfg.Mirrors)
	if err != nil {
		return nil, err
	}
	h, err := helm.New(helm.Config{REST: cfg.REST, Backend: cfg.Backend, Logger: cfg.Logger, Mirrors: mirrors, Workers: cfg.Workers})
	if err != nil {
		return nil, err
	}
	counters, err := newMetrics(cfg.Registerer)
	if err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	m := &Manager{
		metrics:   counters,
		namespace: cfg.Namespace, log: cfg.Logger, mirrors: cfg.Mirrors,
		interval: cmp.Or(cfg.Interval, DefaultInterval), now: cfg.Now, patience: cmp.Or(cfg.RetirePatience, DefaultRetirePatience),
		typed: typed, dynamic: dyn, helm: h, kinds: helm.NewKinds(disco), checker: helm.NewChecker(typed),
		store:    newStore(typed, dyn, cfg.Namespace),
		charts:   &charts{typed: typed, namespace: cfg.Namespace, fetcher: cfg.Charts, log: cfg.Logger},
		surveyor: &surveyor{dynamic: dyn, log: cfg.Logger},
		board:    newBoard(),
		queue: workqueue.NewTypedRateLimitingQueue(
			workqueue.NewTypedItemExponentialFailureRateLimiter[string](time.Second, retryCap)),
		tracks: map[string]*track{}, notes: map[string]note{}, ids: map[string]string{}, running: map[string]context.CancelCauseFunc{},
	}
	if m.now == nil {
		m.now = time.Now
	}
	meta, err := metadata.NewForConfig(cfg.REST)
	if err != nil {
		return nil, fmt.Errorf("make client for metadata: %w", err)
	}
	m.cleaner = &cleaner{dynamic: dyn, metadata: meta, disco: disco, kinds: m.kinds}
	m.reporter = &reporter{typed: typed, dynamic: dyn, kinds: m.kinds}
	m.locks = &locks{
		typed: typed, namespace: cfg.Namespace, identity: cmp.Or(cfg.Pod, "agent") + "_" + id.New().String(), now: m.now, seen: newSightings(),
	}
	return m, nil
}

// Run works until ctx ends; it can be called once. An operation in progress then ends as failed, in
// Helm's records too, and is taken up again by the next Run.
func (m *Manager) Run(ctx context.Context) error {
	if err := m.load(ctx); err != nil {
		return err
	}
	informer := m.informer()
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { informer.RunWithContext(ctx) })
	wg.Go(func() { m.collect(ctx) })
	stop := context.AfterFunc(ctx, m.queue.ShutDown)
	defer stop()
	// A goroutine per release in hand: the queue never hands out the same
	// release twice, and what may run at once is limited where it costs
	// memory, in helm.Client. So a hook that takes an hour blocks nobody.
	for {
		name, shutdown := m.queue.Get()
		if shutdown {
			return nil
		}
		wg.Go(func() {
			defer m.queue.Done(name)
			m.process(ctx, name)
		})
	}
}

// load shows the statuses of the last run at once.
func (m *Manager) load(ctx context.Context) error {
	for wait := time.Second; ; wait = min(2*wait, 30*time.Second) {
		all, err := m.store.list(ctx)
		if err == nil {
			for _, cr := range all {
				m.show(cr)
			}
			return nil
		}
		m.log.WarnContext(ctx, "releases cannot be read", slog.Any(logkey.Error, err), slog.Duration(logkey.RetryAfter, wait))
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// informer wakes a release when its custom resource changes. Status is ours,
// so only changes of the spec, and births and deaths, count.
func (m *Manager) informer() cache.SharedIndexInformer {
	factory := dynamicinformer.NewFilteredDynamicSharedInformerFactory(m.dynamic, 0, m.namespace, nil)
	informer := factory.ForResource(v1alpha1.GroupVersionResource()).Informer()
	_ = informer.SetTransform(func(obj any) (any, error) { return stripped(obj), nil })
	_, _ = informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(obj any) { m.queue.Add(nameOf(obj)) },
		UpdateFunc: func(before, after any) {
			if generationOf(before) != generationOf(after) {
				m.queue.Add(nameOf(after))
			}
		},
		DeleteFunc: func(obj any) { m.queue.Add(nameOf(obj)) },
	})
	return informer
}

// collect drops cached charts that nothing uses, now and every hour.
func (m *Manager) collect(ctx context.Context) {
	tick := time.NewTicker(time.Hour)
	defer tick.Stop()
	for {
		if err := m.collectCharts(ctx); err != nil && ctx.Err() == nil {
			m.log.WarnContext(ctx, "cached charts are not collected", slog.Any(logkey.Error, err))
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (m *Manager) collectCharts(ctx context.Context) error {
	all, err := m.store.list(ctx)
	if err != nil {
		return err
	}
	used := map[string]bool{}
	for _, cr := range all {
		used[cr.Spec.Chart.Digest] = !cr.Spec.Removed || used[cr.Spec.Chart.Digest]
	}
	return m.charts.collect(ctx, used)
}

// process looks after one release once and says when to look again.
func (m *Manager) process(ctx context.Context, name string) {
	defer func() {
		if p := recover(); p != nil {
			m.log.ErrorContext(ctx, "release machine panicked", slog.String(logkey.Release, name),
				slog.Any(logkey.Error, p), slog.String(logkey.Stack, string(debug.Stack())))
			m.queue.AddRateLimited(name)
		}
	}()
	next, err := m.reconcile(ctx, name)
	switch {
	case ctx.Err() != nil:
	case err != nil:
		m.log.WarnContext(ctx, "release is tried again", slog.String(logkey.Release, name), slog.Any(logkey.Error, err))
		m.queue.AddRateLimited(name)
	case next > 0:
		m.queue.Forget(name)
		m.queue.AddAfter(name, next)
	default:
		m.queue.Forget(name)
	}
}

func (m *Manager) track(name string) *track {
	m.mu.Lock()
	defer m.mu.Unlock()
	tr, ok := m.tracks[name]
	if !ok {
		tr = &track{clean: clean{}, gone: map[int]bool{}}
		m.tracks[name] = tr
	}
	return tr
}

// dropped: the custom resource is gone. If nobody here deleted it, somebody
// did by hand: the links are made to compare with the hub again, which sends
// what it still wants. Without a link, only the record is gone.
func (m *Manager) dropped(ctx context.Context, name string) {
	m.mu.Lock()
	lost, byHand := m.ids[name]
	delete(m.tracks, name)
	delete(m.notes, name)
	delete(m.ids, name)
	m.mu.Unlock()
	if !byHand {
		return
	}
	m.log.WarnContext(ctx, "record of a release was deleted by hand", slog.String(logkey.Release, name), slog.String(logkey.ReleaseID, lost))
	m.board.drop(lost)
	m.board.end()
}

// forgotten: we delete the custom resource ourselves.
func (m *Manager) forgotten(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.ids, name)
}

// hubWasHere reports once after each word of the hub about a release.
func (m *Manager) hubWasHere(name string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.notes[name]
	fresh := n.fresh
	if fresh {
		n.fresh = false
		m.notes[name] = n
	}
	return fresh
}

// backoff is how long to wait after the nth failed attempt: 5 s, 10 s, 20 s …
// 5 min, give or take a fifth so that many releases do not try at once.
func backoff(n int) time.Duration {
	d := retryBase << min(max(n-1, 0), 10)
	d = min(d, retryCap)
	return d + time.Duration((rand.Float64()-0.5)*0.4*float64(d)) //nolint:gosec // jitter
}
