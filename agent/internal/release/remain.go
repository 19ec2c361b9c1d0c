package release

import (
	"context"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/budecosystem/budcluster/agent/internal/helm"
)

// remaining names what an uninstalled release has left: its objects, and the
// pods of its workloads, which hold memory and devices until they have ended.
// What is gone, by its place among the objects, is not looked for again.
func (s *surveyor) remaining(ctx context.Context, objects []helm.Object, gone map[int]bool, ref helm.Ref) ([]string, error) {
	var left []string
	for i, obj := range objects {
		if !obj.Known || obj.Kept() || gone[i] {
			continue
		}
		live, err := s.client(obj).Get(ctx, obj.GetName(), metav1.GetOptions{})
		switch {
		case apierrors.IsMethodNotSupported(err):
			continue
		case apierrors.IsNotFound(err):
			pods, err := s.pods(ctx, obj)
			if err != nil {
				return nil, err
			}
			left, gone[i] = append(left, pods...), len(pods) == 0
			continue
		case err != nil:
			return nil, fmt.Errorf("look for %s: %w", obj, err)
		}
		if live.GetDeletionTimestamp() == nil && live.GetAnnotations()["meta.helm.sh/release-name"] != ref.Name {
			continue // somebody else made it anew
		}
		text := obj.String()
		if f := live.GetFinalizers(); len(f) > 0 {
			text += fmt.Sprintf(" (finalizer %s)", f[0])
		}
		left = append(left, text)
	}
	return left, nil
}

// pods names those that a workload, which is gone, has left.
func (s *surveyor) pods(ctx context.Context, obj helm.Object) ([]string, error) {
	selector := podSelector(obj)
	if selector == "" {
		return nil, nil
	}
	resource := schema.GroupVersionResource{Version: "v1", Resource: "pods"}
	list, err := s.dynamic.Resource(resource).Namespace(obj.GetNamespace()).List(ctx, metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		return nil, fmt.Errorf("look for pods of %s: %w", obj, err)
	}
	var left []string
	for i := range list.Items {
		if madeBy(&list.Items[i], obj) {
			left = append(left, "Pod/"+list.Items[i].GetNamespace()+"/"+list.Items[i].GetName())
		}
	}
	return left, nil
}

func podSelector(obj helm.Object) string {
	switch obj.GetKind() {
	case "Job":
		return "batch.kubernetes.io/job-name=" + obj.GetName()
	case "Deployment", "StatefulSet", "DaemonSet", "ReplicaSet":
		match, _, _ := unstructured.NestedStringMap(obj.Object, "spec", "selector", "matchLabels")
		return labels.Set(match).String()
	default:
		return ""
	}
}

// madeBy: the pod's controller is the workload, or the workload's ReplicaSet.
// Others may have pods with the same labels.
func madeBy(pod *unstructured.Unstructured, obj helm.Object) bool {
	owner := metav1.GetControllerOf(pod)
	if owner == nil {
		return false
	}
	return owner.Kind == obj.GetKind() && owner.Name == obj.GetName() ||
		owner.Kind == "ReplicaSet" && obj.GetKind() == "Deployment" && strings.HasPrefix(owner.Name, obj.GetName()+"-")
}
