package release

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/metadata"

	"github.com/budecosystem/budcluster/agent/api/v1alpha1"
	"github.com/budecosystem/budcluster/agent/internal/helm"
	"github.com/budecosystem/budcluster/agent/internal/kube"
	"github.com/budecosystem/budcluster/internal/facts"
)

// maxBefore bounds what is remembered of before. A cluster with more cannot be
// told from what the release made, so then nothing of that leftover is removed.
const maxBefore = 200

// cleaner looks after what a release leaves behind. What was there before the
// release is written down before its first install, in the status of its custom
// resource; whatever is not known to have come later stays.
type cleaner struct {
	dynamic  dynamic.Interface
	metadata metadata.Interface
	disco    discovery.ServerResourcesInterface
	kinds    *helm.Kinds
}

// remnant is one object that a leftover names.
type remnant struct {
	facts.Leftover
	resource schema.GroupVersionResource
	meta     metav1.ObjectMeta
	marks    []string // for a node: label or annotation keys
	kind     string
}

// String is Kind/namespace/name.
func (r remnant) String() string {
	if r.meta.Namespace == "" {
		return r.kind + "/" + r.meta.Name
	}
	return r.kind + "/" + r.meta.Namespace + "/" + r.meta.Name
}

func key(l facts.Leftover) string { return l.APIVersion + " " + l.String() }

// before writes down what is there of leftovers that were not looked for yet.
// Fresh forgets what was written down for an earlier life of the release.
func (c *cleaner) before(ctx context.Context, spec v1alpha1.ReleaseSpec, have *v1alpha1.Before, fresh bool) (*v1alpha1.Before, error) {
	if len(spec.Leftovers) == 0 && spec.NodeMarks == nil {
		return have, nil
	}
	next := &v1alpha1.Before{}
	if have != nil && !fresh {
		next = have.DeepCopy()
	}
	for _, l := range spec.Leftovers {
		if slices.Contains(next.Asked, key(l)) || l.Check(spec.Namespace) != nil {
			continue
		}
		found, err := c.find(ctx, l, spec.Namespace)
		if err != nil {
			return nil, err
		}
		if len(found)+len(next.Found) > maxBefore {
			continue
		}
		next.Asked = append(next.Asked, key(l))
		for _, r := range found {
			next.Found = append(next.Found, r.String())
		}
	}
	if marks := spec.NodeMarks; marks != nil && !next.Nodes && marks.Facts().Check() == nil {
		nodes, err := c.marked(ctx, marks.Facts())
		if err != nil {
			return nil, err
		}
		there := map[string]bool{}
		for _, n := range nodes {
			for _, k := range n.marks {
				there[k] = true
			}
		}
		if len(there) <= maxBefore {
			next.Nodes, next.Marks = true, slices.Sorted(maps.Keys(there))
		}
	}
	return next, nil
}

// remains is what an uninstalled release has left, the first kind of it first.
type remains struct {
	// ours are to be removed now; leaving go already.
	ours, leaving []remnant
	// kept says in sentences what stays, and why.
	kept []string
	// denied are those that we may not delete, by name.
	denied map[string]bool
}

// take has an object removed, unless that was forbidden.
func (o *remains) take(r remnant) {
	if o.denied[r.String()] {
		o.keep("%s stays: the agent may not remove it; its right is missing (rbac.components, rbac.installer.extraRules)", r)
		return
	}
	o.ours = append(o.ours, r)
}

