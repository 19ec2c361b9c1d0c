package inventory

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"

	"github.com/budecosystem/budcluster/agent/internal/health"
	"github.com/budecosystem/budcluster/internal/backoff"
	"github.com/budecosystem/budcluster/internal/logkey"
	"github.com/budecosystem/budcluster/internal/run"
)

// kind is one kind of object that is watched.
type kind string

const (
	kindNodes          kind = "nodes"
	kindPods           kind = "pods"
	kindStorageClasses kind = "storageclasses"
	kindIngressClasses kind = "ingressclasses"
	kindClaims         kind = "persistentvolumeclaims"
	kindEvents         kind = "events"
)

func kinds() []kind {
	return []kind{kindNodes, kindPods, kindStorageClasses, kindIngressClasses, kindClaims, kindEvents}
}

// kindState says how far the watch of a kind is.
type kindState struct {
	listed bool
	denied string // why it may not be listed
}

// Run watches until ctx ends.
func (c *Collector) Run(ctx context.Context) error {
	g := &run.Group{}
	g.Add("probe", c.probe)
	g.Add("grace", c.expire)
	client := c.cfg.Client
	g.Add(string(kindStorageClasses), watching(c, kindStorageClasses, &storagev1.StorageClass{}, client.StorageV1().StorageClasses(), c.storageClasses()))
	g.Add(string(kindIngressClasses), watching(c, kindIngressClasses, &networkingv1.IngressClass{}, client.NetworkingV1().IngressClasses(), c.ingressClasses()))
	g.Add(string(kindClaims), watching(c, kindClaims, &corev1.PersistentVolumeClaim{}, client.CoreV1().PersistentVolumeClaims(metav1.NamespaceAll), c.claimStore()))
	g.Add(string(kindEvents), watching(c, kindEvents, &corev1.Event{}, client.CoreV1().Events(metav1.NamespaceAll), c.eventStore()))
	g.Add("dns", c.watchDNS)
	g.Add(string(kindPods), watching(c, kindPods, &corev1.Pod{}, client.CoreV1().Pods(metav1.NamespaceAll), c.podStore()))
	g.Add(string(kindNodes), watching(c, kindNodes, &corev1.Node{}, client.CoreV1().Nodes(), c.nodeStore()))
	return g.Run(ctx)
}

// lister is the part of a typed client that a watch needs.
type lister[L runtime.Object] interface {
	List(ctx context.Context, opts metav1.ListOptions) (L, error)
	Watch(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error)
}

// selector is what the API server filters by. Pods that have ended leave the
// watch as deleted. Of events there are thousands; those about nodes are few.
func (k kind) selector() string {
	switch k {
	case kindPods:
		return fields.ParseSelectorOrDie("spec.nodeName!=,status.phase!=Succeeded,status.phase!=Failed").String()
	case kindEvents:
		return fields.OneTermEqualSelector("involvedObject.kind", "Node").String()
	default:
		return ""
	}
}

// watching is the task that keeps one kind of objects in a store.
func watching[L runtime.Object](c *Collector, k kind, object runtime.Object, client lister[L], s cache.ReflectorStore) func(context.Context) error {
	lw := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.FieldSelector = k.selector()
			return client.List(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.FieldSelector = k.selector()
			return client.Watch(ctx, o)
		},
	}
	reflector := cache.NewReflectorWithOptions(lw, object, s, cache.ReflectorOptions{
		Name: "inventory/" + string(k),
		// The default waits up to 30 s for an API server that came back.
		Backoff: &wait.Backoff{Duration: 500 * time.Millisecond, Factor: 2, Jitter: 1, Steps: 10, Cap: 5 * time.Second},
	})
	return func(ctx context.Context) error { return c.reflect(ctx, k, reflector) }
}

// reflect lists and watches again and again. Reflector.Run would do that too,
// but hides the errors.
func (c *Collector) reflect(ctx context.Context, k kind, r *cache.Reflector) error {
	retry := backoff.New(500*time.Millisecond, 5*time.Second)
	for {
		began := c.cfg.Now()
		err := r.ListAndWatchWithContext(ctx)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // that is why it ended
		}
		if c.cfg.Now().Sub(began) > time.Minute {
			retry.Reset()
		}
		if err != nil {
			c.listFailed(ctx, k, err)
		}
		timer := time.NewTimer(retry.Next())
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
	}
}

