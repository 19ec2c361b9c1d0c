package kube

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/metadata"
)

// Resident is one object that lies in a namespace.
type Resident struct {
	Resource schema.GroupVersionResource
	Kind     string
	metav1.ObjectMeta
}

// String is Kind/name.
func (r Resident) String() string { return r.Kind + "/" + r.Name }

// MadeBy is the annotation on a namespace that an installation of the agent made,
// so that whoever removes the agent may remove the namespace too.
const MadeBy = "budcluster.io/made-by"

// Residents lists what lies in a namespace beside what Kubernetes puts into
// every one, and beside what belongs to another object and goes with it. Kinds
// that this program may not list are not seen: without a right on them it has
// made none, and whoever installs others' kinds grants them (rbac.components,
// rbac.installer.extraRules).
func Residents(ctx context.Context, disco discovery.ServerResourcesInterface, client metadata.Interface, namespace string) ([]Resident, error) {
	lists, err := disco.ServerPreferredNamespacedResources()
	var partly *discovery.ErrGroupDiscoveryFailed
	if err != nil && !errors.As(err, &partly) { // an aggregated API that is down serves no objects either
		return nil, fmt.Errorf("list the kinds of the API server: %w", err)
	}
	var out []Resident
	for _, list := range lists {
		gv, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			continue
		}
		for _, r := range list.APIResources {
			if isEvent(gv, r.Name) || !slices.Contains(r.Verbs, "list") || !slices.Contains(r.Verbs, "delete") {
				continue
			}
			some, err := residents(ctx, client, gv.WithResource(r.Name), r.Kind, namespace)
			if err != nil {
				return nil, err
			}
			out = append(out, some...)
		}
	}
	return out, nil
}

func isEvent(gv schema.GroupVersion, resource string) bool {
	return resource == "events" && (gv.Group == "" || gv.Group == "events.k8s.io")
}

func residents(ctx context.Context, client metadata.Interface, gvr schema.GroupVersionResource, kind, namespace string) ([]Resident, error) {
	list, err := client.Resource(gvr).Namespace(namespace).List(ctx, metav1.ListOptions{})
	switch {
	case apierrors.IsForbidden(err), apierrors.IsNotFound(err), apierrors.IsMethodNotSupported(err):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("look through namespace %s for %s: %w", namespace, gvr.Resource, err)
	}
	var out []Resident
	for i := range list.Items {
		if meta := list.Items[i].ObjectMeta; len(meta.OwnerReferences) == 0 && !isEverywhere(kind, &meta) {
			out = append(out, Resident{Resource: gvr, Kind: kind, ObjectMeta: meta})
		}
	}
	return out, nil
}

// isEverywhere: Kubernetes or OpenShift puts it into every namespace.
func isEverywhere(kind string, meta *metav1.ObjectMeta) bool {
	switch kind {
	case "ConfigMap":
		return meta.Name == "kube-root-ca.crt" || meta.Name == "openshift-service-ca.crt"
	case "ServiceAccount":
		return meta.Name == "default" || meta.Name == "builder" || meta.Name == "deployer"
	case "Secret":
		account := meta.Annotations["kubernetes.io/service-account.name"]
		return account == "default" || account == "builder" || account == "deployer"
	case "RoleBinding":
		return strings.HasPrefix(meta.Name, "system:")
	case "Endpoints": // written for a Service of the same name
		return meta.Labels["endpoints.kubernetes.io/managed-by"] != "" ||
			meta.Annotations["endpoints.kubernetes.io/last-change-trigger-time"] != ""
	default:
		return false
	}
}
