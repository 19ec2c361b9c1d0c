package kube_test

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/budecosystem/budcluster/agent/agenttest"
	"github.com/budecosystem/budcluster/agent/internal/kube"
)

var server *agenttest.Kube

func TestMain(m *testing.M) {
	os.Exit(agenttest.RunWithKube(m, func(k *agenttest.Kube) { server = k }))
}

func clients(t *testing.T) *kube.Clients {
	t.Helper()
	rc, err := kube.RESTConfig(kube.Config{Kubeconfig: server.Kubeconfig()})
	require.NoError(t, err)
	c, err := kube.NewClients(rc)
	require.NoError(t, err)
	return c
}

const crdTemplate = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: NAMEs.test.budcluster.io
  annotations: {budcluster.io/crd-version: "EDITION"}
spec:
  group: test.budcluster.io
  scope: Namespaced
  names: {kind: KIND, plural: NAMEs, singular: NAME}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        properties: {PROPERTY: {type: string}}
`

func crd(name string, edition int, property string) []byte {
	return []byte(strings.NewReplacer("NAME", name, "KIND", strings.ToUpper(name[:1])+name[1:],
		"EDITION", fmt.Sprint(edition), "PROPERTY", property).Replace(crdTemplate))
}

func TestApplyCRD(t *testing.T) {
	t.Parallel()
	c := clients(t)
	gvr := schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
	properties := func() string {
		have, err := c.Dynamic.Resource(gvr).Get(t.Context(), "apples.test.budcluster.io", metav1.GetOptions{})
		require.NoError(t, err)
		return fmt.Sprint(have.Object["spec"])
	}

	result, err := kube.ApplyCRD(t.Context(), c.Dynamic, crd("apple", 1, "first"))
	require.NoError(t, err)
	require.Equal(t, kube.CRDApplied, result)
	mine := schema.GroupVersionResource{Group: "test.budcluster.io", Version: "v1", Resource: "apples"}
	_, err = c.Dynamic.Resource(mine).List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err, "established means served")

	result, err = kube.ApplyCRD(t.Context(), c.Dynamic, crd("apple", 2, "second"))
	require.NoError(t, err)
	require.Equal(t, kube.CRDApplied, result)
	require.Contains(t, properties(), "second")
	require.NotContains(t, properties(), "first", "the field belonged to us, so the upgrade takes it away")

	result, err = kube.ApplyCRD(t.Context(), c.Dynamic, crd("apple", 1, "first"))
	require.NoError(t, err)
	require.Equal(t, kube.CRDNewer, result)
	require.Contains(t, properties(), "second", "an older agent must not take fields away")
}

// A definition is going, since its objects are, while the next agent starts.
func TestApplyCRDWaitsForOneThatGoes(t *testing.T) {
	t.Parallel()
	c := clients(t)
	_, err := kube.ApplyCRD(t.Context(), c.Dynamic, crd("plum", 1, "first"))
	require.NoError(t, err)
	definitions := c.Dynamic.Resource(schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"})
	old, err := definitions.Get(t.Context(), "plums.test.budcluster.io", metav1.GetOptions{})
	require.NoError(t, err)
	plums := c.Dynamic.Resource(schema.GroupVersionResource{Group: "test.budcluster.io", Version: "v1", Resource: "plums"}).Namespace(server.Namespace(t))
	held := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "test.budcluster.io/v1", "kind": "Plum", "metadata": map[string]any{"name": "held", "finalizers": []any{"test.budcluster.io/held"}},
	}}
	_, err = plums.Create(t.Context(), held, metav1.CreateOptions{})
	require.NoError(t, err)
	require.NoError(t, definitions.Delete(t.Context(), old.GetName(), metav1.DeleteOptions{}))

	gone, err := plums.Watch(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	defer gone.Stop()
	var applying sync.WaitGroup
	applying.Go(func() {
		_, err := kube.ApplyCRD(t.Context(), c.Dynamic, crd("plum", 1, "first"))
		assert.NoError(t, err)
	})
	for e := range gone.ResultChan() {
		if e.Object.(metav1.Object).GetDeletionTimestamp() != nil {
			break
		}
	}
	_, err = plums.Patch(t.Context(), "held", types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})
	require.NoError(t, err)
	applying.Wait()
	now, err := definitions.Get(t.Context(), old.GetName(), metav1.GetOptions{})
	require.NoError(t, err)
	require.NotEqual(t, old.GetUID(), now.GetUID())
	require.Nil(t, now.GetDeletionTimestamp())
}

func TestApplyCRDRefusesNonsense(t *testing.T) {
	t.Parallel()
	c := clients(t)
	for name, manifest := range map[string]string{
		"no yaml":          "\t{",
		"edition no count": strings.ReplaceAll(string(crd("pear", 1, "x")), `"1"`, `"one"`),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := kube.ApplyCRD(t.Context(), c.Dynamic, []byte(manifest))
			require.Error(t, err)
		})
	}
}

func TestEventsCountRepeats(t *testing.T) {
	t.Parallel()
	c := clients(t)
	ns := server.Namespace(t)
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "agent-0"},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "agent", Image: "agent"}}},
	}
	pod, err := c.Typed.CoreV1().Pods(ns).Create(t.Context(), pod, metav1.CreateOptions{})
	require.NoError(t, err)
	events := kube.NewEvents(kube.EventsConfig{Client: c.Typed, Namespace: ns, Pod: "agent-0", Now: time.Now})
	for range 3 {
		require.NoError(t, events.Warn(t.Context(), "EnrollmentRefused", "the token was used"))
	}
	require.NoError(t, events.Note(t.Context(), "Enrolled", "joined"))
	list, err := c.Typed.CoreV1().Events(ns).List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	require.Len(t, list.Items, 2)
	for _, e := range list.Items {
		require.Equal(t, pod.UID, e.InvolvedObject.UID)
		if e.Reason == "EnrollmentRefused" {
			require.EqualValues(t, 3, e.Count)
			require.Equal(t, corev1.EventTypeWarning, e.Type)
		}
	}
}

func TestClusterUID(t *testing.T) {
	t.Parallel()
	uid, err := clients(t).ClusterUID(t.Context())
	require.NoError(t, err)
	require.Len(t, uid, 36)
}
