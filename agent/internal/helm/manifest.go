package helm

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"

	"helm.sh/helm/v3/pkg/kube"
	"helm.sh/helm/v3/pkg/releaseutil"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/client-go/discovery"
	"sigs.k8s.io/yaml"
)

// Object is one object of a release's manifest, as the chart has it.
type Object struct {
	*unstructured.Unstructured
	Resource   schema.GroupVersionResource
	Namespaced bool
	// Known is false when the API server has no such kind (any more).
	Known bool
}

// String is Kind/namespace/name.
func (o Object) String() string {
	if !o.Namespaced {
		return o.GetKind() + "/" + o.GetName()
	}
	return o.GetKind() + "/" + o.GetNamespace() + "/" + o.GetName()
}

// Kept reports whether the chart wants the object to outlive the release.
func (o Object) Kept() bool {
	return o.GetAnnotations()[kube.ResourcePolicyAnno] == kube.KeepPolicy
}

// Details is what a record says beside its labels.
type Details struct {
	ChartName, ChartVersion, AppVersion string
	// Description is Helm's last word on the revision.
	Description string
	// Objects of the manifest, hooks not included.
	Objects []Object
}

// Details decodes one record.
func (c *Client) Details(ctx context.Context, kinds *Kinds, ref Ref, revision int) (*Details, error) {
	rel, _, err := c.load(ref, revision)
	if err != nil {
		return nil, err
	}
	d := &Details{}
	if rel.Info != nil {
		d.Description = rel.Info.Description
	}
	if rel.Chart != nil && rel.Chart.Metadata != nil {
		d.ChartName, d.ChartVersion, d.AppVersion = rel.Chart.Name(), rel.Chart.Metadata.Version, rel.Chart.Metadata.AppVersion
	}
	objects, err := parseManifest(rel.Manifest)
	if err != nil {
		return nil, fmt.Errorf("read manifest of %s: %w", ref, err)
	}
	for _, u := range objects {
		o, err := kinds.object(ctx, u, ref)
		if err != nil {
			return nil, err
		}
		d.Objects = append(d.Objects, o)
	}
	return d, nil
}

func parseManifest(text string) ([]*unstructured.Unstructured, error) {
	docs := releaseutil.SplitManifests(text)
	keys := make([]string, 0, len(docs))
	for k := range docs {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) })
	var out []*unstructured.Unstructured
	for _, k := range keys {
		raw, err := yaml.YAMLToJSON([]byte(docs[k]))
		if err != nil {
			return nil, err
		}
		tree := map[string]any{}
		if err := utiljson.Unmarshal(raw, &tree); err != nil {
			return nil, err
		}
		u := &unstructured.Unstructured{Object: tree}
		if !u.IsList() {
			if u.GetKind() != "" && u.GetName() != "" {
				out = append(out, u)
			}
			continue
		}
		items, err := u.ToList()
		if err != nil {
			return nil, err
		}
		for i := range items.Items {
			out = append(out, &items.Items[i])
		}
	}
	return out, nil
}

// Kinds finds the resource of a kind. It keeps only the kinds that were asked
// for: the whole discovery of a cluster with many CRDs is megabytes.
type Kinds struct {
	disco discovery.ServerResourcesInterface

	mu    sync.Mutex // guards known
	known map[schema.GroupVersionKind]kind
}

type kind struct {
	resource   schema.GroupVersionResource
	namespaced bool
}

// NewKinds makes a Kinds over a discovery client.
func NewKinds(d discovery.ServerResourcesInterface) *Kinds {
	return &Kinds{disco: d, known: map[schema.GroupVersionKind]kind{}}
}

// Resource returns the resource of a kind; ok is false when the API server
// does not have it.
func (k *Kinds) Resource(ctx context.Context, gvk schema.GroupVersionKind) (gvr schema.GroupVersionResource, namespaced, ok bool, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if found, ok := k.known[gvk]; ok {
		return found.resource, found.namespaced, true, nil
	}
	if err := ctx.Err(); err != nil {
		return gvr, false, false, err
	}
	list, err := k.disco.ServerResourcesForGroupVersion(gvk.GroupVersion().String())
	if apierrors.IsNotFound(err) {
		return gvr, false, false, nil
	}
	if err != nil {
		return gvr, false, false, fmt.Errorf("look up %s: %w", gvk, err)
	}
	for _, r := range list.APIResources {
		if r.Kind == gvk.Kind && !isSubresource(r.Name) {
			found := kind{resource: gvk.GroupVersion().WithResource(r.Name), namespaced: r.Namespaced}
			k.known[gvk] = found
			return found.resource, found.namespaced, true, nil
		}
	}
	return gvr, false, false, nil
}

func isSubresource(name string) bool {
	for i := range len(name) {
		if name[i] == '/' {
			return true
		}
	}
	return false
}

// object completes a manifest's object as Helm does when it applies it.
func (k *Kinds) object(ctx context.Context, u *unstructured.Unstructured, ref Ref) (Object, error) {
	gvr, namespaced, ok, err := k.Resource(ctx, u.GroupVersionKind())
	if err != nil {
		return Object{}, err
	}
	switch {
	case ok && !namespaced:
		u.SetNamespace("")
	case u.GetNamespace() == "":
		u.SetNamespace(ref.Namespace)
	}
	labels, annotations := u.GetLabels(), u.GetAnnotations()
	if labels == nil {
		labels = map[string]string{}
	}
	if annotations == nil {
		annotations = map[string]string{}
	}
	labels["app.kubernetes.io/managed-by"] = "Helm"
	annotations["meta.helm.sh/release-name"] = ref.Name
	annotations["meta.helm.sh/release-namespace"] = ref.Namespace
	u.SetLabels(labels)
	u.SetAnnotations(annotations)
	return Object{Unstructured: u, Resource: gvr, Namespaced: namespaced || !ok, Known: ok}, nil
}
