package presence

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"

	"github.com/budecosystem/budcluster/internal/backoff"
	"github.com/budecosystem/budcluster/internal/facts"
	"github.com/budecosystem/budcluster/internal/logkey"
)

// source watches one kind and keeps what a probe asks for.
type source struct {
	look      *look
	gvk       schema.GroupVersionKind
	questions []question

	// Guarded by look.mu.
	seen    map[string]sighting // by object, and for Helm by record
	settled bool                // listed once, or refused, or not there
	denied  string              // why it may not be listed
}

// answerLocked answers one question about this kind.
func (s *source) answerLocked(q question) []facts.Presence {
	if s.denied != "" {
		return []facts.Presence{{Probe: q.Name, State: facts.PresenceUnknown, Reason: s.denied}}
	}
	var found []facts.Presence
	for _, one := range current(s.seen) {
		if one.matches(q) {
			found = append(found, one.presence(q))
		}
	}
	if len(found) == 0 {
		return []facts.Presence{{Probe: q.Name, State: facts.PresenceAbsent}}
	}
	slices.SortFunc(found, facts.ComparePresence)
	return found[:min(len(found), facts.MaxPresences)]
}

// run lists and watches again and again.
func (s *source) run(ctx context.Context) error {
	retry := backoff.New(time.Second, s.look.w.cfg.Again)
	for ctx.Err() == nil {
		began := time.Now()
		wait, err := s.once(ctx)
		if ctx.Err() != nil {
			break
		}
		if time.Since(began) > time.Minute {
			retry.Reset()
		}
		if err != nil {
			s.look.w.cfg.Logger.DebugContext(ctx, "watch ended", slog.String(logkey.WatchedKind, s.gvk.Kind), slog.Any(logkey.Error, err))
		}
		if wait == 0 {
			wait = retry.Next()
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
	}
	return nil //nolint:nilerr // what ended a watch is logged, and it began again
}

// once watches until that ends. A wait of 0 leaves it to the caller.
func (s *source) once(ctx context.Context) (wait time.Duration, err error) {
	again := s.look.w.cfg.Again
	lw, object, ok, err := s.lister(ctx)
	if err != nil {
		return 0, err
	}
	if !ok { // no such kind: nothing of it is there
		s.settle("", true)
		return again, nil
	}
	reflector := cache.NewReflectorWithOptions(lw, object, s, cache.ReflectorOptions{Name: "presence/" + s.gvk.Kind})
	err = reflector.ListAndWatchWithContext(ctx)
	switch {
	case apierrors.IsForbidden(err):
		s.settle(err.Error(), false)
		return again, err
	case apierrors.IsNotFound(err), apierrors.IsMethodNotSupported(err): // its definition went
		s.settle("", true)
		return again, err
	}
	return 0, err
}

// settle notes that the kind cannot be listed, or that there is none of it.
func (s *source) settle(denied string, empty bool) {
	s.look.mu.Lock()
	defer s.look.mu.Unlock()
	s.settled, s.denied = true, denied
	if empty {
		clear(s.seen)
	}
	s.look.stir()
}

// helmKind is what stands for Helm's own records.
func helmKind() schema.GroupVersionKind {
	return schema.FromAPIVersionAndKind(facts.ProbeHelm, "Release")
}

// lister makes the list and watch of the kind; ok is false when the API server
// does not have it.
func (s *source) lister(ctx context.Context) (lw cache.ListerWatcher, object runtime.Object, ok bool, err error) {
	cfg := s.look.w.cfg
	apps := cfg.Typed.AppsV1()
	switch s.gvk {
	case appsv1.SchemeGroupVersion.WithKind("Deployment"):
		return listWatch(apps.Deployments(metav1.NamespaceAll), ""), &appsv1.Deployment{}, true, nil
	case appsv1.SchemeGroupVersion.WithKind("DaemonSet"):
		return listWatch(apps.DaemonSets(metav1.NamespaceAll), ""), &appsv1.DaemonSet{}, true, nil
	case appsv1.SchemeGroupVersion.WithKind("StatefulSet"):
		return listWatch(apps.StatefulSets(metav1.NamespaceAll), ""), &appsv1.StatefulSet{}, true, nil
	case helmKind():
		secrets := cfg.Metadata.Resource(schema.GroupVersionResource{Version: "v1", Resource: "secrets"})
		return listWatch(secrets, "owner=helm"), &metav1.PartialObjectMetadata{}, true, nil
	}
	gvr, _, ok, err := cfg.Kinds.Resource(ctx, s.gvk)
	if err != nil || !ok {
		return nil, nil, false, err
	}
	return listWatch(cfg.Metadata.Resource(gvr), ""), &metav1.PartialObjectMetadata{}, true, nil
}

// client is the part of a client that a watch needs.
type client[L runtime.Object] interface {
	List(ctx context.Context, opts metav1.ListOptions) (L, error)
	Watch(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error)
}

func listWatch[L runtime.Object](c client[L], selector string) cache.ListerWatcher {
	return &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.LabelSelector = selector
			return c.List(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.LabelSelector = selector
			return c.Watch(ctx, o)
		},
	}
}

// source is where its reflector puts objects: what no probe asks for is
// dropped.
var _ cache.TransformingStore = (*source)(nil)

// Transformer slims objects as soon as they are decoded.
func (s *source) Transformer() cache.TransformFunc { return slim }

// Add is cache.ReflectorStore's.
func (s *source) Add(obj any) error { return s.Update(obj) }

// Update is cache.ReflectorStore's.
func (s *source) Update(obj any) error {
	s.look.mu.Lock()
	defer s.look.mu.Unlock()
	s.putLocked(obj)
	return nil
}

func (s *source) putLocked(obj any) {
	one, ok := sightingOf(obj)
	if !ok {
		return
	}
	key := one.key()
	before, had := s.seen[key]
	if !slices.ContainsFunc(s.questions, one.matches) {
		if had {
			delete(s.seen, key)
			s.look.stir()
		}
		return
	}
	if !had || !one.same(before) {
		s.seen[key] = one
		s.look.stir()
	}
}

// Delete is cache.ReflectorStore's.
func (s *source) Delete(obj any) error {
	one, ok := sightingOf(obj)
	if !ok {
		return nil
	}
	s.look.mu.Lock()
	defer s.look.mu.Unlock()
	if _, had := s.seen[one.key()]; had {
		delete(s.seen, one.key())
		s.look.stir()
	}
	return nil
}

// Replace takes a whole list; what it lacks is gone.
func (s *source) Replace(list []any, _ string) error {
	s.look.mu.Lock()
	defer s.look.mu.Unlock()
	there := make(map[string]bool, len(list))
	for _, obj := range list {
		if one, ok := sightingOf(obj); ok {
			there[one.key()] = true
		}
		s.putLocked(obj)
	}
	for key := range s.seen {
		if !there[key] {
			delete(s.seen, key)
		}
	}
	s.settled, s.denied = true, ""
	s.look.stir()
	return nil
}

// Resync has nothing to do: there is no queue.
func (s *source) Resync() error { return nil }

// current is what stands for each thing: of Helm's records the one with the
// highest revision, unless it says that the release was uninstalled.
func current(seen map[string]sighting) []sighting {
	var out []sighting
	last := map[string]sighting{}
	for _, one := range seen {
		if one.revision == 0 {
			out = append(out, one)
			continue
		}
		name := one.namespace + "/" + one.object
		if have, ok := last[name]; !ok || one.revision > have.revision {
			last[name] = one
		}
	}
	for _, one := range last {
		if !strings.HasPrefix(one.status, "uninstall") {
			out = append(out, one)
		}
	}
	return out
}
