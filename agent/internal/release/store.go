package release

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"

	"github.com/budecosystem/budcluster/agent/api/v1alpha1"
)

const (
	labelManagedBy = "app.kubernetes.io/managed-by"
	managedBy      = "budcluster-agent"

	// maxValues bounds values and secret values together: both have to fit
	// into one Secret (1 MiB), and into Helm's own record.
	maxValues = 512 << 10
	// inlineValues is up to where values are shown in the custom resource.
	inlineValues = 64 << 10
)

var (
	errNotFound = errors.New("no such release")
	// errValuesMissing: the Secret lacks what the spec points at.
	errValuesMissing = errors.New("the release's values are not in the cluster")
)

// store keeps releases as custom resources in the agent's namespace, and
// their large and secret values in Secrets owned by them.
type store struct {
	typed     kubernetes.Interface
	resources dynamic.ResourceInterface
	namespace string
}

func newStore(typed kubernetes.Interface, dyn dynamic.Interface, namespace string) *store {
	return &store{typed: typed, namespace: namespace, resources: dyn.Resource(v1alpha1.GroupVersionResource()).Namespace(namespace)}
}

func (s *store) list(ctx context.Context) ([]*v1alpha1.Release, error) {
	list, err := s.resources.List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list releases: %w", err)
	}
	out := make([]*v1alpha1.Release, 0, len(list.Items))
	for i := range list.Items {
		cr, err := fromUnstructured(&list.Items[i])
		if err != nil {
			return nil, err
		}
		out = append(out, cr)
	}
	return out, nil
}

func (s *store) get(ctx context.Context, name string) (*v1alpha1.Release, error) {
	u, err := s.resources.Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, errNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("read release %s: %w", name, err)
	}
	return fromUnstructured(u)
}

func (s *store) byID(ctx context.Context, id string) (*v1alpha1.Release, error) {
	all, err := s.list(ctx)
	if err != nil {
		return nil, err
	}
	for _, cr := range all {
		if cr.Spec.ID == id {
			return cr, nil
		}
	}
	return nil, errNotFound
}

func fromUnstructured(u *unstructured.Unstructured) (*v1alpha1.Release, error) {
	raw, err := json.Marshal(u.Object)
	if err != nil {
		return nil, fmt.Errorf("read release %s: %w", u.GetName(), err)
	}
	cr := &v1alpha1.Release{}
	if err := json.Unmarshal(raw, cr); err != nil {
		return nil, fmt.Errorf("read release %s: %w", u.GetName(), err)
	}
	return cr, nil
}

func toUnstructured(cr *v1alpha1.Release) (*unstructured.Unstructured, error) {
	cr.APIVersion, cr.Kind = v1alpha1.APIVersion(), v1alpha1.Kind
	raw, err := json.Marshal(cr)
	if err != nil {
		return nil, fmt.Errorf("write release %s: %w", cr.Name, err)
	}
	u := &unstructured.Unstructured{}
	if err := u.UnmarshalJSON(raw); err != nil {
		return nil, fmt.Errorf("write release %s: %w", cr.Name, err)
	}
	return u, nil
}

// values is what a release carries beside its spec.
type values struct{ plain, secret json.RawMessage }

// put writes a spec and its values so that a crash in between leaves the old
// pair or the new pair: the Secret holds both generations until the custom
// resource points at the new one.
func (s *store) put(ctx context.Context, name string, spec v1alpha1.ReleaseSpec, v values) (*v1alpha1.Release, error) {
	keys := place(&spec, name, v)
	cr, err := s.get(ctx, name)
	if errors.Is(err, errNotFound) {
		cr, err = s.create(ctx, name, spec)
		if err != nil {
			return nil, err
		}
		return cr, s.putValues(ctx, cr, keys, true)
	}
	if err != nil {
		return nil, err
	}
	if err := s.putValues(ctx, cr, keys, false); err != nil {
		return nil, err
	}
	if cr.Spec.ID != spec.ID {
		cr.Status = v1alpha1.ReleaseStatus{}
	}
	cr.Spec = spec
	u, err := toUnstructured(cr)
	if err != nil {
		return nil, err
	}
	u, err = s.resources.Update(ctx, u, metav1.UpdateOptions{FieldManager: managedBy})
	if err != nil {
		return nil, fmt.Errorf("write release %s: %w", name, err)
	}
	if cr, err = fromUnstructured(u); err != nil {
		return nil, err
	}
	return cr, s.putValues(ctx, cr, keys, true)
}

// place decides where values lie: small ones in the spec, large and secret
// ones in the Secret under keys of this generation.
func place(spec *v1alpha1.ReleaseSpec, name string, v values) map[string][]byte {
	keys := map[string][]byte{}
	ref := &v1alpha1.ValuesRef{Secret: secretName(name)}
	prefix := fmt.Sprintf("%s.%d.", shortID(spec.ID), spec.Generation)
	spec.Values, spec.ValuesRef = nil, nil
	if len(v.plain) > inlineValues {
		ref.ValuesKey = prefix + "values.json"
		keys[ref.ValuesKey] = v.plain
	} else if len(v.plain) > 0 {
		spec.Values = v.plain
	}
	if len(v.secret) > 0 {
		ref.SecretValuesKey = prefix + "secret-values.json"
		keys[ref.SecretValuesKey] = v.secret
	}
	if len(keys) > 0 {
		spec.ValuesRef = ref
	}
	return keys
}

func secretName(release string) string { return "release-" + release + "-values" }

func shortID(id string) string {
	id = strings.ReplaceAll(id, "-", "")
	return id[max(0, len(id)-12):]
}

