package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
)

const policies = "/apis/nvidia.com/v1/clusterpolicies"

// operand is one DaemonSet that the operator makes of a ClusterPolicy.
type operand struct {
	field, name, deploy string
	devicePlugin        bool
}

func operands() []operand {
	return []operand{
		{field: "driver", name: "nvidia-driver-daemonset", deploy: "driver"},
		{field: "toolkit", name: "nvidia-container-toolkit-daemonset", deploy: "container-toolkit"},
		{field: "devicePlugin", name: "nvidia-device-plugin-daemonset", deploy: "device-plugin", devicePlugin: true},
		{field: "gfd", name: "gpu-feature-discovery", deploy: "gpu-feature-discovery"},
		{field: "dcgmExporter", name: "nvidia-dcgm-exporter", deploy: "dcgm-exporter"},
		{field: "nodeStatusExporter", name: "nvidia-node-status-exporter", deploy: "node-status-exporter"},
		{field: "migManager", name: "nvidia-mig-manager", deploy: "mig-manager"},
	}
}

// gpuOperator does for every ClusterPolicy what the real one does: nodes on
// which feature discovery saw a GPU get labels, which the operands select.
func gpuOperator(ctx context.Context, k *kube, _ []string) error {
	if err := k.lease(ctx, "53822513.nvidia.com"); err != nil {
		return err
	}
	all, err := k.list(ctx, policies)
	if err != nil {
		return err
	}
	for _, policy := range all {
		nodes, failed, err := k.labelGPUNodes(ctx, policy)
		if err != nil {
			return err
		}
		ready, err := k.operands(ctx, policy)
		if err != nil {
			return err
		}
		state, message := "ready", "all resources have been successfully reconciled"
		switch {
		case failed != "":
			state, message = "notReady", failed
		case nodes == 0:
			message = "no GPU node found"
		case !ready:
			state, message = "notReady", "operands are not ready"
		}
		if policy.text("status", "state") == state && policy.text("status", "message") == message {
			continue
		}
		fmt.Println("ClusterPolicy", policy.name(), state, message)
		err = k.merge(ctx, policies+"/"+policy.name()+"/status", object{
			"status": map[string]any{"state": state, "message": message, "namespace": k.namespace},
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// labelGPUNodes labels nodes with GPUs; failed is what a node has in store for
// the operator.
func (k *kube) labelGPUNodes(ctx context.Context, policy object) (count int, failed string, err error) {
	nodes, err := k.list(ctx, "/api/v1/nodes")
	if err != nil {
		return 0, "", err
	}
	for _, node := range nodes {
		seen := false
		for _, key := range []string{"pci-10de.present", "pci-0302_10de.present", "pci-0300_10de.present"} {
			seen = seen || node.labels()[featurePrefix+key] == "true"
		}
		if !seen {
			continue
		}
		count++
		if reason := node.annotation(annotationFail + "gpu-operator"); reason != "" {
			failed = reason
		}
		labels := map[string]any{"nvidia.com/gpu.present": "true"}
		for _, o := range operands() {
			if policy.yes("spec", o.field, "enabled") {
				labels["nvidia.com/gpu.deploy."+o.deploy] = "true"
			}
		}
		if policy.yes("spec", "gfd", "enabled") {
			product, memory, number := gpuOf(node)
			labels["nvidia.com/gpu.product"], labels["nvidia.com/gpu.memory"], labels["nvidia.com/gpu.count"] = product, memory, number
			labels["nvidia.com/gpu.family"], labels["nvidia.com/mig.capable"] = "ampere", "true"
			labels["nvidia.com/cuda.driver.major"], labels["nvidia.com/gpu.replicas"] = "580", "1"
		}
		if err := k.mark(ctx, node, "labels", labels); err != nil {
			return 0, "", err
		}
	}
	return count, failed, nil
}

// gpuOf reads which GPUs a node pretends to have.
func gpuOf(node object) (product, memory, number string) {
	parts := strings.Split(node.annotation(annotationGPU), ",")
	if len(parts) != 3 {
		return "NVIDIA-A100-SXM4-80GB", "81920", "8"
	}
	return parts[0], parts[1], parts[2]
}

// operands makes the DaemonSets that a policy enables, removes the others, and
// reports whether all are ready.
func (k *kube) operands(ctx context.Context, policy object) (bool, error) {
	err := k.create(ctx, "/apis/node.k8s.io/v1/runtimeclasses", object{
		"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "handler": "nvidia",
		"metadata": map[string]any{"name": "nvidia", "labels": map[string]any{"app.kubernetes.io/component": "gpu-operator"}},
	})
	if err != nil {
		return false, err
	}
	path := "/apis/apps/v1/namespaces/" + k.namespace + "/daemonsets"
	ready := true
	for _, o := range operands() {
		if !policy.yes("spec", o.field, "enabled") {
			if err := k.remove(ctx, path+"/"+o.name); err != nil {
				return false, err
			}
			continue
		}
		if err := k.apply(ctx, path, o.daemonSet(policy)); err != nil {
			return false, err
		}
		set, err := k.get(ctx, path+"/"+o.name)
		if err != nil {
			return false, err
		}
		ready = ready && set.number("status", "observedGeneration") == set.number("metadata", "generation") &&
			set.number("status", "numberReady") == set.number("status", "desiredNumberScheduled")
	}
	return ready, nil
}

func (o operand) daemonSet(policy object) object {
	labels := map[string]any{"app": o.name, "app.kubernetes.io/managed-by": "gpu-operator"}
	container := map[string]any{
		"name": o.name, "image": os.Getenv("STANDIN_IMAGE"), "args": []any{"serve"}, "imagePullPolicy": "IfNotPresent",
	}
	spec := map[string]any{
		"nodeSelector": map[string]any{"nvidia.com/gpu.deploy." + o.deploy: "true"},
		"tolerations":  []any{map[string]any{"operator": "Exists"}},
		"containers":   []any{container},
		// It has nothing to finish.
		"terminationGracePeriodSeconds": 1,
	}
	if o.devicePlugin {
		container["image"], container["args"] = os.Getenv("FAKEGPU_IMAGE"), []any{strconv.Itoa(8)}
		container["securityContext"] = map[string]any{"privileged": true}
		container["volumeMounts"] = []any{map[string]any{"name": "plugins", "mountPath": "/var/lib/kubelet/device-plugins"}}
		spec["volumes"] = []any{map[string]any{"name": "plugins", "hostPath": map[string]any{"path": "/var/lib/kubelet/device-plugins"}}}
	}
	return object{
		"apiVersion": "apps/v1", "kind": "DaemonSet",
		"metadata": map[string]any{
			"name": o.name, "labels": labels,
			"ownerReferences": []any{map[string]any{
				"apiVersion": "nvidia.com/v1", "kind": "ClusterPolicy", "name": policy.name(), "uid": policy.text("metadata", "uid"), "controller": true, "blockOwnerDeletion": true,
			}},
		},
		"spec": map[string]any{
			"selector": map[string]any{"matchLabels": map[string]any{"app": o.name}},
			"template": map[string]any{"metadata": map[string]any{"labels": labels}, "spec": spec},
		},
	}
}

// amdLabeller labels the nodes with AMD accelerators as AMD's does.
func amdLabeller(ctx context.Context, k *kube, _ []string) error {
	node, err := k.get(ctx, "/api/v1/nodes/"+k.node)
	if err != nil {
		return err
	}
	product, memory, number := gpuOf(node)
	return k.mark(ctx, node, "labels", map[string]any{
		"amd.com/gpu.product-name": product, "amd.com/gpu.vram": memory, "amd.com/gpu.count": number,
	})
}
