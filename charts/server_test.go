package charts_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/restmapper"

	"github.com/budecosystem/budcluster/agent/agenttest"
)

// server takes objects as kubectl apply --server-side --validate=strict gives
// them: a field that it does not know, or a value that it would not take, is an
// error.
type server struct {
	client dynamic.Interface
	mapper meta.RESTMapper
}

func newServer(t *testing.T) server {
	t.Helper()
	kube, err := agenttest.StartKube()
	require.NoError(t, err)
	t.Cleanup(kube.Stop)
	_, err = kube.Client(t).CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, metav1.CreateOptions{})
	require.NoError(t, err)
	client, err := dynamic.NewForConfig(kube.Config())
	require.NoError(t, err)
	found, err := discovery.NewDiscoveryClientForConfig(kube.Config())
	require.NoError(t, err)
	groups, err := restmapper.GetAPIGroupResources(found)
	require.NoError(t, err)
	return server{client: client, mapper: restmapper.NewDiscoveryRESTMapper(groups)}
}

func (s server) apply(t *testing.T, o *unstructured.Unstructured, dryRun ...string) error {
	t.Helper()
	gvk := o.GroupVersionKind()
	mapping, err := s.mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	if err != nil {
		return err
	}
	var to dynamic.ResourceInterface = s.client.Resource(mapping.Resource)
	if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
		to = s.client.Resource(mapping.Resource).Namespace(o.GetNamespace())
	}
	content, err := o.MarshalJSON()
	require.NoError(t, err)
	_, err = to.Patch(t.Context(), o.GetName(), "application/apply-patch+yaml", content,
		metav1.PatchOptions{FieldManager: "test", DryRun: dryRun, FieldValidation: metav1.FieldValidationStrict})
	return err
}

// foreign are the kinds whose definitions others bring.
func foreign() []string { return []string{"ServiceMonitor", "HTTPRoute", "Component"} }

// TestAnAPIServerTakesEverything gives every object of every values file of
// both charts to a real API server.
func TestAnAPIServerTakesEverything(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	all := map[string][]*unstructured.Unstructured{}
	for name, v := range cases(t) {
		files, err := render(t, v)
		require.NoError(t, err)
		all["agent-"+name] = objects(t, files)
	}
	for name, v := range hubCases(t) {
		all["hub-"+name] = hubObjects(t, v)
	}
	for name, objects := range all {
		taken := 0
		for _, o := range objects {
			err := s.apply(t, o, metav1.DryRunAll)
			if slices.Contains(foreign(), o.GetKind()) {
				require.True(t, meta.IsNoMatchError(err), "%s: %s %s: %v", name, o.GetKind(), o.GetName(), err)
				continue
			}
			require.NoError(t, err, "%s: %s %s", name, o.GetKind(), o.GetName())
			taken++
		}
		require.Greater(t, taken, 4, name)
	}
	t.Run("and refuses what is wrong", func(t *testing.T) {
		t.Parallel()
		bad := pick(t, all["hub-default"], "Deployment", "").DeepCopy()
		require.NoError(t, unstructured.SetNestedField(bad.Object, "x", "spec", "template", "spec", "no-such-field"))
		require.ErrorContains(t, s.apply(t, bad, metav1.DryRunAll), "no-such-field")
	})
	t.Run("but never a second encryption key", func(t *testing.T) {
		t.Parallel()
		requireKeyStays(t, s)
	})
}

// requireKeyStays: whoever renders the chart without seeing the cluster (`helm
// template`, Argo CD) gets a new key each time. The API server refuses it, so
// that the one in use is not lost.
func requireKeyStays(t *testing.T, s server) {
	t.Helper()
	first := pick(t, hubObjects(t, values(t, needed)), "Secret", "-encryption-key")
	second := pick(t, hubObjects(t, values(t, needed)), "Secret", "-encryption-key")
	require.NoError(t, s.apply(t, first))
	err := s.apply(t, second)
	require.True(t, apierrors.IsInvalid(err), "%v", err)
	require.ErrorContains(t, err, "immutable")
	first.SetLabels(map[string]string{"helm.sh/chart": "budcluster-hub-0.2.0"})
	require.NoError(t, s.apply(t, first), "an upgrade changes labels, and may")
}
