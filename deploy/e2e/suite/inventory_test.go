//go:build e2e

package suite_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/budecosystem/budcluster/hub/hubapi"
)

func TestNodesAndGPUs(t *testing.T) {
	s := shared(t)
	await(t, time.Minute, "both nodes with their GPUs at the hub", func(ctx context.Context) error {
		for _, name := range env.cluster.Nodes() {
			node, err := s.hub.client.Node(ctx, s.name, name)
			if err != nil {
				return err
			}
			if !node.Ready || gpus(node) != gpusPerNode {
				return fmt.Errorf("%s: ready %t, %d GPUs", name, node.Ready, gpus(node))
			}
		}
		return nil
	})
	for _, name := range env.cluster.Nodes() {
		node, err := s.hub.client.Node(t.Context(), s.name, name)
		require.NoError(t, err)
		real, err := env.cluster.Kube().CoreV1().Nodes().Get(t.Context(), name, metav1.GetOptions{})
		require.NoError(t, err)
		require.Equal(t, real.Status.Allocatable.Cpu().MilliValue(), node.Allocatable.CPUMillis)
		require.Equal(t, real.Status.Allocatable.Memory().Value(), node.Allocatable.MemoryBytes)
		devices, err := hubapi.Collect(s.hub.client.AllDevices(t.Context(), hubapi.DeviceQuery{Cluster: s.name, Node: name}))
		require.NoError(t, err)
		require.True(t, slices.ContainsFunc(devices, func(d hubapi.Device) bool { return d.Kind == "cuda" && d.Vendor == "nvidia" }), "%+v", devices)
	}
	proved(t, "2 nodes and %d pretend GPUs, offered by a device plugin through the real kubelets, are at the hub as they are in the cluster", 2*gpusPerNode)
}

// gpus is how many nvidia.com/gpu the hub knows of a node.
func gpus(node hubapi.Node) int64 { return node.Allocatable.Extended["nvidia.com/gpu"] }

func TestRequestedGPUsAreNotAvailable(t *testing.T) {
	s := shared(t)
	const pod = `
apiVersion: v1
kind: Pod
metadata: {name: takes-gpus, namespace: default}
spec:
  nodeName: node1
  terminationGracePeriodSeconds: 1
  containers: [{name: c, image: "budcluster.test/hello:1", args: [sleep, forever], resources: {limits: {nvidia.com/gpu: 3}}}]
`
	require.NoError(t, env.cluster.Apply(t.Context(), []byte(pod)))
	t.Cleanup(func() {
		_ = env.cluster.Kube().CoreV1().Pods("default").Delete(context.WithoutCancel(t.Context()), "takes-gpus", metav1.DeleteOptions{})
	})
	await(t, 30*time.Second, "3 of node1's GPUs to be taken", func(ctx context.Context) error {
		node, err := s.hub.client.Node(ctx, s.name, "node1")
		if err != nil {
			return err
		}
		if free := node.Available.Extended["nvidia.com/gpu"]; free != gpusPerNode-3 {
			return fmt.Errorf("%d are available, %+v requested", free, node.Requested)
		}
		return nil
	})
	proved(t, "what a pod requested is subtracted: %d of %d GPUs of node1 are available", gpusPerNode-3, gpusPerNode)
}

func TestNodeChangeLatency(t *testing.T) {
	s := shared(t)
	const rounds = 11
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	seen := make(chan time.Time, 100)
	go func() {
		for event, err := range s.hub.client.Follow(ctx, hubapi.EventQuery{Cluster: s.name, FromNow: true, Types: []string{"node.changed"}}) {
			if err == nil && event.Subject == "node2" {
				seen <- time.Now()
			}
		}
	}()
	t.Cleanup(func() { cordon(context.WithoutCancel(t.Context()), t, "node2", false) })
	var took []time.Duration
	for i := range rounds {
		if i == 0 { // the stream may not be open yet: this one only warms up
			awaitCordon(ctx, t, s, seen)
			continue
		}
		cordoned := i%2 == 0
		started := time.Now()
		cordon(ctx, t, "node2", cordoned)
		select {
		case at := <-seen:
			took = append(took, at.Sub(started))
		case <-ctx.Done():
			t.Fatalf("no event in time for change %d", i)
		}
	}
	slices.Sort(took)
	median, worst := took[len(took)/2], took[len(took)-1]
	measured(t, "node change in the cluster to event at an SSE client: median %s, worst %s of %d (bar: %s)",
		median.Round(time.Millisecond), worst.Round(time.Millisecond), len(took), latencyBar)
	require.Less(t, worst, latencyBar)
	proved(t, "a node's change is visible at the hub in under %s", latencyBar)
}

// awaitCordon cordons node2 and waits until the stream tells; it tries again
// while the stream opens.
func awaitCordon(ctx context.Context, t *testing.T, s *site, seen <-chan time.Time) {
	t.Helper()
	for on := true; ; on = !on {
		cordon(ctx, t, "node2", on)
		select {
		case <-seen:
			if on {
				return
			}
		case <-time.After(3 * time.Second):
		case <-ctx.Done():
			s.explain(t)
			t.Fatal("no event about node2 ever came")
		}
	}
}

