package pair_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/budecosystem/budcluster/hub/hubapi"
)

// happened waits for an event of the cluster.
func (p *pair) happened(id, kind string) hubapi.Event {
	p.t.Helper()
	for e, err := range p.hub.Client.Follow(p.soon(), hubapi.EventQuery{Cluster: id, Types: []string{kind}}) {
		require.NoError(p.t, err)
		return e
	}
	p.t.Fatalf("%s never happened", kind)
	return hubapi.Event{}
}

// noted installs a release and returns its namespace.
func (p *pair) noted() string {
	p.t.Helper()
	target := kube.Namespace(p.t)
	_, _, err := p.hub.Client.ApplyRelease(p.t.Context(), p.name, "note", hubapi.ReleaseRequest{
		Namespace: target, Chart: hubapi.ChartSource{Digest: p.chart("1.0.0", note)},
		Leftovers: []hubapi.Leftover{{APIVersion: "v1", Kind: "Secret", Object: "made-by-*"}},
	}, nil)
	require.NoError(p.t, err)
	_, err = p.hub.Client.WaitRelease(p.soon(), p.name, "note", 1, nil)
	require.NoError(p.t, err)
	_, err = kube.Client(p.t).CoreV1().Secrets(target).Create(p.t.Context(),
		&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "made-by-an-operator"}}, metav1.CreateOptions{})
	require.NoError(p.t, err)
	return target
}

func (p *pair) requireGone(target string) {
	p.t.Helper()
	_, err := kube.Client(p.t).CoreV1().ConfigMaps(target).Get(p.t.Context(), "note", metav1.GetOptions{})
	require.True(p.t, apierrors.IsNotFound(err), "%v", err)
	_, err = kube.Client(p.t).CoreV1().Secrets(target).Get(p.t.Context(), "made-by-an-operator", metav1.GetOptions{})
	require.True(p.t, apierrors.IsNotFound(err), "what the chart left behind: %v", err)
}

// A cluster leaves the fleet: its agent says what is there of what components
// are looked for, removes what is ours, and only then is the row closed.
func TestRetirement(t *testing.T) {
	t.Parallel()
	p := newPair(t, "leaving")
	c := p.await(hubapi.ClusterConnected)
	p.happened(c.ID, "cluster.presence")
	presence, err := p.hub.Client.Presence(t.Context(), p.name)
	require.NoError(t, err)
	require.NotNil(t, presence.ObservedAt)
	require.NotEmpty(t, presence.Items, "the catalogue asks for much")

	target := p.noted()
	start := time.Now()
	retiring, err := p.hub.Client.RetireCluster(t.Context(), p.name, false)
	require.NoError(t, err)
	require.NotNil(t, retiring.RetiringAt)
	require.Nil(t, retiring.RetiredAt)
	p.happened(c.ID, "cluster.retired")
	t.Logf("a cluster with one release had left after %s", time.Since(start))
	p.requireGone(target)
	_, err = p.hub.Client.Cluster(t.Context(), p.name)
	require.True(t, hubapi.IsNotFound(err), "%v", err)
	gone, err := p.hub.Client.Cluster(t.Context(), c.ID)
	require.NoError(t, err)
	require.Equal(t, hubapi.ClusterRetired, gone.State)
	require.NotNil(t, gone.GoneAt)
	require.Len(t, gone.Left, 1, "it was not installed by its chart: %v", gone.Left)
	p.hub.Create(p.name) // the name is free
}

// A cluster that does not answer is taken out by force. When its agent comes
// back after all it is let in only to hear of it, and removes what is ours.
func TestRetirementByForce(t *testing.T) {
	t.Parallel()
	p := newPair(t, "lost")
	c := p.await(hubapi.ClusterConnected)
	target := p.noted()
	require.NoError(t, p.stopAgent())
	p.await(hubapi.ClusterUnknown)
	retired, err := p.hub.Client.RetireCluster(t.Context(), p.name, true)
	require.NoError(t, err)
	require.Equal(t, hubapi.ClusterRetired, retired.State)
	releases, err := p.hub.Client.Releases(t.Context(), hubapi.ReleaseQuery{})
	require.NoError(t, err)
	require.Empty(t, releases.Items)
	_, err = kube.Client(t).CoreV1().ConfigMaps(target).Get(t.Context(), "note", metav1.GetOptions{})
	require.NoError(t, err, "nothing was touched there yet")

	p.startAgent()
	p.happened(c.ID, "cluster.cleared")
	p.requireGone(target)
	back, err := p.hub.Client.Cluster(t.Context(), c.ID)
	require.NoError(t, err)
	require.NotNil(t, back.GoneAt)
	require.Zero(t, back.Nodes, "nothing is kept of it any more")
}
