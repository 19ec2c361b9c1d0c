package kube

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/util/flowcontrol"

	"github.com/budecosystem/budcluster/internal/buildinfo"
)

// FieldManager is who we are in server-side apply.
const FieldManager = "budcluster-agent"

// Limits of our requests. A Helm upgrade of a large chart is some 200 requests
// and takes 4 s at this rate; the API server's own default for one client
// class is far above it.
const (
	DefaultQPS   = 50
	DefaultBurst = 100
)

// Config says which API server, and how hard we may press it.
type Config struct {
	// Kubeconfig is a path; empty means the service account of the pod.
	Kubeconfig string
	QPS        float32
	Burst      int
}

// RESTConfig makes the configuration that all clients derive from.
func RESTConfig(cfg Config) (*rest.Config, error) {
	rc, err := load(cfg.Kubeconfig)
	if err != nil {
		return nil, err
	}
	rc.QPS = cmp.Or(cfg.QPS, DefaultQPS)
	rc.Burst = cmp.Or(cfg.Burst, DefaultBurst)
	rc.UserAgent = "budcluster-agent/" + buildinfo.Version()
	return rc, nil
}

func load(kubeconfig string) (*rest.Config, error) {
	if kubeconfig != "" {
		rc, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
		if err != nil {
			return nil, fmt.Errorf("read kubeconfig %s: %w", kubeconfig, err)
		}
		return rc, nil
	}
	rc, err := rest.InClusterConfig()
	if err != nil {
		return nil, fmt.Errorf("read the pod's service account (outside a cluster set kubeconfig): %w", err)
	}
	return rc, nil
}

// Clients are the ways to talk to the API server. They share one connection
// pool and one rate limiter.
type Clients struct {
	// Config is what the clients were made from; JSON is its content type.
	// Clients that others make from it share the limiter too.
	Config    *rest.Config
	Typed     kubernetes.Interface
	Dynamic   dynamic.Interface
	Discovery discovery.CachedDiscoveryInterface
	// Mapper learns the server's resources when first asked, and again when
	// asked for one that it does not know.
	Mapper *restmapper.DeferredDiscoveryRESTMapper
}

// NewClients makes the clients. It does not contact the API server.
func NewClients(rc *rest.Config) (*Clients, error) {
	rc = rest.CopyConfig(rc)
	// One limiter for all: each client that is given only figures makes its
	// own, and the sum is what the API server feels.
	if rc.QPS > 0 && rc.RateLimiter == nil {
		rc.RateLimiter = flowcontrol.NewTokenBucketRateLimiter(rc.QPS, rc.Burst)
	}
	hc, err := rest.HTTPClientFor(rc)
	if err != nil {
		return nil, fmt.Errorf("make HTTP client for the API server: %w", err)
	}
	core := rest.CopyConfig(rc)
	core.ContentType = runtime.ContentTypeProtobuf
	core.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	typed, err := kubernetes.NewForConfigAndClient(core, hc)
	if err != nil {
		return nil, fmt.Errorf("make client for core types: %w", err)
	}
	dyn, err := dynamic.NewForConfigAndClient(rc, hc)
	if err != nil {
		return nil, fmt.Errorf("make client for custom resources: %w", err)
	}
	disco, err := discovery.NewDiscoveryClientForConfigAndClient(rc, hc)
	if err != nil {
		return nil, fmt.Errorf("make discovery client: %w", err)
	}
	cached := memory.NewMemCacheClient(disco)
	return &Clients{
		Config: rc, Typed: typed, Dynamic: dyn, Discovery: cached,
		Mapper: restmapper.NewDeferredDiscoveryRESTMapper(cached),
	}, nil
}

// ClusterUID is the UID of the kube-system namespace: what makes a cluster the
// same cluster.
func (c *Clients) ClusterUID(ctx context.Context) (string, error) {
	ns, err := c.Typed.CoreV1().Namespaces().Get(ctx, metav1.NamespaceSystem, metav1.GetOptions{})
	if err != nil {
		return "", fmt.Errorf("read namespace %s for the cluster's uid: %w", metav1.NamespaceSystem, err)
	}
	return string(ns.UID), nil
}

// Version is the API server's own, e.g. v1.33.1+k3s1.
func (c *Clients) Version(ctx context.Context) (string, error) {
	data, err := c.Typed.Discovery().RESTClient().Get().AbsPath("/version").DoRaw(ctx)
	if err != nil {
		return "", fmt.Errorf("read the API server's version: %w", err)
	}
	var info version.Info
	if err := json.Unmarshal(data, &info); err != nil {
		return "", fmt.Errorf("decode the API server's version: %w", err)
	}
	return info.GitVersion, nil
}

// Groups names the API groups that the server has now.
func (c *Clients) Groups(ctx context.Context) ([]string, error) {
	data, err := c.Typed.Discovery().RESTClient().Get().AbsPath("/apis").SetHeader("Accept", runtime.ContentTypeJSON).DoRaw(ctx)
	if err != nil {
		return nil, fmt.Errorf("list API groups: %w", err)
	}
	var list metav1.APIGroupList
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, fmt.Errorf("decode API groups: %w", err)
	}
	groups := make([]string, 0, len(list.Groups))
	for _, g := range list.Groups {
		groups = append(groups, g.Name)
	}
	return groups, nil
}
