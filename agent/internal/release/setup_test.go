package release_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/durationpb"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"

	"github.com/budecosystem/budcluster/agent/agenttest"
	"github.com/budecosystem/budcluster/agent/api/v1alpha1"
	"github.com/budecosystem/budcluster/agent/internal/helm"
	"github.com/budecosystem/budcluster/agent/internal/helm/helmtest"
	agentkube "github.com/budecosystem/budcluster/agent/internal/kube"
	"github.com/budecosystem/budcluster/agent/internal/release"
	agentv1 "github.com/budecosystem/budcluster/proto/agent/v1"
)

var kube *agenttest.Kube

func TestMain(m *testing.M) {
	os.Exit(agenttest.RunWithKube(m, func(k *agenttest.Kube) {
		kube = k
		dyn, err := dynamic.NewForConfig(k.Config())
		if err != nil {
			panic(err)
		}
		if _, err := agentkube.ApplyCRD(context.Background(), dyn, v1alpha1.CRD()); err != nil {
			panic(err)
		}
	}))
}

// hub serves charts, like the link does.
type hub struct {
	mu     sync.Mutex
	charts map[string][]byte
	err    error
	asked  int
}

func (h *hub) FetchChart(_ context.Context, digest string) ([]byte, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.asked++
	if h.err != nil {
		return nil, h.err
	}
	chart, ok := h.charts[digest]
	if !ok {
		return nil, fmt.Errorf("the hub does not know chart %s", digest)
	}
	return chart, nil
}

func (h *hub) set(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.err = err
}

// bench is an agent's releases on a real API server.
type bench struct {
	hub       *hub
	typed     kubernetes.Interface
	namespace string // the agent's
	target    string // the releases'
	cfg       release.Config
	m         *release.Manager
	stop      func()
	statuses  <-chan *agentv1.ReleaseStatus
	seen      map[string]*agentv1.ReleaseStatus
}

func setup(t *testing.T, change ...func(*release.Config)) *bench {
	t.Helper()
	b := &bench{
		hub: &hub{charts: map[string][]byte{}}, typed: kube.Client(t),
		namespace: kube.Namespace(t), target: kube.Namespace(t),
	}
	level := slog.LevelError
	if testing.Verbose() {
		level = slog.LevelInfo
	}
	b.cfg = release.Config{
		REST: kube.Config(), Namespace: b.namespace, Pod: "agent-0", Charts: b.hub, Interval: 300 * time.Millisecond,
		Logger: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: level})),
	}
	for _, c := range change {
		c(&b.cfg)
	}
	b.start(t)
	return b
}

// start runs a manager, as a new process would.
func (b *bench) start(t *testing.T) {
	t.Helper()
	m, err := release.New(b.cfg)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	b.m, b.statuses, b.seen = m, m.Statuses(ctx), map[string]*agentv1.ReleaseStatus{}
	var once sync.Once
	b.stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("manager: %v", err)
			}
		})
	}
	t.Cleanup(b.stop)
}

// chart makes a chart that the hub serves.
func (b *bench) chart(t *testing.T, version string, files map[string]string) *agentv1.Chart {
	t.Helper()
	data := helmtest.Chart(t, "web", version, files)
	digest := helmtest.Digest(data)
	b.hub.mu.Lock()
	defer b.hub.mu.Unlock()
	b.hub.charts[digest] = data
	return &agentv1.Chart{Digest: digest, Name: "web", Version: version}
}

// wanted is a release with quick settings.
func (b *bench) wanted(name string, generation int64, chart *agentv1.Chart, vals string) *agentv1.Release {
	return &agentv1.Release{
		Id: "id-" + b.target + "-" + name, Name: name, Namespace: b.target, Generation: generation, Digest: fmt.Sprintf("sha256:%d", generation),
		Spec: &agentv1.ReleaseSpec{Chart: chart, Values: []byte(vals), Timeout: durationpb.New(20 * time.Second)},
	}
}

func (b *bench) upsert(t *testing.T, r *agentv1.Release) {
	t.Helper()
	require.NoError(t, b.m.Upsert(t.Context(), r))
}

// await reads statuses until one fits.
func (b *bench) await(t *testing.T, id, what string, fits func(*agentv1.ReleaseStatus) bool) *agentv1.ReleaseStatus {
	t.Helper()
	deadline := time.After(60 * time.Second)
	for {
		if s := b.seen[id]; s != nil && fits(s) {
			return s
		}
		select {
		case s, ok := <-b.statuses:
			require.True(t, ok, "statuses ended while waiting for %s", what)
			b.seen[s.GetId()] = s
		case <-deadline:
			t.Fatalf("waited for %s; last: %v", what, b.seen[id])
		}
	}
}

func (b *bench) awaitPhase(t *testing.T, r *agentv1.Release, phase agentv1.Phase) *agentv1.ReleaseStatus {
	t.Helper()
	return b.await(t, r.GetId(), string(phase), func(s *agentv1.ReleaseStatus) bool {
		return s.GetPhase() == string(phase) && s.GetObservedGeneration() == r.GetGeneration()
	})
}

// helm is a second client of the same storage.
func (b *bench) helm(t *testing.T) *helm.Client {
	t.Helper()
	c, err := helm.New(helm.Config{REST: kube.Config(), Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	return c
}

func (b *bench) history(t *testing.T, name string) helm.History {
	t.Helper()
	h, err := b.helm(t).History(t.Context(), helm.Ref{Namespace: b.target, Name: name})
	require.NoError(t, err)
	return h
}
