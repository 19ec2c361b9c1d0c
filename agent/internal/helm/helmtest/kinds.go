package helmtest

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/discovery"

	"github.com/budecosystem/budcluster/agent/internal/helm"
)

// CoreKinds is a discovery that knows ConfigMaps and namespaces.
type CoreKinds struct {
	discovery.ServerResourcesInterface
}

// ServerResourcesForGroupVersion implements discovery.
func (CoreKinds) ServerResourcesForGroupVersion(string) (*metav1.APIResourceList, error) {
	return &metav1.APIResourceList{GroupVersion: "v1", APIResources: []metav1.APIResource{
		{Name: "configmaps", Kind: "ConfigMap", Namespaced: true},
		{Name: "configmaps/status", Kind: "ConfigMap", Namespaced: true},
		{Name: "namespaces", Kind: "Namespace"},
	}}, nil
}

func unstructuredString(o helm.Object, path ...string) (string, bool, error) {
	return unstructured.NestedString(o.Object, path...)
}
