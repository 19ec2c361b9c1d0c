package inventory

import (
	"maps"

	corev1 "k8s.io/api/core/v1"

	"github.com/budecosystem/budcluster/internal/facts"
)

// slimPod drops of a pod all that its requests do not need, before it is
// stored anywhere: on a busy cluster the rest is some 10 KiB each.
func slimPod(obj any) (any, error) {
	pod, ok := obj.(*corev1.Pod)
	if !ok {
		return obj, nil
	}
	slim := &corev1.Pod{
		Spec: corev1.PodSpec{
			NodeName: pod.Spec.NodeName, Overhead: pod.Spec.Overhead, Resources: pod.Spec.Resources,
			Containers: slimContainers(pod.Spec.Containers), InitContainers: slimContainers(pod.Spec.InitContainers),
		},
		Status: corev1.PodStatus{Phase: pod.Status.Phase},
	}
	slim.Namespace, slim.Name, slim.UID, slim.ResourceVersion = pod.Namespace, pod.Name, pod.UID, pod.ResourceVersion
	return slim, nil
}

func slimContainers(in []corev1.Container) []corev1.Container {
	out := make([]corev1.Container, len(in))
	for i := range in {
		out[i].Resources.Requests = in[i].Resources.Requests
		out[i].RestartPolicy = in[i].RestartPolicy
	}
	return out
}

// requests is what the scheduler counts for a pod: the containers and sidecars
// together, or, if more, what an init container needs beside the sidecars
// started before it; what the pod asks for as a whole goes before that; and the
// overhead of its runtime class on top. It is k8s.io/component-helpers'
// resource.PodRequests without the parts that look at status.
func requests(pod *corev1.Pod) facts.Resources {
	sum := corev1.ResourceList{}
	for i := range pod.Spec.Containers {
		addList(sum, pod.Spec.Containers[i].Resources.Requests)
	}
	sidecars, peak := corev1.ResourceList{}, corev1.ResourceList{}
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		need := c.Resources.Requests.DeepCopy()
		if need == nil {
			need = corev1.ResourceList{}
		}
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			addList(sum, need)
			addList(sidecars, need)
			need = sidecars.DeepCopy()
		} else {
			addList(need, sidecars)
		}
		maxList(peak, need)
	}
	maxList(sum, peak)
	if pod.Spec.Resources != nil {
		maps.Copy(sum, pod.Spec.Resources.Requests)
	}
	addList(sum, pod.Spec.Overhead)
	r, _ := facts.ResourcesFrom(texts(sum))
	r.Pods = 1
	return r
}

func addList(sum, more corev1.ResourceList) {
	for name, q := range more {
		have := sum[name]
		have.Add(q)
		sum[name] = have
	}
}

func maxList(sum, other corev1.ResourceList) {
	for name, q := range other {
		if have, ok := sum[name]; !ok || q.Cmp(have) > 0 {
			sum[name] = q
		}
	}
}

// plus adds b to a, or takes it away.
func plus(a, b facts.Resources, sign int64) facts.Resources {
	out := facts.Resources{
		CPUMillis:      a.CPUMillis + sign*b.CPUMillis,
		MemoryBytes:    a.MemoryBytes + sign*b.MemoryBytes,
		EphemeralBytes: a.EphemeralBytes + sign*b.EphemeralBytes,
		Pods:           a.Pods + sign*b.Pods,
		Extended:       maps.Clone(a.Extended),
	}
	for name, n := range b.Extended {
		if out.Extended == nil {
			out.Extended = map[string]int64{}
		}
		if out.Extended[name] += sign * n; out.Extended[name] == 0 {
			delete(out.Extended, name)
		}
	}
	return out
}

func texts(list corev1.ResourceList) map[string]string {
	out := make(map[string]string, len(list))
	for name, q := range list {
		out[string(name)] = q.String()
	}
	return out
}
