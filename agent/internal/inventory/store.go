package inventory

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/budecosystem/budcluster/internal/facts"
)

// store is where a reflector puts objects of type T: they become facts at once
// and are not kept.
type store[T any] struct {
	c         *Collector
	kind      kind
	key       func(T) string
	keys      func() []string // with mu held: what is known
	set       func(T)         // with mu held
	remove    func(key string)
	transform cache.TransformFunc
}

var _ cache.TransformingStore = (*store[*corev1.Node])(nil)

func (s *store[T]) Add(obj any) error { return s.apply(obj, s.set) }

func (s *store[T]) Update(obj any) error { return s.apply(obj, s.set) }

func (s *store[T]) Delete(obj any) error {
	return s.apply(obj, func(o T) { s.remove(s.key(o)) })
}

func (s *store[T]) apply(obj any, do func(T)) error {
	o, ok := obj.(T)
	if !ok {
		return fmt.Errorf("watch of %s yielded a %T", s.kind, obj)
	}
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	do(o)
	return nil
}

// Replace takes a whole list; what it lacks is gone.
func (s *store[T]) Replace(list []any, _ string) error {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	there := make(map[string]bool, len(list))
	for _, obj := range list {
		o, ok := obj.(T)
		if !ok {
			return fmt.Errorf("list of %s yielded a %T", s.kind, obj)
		}
		there[s.key(o)] = true
		s.set(o)
	}
	for _, key := range s.keys() {
		if !there[key] {
			s.remove(key)
		}
	}
	s.c.listedLocked(s.kind)
	return nil
}

// Resync has nothing to do: there is no queue.
func (s *store[T]) Resync() error { return nil }

// Transformer slims objects as soon as they are decoded, also while a first
// list gathers.
func (s *store[T]) Transformer() cache.TransformFunc { return s.transform }

func (c *Collector) nodeStore() cache.ReflectorStore {
	return &store[*corev1.Node]{
		c: c, kind: kindNodes, transform: slimNode,
		key:    func(n *corev1.Node) string { return n.Name },
		keys:   func() []string { return keysOf(c.nodes) },
		set:    c.setNodeLocked,
		remove: c.removeNodeLocked,
	}
}

func (c *Collector) podStore() cache.ReflectorStore {
	return &store[*corev1.Pod]{
		c: c, kind: kindPods, transform: slimPod,
		key:    func(p *corev1.Pod) string { return p.Namespace + "/" + p.Name },
		keys:   func() []string { return keysOf(c.pods) },
		set:    c.setPodLocked,
		remove: c.removePodLocked,
	}
}

const (
	defaultStorageClass = "storageclass.kubernetes.io/is-default-class"
	defaultIngressClass = "ingressclass.kubernetes.io/is-default-class"
)

func (c *Collector) storageClasses() cache.ReflectorStore {
	find := func(name string) (int, bool) {
		return slices.BinarySearchFunc(c.cluster.StorageClasses, name, func(s facts.StorageClass, n string) int { return strings.Compare(s.Name, n) })
	}
	return &store[*storagev1.StorageClass]{
		c: c, kind: kindStorageClasses,
		key: func(s *storagev1.StorageClass) string { return s.Name },
		keys: func() []string {
			return namesOf(c.cluster.StorageClasses, func(s facts.StorageClass) string { return s.Name })
		},
		set: func(obj *storagev1.StorageClass) {
			s := readStorageClass(obj)
			i, found := find(s.Name)
			if found {
				c.cluster.StorageClasses[i] = s
			} else {
				c.cluster.StorageClasses = slices.Insert(c.cluster.StorageClasses, i, s)
			}
			c.describeClusterLocked()
		},
		remove: func(name string) {
			if i, found := find(name); found {
				c.cluster.StorageClasses = slices.Delete(c.cluster.StorageClasses, i, i+1)
				c.describeClusterLocked()
			}
		},
	}
}

func readStorageClass(obj *storagev1.StorageClass) facts.StorageClass {
	s := facts.StorageClass{
		Name: obj.Name, Provisioner: obj.Provisioner, AccessMode: facts.AccessMode(obj.Provisioner),
		Default:    obj.Annotations[defaultStorageClass] == "true",
		Expandable: obj.AllowVolumeExpansion != nil && *obj.AllowVolumeExpansion,
		Parameters: facts.StorageParameters(obj.Parameters),
	}
	if obj.ReclaimPolicy != nil {
		s.ReclaimPolicy = string(*obj.ReclaimPolicy)
	}
	if obj.VolumeBindingMode != nil {
		s.BindingMode = string(*obj.VolumeBindingMode)
	}
	return s
}

func (c *Collector) ingressClasses() cache.ReflectorStore {
	find := func(name string) (int, bool) {
		return slices.BinarySearchFunc(c.cluster.IngressClasses, name, func(s facts.IngressClass, n string) int { return strings.Compare(s.Name, n) })
	}
	return &store[*networkingv1.IngressClass]{
		c: c, kind: kindIngressClasses,
		key: func(s *networkingv1.IngressClass) string { return s.Name },
		keys: func() []string {
			return namesOf(c.cluster.IngressClasses, func(s facts.IngressClass) string { return s.Name })
		},
		set: func(obj *networkingv1.IngressClass) {
			s := facts.IngressClass{Name: obj.Name, Controller: obj.Spec.Controller, Default: obj.Annotations[defaultIngressClass] == "true"}
			i, found := find(s.Name)
			if found {
				c.cluster.IngressClasses[i] = s
			} else {
				c.cluster.IngressClasses = slices.Insert(c.cluster.IngressClasses, i, s)
			}
			c.describeClusterLocked()
		},
		remove: func(name string) {
			if i, found := find(name); found {
				c.cluster.IngressClasses = slices.Delete(c.cluster.IngressClasses, i, i+1)
				c.describeClusterLocked()
			}
		},
	}
}

func keysOf[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	return keys
}

func namesOf[T any](list []T, name func(T) string) []string {
	names := make([]string, 0, len(list))
	for _, v := range list {
		names = append(names, name(v))
	}
	return names
}