// look finds what is to be removed next. Leftovers go in the order in which
// they are listed, neighbours of one kind together: whether a later one is still
// used shows when the earlier are gone.
func (c *cleaner) look(ctx context.Context, spec v1alpha1.ReleaseSpec, name string, before *v1alpha1.Before, denied map[string]bool) (*remains, error) {
	out := &remains{denied: denied}
	if before == nil {
		return out, nil
	}
	if err := c.lookAtNodes(ctx, spec, before, out); err != nil || len(out.ours) > 0 {
		return out, err
	}
	for i, l := range spec.Leftovers {
		if len(out.ours)+len(out.leaving) > 0 && l.Kind != spec.Leftovers[i-1].Kind {
			break
		}
		if why := l.Check(spec.Namespace); why != nil {
			out.keep("%v", why)
			continue
		}
		found, err := c.find(ctx, l, spec.Namespace)
		if err != nil {
			return nil, err
		}
		if len(found) > 0 && !slices.Contains(before.Asked, key(l)) {
			out.keep("%s stays: it is not known whether it was there before", l)
			continue
		}
		for _, r := range found {
			if err := c.sort(ctx, r, name, spec.Namespace, before, out); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

func (o *remains) keep(format string, args ...any) {
	o.kept = append(o.kept, fmt.Sprintf(format, args...))
}

// sort decides about one object.
func (c *cleaner) sort(ctx context.Context, r remnant, name, namespace string, before *v1alpha1.Before, out *remains) error {
	owner, ownerNamespace := r.meta.Annotations["meta.helm.sh/release-name"], r.meta.Annotations["meta.helm.sh/release-namespace"]
	switch {
	case slices.Contains(before.Found, r.String()):
		return nil // it was there before: no word is lost about it
	case r.meta.DeletionTimestamp != nil:
		out.leaving = append(out.leaving, r)
		return nil
	case owner != "" && (owner != name || ownerNamespace != namespace):
		out.keep("%s stays: it belongs to the Helm release %s", r, owner)
		return nil
	case !r.IfUnused:
		out.take(r)
		return nil
	}
	user, leaving, err := c.user(ctx, r, name)
	switch {
	case err != nil:
		return err
	case user == "":
		out.take(r)
	case leaving:
		out.leaving = append(out.leaving, r)
	default:
		out.keep("%s stays: %s uses it", r, user)
	}
	return nil
}

// find lists the objects that a leftover names.
func (c *cleaner) find(ctx context.Context, l facts.Leftover, namespace string) ([]remnant, error) {
	gvr, namespaced, ok, err := c.kinds.Resource(ctx, schema.FromAPIVersionAndKind(l.APIVersion, l.Kind))
	if err != nil || !ok {
		return nil, err
	}
	in := ""
	if namespaced {
		in = l.Namespace
		if in == "" {
			in = namespace
		}
	}
	client := c.metadata.Resource(gvr).Namespace(in)
	var items []metav1.PartialObjectMetadata
	if l.Object != "" && !strings.Contains(l.Object, "*") {
		one, err := client.Get(ctx, l.Object, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
			return nil, nil
		case err != nil:
			return nil, fmt.Errorf("look for %s: %w", l, err)
		}
		items = append(items, *one)
	} else {
		list, err := client.List(ctx, metav1.ListOptions{LabelSelector: l.Selector})
		if err != nil {
			return nil, fmt.Errorf("look for %s: %w", l, err)
		}
		items = list.Items
	}
	selector, err := labels.Parse(l.Selector)
	if err != nil {
		return nil, nil //nolint:nilerr // the hub has checked it; it selects nothing
	}
	var found []remnant
	for i := range items {
		if facts.MatchObject(l.Object, items[i].Name) && selector.Matches(labels.Set(items[i].Labels)) {
			found = append(found, remnant{Leftover: l, resource: gvr, meta: items[i].ObjectMeta, kind: l.Kind})
		}
	}
	return found, nil
}

// user names what uses a definition or lives in a namespace; leaving says that
// all of it is going already.
func (c *cleaner) user(ctx context.Context, r remnant, name string) (user string, leaving bool, err error) {
	switch r.kind {
	case facts.KindDefinition:
		return c.userOfDefinition(ctx, r)
	case facts.KindNamespace:
		residents, err := kube.Residents(ctx, c.disco, c.metadata, r.meta.Name)
		if err != nil {
			return "", false, err
		}
		for _, one := range residents {
			// Helm's records of this very release go with it.
			if one.Kind != "Secret" || one.Labels["owner"] != "helm" || one.Labels["name"] != name {
				return one.String(), one.DeletionTimestamp != nil, nil
			}
		}
	}
	return "", false, nil
}

func (c *cleaner) userOfDefinition(ctx context.Context, r remnant) (user string, leaving bool, err error) {
	definition, err := c.dynamic.Resource(r.resource).Get(ctx, r.meta.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return "", false, nil
	}
	if err != nil {
		return "", false, fmt.Errorf("read %s: %w", r, err)
	}
	gvr, ok := served(definition)
	if !ok {
		return "", false, nil
	}
	list, err := c.metadata.Resource(gvr).List(ctx, metav1.ListOptions{Limit: 1})
	switch {
	case apierrors.IsNotFound(err):
		return "", false, nil
	case apierrors.IsForbidden(err):
		return "perhaps something that the agent may not list", false, nil
	case err != nil:
		return "", false, fmt.Errorf("look whether %s is used: %w", r, err)
	case len(list.Items) == 0:
		return "", false, nil
	}
	one := &list.Items[0]
	text := gvr.Resource + " " + strings.TrimPrefix(one.Namespace+"/"+one.Name, "/")
	return text, one.DeletionTimestamp != nil, nil
}

// served is a version in which a definition's objects can be listed.
func served(definition *unstructured.Unstructured) (gvr schema.GroupVersionResource, ok bool) {
	group, _, _ := unstructured.NestedString(definition.Object, "spec", "group")
	plural, _, _ := unstructured.NestedString(definition.Object, "spec", "names", "plural")
	versions, _, _ := unstructured.NestedSlice(definition.Object, "spec", "versions")
	for _, v := range versions {
		version, isMap := v.(map[string]any)
		if name, _ := version["name"].(string); isMap && version["served"] == true {
			return schema.GroupVersionResource{Group: group, Version: name, Resource: plural}, true
		}
	}
	return gvr, false
}

// clear deletes what is ours. What may not be deleted is told, and does not
// hold up the rest.
func (c *cleaner) clear(ctx context.Context, ours []remnant) (denied []string, err error) {
	background := metav1.DeletePropagationBackground
	for _, r := range ours {
		if r.marks != nil {
			err = c.unmark(ctx, r)
		} else {
			uid := r.meta.UID
			err = c.metadata.Resource(r.resource).Namespace(r.meta.Namespace).Delete(ctx, r.meta.Name, metav1.DeleteOptions{
				PropagationPolicy: &background, Preconditions: &metav1.Preconditions{UID: &uid},
			})
		}
		switch {
		case err == nil, apierrors.IsNotFound(err), apierrors.IsConflict(err):
		case apierrors.IsForbidden(err), apierrors.IsMethodNotSupported(err):
			denied = append(denied, r.String())
		default:
			return denied, fmt.Errorf("delete %s: %w", r, err)
		}
	}
	return denied, nil
}

func nodes() schema.GroupVersionResource {
	return schema.GroupVersionResource{Version: "v1", Resource: "nodes"}
}

// marked lists the nodes that carry marks, with their keys.
func (c *cleaner) marked(ctx context.Context, marks facts.NodeMarks) ([]remnant, error) {
	list, err := c.metadata.Resource(nodes()).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("look for marks on nodes: %w", err)
	}
	var out []remnant
	for i := range list.Items {
		n := &list.Items[i]
		r := remnant{resource: nodes(), meta: n.ObjectMeta, kind: "Node"}
		for prefix, of := range map[string]struct {
			patterns []string
			have     map[string]string
		}{"l:": {marks.Labels, n.Labels}, "a:": {marks.Annotations, n.Annotations}} {
			for k := range of.have {
				if slices.ContainsFunc(of.patterns, func(p string) bool { return facts.MatchObject(p, k) }) {
					r.marks = append(r.marks, prefix+k)
				}
			}
		}
		if slices.Sort(r.marks); len(r.marks) > 0 {
			out = append(out, r)
		}
	}
	return out, nil
}

func (c *cleaner) lookAtNodes(ctx context.Context, spec v1alpha1.ReleaseSpec, before *v1alpha1.Before, out *remains) error {
	if spec.NodeMarks == nil {
		return nil
	}
	marks := spec.NodeMarks.Facts()
	if why := marks.Check(); why != nil {
		out.keep("%v", why)
		return nil
	}
	if !before.Nodes {
		out.keep("marks on nodes stay: it is not known whether they were there before")
		return nil
	}
	found, err := c.marked(ctx, marks)
	if err != nil {
		return err
	}
	for _, r := range found {
		r.marks = slices.DeleteFunc(r.marks, func(k string) bool { return slices.Contains(before.Marks, k) })
		if len(r.marks) > 0 {
			out.take(r)
		}
	}
	return nil
}

// unmark takes the marks off a node.
func (c *cleaner) unmark(ctx context.Context, r remnant) error {
	labels, annotations := map[string]any{}, map[string]any{}
	for _, k := range r.marks {
		kind, name, _ := strings.Cut(k, ":")
		if kind == "l" {
			labels[name] = nil
		} else {
			annotations[name] = nil
		}
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"labels": labels, "annotations": annotations}})
	if err != nil {
		return err
	}
	_, err = c.metadata.Resource(nodes()).Patch(ctx, r.meta.Name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: fieldManager})
	return err
}
