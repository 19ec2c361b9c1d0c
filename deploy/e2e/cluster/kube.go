package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"text/template"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/clientcmd"
)

// connect makes the clients.
func (c *Cluster) connect() error {
	config, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig())
	if err != nil {
		return fmt.Errorf("read %s: %w", c.Kubeconfig(), err)
	}
	config.QPS, config.Burst = 200, 400
	config.WarningHandler = rest.NoWarnings{}
	c.config = config
	if c.kube, err = kubernetes.NewForConfig(config); err != nil {
		return err
	}
	c.dynamic, err = dynamic.NewForConfig(config)
	return err
}

// Kube is the typed client.
func (c *Cluster) Kube() kubernetes.Interface { return c.kube }

// Dynamic is the client for everything else.
func (c *Cluster) Dynamic() dynamic.Interface { return c.dynamic }

// REST is the clients' configuration.
func (c *Cluster) REST() *rest.Config { return rest.CopyConfig(c.config) }

// manifest renders one of this package's manifests.
func manifest(name string, data any) ([]byte, error) {
	t, err := template.ParseFS(manifests, "manifests/"+name)
	if err != nil {
		return nil, fmt.Errorf("read manifest %s: %w", name, err)
	}
	var out bytes.Buffer
	if err := t.Execute(&out, data); err != nil {
		return nil, fmt.Errorf("render manifest %s: %w", name, err)
	}
	return out.Bytes(), nil
}

// Apply makes the objects of a YAML stream be as written there.
func (c *Cluster) Apply(ctx context.Context, stream []byte) error {
	groups, err := restmapper.GetAPIGroupResources(c.kube.Discovery())
	if err != nil {
		return fmt.Errorf("list the cluster's kinds: %w", err)
	}
	mapper := restmapper.NewDiscoveryRESTMapper(groups)
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(stream), 4096)
	for {
		object := &unstructured.Unstructured{}
		if err := decoder.Decode(&object.Object); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read manifest: %w", err)
		}
		if len(object.Object) == 0 {
			continue
		}
		kind := object.GroupVersionKind()
		mapping, err := mapper.RESTMapping(kind.GroupKind(), kind.Version)
		if err != nil {
			return fmt.Errorf("find kind %s: %w", kind, err)
		}
		var resource dynamic.ResourceInterface = c.dynamic.Resource(mapping.Resource)
		if mapping.Scope.Name() == "namespace" {
			namespace := object.GetNamespace()
			if namespace == "" {
				namespace = metav1.NamespaceDefault
			}
			resource = c.dynamic.Resource(mapping.Resource).Namespace(namespace)
		}
		if _, err := resource.Apply(ctx, object.GetName(), object, metav1.ApplyOptions{FieldManager: "budcluster-e2e", Force: true}); err != nil {
			return fmt.Errorf("apply %s %s: %w", kind.Kind, object.GetName(), err)
		}
	}
}

// FakeGPUs puts a device plugin on every real node that offers so many
// pretend nvidia.com/gpu.
func (c *Cluster) FakeGPUs(ctx context.Context, perNode int) error {
	m, err := manifest("fakegpu.yaml", map[string]any{"FakeGPUImage": FakeGPUImage, "GPUs": perNode})
	if err != nil {
		return err
	}
	return c.Apply(ctx, m)
}
