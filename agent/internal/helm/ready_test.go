package helm_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/budecosystem/budcluster/agent/internal/helm"
)

// A DaemonSet of which no pod runs is not ready, however many an update may
// take down: on a cluster with one GPU node that is its whole device plugin.
func TestDaemonSetNeedsAPod(t *testing.T) {
	t.Parallel()
	ns := kube.Namespace(t)
	sets := kube.Client(t).AppsV1().DaemonSets(ns)
	labels := map[string]string{"app": "plugin"}
	set, err := sets.Create(t.Context(), &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Name: "plugin"},
		Spec: appsv1.DaemonSetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "plugin", Image: "absent:1"}}},
			},
		},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	raw := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": map[string]any{"name": "plugin", "namespace": ns},
	}}
	obj := helm.Object{Unstructured: raw, Resource: appsv1.SchemeGroupVersion.WithResource("daemonsets"), Namespaced: true, Known: true}
	checker := helm.NewChecker(kube.Client(t))

	for _, c := range []struct {
		desired, ready int32
		want           bool
		why            string
	}{
		{desired: 0, ready: 0, want: true},
		{desired: 1, ready: 0, why: "daemonset plugin: 0 of 1 ready"},
		{desired: 1, ready: 1, want: true},
		{desired: 3, ready: 2, want: true},
		{desired: 3, ready: 1, why: "daemonset plugin: 1 of 3 ready"},
	} {
		set.Status = appsv1.DaemonSetStatus{
			ObservedGeneration: set.Generation, DesiredNumberScheduled: c.desired, UpdatedNumberScheduled: c.desired, NumberReady: c.ready,
		}
		set, err = sets.UpdateStatus(t.Context(), set, metav1.UpdateOptions{})
		require.NoError(t, err)
		state, err := checker.Check(t.Context(), obj)
		require.NoError(t, err)
		require.Equal(t, helm.State{Ready: c.want, Why: c.why}, state, "%d of %d", c.ready, c.desired)
	}
}
