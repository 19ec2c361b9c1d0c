package inventory_test

import (
	"context"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"github.com/budecosystem/budcluster/agent/agenttest"
	"github.com/budecosystem/budcluster/agent/internal/health"
	"github.com/budecosystem/budcluster/agent/internal/inventory"
	"github.com/budecosystem/budcluster/agent/internal/kube"
	agentv1 "github.com/budecosystem/budcluster/proto/agent/v1"
)

var server *agenttest.Kube

func TestMain(m *testing.M) {
	os.Exit(agenttest.RunWithKube(m, func(k *agenttest.Kube) { server = k }))
}

func start(t *testing.T, rc *rest.Config) (*inventory.Collector, *health.Board) {
	t.Helper()
	clients, err := kube.NewClients(rc)
	require.NoError(t, err)
	board := health.New(time.Now)
	c, err := inventory.New(inventory.Config{
		Client: clients.Typed, Server: clients, Board: board, Logger: slog.New(slog.DiscardHandler), Probe: 500 * time.Millisecond, Tally: 500 * time.Millisecond,
	})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
	return c, board
}

// await reads changes until the condition holds of the node.
func await(t *testing.T, c *inventory.Collector, name string, ok func(*agentv1.NodeFacts) bool) *agentv1.NodeFacts {
	t.Helper()
	wake, _, stop := c.Watch()
	defer stop()
	for {
		if d := c.Delta([]string{name}, false); len(d.GetNodes()) == 1 && ok(d.GetNodes()[0]) {
			return d.GetNodes()[0]
		}
		select {
		case <-wake:
		case <-t.Context().Done():
			t.Fatal("test ended first")
		case <-time.After(20 * time.Second):
			t.Fatalf("node %s: %v", name, c.Delta([]string{name}, false))
		}
	}
}

