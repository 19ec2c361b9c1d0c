package pair_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/budecosystem/budcluster/hub"
	"github.com/budecosystem/budcluster/hub/hubapi"
	"github.com/budecosystem/budcluster/hub/hubtest"
)

func resources() corev1.ResourceList {
	return corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("8"), corev1.ResourceMemory: resource.MustParse("32Gi"),
		corev1.ResourcePods: resource.MustParse("110"), "nvidia.com/gpu": resource.MustParse("2"),
	}
}

// A cluster joins and shows its hardware; what changes there shows at the hub
// within a second.
func TestInventory(t *testing.T) {
	t.Parallel()
	p := newPair(t, "inventory")
	list, err := p.hub.Client.Events(t.Context(), hubapi.EventQuery{Cluster: p.name, Limit: 1000})
	require.NoError(t, err)
	after := int64(0)
	for _, e := range list.Items {
		after = max(after, e.ID)
	}
	name := p.cfg.Namespace + "-n1"
	start := time.Now()
	node := p.node(name, corev1.ConditionTrue)
	for e, err := range p.hub.Client.Follow(p.soon(), hubapi.EventQuery{Cluster: p.name, After: after}) {
		require.NoError(t, err)
		if e.Subject == name {
			after = e.ID
			break
		}
	}
	t.Logf("a new node was on the event stream after %s", time.Since(start))

	start = time.Now()
	_, err = kube.Client(t).CoreV1().Nodes().Patch(t.Context(), node.Name, types.MergePatchType, []byte(`{"spec":{"unschedulable":true}}`), metav1.PatchOptions{})
	require.NoError(t, err)
	for e, err := range p.hub.Client.Follow(p.soon(), hubapi.EventQuery{Cluster: p.name, After: after}) {
		require.NoError(t, err)
		if e.Subject != name {
			continue
		}
		n, err := p.hub.Client.Node(t.Context(), p.name, name)
		require.NoError(t, err)
		if !n.Schedulable {
			require.True(t, n.Ready)
			break
		}
	}
	t.Logf("a cordon was on the event stream and in /v1 after %s", time.Since(start))
	require.Less(t, time.Since(start), 2*time.Second)

	devices, err := p.hub.Client.Devices(t.Context(), hubapi.DeviceQuery{Cluster: p.name, Node: name, Kind: "cuda"})
	require.NoError(t, err)
	require.Len(t, devices.Items, 2)
	require.Equal(t, "NVIDIA-H100-80GB-HBM3", devices.Items[0].Model)

	a, err := p.hub.Client.Agent(t.Context(), p.name)
	require.NoError(t, err)
	require.Equal(t, p.cfg.Namespace, a.Namespace)
}

// One release from nothing to nothing, with a restart of each side on the way.
func TestRelease(t *testing.T) {
	t.Parallel()
	p := newPair(t, "release")
	target := kube.Namespace(t)
	maps := kube.Client(t).CoreV1().ConfigMaps(target)
	digest := p.chart("1.0.0", note)
	apply := func(text string) hubapi.Release {
		values, err := json.Marshal(map[string]string{"text": text})
		require.NoError(t, err)
		r, _, err := p.hub.Client.ApplyRelease(t.Context(), p.name, "note", hubapi.ReleaseRequest{
			Namespace: target, Chart: hubapi.ChartSource{Digest: digest}, Values: values,
		}, nil)
		require.NoError(t, err)
		return r
	}
	settled := func(want hubapi.Release) hubapi.Release {
		r, err := p.hub.Client.WaitRelease(p.soon(), p.name, "note", want.Generation, nil)
		require.NoError(t, err)
		return r
	}
	text := func() string {
		m, err := maps.Get(t.Context(), "note", metav1.GetOptions{})
		require.NoError(t, err)
		return m.Data["text"]
	}

	start := time.Now()
	r := settled(apply("one"))
	t.Logf("a release was ready after %s", time.Since(start))
	require.Equal(t, hubapi.PhaseReady, r.Status.Phase, r.Status.Message)
	require.True(t, r.Status.Owned)
	require.Equal(t, "one", text())

	// The hub goes away; the agent keeps what it was told last.
	require.NoError(t, p.hub.Stop())
	w, err := maps.Watch(t.Context(), metav1.ListOptions{FieldSelector: "metadata.name=note"})
	require.NoError(t, err)
	defer w.Stop()
	_, err = maps.Patch(t.Context(), "note", types.MergePatchType, []byte(`{"data":{"text":"meddled"}}`), metav1.PatchOptions{FieldManager: "somebody"})
	require.NoError(t, err)
	awaitText(t, w, "one")
	p.hub.Start()
	p.await(hubapi.ClusterConnected)

	// The agent goes away; what is wanted meanwhile is made so afterwards.
	require.NoError(t, p.stopAgent())
	p.await(hubapi.ClusterUnknown)
	r = apply("two")
	require.Equal(t, "one", text())
	p.startAgent()
	r = settled(r)
	require.Equal(t, hubapi.PhaseReady, r.Status.Phase, r.Status.Message)
	require.Equal(t, "two", text())

	_, err = p.hub.Client.DeleteRelease(t.Context(), p.name, "note", false)
	require.NoError(t, err)
	require.NoError(t, p.hub.Client.WaitReleaseGone(p.soon(), p.name, "note", nil))
	_, err = maps.Get(t.Context(), "note", metav1.GetOptions{})
	require.True(t, apierrors.IsNotFound(err), "%v", err)
}