// listFailed notes a kind that may not be listed. An API server that is away
// is the probe's to report.
func (c *Collector) listFailed(ctx context.Context, k kind, err error) {
	c.log.DebugContext(ctx, "watch ended", slog.String(logkey.WatchedKind, string(k)), slog.Any(logkey.Error, err))
	if !apierrors.IsForbidden(err) && !apierrors.IsNotFound(err) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.kinds[k].denied == "" {
		c.log.WarnContext(ctx, "objects cannot be listed", slog.String(logkey.WatchedKind, string(k)), slog.Any(logkey.Error, err))
	}
	c.kinds[k].denied = err.Error()
	c.kindDoneLocked(k)
}

func (c *Collector) listedLocked(k kind) {
	state := c.kinds[k]
	state.listed, state.denied = true, ""
	c.kindDoneLocked(k)
}

// kindDoneLocked is called when a kind was listed or denied.
func (c *Collector) kindDoneLocked(k kind) {
	c.sayLocked()
	switch k {
	case kindPods:
		for _, n := range c.nodes {
			c.settleLocked(n)
		}
	case kindClaims:
		c.countClaimsLocked()
	default:
	}
	c.openLocked()
}

// openLocked opens the gate once the version is known, the DNS was looked at,
// and every kind was listed or may not be. Nodes that may not be listed keep it shut: a summary
// made from ignorance would say that all nodes are gone.
func (c *Collector) openLocked() {
	select {
	case <-c.ready:
		return
	default:
	}
	if c.cluster.Version == "" || !c.tallied {
		return
	}
	for name, state := range c.kinds {
		if !state.listed && (state.denied == "" || name == kindNodes) {
			return
		}
	}
	close(c.ready)
}

// expire settles nodes when their grace time ends.
func (c *Collector) expire(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-c.rearm:
		}
		c.mu.Lock()
		again := c.expireLocked(c.cfg.Now())
		c.mu.Unlock()
		if again.IsZero() {
			timer.Stop()
			continue
		}
		timer.Reset(again.Sub(c.cfg.Now()))
	}
}

// probe asks for the version, which says whether the API server is there, and
// for what is not watched.
func (c *Collector) probe(ctx context.Context) error {
	tick := time.NewTicker(c.cfg.Probe)
	defer tick.Stop()
	failures := 0
	for {
		err := c.ask(ctx)
		if ctx.Err() != nil {
			return nil
		}
		failures = c.judge(ctx, failures, err)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// judge counts failures in a row; one lost answer is no outage.
func (c *Collector) judge(ctx context.Context, failures int, err error) int {
	if err == nil {
		if failures > 1 {
			c.log.InfoContext(ctx, "the API server answers again")
		}
		c.cfg.Board.Clear(health.APIServerUnreachable)
		return 0
	}
	failures++
	if failures == 2 {
		c.log.WarnContext(ctx, "the API server does not answer", slog.Any(logkey.Error, err))
	}
	if failures > 1 {
		c.cfg.Board.Set(health.APIServerUnreachable,
			"the Kubernetes API server does not answer, so what is reported is what was last seen: "+err.Error())
	}
	return failures
}

func (c *Collector) ask(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, c.cfg.Probe/2, fmt.Errorf("no answer in %s", c.cfg.Probe/2))
	defer cancel()
	version, err := c.cfg.Server.Version(ctx)
	if err != nil {
		return errors.Join(err, context.Cause(ctx))
	}
	c.mu.Lock()
	known := c.cluster.Version == version && c.cluster.UID != ""
	c.mu.Unlock()
	if known {
		return nil
	}
	uid, err := c.cfg.Server.ClusterUID(ctx)
	if err != nil {
		return err
	}
	groups, err := c.cfg.Server.Groups(ctx)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cluster.UID, c.cluster.Version, c.groups = uid, version, groups
	c.describeClusterLocked()
	c.openLocked()
	return nil
}
