package inventory

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/fake"
	kubetest "k8s.io/client-go/testing"

	"github.com/budecosystem/budcluster/agent/internal/health"
	"github.com/budecosystem/budcluster/internal/facts"
)

func claim(name string, phase corev1.PersistentVolumeClaimPhase) *corev1.PersistentVolumeClaim {
	return &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, Annotations: map[string]string{"big": "text"}},
		Status:     corev1.PersistentVolumeClaimStatus{Phase: phase},
	}
}

// TestClaimsAreCountedAtTimes: claims that come and are bound between two counts
// are no change, nor is one that was looked at again.
func TestClaimsAreCountedAtTimes(t *testing.T) {
	t.Parallel()
	b := setup(t)
	s := b.claimStore()
	claims := func() *facts.Claims {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.cluster.Claims
	}
	b.tally(t.Context())
	require.Nil(t, claims(), "what was not listed yet is unknown")
	require.NoError(t, s.Replace([]any{claim("a", corev1.ClaimBound), claim("b", "")}, ""))
	require.Equal(t, &facts.Claims{Bound: 1, Pending: 1, PendingNames: []string{"ns/b"}}, claims())

	_, take, stop := b.Watch()
	defer stop()
	require.NoError(t, s.Update(claim("b", corev1.ClaimBound)))
	require.NoError(t, s.Add(claim("c", corev1.ClaimPending)))
	require.NoError(t, s.Update(claim("c", corev1.ClaimLost)))
	require.NoError(t, s.Delete(claim("a", corev1.ClaimBound)))
	_, cluster, _ := take()
	require.False(t, cluster)
	b.tally(t.Context())
	_, cluster, _ = take()
	require.True(t, cluster)
	require.Equal(t, &facts.Claims{Bound: 1, Lost: 1, LostNames: []string{"ns/c"}}, claims())
	b.tally(t.Context())
	_, cluster, _ = take()
	require.False(t, cluster, "the same again")

	var many []any
	for i := range 5000 {
		many = append(many, claim(fmt.Sprintf("p%04d", i), corev1.ClaimPending))
	}
	require.NoError(t, s.Replace(many, ""))
	require.Equal(t, int64(5000), claims().Pending)
	require.Len(t, claims().PendingNames, facts.MaxClaimNames)
	require.Equal(t, "ns/p0009", claims().PendingNames[9])

	b.listFailed(t.Context(), kindClaims, apierrors.NewForbidden(schema.GroupResource{Resource: "persistentvolumeclaims"}, "", nil))
	require.Nil(t, claims(), "what may not be listed any more is unknown")

	slim, err := slimClaim(claim("a", corev1.ClaimBound))
	require.NoError(t, err)
	require.Empty(t, slim.(*corev1.PersistentVolumeClaim).Annotations)
}

func TestDNS(t *testing.T) {
	t.Parallel()
	service := func(namespace, name string, selector map[string]string) *corev1.Service {
		return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Spec: corev1.ServiceSpec{Selector: selector}}
	}
	pod := func(name string, ready corev1.ConditionStatus, labels map[string]string) *corev1.Pod {
		return &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: name, Labels: labels},
			Status:     corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: ready}}},
		}
	}
	dns := map[string]string{"k8s-app": "kube-dns"}
	for name, c := range map[string]struct {
		objects []runtime.Object
		want    *facts.DNS
	}{
		"none":         {nil, &facts.DNS{}},
		"other's name": {[]runtime.Object{service("default", "kube-dns", dns)}, &facts.DNS{}},
		"ready": {
			[]runtime.Object{service("kube-system", "kube-dns", dns), pod("a", corev1.ConditionTrue, dns), pod("b", corev1.ConditionFalse, dns), pod("c", corev1.ConditionTrue, nil)},
			&facts.DNS{Service: "kube-system/kube-dns", Ready: new(int32(1))},
		},
		"none ready":  {[]runtime.Object{service("openshift-dns", "dns-default", dns)}, &facts.DNS{Service: "openshift-dns/dns-default", Ready: new(int32(0))}},
		"no selector": {[]runtime.Object{service("kube-system", "coredns", nil)}, &facts.DNS{Service: "kube-system/coredns"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := fake.NewClientset(c.objects...)
			co, err := New(Config{Client: client, Server: &server{}, Board: health.New(time.Now), Logger: slog.New(slog.DiscardHandler)})
			require.NoError(t, err)
			co.tally(t.Context())
			require.Equal(t, c.want, co.cluster.DNS)

			var refusal error = apierrors.NewServerTimeout(schema.GroupResource{Resource: "services"}, "get", 1)
			client.PrependReactor("get", "services", func(kubetest.Action) (bool, runtime.Object, error) { return true, nil, refusal })
			co.tally(t.Context())
			require.Equal(t, c.want, co.cluster.DNS, "what did not answer changes nothing")
			refusal = apierrors.NewForbidden(schema.GroupResource{Resource: "services"}, "kube-dns", nil)
			co.tally(t.Context())
			require.Nil(t, co.cluster.DNS, "what may not be looked at is unknown")
		})
	}
}