// TestWatch follows a real API server, also over its absence.
func TestWatch(t *testing.T) { //nolint:paralleltest // takes the API server away from everybody
	client := server.Client(t)
	c, board := start(t, server.Config())
	require.NoError(t, c.Await(t.Context()))
	require.Empty(t, c.Summary().GetNodes())
	cluster := c.Delta(nil, true).GetCluster()
	require.Contains(t, cluster.GetVersion(), "v1.")
	require.NotEmpty(t, cluster.GetUid())

	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "alpha", Labels: map[string]string{
		"node-role.kubernetes.io/worker": "", "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3", "nvidia.com/gpu.count": "4", "nvidia.com/gpu.memory": "81559",
	}}}
	node, err := client.CoreV1().Nodes().Create(t.Context(), node, metav1.CreateOptions{})
	require.NoError(t, err)
	amounts := corev1.ResourceList{"cpu": resource.MustParse("16"), "memory": resource.MustParse("64Gi"), "nvidia.com/gpu": resource.MustParse("4")}
	node.Status.Capacity, node.Status.Allocatable = amounts, amounts
	node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	_, err = client.CoreV1().Nodes().UpdateStatus(t.Context(), node, metav1.UpdateOptions{})
	require.NoError(t, err)
	got := await(t, c, "alpha", func(n *agentv1.NodeFacts) bool { return n.GetReady() && len(n.GetDevices()) == 5 })
	require.Equal(t, []string{"worker"}, got.GetRoles())

	ns := server.Namespace(t)
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: corev1.PodSpec{NodeName: "alpha", Containers: []corev1.Container{{
		Name: "c", Image: "i", Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{"cpu": resource.MustParse("2"), "nvidia.com/gpu": resource.MustParse("1")},
			Limits:   corev1.ResourceList{"nvidia.com/gpu": resource.MustParse("1")},
		},
	}}}}
	pod, err = client.CoreV1().Pods(ns).Create(t.Context(), pod, metav1.CreateOptions{})
	require.NoError(t, err)
	await(t, c, "alpha", func(n *agentv1.NodeFacts) bool { return n.GetRequested().GetExtended()["nvidia.com/gpu"] == 1 })
	pod.Status.Phase = corev1.PodSucceeded
	_, err = client.CoreV1().Pods(ns).UpdateStatus(t.Context(), pod, metav1.UpdateOptions{})
	require.NoError(t, err)
	await(t, c, "alpha", func(n *agentv1.NodeFacts) bool { return n.GetRequested().GetPods() == 0 })

	watchVolumesAndDNS(t, c)
	watchEvents(t, c)

	server.StopServer()
	for len(board.List()) == 0 {
		<-board.Changed()
	}
	require.Equal(t, health.APIServerUnreachable, board.List()[0].Reason)
	require.Len(t, c.Summary().GetNodes(), 1, "the last word stays")
	require.NoError(t, server.StartServer())

	_, err = client.StorageV1().StorageClasses().Create(t.Context(), &storagev1.StorageClass{
		ObjectMeta:  metav1.ObjectMeta{Name: "fast", Annotations: map[string]string{"storageclass.kubernetes.io/is-default-class": "true"}},
		Provisioner: "efs.csi.aws.com", Parameters: map[string]string{"fileSystemId": "fs-1", "adminPassword": "geheim"},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	require.NoError(t, client.CoreV1().Nodes().Delete(t.Context(), "alpha", metav1.DeleteOptions{}))
	wake, _, stop := c.Watch()
	defer stop()
	for len(c.Summary().GetNodes()) > 0 || len(c.Delta(nil, true).GetCluster().GetStorageClasses()) == 0 || len(board.List()) > 0 {
		select {
		case <-wake:
		case <-board.Changed():
		case <-time.After(30 * time.Second):
			t.Fatalf("not caught up: %v %v", c.Summary(), board.List())
		}
	}
	class := c.Delta(nil, true).GetCluster().GetStorageClasses()[0]
	require.Equal(t, "ReadWriteMany", class.GetAccessMode())
	require.True(t, class.GetIsDefault())
	require.Equal(t, map[string]string{"fileSystemId": "fs-1"}, class.GetParameters())
}

// watchVolumesAndDNS follows a claim that loses its volume, and the DNS as it
// comes.
func watchVolumesAndDNS(t *testing.T, c *inventory.Collector) {
	t.Helper()
	client := server.Client(t)
	wake, _, stop := c.Watch()
	defer stop()
	reach := func(ok func(*agentv1.ClusterFacts) bool) {
		t.Helper()
		for !ok(c.Delta(nil, true).GetCluster()) {
			select {
			case <-wake:
			case <-time.After(20 * time.Second):
				t.Fatalf("cluster: %v", c.Delta(nil, true).GetCluster())
			}
		}
	}
	before := c.Delta(nil, true).GetCluster()
	require.NotNil(t, before.GetClaims())
	require.NotNil(t, before.GetDns(), "looked at before the first summary")
	require.Empty(t, before.GetDns().GetService())

	ns := server.Namespace(t)
	claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: "data"}, Spec: corev1.PersistentVolumeClaimSpec{
		AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
		Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{"storage": resource.MustParse("1Gi")}},
	}}
	claim, err := client.CoreV1().PersistentVolumeClaims(ns).Create(t.Context(), claim, metav1.CreateOptions{})
	require.NoError(t, err)
	reach(func(f *agentv1.ClusterFacts) bool {
		return slices.Contains(f.GetClaims().GetPendingNames(), ns+"/data")
	})
	claim.Status.Phase = corev1.ClaimLost
	_, err = client.CoreV1().PersistentVolumeClaims(ns).UpdateStatus(t.Context(), claim, metav1.UpdateOptions{})
	require.NoError(t, err)
	reach(func(f *agentv1.ClusterFacts) bool {
		return f.GetClaims().GetLost() == before.GetClaims().GetLost()+1 && f.GetClaims().GetPending() == before.GetClaims().GetPending()
	})

	dns := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "kube-dns"}, Spec: corev1.ServiceSpec{
		Selector: map[string]string{"k8s-app": "kube-dns"}, Ports: []corev1.ServicePort{{Port: 53, Protocol: corev1.ProtocolUDP}},
	}}
	_, err = client.CoreV1().Services(metav1.NamespaceSystem).Create(t.Context(), dns, metav1.CreateOptions{})
	require.NoError(t, err)
	reach(func(f *agentv1.ClusterFacts) bool {
		return f.GetDns().GetService() == "kube-system/kube-dns" && f.GetDns().Ready != nil && f.GetDns().GetReady() == 0
	})
}

