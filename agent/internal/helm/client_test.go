package helm_test

import (
	"errors"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/agent/agenttest"
	"github.com/budecosystem/budcluster/agent/internal/helm"
	"github.com/budecosystem/budcluster/agent/internal/helm/helmtest"
)

var kube *agenttest.Kube

func TestMain(m *testing.M) {
	os.Exit(agenttest.RunWithKube(m, func(k *agenttest.Kube) { kube = k }))
}

func client(t *testing.T, cfg helm.Config) *helm.Client {
	t.Helper()
	cfg.Logger = slog.New(slog.DiscardHandler)
	c, err := helm.New(cfg)
	require.NoError(t, err)
	return c
}

func TestMemoryConforms(t *testing.T) {
	t.Parallel()
	helmtest.Exercise(t, func(t *testing.T) (*helm.Client, string) {
		return client(t, helm.Config{Backend: helmtest.NewMemory()}), "ns"
	})
}

func TestFailingConformsWhileItDoesNotFail(t *testing.T) {
	t.Parallel()
	helmtest.Exercise(t, func(t *testing.T) (*helm.Client, string) {
		return client(t, helm.Config{Backend: &helmtest.Failing{Backend: helmtest.NewMemory()}}), "ns"
	})
}

func TestAPIServerConforms(t *testing.T) {
	t.Parallel()
	helmtest.Exercise(t, func(t *testing.T) (*helm.Client, string) {
		return client(t, helm.Config{REST: kube.Config()}), kube.Namespace(t)
	})
}

// TestPendingAfterStorageFailure loses the last write of an install, as a
// kill does: the record stays pending with our labels, and Unlock frees it.
func TestPendingAfterStorageFailure(t *testing.T) {
	t.Parallel()
	broken := errors.New("storage is away")
	backend := &helmtest.Failing{Backend: helmtest.NewMemory(), OnUpdate: func(helm.Status) error { return broken }}
	c := client(t, helm.Config{Backend: backend})
	ref := helm.Ref{Namespace: "ns", Name: "web"}
	op := helm.Operation{
		Ref: ref, Chart: helmtest.Chart(t, "web", "1.0.0", map[string]string{"templates/cm.yaml": helmtest.ConfigMapTemplate}),
		Labels: helm.Labels{ReleaseID: "r", Operation: "o", Content: "c"}, Timeout: time.Second,
	}
	_ = c.Install(t.Context(), op)
	// The memory driver shares its records, so the status in memory is what
	// Helm set last; a real storage would still hold pending-install.
	helmtest.Plant(t, backend, ref, 2, helm.StatusPendingUpgrade, map[string]string{helm.LabelOperation: "o2", helm.LabelReleaseID: "r"})
	backend.OnUpdate = nil
	require.NoError(t, c.Unlock(t.Context(), ref, 2, "the agent died"))
	h, err := c.History(t.Context(), ref)
	require.NoError(t, err)
	r, _ := h.Latest()
	require.Equal(t, helm.StatusFailed, r.Status)
	require.True(t, r.Interrupted)
}

func TestHistory(t *testing.T) {
	t.Parallel()
	ours := helm.Labels{Operation: "a"}
	h := helm.History{{Revision: 3, Labels: ours}, {Revision: 2, Labels: ours}}
	require.True(t, h.Copied(), "two records of one operation: somebody copied the labels")
	require.False(t, helm.History{{Revision: 2, Labels: ours}, {Revision: 1}}.Copied())
	require.False(t, helm.History{}.Copied())
	require.False(t, helm.History{{Status: helm.StatusFailed}}.Established())
	for _, s := range helm.Statuses() {
		require.Equal(t, s == helm.StatusPendingInstall || s == helm.StatusPendingUpgrade || s == helm.StatusPendingRollback, s.Pending(), s)
	}
}
