package inventory

import (
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/budecosystem/budcluster/internal/facts"
)

// slimNode drops what no fact comes from: the list of images alone may have
// 50 KiB.
func slimNode(obj any) (any, error) {
	node, ok := obj.(*corev1.Node)
	if !ok {
		return obj, nil
	}
	slim := &corev1.Node{Spec: corev1.NodeSpec{Unschedulable: node.Spec.Unschedulable, Taints: node.Spec.Taints}}
	slim.Name, slim.UID, slim.ResourceVersion = node.Name, node.UID, node.ResourceVersion
	slim.Labels, slim.CreationTimestamp = node.Labels, node.CreationTimestamp
	slim.Annotations = facts.NodeAnnotations(node.Annotations)
	slim.Status = corev1.NodeStatus{
		Capacity: node.Status.Capacity, Allocatable: node.Status.Allocatable, Conditions: node.Status.Conditions,
		Addresses: node.Status.Addresses, NodeInfo: node.Status.NodeInfo,
	}
	return slim, nil
}

// read turns a Node object into facts, without what pods request.
func read(node *corev1.Node) facts.Node {
	info := node.Status.NodeInfo
	n := facts.Node{
		Name: node.Name, UID: string(node.UID), CreatedAt: node.CreationTimestamp.UTC(),
		Schedulable:  !node.Spec.Unschedulable,
		Labels:       facts.NodeLabels(node.Labels),
		Roles:        facts.NodeRoles(node.Labels),
		Architecture: info.Architecture, OperatingSystem: info.OperatingSystem, OSImage: info.OSImage,
		Kernel: info.KernelVersion, KubeletVersion: info.KubeletVersion, ContainerRuntime: info.ContainerRuntimeVersion,
	}
	for _, t := range node.Spec.Taints {
		n.Taints = append(n.Taints, facts.Taint{Key: t.Key, Value: t.Value, Effect: string(t.Effect)})
	}
	for _, a := range node.Status.Addresses {
		n.Addresses = append(n.Addresses, facts.Address{Type: string(a.Type), Address: a.Address})
	}
	readConditions(&n, node.Status.Conditions)
	var problems []string
	n.Capacity, problems = facts.ResourcesFrom(texts(node.Status.Capacity))
	n.Problems = append(n.Problems, problems...)
	n.Allocatable, problems = facts.ResourcesFrom(texts(node.Status.Allocatable))
	n.Problems = append(n.Problems, problems...)
	n.Devices, problems = facts.DevicesFrom(facts.NodeSource{
		Labels: node.Labels, Annotations: facts.NodeAnnotations(node.Annotations), Capacity: texts(node.Status.Capacity), Allocatable: texts(node.Status.Allocatable), Arch: info.Architecture,
	})
	n.Problems = append(n.Problems, problems...)
	slices.Sort(n.Problems)
	n.Problems = slices.Compact(n.Problems)
	return n
}

// readConditions takes Ready apart; any other condition that is true is a
// pressure. A kubelet that fell silent makes Ready unknown, which is not ready,
// with Kubernetes's own reason.
func readConditions(n *facts.Node, conditions []corev1.NodeCondition) {
	n.ReadyReason, n.ReadyMessage = "Unreported", "the kubelet has not reported yet"
	for _, c := range conditions {
		switch {
		case c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue:
			// The message of a ready node only repeats that it is.
			n.Ready, n.ReadyReason, n.ReadyMessage = true, "", ""
		case c.Type == corev1.NodeReady:
			n.ReadyReason, n.ReadyMessage = c.Reason, c.Message
		case c.Status == corev1.ConditionTrue:
			n.Pressures = append(n.Pressures, string(c.Type))
		}
	}
	slices.Sort(n.Pressures)
}
