package cluster

import (
	"context"
	"fmt"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

// kwokLabel marks the pretend nodes.
const kwokLabel = "budcluster.test/kwok"

// Kwok adds pretend nodes gpu-0 … gpu-<n-1>, each with eight H200, kept alive
// by kwok, and returns when all are Ready. They carry a taint, so that only
// pods that ask for them land there.
func (c *Cluster) Kwok(ctx context.Context, n int) error {
	if err := c.startKwok(ctx); err != nil {
		return err
	}
	// Watching from before the first is made, so that none is missed.
	watched, err := c.kube.CoreV1().Nodes().Watch(ctx, metav1.ListOptions{LabelSelector: kwokLabel})
	if err != nil {
		return fmt.Errorf("watch nodes: %w", err)
	}
	defer watched.Stop()
	for i := range n {
		_, err := c.kube.CoreV1().Nodes().Create(ctx, kwokNode(i), metav1.CreateOptions{})
		if err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("create pretend node %d: %w", i, err)
		}
	}
	return awaitReady(ctx, watched, n, 5*time.Minute)
}

func awaitReady(ctx context.Context, watched watch.Interface, n int, atMost time.Duration) error {
	ready := map[string]bool{}
	late := time.NewTimer(atMost)
	defer late.Stop()
	for len(ready) < n {
		select {
		case event, ok := <-watched.ResultChan():
			if !ok {
				return fmt.Errorf("watch nodes: it ended with %d of %d Ready", len(ready), n)
			}
			if node, is := event.Object.(*corev1.Node); is && NodeReady(node) {
				ready[node.Name] = true
			}
		case <-late.C:
			return fmt.Errorf("waited %s for %d pretend nodes: %d are Ready", atMost, n, len(ready))
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

func (c *Cluster) startKwok(ctx context.Context) error {
	for _, p := range c.state.Procs {
		if p.Name == "kwok" && p.alive() {
			return nil
		}
	}
	return c.run(ctx, "kwok", c.bin.Path("kwok"),
		"--kubeconfig="+c.Kubeconfig(), "--manage-all-nodes=false",
		"--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake",
		"--cidr="+c.slot().kwokPods(),
		"--node-lease-duration-seconds=40",
		"--server-address="+c.slot().loopback()+":10247")
}

// RemoveKwok deletes the pretend nodes and stops kwok.
func (c *Cluster) RemoveKwok(ctx context.Context) error {
	err := c.kube.CoreV1().Nodes().DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: kwokLabel})
	if err != nil {
		return fmt.Errorf("delete the pretend nodes: %w", err)
	}
	var kept, kwok []proc
	for _, p := range c.state.Procs {
		if p.Name == "kwok" {
			kwok = append(kwok, p)
			continue
		}
		kept = append(kept, p)
	}
	if err := killAll(ctx, kwok); err != nil {
		return err
	}
	c.state.Procs = kept
	return c.state.write(c.dir)
}

func kwokNode(i int) *corev1.Node {
	name := "gpu-" + strconv.Itoa(i)
	has := corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("192"), corev1.ResourceMemory: resource.MustParse("2Ti"),
		corev1.ResourcePods: resource.MustParse("110"), "nvidia.com/gpu": resource.MustParse("8"),
	}
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{
			Name: name,
			Labels: map[string]string{
				kwokLabel: "true", "kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64",
				"node.kubernetes.io/instance-type": "p5e.48xlarge", "topology.kubernetes.io/zone": "z" + strconv.Itoa(i%4),
				"feature.node.kubernetes.io/pci-10de.present":    "true",
				"feature.node.kubernetes.io/kernel-version.full": "6.8.0",
				"nvidia.com/gpu.product":                         "NVIDIA-H200",
				"nvidia.com/gpu.count":                           "8",
				"nvidia.com/gpu.memory":                          "143771",
				"nvidia.com/gpu.family":                          "hopper",
				"nvidia.com/cuda.driver.major":                   "580",
				"nvidia.com/mig.capable":                         "true",
			},
			Annotations: map[string]string{"kwok.x-k8s.io/node": "fake"},
		},
		Spec: corev1.NodeSpec{Taints: []corev1.Taint{{Key: "kwok.x-k8s.io/node", Value: "fake", Effect: corev1.TaintEffectNoSchedule}}},
		Status: corev1.NodeStatus{
			Allocatable: has, Capacity: has,
			NodeInfo: corev1.NodeSystemInfo{
				Architecture: "amd64", OperatingSystem: "linux", KubeletVersion: "v1.37.2",
				ContainerRuntimeVersion: "containerd://2.0.0", KernelVersion: "6.8.0", OSImage: "Ubuntu 24.04",
			},
		},
	}
}
