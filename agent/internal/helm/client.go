package helm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/storage"
	"helm.sh/helm/v3/pkg/storage/driver"
	"k8s.io/client-go/rest"

	"github.com/budecosystem/budcluster/internal/logkey"
)

const (
	// DefaultMaxHistory is how many revisions Helm keeps of a release.
	DefaultMaxHistory = 10
	// DefaultWorkers is how many operations render and apply at once.
	DefaultWorkers = 4
)

// Config of a Client.
type Config struct {
	// REST reaches the API server. Not needed when Backend is set.
	REST *rest.Config
	// Backend replaces the API server in tests.
	Backend Backend
	Logger  *slog.Logger
	Mirrors Mirrors
	// MaxHistory and Workers default to the constants above.
	MaxHistory, Workers int
}

// Client runs Helm operations.
type Client struct {
	backend    Backend
	log        *slog.Logger
	mirrors    Mirrors
	maxHistory int
	slots      chan struct{} // one token per operation that renders or applies
}

// New checks the configuration and makes a Client.
func New(cfg Config) (*Client, error) {
	if cfg.Logger == nil {
		return nil, errors.New("helm: no logger")
	}
	if cfg.Backend == nil {
		if cfg.REST == nil {
			return nil, errors.New("helm: neither REST configuration nor backend")
		}
		b, err := newRESTBackend(cfg.REST)
		if err != nil {
			return nil, err
		}
		cfg.Backend = b
	}
	return &Client{
		backend: cfg.Backend, log: cfg.Logger, mirrors: cfg.Mirrors,
		maxHistory: cmp.Or(cfg.MaxHistory, DefaultMaxHistory),
		slots:      make(chan struct{}, cmp.Or(cfg.Workers, DefaultWorkers)),
	}, nil
}

// session is one operation: its own discovery, its own storage wrapper.
type session struct {
	cfg *action.Configuration
	ref Ref
	ctx context.Context //nolint:containedctx // lives as long as one operation
	// kube is nil on a backend without a cluster.
	kube *kubeClient
}

// begin waits for a slot and opens a session; done gives both back.
func (c *Client) begin(ctx context.Context, ref Ref, labels map[string]string) (*session, func(), error) {
	if ctx.Err() != nil {
		return nil, nil, context.Cause(ctx)
	}
	select {
	case c.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, nil, context.Cause(ctx)
	}
	s, err := c.open(ctx, ref, labels)
	if err != nil {
		<-c.slots
		return nil, nil, err
	}
	done := func() {
		s.cfg.RESTClientGetter, s.cfg.KubeClient, s.cfg.Capabilities = nil, nil, nil
		<-c.slots
		debug.FreeOSMemory()
	}
	return s, done, nil
}

func (c *Client) open(ctx context.Context, ref Ref, labels map[string]string) (*session, error) {
	inner, err := c.backend.Storage(ref.Namespace)
	if err != nil {
		return nil, fmt.Errorf("open helm storage of %s: %w", ref.Namespace, err)
	}
	cfg := &action.Configuration{
		Releases: storage.Init(&recorder{Driver: inner, ctx: ctx, labels: labels, mirrors: c.mirrors}),
		Log:      c.debug(ctx, ref),
	}
	cfg.Releases.MaxHistory = c.maxHistory
	cfg.Releases.Log = cfg.Log
	s := &session{cfg: cfg, ref: ref, ctx: ctx}
	if err := c.backend.Cluster(ctx, ref.Namespace, cfg); err != nil {
		return nil, fmt.Errorf("open cluster for %s: %w", ref, err)
	}
	if k, ok := cfg.KubeClient.(*kubeClient); ok {
		k.yield = c.yield
		s.kube = k
	}
	return s, nil
}

// yield gives the slot to others while an operation only waits for a hook.
func (c *Client) yield() (resume func()) {
	<-c.slots
	return func() { c.slots <- struct{}{} }
}

func (c *Client) debug(ctx context.Context, ref Ref) action.DebugLog {
	return func(format string, args ...any) {
		if c.log.Enabled(ctx, slog.LevelDebug) {
			c.log.DebugContext(ctx, "helm says", slog.String(logkey.Release, ref.String()), slog.String(logkey.Message, fmt.Sprintf(format, args...)))
		}
	}
}

// History reads the records of a release.
func (c *Client) History(ctx context.Context, ref Ref) (History, error) {
	if l, ok := c.backend.(historian); ok {
		return l.History(ctx, ref)
	}
	d, err := c.backend.Storage(ref.Namespace)
	if err != nil {
		return nil, fmt.Errorf("open helm storage of %s: %w", ref.Namespace, err)
	}
	rels, err := storage.Init(d).History(ref.Name)
	if errors.Is(err, driver.ErrReleaseNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read helm history of %s: %w", ref, err)
	}
	h := make(History, 0, len(rels))
	for _, rel := range rels {
		h = append(h, recordOf(rel))
	}
	return sortHistory(h), nil
}

// ErrNoRecord is returned for a revision that Helm's storage does not hold.
var ErrNoRecord = errors.New("no such helm record")

// load decodes one record.
func (c *Client) load(ref Ref, revision int) (*release.Release, *storage.Storage, error) {
	d, err := c.backend.Storage(ref.Namespace)
	if err != nil {
		return nil, nil, fmt.Errorf("open helm storage of %s: %w", ref.Namespace, err)
	}
	s := storage.Init(d)
	rel, err := s.Get(ref.Name, revision)
	if errors.Is(err, driver.ErrReleaseNotFound) {
		return nil, nil, fmt.Errorf("revision %d of %s: %w", revision, ref, ErrNoRecord)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read revision %d of %s: %w", revision, ref, err)
	}
	return rel, s, nil
}
