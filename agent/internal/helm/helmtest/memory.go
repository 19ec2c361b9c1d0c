// Package helmtest has a Helm backend in memory, one whose storage fails when
// told to, charts made of strings, and the suite that every backend passes.
//
//	Exercise ──► helm.Client ──► Memory | Failing{Memory} | a real API server
package helmtest

import (
	"context"
	"io"
	"sync"
	"testing"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chartutil"
	kubefake "helm.sh/helm/v3/pkg/kube/fake"
	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/storage/driver"
	"k8s.io/client-go/kubernetes"

	"github.com/budecosystem/budcluster/agent/internal/helm"
)

// Memory is a backend without a cluster: records are kept in memory, objects
// are accepted and thrown away.
type Memory struct {
	mu      sync.Mutex // guards drivers
	drivers map[string]*driver.Memory
}

// NewMemory makes an empty Memory.
func NewMemory() *Memory { return &Memory{drivers: map[string]*driver.Memory{}} }

// Storage implements helm.Backend.
func (m *Memory) Storage(namespace string) (driver.Driver, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, ok := m.drivers[namespace]
	if !ok {
		d = driver.NewMemory()
		d.SetNamespace(namespace)
		m.drivers[namespace] = d
	}
	return d, nil
}

// Cluster implements helm.Backend.
func (m *Memory) Cluster(_ context.Context, _ string, cfg *action.Configuration) error {
	cfg.KubeClient = &kubefake.PrintingKubeClient{Out: io.Discard}
	cfg.Capabilities = chartutil.DefaultCapabilities.Copy()
	return nil
}

// Failing is a backend whose storage asks first. A nil function allows all.
type Failing struct {
	helm.Backend
	// OnCreate and OnUpdate see the status that would be written.
	OnCreate, OnUpdate func(status helm.Status) error
}

// Storage implements helm.Backend.
func (f *Failing) Storage(namespace string) (driver.Driver, error) {
	d, err := f.Backend.Storage(namespace)
	if err != nil {
		return nil, err
	}
	return &failingDriver{Driver: d, f: f}, nil
}

type failingDriver struct {
	driver.Driver
	f *Failing
}

// Create asks, then writes.
func (d *failingDriver) Create(key string, rls *release.Release) error {
	if d.f.OnCreate != nil {
		if err := d.f.OnCreate(helm.Status(rls.Info.Status)); err != nil {
			return err
		}
	}
	return d.Driver.Create(key, rls)
}

// Update asks, then writes.
func (d *failingDriver) Update(key string, rls *release.Release) error {
	if d.f.OnUpdate != nil {
		if err := d.f.OnUpdate(helm.Status(rls.Info.Status)); err != nil {
			return err
		}
	}
	return d.Driver.Update(key, rls)
}

// Plant writes a record as another Helm would: with the given status and
// labels, and without a manifest.
func Plant(t testing.TB, b helm.Backend, ref helm.Ref, revision int, status helm.Status, labels map[string]string) {
	t.Helper()
	d, err := b.Storage(ref.Namespace)
	if err != nil {
		t.Fatalf("open storage: %v", err)
	}
	rel := release.Mock(&release.MockReleaseOptions{
		Name: ref.Name, Namespace: ref.Namespace, Version: revision, Status: release.Status(status),
	})
	rel.Manifest, rel.Hooks, rel.Labels = "", nil, labels
	if err := d.Create("sh.helm.release.v1."+ref.Name+".v"+itoa(revision), rel); err != nil {
		t.Fatalf("plant record: %v", err)
	}
}

// PlantSecret is Plant on a real API server.
func PlantSecret(t testing.TB, typed kubernetes.Interface, ref helm.Ref, revision int, status helm.Status, labels map[string]string) {
	t.Helper()
	Plant(t, secrets{typed}, ref, revision, status, labels)
}

type secrets struct{ typed kubernetes.Interface }

// Storage implements helm.Backend.
func (s secrets) Storage(namespace string) (driver.Driver, error) {
	return driver.NewSecrets(s.typed.CoreV1().Secrets(namespace)), nil
}

// Cluster implements helm.Backend; nothing can be done with it.
func (secrets) Cluster(context.Context, string, *action.Configuration) error { return nil }
