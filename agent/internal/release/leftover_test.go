package release_test

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"github.com/budecosystem/budcluster/agent/internal/helm/helmtest"
	"github.com/budecosystem/budcluster/agent/internal/release"
	agentv1 "github.com/budecosystem/budcluster/proto/agent/v1"
)

func definitionOf(plural, kind string) string {
	return `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: ` + plural + `.left.test}
spec:
  group: left.test
  scope: Namespaced
  names: {kind: ` + kind + `, plural: ` + plural + `}
  versions:
  - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}
`
}

func definitions() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
}

func crdLeftover(plural string, ifUnused bool) *agentv1.Leftover {
	return &agentv1.Leftover{ApiVersion: "apiextensions.k8s.io/v1", Kind: "CustomResourceDefinition", Object: plural + ".left.test", IfUnused: ifUnused}
}

func (b *bench) dynamic(t *testing.T) dynamic.Interface {
	t.Helper()
	d, err := dynamic.NewForConfig(kube.Config())
	require.NoError(t, err)
	return d
}

func (b *bench) secret(t *testing.T, namespace, name string, labels map[string]string) {
	t.Helper()
	_, err := b.typed.CoreV1().Secrets(namespace).Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}, metav1.CreateOptions{})
	require.NoError(t, err)
}

func exists(t *testing.T, err error) bool {
	t.Helper()
	if apierrors.IsNotFound(err) {
		return false
	}
	require.NoError(t, err)
	return true
}

// TestLeftovers: what the release left behind goes after it, and nothing that
// was there before, that is used, or that is somebody else's.
func TestLeftovers(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx, d := t.Context(), b.dynamic(t)
	own := b.target + "-own" // a namespace that the release makes
	labels := map[string]string{"made": "here"}
	b.secret(t, b.target, "made-before", labels)
	_, err := b.typed.CoreV1().Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{
		Name: own, Labels: map[string]string{"left.test/before": "x", "kubernetes.io/os": "linux"},
	}}, metav1.CreateOptions{})
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = b.typed.CoreV1().Nodes().Delete(context.WithoutCancel(ctx), own, metav1.DeleteOptions{})
	})

	r := b.wanted("web", 1, b.chart(t, "1.0.0", map[string]string{
		"templates/cm.yaml": helmtest.ConfigMapTemplate,
		"crds/plain.yaml":   definitionOf("plains", "Plain"), "crds/used.yaml": definitionOf("useds", "Used"), "crds/unused.yaml": definitionOf("unuseds", "Unused"),
	}), `{"word":"one"}`)
	r.Namespace, r.Spec.CreateNamespace = own, true
	r.Spec.Leftovers = []*agentv1.Leftover{
		{ApiVersion: "v1", Kind: "Secret", Namespace: b.target, Selector: "made=here"},
		{ApiVersion: "coordination.k8s.io/v1", Kind: "Lease", Object: "*-leader"},
		crdLeftover("plains", false), crdLeftover("useds", true), crdLeftover("unuseds", true),
		{ApiVersion: "v1", Kind: "Node", Object: own}, // never
		{ApiVersion: "nothing.test/v1", Kind: "Nothing", Object: "x"},
		{ApiVersion: "v1", Kind: "Namespace", Object: own, IfUnused: true},
	}
	r.Spec.NodeMarks = &agentv1.NodeMarks{Labels: []string{"left.test/*"}, Annotations: []string{"left.test/*"}}
	b.upsert(t, r)
	b.awaitPhase(t, r, agentv1.PhaseReady)

	// What its operator would make, and what others do.
	b.secret(t, b.target, "made-later", labels)
	b.secret(t, b.target, "somebodys", nil)
	lease := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": map[string]any{"name": "operator-leader"}}}
	_, err = d.Resource(schema.GroupVersionResource{Group: "coordination.k8s.io", Version: "v1", Resource: "leases"}).Namespace(own).Create(ctx, lease, metav1.CreateOptions{})
	require.NoError(t, err)
	for plural, kind := range map[string]string{"plains": "Plain", "useds": "Used"} {
		_, err = d.Resource(schema.GroupVersionResource{Group: "left.test", Version: "v1", Resource: plural}).Namespace(b.target).Create(ctx,
			&unstructured.Unstructured{Object: map[string]any{"apiVersion": "left.test/v1", "kind": kind, "metadata": map[string]any{"name": "one"}}}, metav1.CreateOptions{})
		require.NoError(t, err)
	}
	node, err := b.typed.CoreV1().Nodes().Get(ctx, own, metav1.GetOptions{})
	require.NoError(t, err)
	node.Labels["left.test/gpu"], node.Annotations = "a100", map[string]string{"left.test/note": "n", "other.test/x": "y"}
	_, err = b.typed.CoreV1().Nodes().Update(ctx, node, metav1.UpdateOptions{})
	require.NoError(t, err)

	r.Generation, r.Digest, r.Removed = 2, "sha256:2", true
	b.upsert(t, r)
	s := b.await(t, r.GetId(), "the namespace", func(s *agentv1.ReleaseStatus) bool {
		return s.GetReason() == release.ReasonObjectsRemain && strings.Contains(s.GetMessage(), "Namespace/"+own)
	})
	require.Contains(t, s.GetMessage(), "to be gone")
	secrets := b.typed.CoreV1().Secrets(b.target)
	_, err = secrets.Get(ctx, "made-later", metav1.GetOptions{})
	require.False(t, exists(t, err))
	for _, name := range []string{"made-before", "somebodys"} {
		_, err = secrets.Get(ctx, name, metav1.GetOptions{})
		require.True(t, exists(t, err), name)
	}
	for plural, stays := range map[string]bool{"plains": false, "unuseds": false, "useds": true} {
		_, err = d.Resource(definitions()).Get(ctx, plural+".left.test", metav1.GetOptions{})
		require.Equal(t, stays, exists(t, err), plural)
	}
	node, err = b.typed.CoreV1().Nodes().Get(ctx, own, metav1.GetOptions{})
	require.NoError(t, err)
	require.Equal(t, map[string]string{"left.test/before": "x", "kubernetes.io/os": "linux"}, node.Labels)
	require.Equal(t, map[string]string{"other.test/x": "y"}, node.Annotations)
	// No controller finishes the namespace here; that it was asked to go is what
	// there is to see.
	ns, err := b.typed.CoreV1().Namespaces().Get(ctx, own, metav1.GetOptions{})
	if exists(t, err) {
		require.NotNil(t, ns.DeletionTimestamp)
	}
	require.NoError(t, d.Resource(definitions()).Delete(ctx, "useds.left.test", metav1.DeleteOptions{}))
}

