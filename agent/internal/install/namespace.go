package install

import (
	"context"
	"fmt"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"

	"github.com/budecosystem/budcluster/agent/internal/kube"
)

// dropNamespace deletes the agent's namespace if an installation made it and
// nothing of anybody is in it.
func (c *cluster) dropNamespace(ctx context.Context) (left []string, err error) {
	ns, err := c.typed.CoreV1().Namespaces().Get(ctx, c.ref.Namespace, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look at namespace %s: %w", c.ref.Namespace, err)
	}
	if ns.Annotations[kube.MadeBy] == "" || ns.DeletionTimestamp != nil {
		return nil, nil
	}
	within, err := c.content(ctx)
	if err != nil {
		return nil, err
	}
	if len(within) > 0 {
		return []string{fmt.Sprintf("the namespace %s stays, for it holds %s", c.ref.Namespace, strings.Join(within, ", "))}, nil
	}
	return nil, c.drop(ctx, "namespace", func() error {
		return c.typed.CoreV1().Namespaces().Delete(ctx, c.ref.Namespace, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &ns.UID}})
	})
}

// content names some of what lies in the agent's namespace, without what
// Kubernetes itself puts into each and what goes by itself.
func (c *cluster) content(ctx context.Context) ([]string, error) {
	lists, err := c.clients.Discovery.ServerPreferredNamespacedResources()
	if err != nil && !discovery.IsGroupDiscoveryFailedError(err) {
		return nil, fmt.Errorf("list the kinds of objects: %w", err)
	}
	var found []string
	for _, list := range lists {
		gv, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			continue
		}
		for _, r := range list.APIResources {
			if !slices.Contains(r.Verbs, "list") || !slices.Contains(r.Verbs, "delete") || transient(gv.Group, r.Name) {
				continue
			}
			items, err := c.dynamic.Resource(gv.WithResource(r.Name)).Namespace(c.ref.Namespace).List(ctx, metav1.ListOptions{Limit: 20})
			if apierrors.IsNotFound(err) || apierrors.IsMethodNotSupported(err) {
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("list %s of namespace %s: %w", r.Name, c.ref.Namespace, err)
			}
			for i := range items.Items {
				if o := &items.Items[i]; !given(o) {
					found = append(found, strings.ToLower(o.GetKind())+" "+o.GetName())
				}
				if len(found) == 5 {
					return found, nil
				}
			}
		}
	}
	return found, nil
}

// transient kinds are no reason to keep a namespace.
func transient(group, resource string) bool {
	return resource == "events" || resource == "endpoints" || resource == "endpointslices" || group == "metrics.k8s.io"
}

// given reports whether Kubernetes puts this into every namespace, or is
// already taking it away.
func given(o *unstructured.Unstructured) bool {
	if o.GetDeletionTimestamp() != nil || len(o.GetOwnerReferences()) > 0 {
		return true
	}
	switch o.GetKind() {
	case "ServiceAccount":
		return slices.Contains([]string{"default", "builder", "deployer"}, o.GetName())
	case "ConfigMap":
		return slices.Contains([]string{"kube-root-ca.crt", "openshift-service-ca.crt"}, o.GetName())
	case "Secret":
		return o.GetAnnotations()["kubernetes.io/service-account.name"] != ""
	case "RoleBinding": // OpenShift's
		return strings.HasPrefix(o.GetName(), "system:")
	default:
		return false
	}
}