func awaitText(t *testing.T, w watch.Interface, want string) {
	t.Helper()
	seen := false
	for e := range w.ResultChan() {
		m, ok := e.Object.(*corev1.ConfigMap)
		require.True(t, ok)
		seen = seen || m.Data["text"] != want
		if seen && m.Data["text"] == want {
			return
		}
	}
	t.Fatal("the watch ended")
}

// A release that cannot be ends as Failed with Helm's reason in a sentence,
// and the one beside it is ready.
func TestFailedReleaseDisturbsNoOther(t *testing.T) {
	t.Parallel()
	p := newPair(t, "failing")
	good := hubapi.ReleaseRequest{Namespace: kube.Namespace(t), Chart: hubapi.ChartSource{Digest: p.chart("1.0.0", note)}}
	bad := good
	bad.Chart.Digest = p.chart("2.0.0", `{{ fail "the disk is too small" }}`)
	bad.Namespace, bad.MaxAttempts = kube.Namespace(t), 1
	for name, req := range map[string]hubapi.ReleaseRequest{"good": good, "bad": bad} {
		_, _, err := p.hub.Client.ApplyRelease(t.Context(), p.name, name, req, nil)
		require.NoError(t, err)
	}
	r, err := p.hub.Client.WaitRelease(p.soon(), p.name, "bad", 1, nil)
	require.ErrorContains(t, err, "the disk is too small")
	require.Equal(t, hubapi.PhaseFailed, r.Status.Phase)
	r, err = p.hub.Client.WaitRelease(p.soon(), p.name, "good", 1, nil)
	require.NoError(t, err)
	require.Equal(t, hubapi.PhaseReady, r.Status.Phase, r.Status.Message)
}

// The agent renews by itself and comes back with the new certificate; revoked,
// it leaves at once and touches nothing.
func TestRenewalAndRevocation(t *testing.T) {
	t.Parallel()
	p := newPair(t, "identity", hubtest.With(func(c *hub.Config) { c.Certificate.Lifetime = 10 * time.Second }))
	issued, start := 0, time.Now()
	for e, err := range p.hub.Client.Follow(p.soon(), hubapi.EventQuery{Cluster: p.name, Types: []string{"certificate.issued"}}) {
		require.NoError(t, err)
		if issued++; issued == 2 {
			t.Logf("renewed: %s", e.Message)
			break
		}
	}
	require.GreaterOrEqual(t, time.Since(start), 10*time.Second, "two lives of ten seconds, renewed at two thirds")
	p.await(hubapi.ClusterConnected)

	target := kube.Namespace(t)
	_, _, err := p.hub.Client.ApplyRelease(t.Context(), p.name, "note", hubapi.ReleaseRequest{
		Namespace: target, Chart: hubapi.ChartSource{Digest: p.chart("1.0.0", note)},
	}, nil)
	require.NoError(t, err)
	_, err = p.hub.Client.WaitRelease(p.soon(), p.name, "note", 1, nil)
	require.NoError(t, err)

	start = time.Now()
	_, err = p.hub.Client.RevokeCluster(t.Context(), p.name)
	require.NoError(t, err)
	c, err := p.hub.Client.WaitCluster(p.soon(), p.name, func(c hubapi.Cluster) bool { return c.Session == nil })
	require.NoError(t, err)
	t.Logf("cut off after %s", time.Since(start))
	require.Less(t, time.Since(start), 5*time.Second)
	require.Equal(t, hubapi.ClusterRevoked, c.State)
	_, err = kube.Client(t).CoreV1().ConfigMaps(target).Get(t.Context(), "note", metav1.GetOptions{})
	require.NoError(t, err, "what was installed stays")
}
