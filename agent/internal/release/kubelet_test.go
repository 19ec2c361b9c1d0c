package release_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The API server of these tests has no controllers: the tests play them.

// until polls the API server for what a controller would watch for.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(30 * time.Second)
	for !done() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("no %s", what)
		}
	}
}

func (b *bench) deployment(t *testing.T, name string) *appsv1.Deployment {
	t.Helper()
	var d *appsv1.Deployment
	until(t, "deployment "+name, func() bool {
		var err error
		d, err = b.typed.AppsV1().Deployments(b.target).Get(t.Context(), name, metav1.GetOptions{})
		return err == nil
	})
	return d
}

// makeReady plays the deployment controller: a ReplicaSet and a good status.
func (b *bench) makeReady(t *testing.T, name string) {
	t.Helper()
	d := b.deployment(t, name)
	yes := true
	rs := &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{
			Name: name + "-1", Namespace: b.target, Labels: d.Spec.Selector.MatchLabels,
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "Deployment", Name: name, UID: d.UID, Controller: &yes}},
		},
		Spec: appsv1.ReplicaSetSpec{Replicas: d.Spec.Replicas, Selector: d.Spec.Selector, Template: d.Spec.Template},
	}
	sets := b.typed.AppsV1().ReplicaSets(b.target)
	have, err := sets.Create(t.Context(), rs, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		have, err = sets.Get(t.Context(), rs.Name, metav1.GetOptions{})
	}
	require.NoError(t, err)
	have.Status.Replicas, have.Status.ReadyReplicas, have.Status.ObservedGeneration = *d.Spec.Replicas, *d.Spec.Replicas, have.Generation
	_, err = sets.UpdateStatus(t.Context(), have, metav1.UpdateOptions{})
	require.NoError(t, err)
	d.Status.ObservedGeneration, d.Status.Replicas, d.Status.ReadyReplicas, d.Status.UpdatedReplicas = d.Generation, *d.Spec.Replicas, *d.Spec.Replicas, *d.Spec.Replicas
	_, err = b.typed.AppsV1().Deployments(b.target).UpdateStatus(t.Context(), d, metav1.UpdateOptions{})
	require.NoError(t, err)
}

// breakPods plays a kubelet that cannot pull an image.
func (b *bench) breakPods(t *testing.T, name, image string) {
	t.Helper()
	d := b.deployment(t, name)
	d.Status.ObservedGeneration, d.Status.ReadyReplicas = d.Generation, 0
	_, err := b.typed.AppsV1().Deployments(b.target).UpdateStatus(t.Context(), d, metav1.UpdateOptions{})
	require.NoError(t, err)
	pod := b.pod(t, name+"-pod", d.Spec.Selector.MatchLabels, image)
	pod.Status = corev1.PodStatus{Phase: corev1.PodPending, ContainerStatuses: []corev1.ContainerStatus{{
		Name: "c", Image: image, State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff"}},
	}}}
	_, err = b.typed.CoreV1().Pods(b.target).UpdateStatus(t.Context(), pod, metav1.UpdateOptions{})
	require.NoError(t, err)
}

func (b *bench) pod(t *testing.T, name string, labels map[string]string, image string) *corev1.Pod {
	t.Helper()
	pod, err := b.typed.CoreV1().Pods(b.target).Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: image}}},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	return pod
}

func (b *bench) awaitJob(t *testing.T, name string) *batchv1.Job {
	t.Helper()
	var j *batchv1.Job
	until(t, "job "+name, func() bool {
		var err error
		j, err = b.typed.BatchV1().Jobs(b.target).Get(t.Context(), name, metav1.GetOptions{})
		return err == nil && j.DeletionTimestamp == nil
	})
	return j
}

// finishJob plays the job controller and its pod.
func (b *bench) finishJob(t *testing.T, name string, phase corev1.PodPhase, message string) {
	t.Helper()
	j := b.awaitJob(t, name)
	ended := &corev1.ContainerStateTerminated{Message: message}
	if phase == corev1.PodFailed {
		ended.ExitCode = 3
	}
	pod := b.pod(t, name+"-pod", j.Spec.Selector.MatchLabels, "busybox:1")
	pod.Status = corev1.PodStatus{Phase: phase, ContainerStatuses: []corev1.ContainerStatus{{Name: "c", State: corev1.ContainerState{Terminated: ended}}}}
	_, err := b.typed.CoreV1().Pods(b.target).UpdateStatus(t.Context(), pod, metav1.UpdateOptions{})
	require.NoError(t, err)
	now := metav1.Now()
	j.Status.StartTime = &now
	if phase == corev1.PodSucceeded {
		j.Status.Succeeded, j.Status.CompletionTime = 1, &now
		j.Status.Conditions = []batchv1.JobCondition{
			{Type: batchv1.JobSuccessCriteriaMet, Status: corev1.ConditionTrue, LastTransitionTime: now},
			{Type: batchv1.JobComplete, Status: corev1.ConditionTrue, LastTransitionTime: now},
		}
	} else {
		j.Status.Failed = 1
		j.Status.Conditions = []batchv1.JobCondition{
			{Type: batchv1.JobFailureTarget, Status: corev1.ConditionTrue, LastTransitionTime: now, Reason: "BackoffLimitExceeded", Message: "Job has reached the specified backoff limit"},
			{Type: batchv1.JobFailed, Status: corev1.ConditionTrue, LastTransitionTime: now, Reason: "BackoffLimitExceeded", Message: "Job has reached the specified backoff limit"},
		}
	}
	_, err = b.typed.BatchV1().Jobs(b.target).UpdateStatus(t.Context(), j, metav1.UpdateOptions{})
	require.NoError(t, err)
}