func cordon(ctx context.Context, t *testing.T, node string, on bool) {
	t.Helper()
	patch := fmt.Appendf(nil, `{"spec":{"unschedulable":%t}}`, on)
	_, err := env.cluster.Kube().CoreV1().Nodes().Patch(ctx, node, types.StrategicMergePatchType, patch, metav1.PatchOptions{})
	require.NoError(t, err)
}

func TestHundredNodes(t *testing.T) {
	s := shared(t)
	const pretend = 100
	t.Cleanup(func() { _ = env.cluster.RemoveKwok(context.WithoutCancel(t.Context())) })
	started := time.Now()
	require.NoError(t, env.cluster.Kwok(t.Context(), pretend))
	inCluster := time.Since(started)
	awaitNodeCount(t, s, pretend+2)
	atHub := time.Since(started)
	measured(t, "100 pretend nodes: Ready in the cluster after %s, all at the hub after %s", inCluster.Round(10*time.Millisecond), atHub.Round(10*time.Millisecond))
	ready := true
	nodes, err := hubapi.Collect(s.hub.client.AllNodes(t.Context(), hubapi.NodeQuery{Cluster: s.name, Ready: &ready}))
	require.NoError(t, err)
	require.Len(t, nodes, pretend+2)
	devices, err := hubapi.Collect(s.hub.client.AllDevices(t.Context(), hubapi.DeviceQuery{Cluster: s.name, Kind: "cuda", Node: "gpu-42"}))
	require.NoError(t, err)
	require.NotEmpty(t, devices)
	require.Equal(t, "NVIDIA-H200", devices[0].Model)
	pid, err := s.agentProcess(t.Context())
	require.NoError(t, err)
	rss, err := residentBytes(pid)
	require.NoError(t, err)
	measured(t, "agent's resident memory with 102 nodes: %.1f MiB", float64(rss)/(1<<20))
	proved(t, "100 kwok nodes with eight H200 each are in the inventory, page after page")

	require.NoError(t, env.cluster.RemoveKwok(t.Context()))
	awaitNodeCount(t, s, 2)
	proved(t, "nodes that were deleted in the cluster are gone at the hub")
}

func awaitNodeCount(t *testing.T, s *site, want int) {
	t.Helper()
	await(t, 2*time.Minute, fmt.Sprintf("%d nodes at the hub", want), func(ctx context.Context) error {
		c, err := s.hub.client.Cluster(ctx, s.name)
		if err != nil {
			return err
		}
		if c.Nodes != want || c.ReadyNodes != want {
			return fmt.Errorf("%d nodes, %d ready", c.Nodes, c.ReadyNodes)
		}
		return nil
	})
}

func TestNodeStopped(t *testing.T) {
	s := shared(t)
	// The agent must survive to tell: take the other node.
	pod, err := s.agentPod(t.Context())
	require.NoError(t, err)
	victim := "node2"
	if pod.Spec.NodeName == victim {
		victim = "node1"
	}
	require.NoError(t, env.cluster.StopNode(t.Context(), victim))
	started := time.Now()
	awaitNode := func(what string, ok func(hubapi.Node) bool) time.Duration {
		await(t, 3*time.Minute, victim+" to be "+what+" at the hub", func(ctx context.Context) error {
			node, err := s.hub.client.Node(ctx, s.name, victim)
			if err != nil {
				return err
			}
			if !ok(node) {
				return fmt.Errorf("ready is %t", node.Ready)
			}
			return nil
		})
		return time.Since(started)
	}
	t.Cleanup(func() {
		if t.Failed() {
			_ = env.cluster.StartNode(context.WithoutCancel(t.Context()), victim)
		}
	})
	took := awaitNode("NotReady", func(n hubapi.Node) bool { return !n.Ready })
	node, err := s.hub.client.Node(t.Context(), s.name, victim)
	require.NoError(t, err)
	require.Zero(t, node.Available.CPUMillis, "nothing is available on a node that is not ready")
	proved(t, "a stopped node is NotReady at the hub (%s after its power was cut; Kubernetes itself takes 30 s), and kept, with nothing available", took.Round(time.Second))

	require.NoError(t, env.cluster.StartNode(t.Context(), victim))
	awaitNode("Ready again", func(n hubapi.Node) bool { return n.Ready && gpus(n) == gpusPerNode })
	awaitPods(t)
	proved(t, "the node that came back is Ready at the hub again, with its GPUs")
}

// awaitPods waits until the pods of the cluster itself run again.
func awaitPods(t *testing.T) {
	t.Helper()
	await(t, 2*time.Minute, "the cluster's own pods", func(ctx context.Context) error {
		pods, err := env.cluster.Kube().CoreV1().Pods("kube-system").List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		for _, pod := range pods.Items {
			if !podReady(&pod) {
				return fmt.Errorf("%s is not ready", pod.Name)
			}
		}
		return nil
	})
}

func podReady(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}