// TestLeftoversOfAForeignRelease are not ours to remove, and neither are those
// that were first named when they were there already.
func TestLeftoversThatStay(t *testing.T) {
	t.Parallel()
	b := setup(t)
	labels := map[string]string{"made": "here"}
	r := b.wanted("web", 1, b.chart(t, "1.0.0", simple()), `{"word":"one"}`)
	b.upsert(t, r)
	b.awaitPhase(t, r, agentv1.PhaseReady)
	b.secret(t, b.target, "made-first", labels)
	b.secret(t, b.target, "helms", labels)
	s, err := b.typed.CoreV1().Secrets(b.target).Get(t.Context(), "helms", metav1.GetOptions{})
	require.NoError(t, err)

	// Named by a later generation: what is there now was there before.
	r = b.wanted("web", 2, b.chart(t, "1.1.0", simple()), `{"word":"two"}`)
	r.Spec.Leftovers = []*agentv1.Leftover{{ApiVersion: "v1", Kind: "Secret", Selector: "made=here"}}
	b.upsert(t, r)
	b.awaitPhase(t, r, agentv1.PhaseReady)
	b.secret(t, b.target, "made-second", labels)
	require.NoError(t, b.typed.CoreV1().Secrets(b.target).Delete(t.Context(), "helms", metav1.DeleteOptions{}))
	s.ObjectMeta = metav1.ObjectMeta{Name: "others", Labels: labels, Annotations: map[string]string{
		"meta.helm.sh/release-name": "other", "meta.helm.sh/release-namespace": b.target,
	}}
	_, err = b.typed.CoreV1().Secrets(b.target).Create(t.Context(), s, metav1.CreateOptions{})
	require.NoError(t, err)

	r = b.wanted("web", 3, r.GetSpec().GetChart(), "")
	r.Spec.Leftovers = []*agentv1.Leftover{
		{ApiVersion: "v1", Kind: "Secret", Selector: "made=here"},
		{ApiVersion: "v1", Kind: "ConfigMap", Object: "kube-root-ca.crt"}, // never looked for before
	}
	r.Removed = true
	b.upsert(t, r)
	got := b.awaitPhase(t, r, agentv1.PhaseRemoved)
	require.Contains(t, got.GetMessage(), "Secret/"+b.target+"/others stays: it belongs to the Helm release other")
	for name, stays := range map[string]bool{"made-first": true, "others": true, "made-second": false} {
		_, err = b.typed.CoreV1().Secrets(b.target).Get(t.Context(), name, metav1.GetOptions{})
		require.Equal(t, stays, exists(t, err), name)
	}
}
