package inventory

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/budecosystem/budcluster/agent/internal/health"
	"github.com/budecosystem/budcluster/internal/facts"
)

type server struct{ away atomic.Bool }

func (s *server) ask(answer string) (string, error) {
	if s.away.Load() {
		return "", errors.New("connection refused")
	}
	return answer, nil
}

func (s *server) Version(context.Context) (string, error)    { return s.ask("v1.37.2+k3s1") }
func (s *server) ClusterUID(context.Context) (string, error) { return s.ask("uid-1") }
func (s *server) Groups(context.Context) ([]string, error)   { return []string{"apps"}, nil }

type bundle struct {
	*Collector
	server *server
	board  *health.Board
}

func setup(t *testing.T) *bundle {
	t.Helper()
	b := &bundle{server: &server{}, board: health.New(time.Now)}
	var err error
	b.Collector, err = New(Config{Client: fake.NewClientset(), Server: b.server, Board: b.board, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	return b
}

func gpuNode(labels map[string]string) *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "n1", UID: types.UID("u1"), Labels: labels},
		Status: corev1.NodeStatus{
			Capacity: list("cpu", "8", "memory", "32Gi", "nvidia.com/gpu", "2"), Allocatable: list("cpu", "8", "memory", "32Gi", "nvidia.com/gpu", "2"),
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
		},
	}
}

func gfd() map[string]string {
	return map[string]string{"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB", "nvidia.com/gpu.count": "2", "nvidia.com/gpu.memory": "81920"}
}

func (b *bundle) model(t *testing.T) (model string, suspect bool) {
	t.Helper()
	d := b.Delta([]string{"n1"}, false)
	require.Len(t, d.GetNodes(), 1)
	for _, dev := range d.GetNodes()[0].GetDevices() {
		if dev.GetKind() == string(facts.KindCUDA) {
			return dev.GetModel(), dev.GetSuspectSince() != nil
		}
	}
	return "", false
}

// TestSuspectGrace: GFD is rolled, its labels are gone for minutes, and no GPU
// leaves the plan. When they stay away, the facts go.
func TestSuspectGrace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- b.expire(ctx) }()
		defer func() {
			cancel()
			require.NoError(t, <-done)
		}()
		store := b.nodeStore()
		require.NoError(t, store.Add(gpuNode(gfd())))
		model, suspect := b.model(t)
		require.Equal(t, "NVIDIA-A100-SXM4-80GB", model)
		require.False(t, suspect)

		wake, take, stop := b.Watch()
		defer stop()
		require.NoError(t, store.Update(gpuNode(nil)))
		<-wake
		nodes, _, _ := take()
		require.Equal(t, []string{"n1"}, nodes)
		model, suspect = b.model(t)
		require.Equal(t, "NVIDIA-A100-SXM4-80GB", model)
		require.True(t, suspect)

		time.Sleep(9 * time.Minute)
		require.NoError(t, store.Update(gpuNode(gfd())))
		_, suspect = b.model(t)
		require.False(t, suspect, "the labels are back")

		require.NoError(t, store.Update(gpuNode(nil)))
		take()
		time.Sleep(DefaultGrace + time.Second)
		<-wake
		nodes, _, _ = take()
		require.Equal(t, []string{"n1"}, nodes, "the end of the grace time is a change")
		model, suspect = b.model(t)
		require.Empty(t, model)
		require.False(t, suspect)

		require.NoError(t, store.Delete(gpuNode(nil)))
		require.Equal(t, []string{"n1"}, b.Delta([]string{"n1"}, false).GetRemoved(), "a node that is gone is gone at once")
	})
}

func TestRequestedFollowsPods(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.NoError(t, b.nodeStore().Add(gpuNode(gfd())))
	pods := b.podStore()
	pod := func(name, cpu string, phase corev1.PodPhase) *corev1.Pod {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}, Status: corev1.PodStatus{Phase: phase}}
		p.Spec.NodeName = "n1"
		p.Spec.Containers = []corev1.Container{container(false, "cpu", cpu, "nvidia.com/gpu", "1")}
		return p
	}
	requested := func() (cpu, gpus, pods int64) {
		r := b.Delta([]string{"n1"}, false).GetNodes()[0].GetRequested()
		return r.GetCpuMillis(), r.GetExtended()["nvidia.com/gpu"], r.GetPods()
	}
	check := func(wantCPU, wantGPUs, wantPods int64) {
		t.Helper()
		cpu, gpus, pods := requested()
		require.Equal(t, []int64{wantCPU, wantGPUs, wantPods}, []int64{cpu, gpus, pods})
	}
	require.NoError(t, pods.Add(pod("a", "500m", corev1.PodRunning)))
	require.NoError(t, pods.Add(pod("b", "1", corev1.PodPending)))
	check(1500, 2, 2)
	_, take, stop := b.Watch()
	defer stop()
	require.NoError(t, pods.Update(pod("b", "1", corev1.PodRunning)))
	nodes, _, _ := take()
	require.Empty(t, nodes, "a pod that starts changes no request")
	require.NoError(t, pods.Update(pod("b", "1", corev1.PodSucceeded)))
	check(500, 1, 1)
	require.NoError(t, pods.Replace([]any{pod("c", "2", corev1.PodRunning)}, ""))
	check(2000, 1, 1)
	require.NoError(t, pods.Delete(pod("c", "2", corev1.PodRunning)))
	check(0, 0, 0)
}

// TestProbe: the board says that the API server is away, and nothing known is
// lost.
func TestProbe(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t)
		require.NoError(t, b.nodeStore().Add(gpuNode(gfd())))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- b.probe(ctx) }()
		time.Sleep(time.Second)
		cluster := b.Delta(nil, true).GetCluster()
		require.Equal(t, "uid-1", cluster.GetUid())
		require.Equal(t, "k3s", cluster.GetDistribution())
		require.Empty(t, b.board.List())

		b.server.away.Store(true)
		time.Sleep(2 * DefaultProbe)
		require.Len(t, b.board.List(), 1)
		require.Equal(t, health.APIServerUnreachable, b.board.List()[0].Reason)
		require.Len(t, b.Summary().GetNodes(), 1)

		b.server.away.Store(false)
		time.Sleep(DefaultProbe)
		require.Empty(t, b.board.List())
		cancel()
		require.NoError(t, <-done)
	})
}
