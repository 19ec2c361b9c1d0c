package inventory

import (
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/budecosystem/budcluster/internal/facts"
)

func list(pairs ...string) corev1.ResourceList {
	out := corev1.ResourceList{}
	for i := 0; i < len(pairs); i += 2 {
		out[corev1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
	}
	return out
}

func container(sidecar bool, pairs ...string) corev1.Container {
	c := corev1.Container{Resources: corev1.ResourceRequirements{Requests: list(pairs...)}}
	if sidecar {
		always := corev1.ContainerRestartPolicyAlways
		c.RestartPolicy = &always
	}
	return c
}

func TestRequests(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spec corev1.PodSpec
		want facts.Resources
	}{
		"nothing asked": {
			corev1.PodSpec{Containers: []corev1.Container{container(false)}},
			facts.Resources{Pods: 1},
		},
		"containers add up": {
			corev1.PodSpec{Containers: []corev1.Container{container(false, "cpu", "250m", "nvidia.com/gpu", "1"), container(false, "cpu", "1", "memory", "1Gi")}},
			facts.Resources{CPUMillis: 1250, MemoryBytes: 1 << 30, Pods: 1, Extended: map[string]int64{"nvidia.com/gpu": 1}},
		},
		"a larger init container counts alone": {
			corev1.PodSpec{
				Containers:     []corev1.Container{container(false, "cpu", "1", "memory", "1Gi")},
				InitContainers: []corev1.Container{container(false, "cpu", "4"), container(false, "cpu", "2")},
			},
			facts.Resources{CPUMillis: 4000, MemoryBytes: 1 << 30, Pods: 1},
		},
		"sidecars run beside all that follow": {
			corev1.PodSpec{
				Containers:     []corev1.Container{container(false, "cpu", "1")},
				InitContainers: []corev1.Container{container(false, "cpu", "3"), container(true, "cpu", "2"), container(false, "cpu", "3")},
			},
			facts.Resources{CPUMillis: 5000, Pods: 1},
		},
		"the pod's own request goes first, overhead on top": {
			corev1.PodSpec{
				Containers: []corev1.Container{container(false, "cpu", "1", "memory", "1Gi")},
				Resources:  &corev1.ResourceRequirements{Requests: list("cpu", "6")},
				Overhead:   list("cpu", "100m", "memory", "64Mi"),
			},
			facts.Resources{CPUMillis: 6100, MemoryBytes: 1<<30 + 64<<20, Pods: 1},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			slim, err := slimPod(&corev1.Pod{Spec: c.spec})
			require.NoError(t, err)
			pod, ok := slim.(*corev1.Pod)
			require.True(t, ok)
			require.Equal(t, c.want, requests(pod))
		})
	}
}
