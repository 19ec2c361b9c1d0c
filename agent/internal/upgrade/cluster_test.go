package upgrade_test

import (
	"maps"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/budecosystem/budcluster/agent/agenttest"
	"github.com/budecosystem/budcluster/agent/internal/upgrade"
)

var server *agenttest.Kube

func TestMain(m *testing.M) {
	os.Exit(agenttest.RunWithKube(m, func(k *agenttest.Kube) { server = k }))
}

// TestRecordIsComparedBeforeItIsChanged: of two agents that decide at once one
// gets through.
func TestRecordIsComparedBeforeItIsChanged(t *testing.T) {
	t.Parallel()
	store := &upgrade.ConfigMap{Client: server.Client(t), Namespace: server.Namespace(t), Name: "agent-upgrade"}
	r, version, err := store.Load(t.Context())
	require.NoError(t, err)
	require.Zero(t, r)
	want := upgrade.Record{
		Generation: 3, Phase: upgrade.Upgrading, Deadline: time.Now().UTC().Truncate(time.Microsecond), ConnectWithin: time.Minute, FromHash: "x", Applied: true,
	}
	require.NoError(t, store.Save(t.Context(), want, version))
	require.ErrorIs(t, store.Save(t.Context(), want, version), upgrade.ErrConflict)
	got, version, err := store.Load(t.Context())
	require.NoError(t, err)
	require.Equal(t, want, got)
	require.NoError(t, store.Save(t.Context(), upgrade.Record{}, version))
	require.ErrorIs(t, store.Save(t.Context(), want, version), upgrade.ErrConflict)

	cm, err := store.Client.CoreV1().ConfigMaps(store.Namespace).Get(t.Context(), store.Name, metav1.GetOptions{})
	require.NoError(t, err)
	require.Equal(t, "budcluster-agent", cm.Labels["app.kubernetes.io/managed-by"], "so that it goes when the agent leaves")
	cm.Data["record.json"] = "{"
	_, err = store.Client.CoreV1().ConfigMaps(store.Namespace).Update(t.Context(), cm, metav1.UpdateOptions{})
	require.NoError(t, err)
	got, version, err = store.Load(t.Context())
	require.NoError(t, err)
	require.Zero(t, got)
	require.NoError(t, store.Save(t.Context(), want, version))
}

func TestInstallation(t *testing.T) {
	t.Parallel()
	client, ns := server.Client(t), server.Namespace(t)
	i := &upgrade.Installation{Typed: client, Namespace: ns, Pod: "a", Deployment: "agent", Release: "agent"}
	labels := map[string]string{"app.kubernetes.io/component": "agent", "app.kubernetes.io/instance": "agent"}
	pod := func(name, hash string) *corev1.Pod {
		l := map[string]string{"pod-template-hash": hash}
		maps.Copy(l, labels)
		p, err := client.CoreV1().Pods(ns).Create(t.Context(), &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: l}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "x:2"}}},
		}, metav1.CreateOptions{})
		require.NoError(t, err)
		return p
	}
	hash, err := i.Hash(t.Context())
	require.NoError(t, err)
	require.Empty(t, hash, "there is no such pod")
	pod("a", "one")
	hash, err = i.Hash(t.Context())
	require.NoError(t, err)
	require.Equal(t, "one", hash)

	d, err := client.AppsV1().Deployments(ns).Create(t.Context(), &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "agent"},
		Spec: appsv1.DeploymentSpec{Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "x:1"}}},
		}},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	before, err := i.Template(t.Context())
	require.NoError(t, err)
	d.Labels = map[string]string{"a": "b"}
	d, err = client.AppsV1().Deployments(ns).Update(t.Context(), d, metav1.UpdateOptions{})
	require.NoError(t, err)
	same, err := i.Template(t.Context())
	require.NoError(t, err)
	require.Equal(t, before, same)
	d.Spec.Template.Spec.Containers[0].Image = "x:2"
	_, err = client.AppsV1().Deployments(ns).Update(t.Context(), d, metav1.UpdateOptions{})
	require.NoError(t, err)
	changed, err := i.Template(t.Context())
	require.NoError(t, err)
	require.NotEqual(t, before, changed)

	fresh := pod("b", "two")
	runs, err := i.NewRuns(t.Context(), "one")
	require.NoError(t, err)
	require.False(t, runs)
	fresh.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c", Image: "x:2", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ErrImagePull"}}}}
	fresh, err = client.CoreV1().Pods(ns).UpdateStatus(t.Context(), fresh, metav1.UpdateOptions{})
	require.NoError(t, err)
	require.Contains(t, i.Trouble(t.Context()), "ErrImagePull pulling x:2")
	fresh.Status.ContainerStatuses[0].State = corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
	_, err = client.CoreV1().Pods(ns).UpdateStatus(t.Context(), fresh, metav1.UpdateOptions{})
	require.NoError(t, err)
	runs, err = i.NewRuns(t.Context(), "one")
	require.NoError(t, err)
	require.True(t, runs)

	missing, err := i.Allowed(t.Context())
	require.NoError(t, err)
	require.Empty(t, missing, "the tests run as an administrator")
}