// TestDenied: an account that may not list pods still reports nodes, and says
// what is missing.
func TestDenied(t *testing.T) {
	t.Parallel()
	rc := server.Config()
	rc.Impersonate = rest.ImpersonationConfig{UserName: "system:kube-scheduler"} // lists nodes and pods, no ingress classes
	c, board := start(t, rc)
	require.NoError(t, c.Await(t.Context()))
	require.Equal(t, health.InventoryIncomplete, board.List()[0].Reason)
	require.Contains(t, board.List()[0].Message, "ingressclasses")
}

// TestChartsRightsAreEnough: with the rights that the chart gives an agent that
// only observes, and no others, nothing is missing.
func TestChartsRightsAreEnough(t *testing.T) {
	t.Parallel()
	render, err := os.ReadFile("../../../charts/testdata/observe.golden")
	require.NoError(t, err)
	var role rbacv1.ClusterRole
	for doc := range strings.SplitSeq(string(render), "\n---") {
		var o rbacv1.ClusterRole
		if yaml.Unmarshal([]byte(doc), &o) == nil && o.Kind == "ClusterRole" && strings.HasSuffix(o.Name, "-inventory") {
			role = o
		}
	}
	require.NotEmpty(t, role.Rules)
	client := server.Client(t).RbacV1()
	_, err = client.ClusterRoles().Create(t.Context(), &role, metav1.CreateOptions{})
	require.NoError(t, err)
	_, err = client.ClusterRoleBindings().Create(t.Context(), &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: role.Name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role.Name},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: "chart-agent"}},
	}, metav1.CreateOptions{})
	require.NoError(t, err)

	rc := server.Config()
	rc.Impersonate = rest.ImpersonationConfig{UserName: "chart-agent"}
	c, board := start(t, rc)
	require.NoError(t, c.Await(t.Context()))
	wake, _, stop := c.Watch()
	defer stop()
	for { // the API server takes a moment to learn of the role
		cluster := c.Delta(nil, true).GetCluster()
		if len(board.List()) == 0 && cluster.GetClaims() != nil && cluster.GetDns() != nil {
			return
		}
		select {
		case <-wake:
		case <-board.Changed():
		case <-time.After(20 * time.Second):
			t.Fatalf("%v %v", board.List(), cluster)
		}
	}
}

// watchEvents follows events about nodes, and none about anything else.
func watchEvents(t *testing.T, c *inventory.Collector) {
	t.Helper()
	events := server.Client(t).CoreV1().Events(metav1.NamespaceDefault)
	occur := func(kind, name string) *corev1.Event {
		e, err := events.Create(t.Context(), &corev1.Event{
			ObjectMeta:     metav1.ObjectMeta{Name: name},
			InvolvedObject: corev1.ObjectReference{Kind: kind, Name: name, Namespace: map[string]string{"Pod": metav1.NamespaceDefault}[kind]},
			Type:           "Warning", Reason: "Happened", Message: "it did", Count: 1, LastTimestamp: metav1.Now(), Source: corev1.EventSource{Component: "test"},
		}, metav1.CreateOptions{})
		require.NoError(t, err)
		return e
	}
	wake, take, stop := c.Watch()
	defer stop()
	next := func() []*agentv1.NodeEvent {
		t.Helper()
		for {
			if _, _, events := take(); len(events) > 0 {
				return events
			}
			select {
			case <-wake:
			case <-time.After(20 * time.Second):
				t.Fatal("no event")
			}
		}
	}
	occur("Pod", "pod")
	e := occur("Node", "alpha")
	got := next()
	require.Len(t, got, 1)
	require.Equal(t, "alpha", got[0].GetNode())
	e.Count = 4
	_, err := events.Update(t.Context(), e, metav1.UpdateOptions{})
	require.NoError(t, err)
	got = next()
	require.Len(t, got, 1)
	require.Equal(t, int64(4), got[0].GetCount())
}