func (s *store) create(ctx context.Context, name string, spec v1alpha1.ReleaseSpec) (*v1alpha1.Release, error) {
	cr := &v1alpha1.Release{Spec: spec}
	cr.Name, cr.Namespace = name, s.namespace
	cr.Labels = map[string]string{labelManagedBy: managedBy}
	u, err := toUnstructured(cr)
	if err != nil {
		return nil, err
	}
	u, err = s.resources.Create(ctx, u, metav1.CreateOptions{FieldManager: managedBy})
	if err != nil {
		return nil, fmt.Errorf("write release %s: %w", name, err)
	}
	return fromUnstructured(u)
}

// putValues makes the owned Secret hold keys; only them when exact. It is
// deleted when nothing is left to hold.
func (s *store) putValues(ctx context.Context, cr *v1alpha1.Release, keys map[string][]byte, exact bool) error {
	secrets := s.typed.CoreV1().Secrets(s.namespace)
	name := secretName(cr.Name)
	have, err := secrets.Get(ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err) && len(keys) == 0:
		return nil
	case apierrors.IsNotFound(err):
		have = &corev1.Secret{ObjectMeta: metav1.ObjectMeta{
			Name: name, Labels: map[string]string{labelManagedBy: managedBy},
			OwnerReferences: []metav1.OwnerReference{ownerOf(cr)},
		}, Data: keys}
		if _, err := secrets.Create(ctx, have, metav1.CreateOptions{FieldManager: managedBy}); err != nil {
			return fmt.Errorf("write values of %s: %w", cr.Name, err)
		}
		return nil
	case err != nil:
		return fmt.Errorf("read values of %s: %w", cr.Name, err)
	case exact && len(keys) == 0:
		return s.deleteValues(ctx, cr.Name)
	}
	data := map[string][]byte{}
	if !exact && size(have.Data)+size(keys) < 2*maxValues-(32<<10) {
		maps.Copy(data, have.Data)
	}
	maps.Copy(data, keys)
	owners := []metav1.OwnerReference{ownerOf(cr)}
	if equality.Semantic.DeepEqual(have.Data, data) && equality.Semantic.DeepEqual(have.OwnerReferences, owners) {
		return nil
	}
	have.Data, have.OwnerReferences = data, owners
	if _, err := secrets.Update(ctx, have, metav1.UpdateOptions{FieldManager: managedBy}); err != nil {
		return fmt.Errorf("write values of %s: %w", cr.Name, err)
	}
	return nil
}

func size(data map[string][]byte) int {
	n := 0
	for _, v := range data {
		n += len(v)
	}
	return n
}

func ownerOf(cr *v1alpha1.Release) metav1.OwnerReference {
	return metav1.OwnerReference{APIVersion: v1alpha1.APIVersion(), Kind: v1alpha1.Kind, Name: cr.Name, UID: cr.UID}
}

func (s *store) deleteValues(ctx context.Context, name string) error {
	err := s.typed.CoreV1().Secrets(s.namespace).Delete(ctx, secretName(name), metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete values of %s: %w", name, err)
	}
	return nil
}

// values reads back what put wrote.
func (s *store) values(ctx context.Context, cr *v1alpha1.Release) (values, error) {
	v := values{plain: cr.Spec.Values}
	ref := cr.Spec.ValuesRef
	if ref == nil {
		return v, nil
	}
	secret, err := s.typed.CoreV1().Secrets(s.namespace).Get(ctx, ref.Secret, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return v, errValuesMissing
	}
	if err != nil {
		return v, fmt.Errorf("read values of %s: %w", cr.Name, err)
	}
	for key, to := range map[string]*json.RawMessage{ref.ValuesKey: &v.plain, ref.SecretValuesKey: &v.secret} {
		if key == "" {
			continue
		}
		data, ok := secret.Data[key]
		if !ok {
			return v, errValuesMissing
		}
		*to = data
	}
	return v, nil
}

// writeStatus replaces the status. The spec may have changed meanwhile; the
// status says which generation it speaks of.
func (s *store) writeStatus(ctx context.Context, cr *v1alpha1.Release, status v1alpha1.ReleaseStatus) error {
	for range 5 {
		next := *cr
		next.Status = status
		u, err := toUnstructured(&next)
		if err != nil {
			return err
		}
		u, err = s.resources.UpdateStatus(ctx, u, metav1.UpdateOptions{FieldManager: managedBy})
		if err == nil {
			cr.ResourceVersion, cr.Status = u.GetResourceVersion(), status
			return nil
		}
		if !apierrors.IsConflict(err) {
			return fmt.Errorf("write status of %s: %w", cr.Name, err)
		}
		now, err := s.get(ctx, cr.Name)
		if err != nil {
			return err
		}
		if now.UID != cr.UID || now.Spec.ID != cr.Spec.ID {
			return fmt.Errorf("write status of %s: %w", cr.Name, errNotFound)
		}
		cr.ResourceVersion = now.ResourceVersion
	}
	return fmt.Errorf("write status of %s: changed too often", cr.Name)
}

// forget deletes the record, and what belongs to it.
func (s *store) forget(ctx context.Context, cr *v1alpha1.Release) error {
	uid := cr.UID
	err := s.resources.Delete(ctx, cr.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return fmt.Errorf("delete release %s: %w", cr.Name, err)
	}
	if err := s.deleteValues(ctx, cr.Name); err != nil {
		return err
	}
	return deleteLease(ctx, s.typed, s.namespace, cr.Name)
}
