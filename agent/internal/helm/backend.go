package helm

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/kube"
	"helm.sh/helm/v3/pkg/storage/driver"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/client-go/util/flowcontrol"
)

// requestTimeout bounds one request to the API server.
const requestTimeout = 30 * time.Second

// requestsPerSecond of all operations together: a chart of 200 objects takes
// some 600 requests.
const requestsPerSecond = 100

// Backend is what Helm works on: where records are kept and how objects are
// made. The real one is an API server; helmtest has one in memory.
type Backend interface {
	// Storage opens the records of a namespace.
	Storage(namespace string) (driver.Driver, error)
	// Cluster sets what cfg needs to make objects in a namespace. Requests end
	// with ctx.
	Cluster(ctx context.Context, namespace string, cfg *action.Configuration) error
}

// historian is a Backend that reads histories without decoding records.
type historian interface {
	History(ctx context.Context, ref Ref) (History, error)
}

// restBackend is an API server.
type restBackend struct {
	config *rest.Config
	typed  kubernetes.Interface
	meta   metadata.Interface
}

func newRESTBackend(cfg *rest.Config) (*restBackend, error) {
	config := rest.CopyConfig(cfg)
	config.Timeout = requestTimeout
	// All operations share one limiter; Helm makes a client per object.
	config.RateLimiter = flowcontrol.NewTokenBucketRateLimiter(requestsPerSecond, 2*requestsPerSecond)
	config.ContentType, config.AcceptContentTypes = runtime.ContentTypeJSON, runtime.ContentTypeJSON
	config.WarningHandler = rest.NoWarnings{}
	typed, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make client for helm storage: %w", err)
	}
	md, err := metadata.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make client for helm history: %w", err)
	}
	return &restBackend{config: config, typed: typed, meta: md}, nil
}

// Storage opens Helm's Secrets. Its requests are not cut when an operation's
// context ends: what became of it must still be written.
func (b *restBackend) Storage(namespace string) (driver.Driver, error) {
	return driver.NewSecrets(b.typed.CoreV1().Secrets(namespace)), nil
}

// History reads only the metadata of Helm's Secrets: the labels hold all that
// decisions need, while a decoded record holds the whole chart.
func (b *restBackend) History(ctx context.Context, ref Ref) (History, error) {
	secrets := schema.GroupVersionResource{Version: "v1", Resource: "secrets"}
	list, err := b.meta.Resource(secrets).Namespace(ref.Namespace).List(ctx, metav1.ListOptions{
		LabelSelector: labels.Set{"owner": "helm", "name": ref.Name}.String(),
	})
	if err != nil {
		return nil, fmt.Errorf("read helm history of %s: %w", ref, err)
	}
	h := make(History, 0, len(list.Items))
	for i := range list.Items {
		r := recordFrom(list.Items[i].Labels)
		r.ChangedAt = later(r.ChangedAt, writtenAt(&list.Items[i]))
		h = append(h, r)
	}
	return sortHistory(h), nil
}

// writtenAt is when the API server last saw a write of the object. Helm's CLI
// copies the labels with the times from one revision to the next.
func writtenAt(m *metav1.PartialObjectMetadata) time.Time {
	at := m.CreationTimestamp.UTC()
	for _, e := range m.ManagedFields {
		if e.Time != nil {
			at = later(at, e.Time.UTC())
		}
	}
	return at
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// Cluster gives an operation discovery and clients of its own, which are
// dropped with it.
func (b *restBackend) Cluster(ctx context.Context, namespace string, cfg *action.Configuration) error {
	config := rest.CopyConfig(b.config)
	config.Timeout = 0 // requests end with ctx; a hook's log may stream for long
	config.Wrap(func(rt http.RoundTripper) http.RoundTripper { return &cutter{next: rt, ctx: ctx} })
	getter := &getter{config: config, namespace: namespace}
	inner := kube.New(getter)
	inner.Namespace = namespace
	inner.Log = cfg.Log
	typed, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("make client: %w", err)
	}
	cfg.RESTClientGetter = getter
	cfg.KubeClient = &kubeClient{Client: inner, ctx: ctx, typed: typed}
	return nil
}

// FieldManager is the name under which Helm's SDK writes objects: it takes it
// from the program's file.
func FieldManager() string { return filepath.Base(os.Args[0]) }

// cutter ends every request when the operation ends. Helm's SDK hands no
// context to its requests.
type cutter struct {
	next http.RoundTripper
	ctx  context.Context //nolint:containedctx // the operation's, see above
}

// RoundTrip implements http.RoundTripper.
func (c *cutter) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(req.Context())
	stop := context.AfterFunc(c.ctx, func() { cancel(c.cause()) }) //nolint:contextcheck // it inherits from the request, and ends with the operation too
	resp, err := c.next.RoundTrip(req.WithContext(ctx))
	if err != nil {
		stop()
		cancel(nil)
		return nil, cmp.Or(c.cause(), err)
	}
	resp.Body = &cutBody{ReadCloser: resp.Body, end: func() { stop(); cancel(nil) }}
	return resp, nil
}

// cause is why the operation ended; nil while it runs.
func (c *cutter) cause() error { return context.Cause(c.ctx) }

type cutBody struct {
	io.ReadCloser
	end func()
}

// Close releases the request's context.
func (b *cutBody) Close() error {
	defer b.end()
	return b.ReadCloser.Close()
}

// getter implements genericclioptions.RESTClientGetter for one operation.
type getter struct {
	config    *rest.Config
	namespace string

	mu     sync.Mutex // guards disco, mapper
	disco  discovery.CachedDiscoveryInterface
	mapper meta.ResettableRESTMapper
}

// ToRESTConfig returns a copy that the caller may change.
func (g *getter) ToRESTConfig() (*rest.Config, error) { return rest.CopyConfig(g.config), nil }

// ToDiscoveryClient returns the operation's discovery, read once.
func (g *getter) ToDiscoveryClient() (discovery.CachedDiscoveryInterface, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.discoveryLocked()
}

func (g *getter) discoveryLocked() (discovery.CachedDiscoveryInterface, error) {
	if g.disco == nil {
		d, err := discovery.NewDiscoveryClientForConfig(g.config)
		if err != nil {
			return nil, fmt.Errorf("make discovery client: %w", err)
		}
		g.disco = memory.NewMemCacheClient(d)
	}
	return g.disco, nil
}

// ToRESTMapper returns the operation's mapper over its discovery.
func (g *getter) ToRESTMapper() (meta.RESTMapper, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.mapper == nil {
		d, err := g.discoveryLocked()
		if err != nil {
			return nil, err
		}
		g.mapper = restmapper.NewDeferredDiscoveryRESTMapper(d)
	}
	return g.mapper, nil
}

// ToRawKubeConfigLoader only tells the namespace.
func (g *getter) ToRawKubeConfigLoader() clientcmd.ClientConfig {
	return clientcmd.NewDefaultClientConfig(*clientcmdapi.NewConfig(),
		&clientcmd.ConfigOverrides{Context: clientcmdapi.Context{Namespace: g.namespace}})
}
