package release_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/budecosystem/budcluster/agent/internal/helm"
	"github.com/budecosystem/budcluster/agent/internal/helm/helmtest"
	"github.com/budecosystem/budcluster/agent/internal/release"
	agentv1 "github.com/budecosystem/budcluster/proto/agent/v1"
)

// TestRetire removes what is ours and lets the rest be, and takes in nothing
// new from then on.
func TestRetire(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ours := b.wanted("web", 1, b.chart(t, "1.0.0", simple()), `{"word":"one"}`)
	ours.Spec.SecretValues = []byte(`{"word":"secret"}`)
	b.upsert(t, ours)
	b.awaitPhase(t, ours, agentv1.PhaseReady)
	require.NoError(t, b.helm(t).Install(t.Context(), helm.Operation{
		Ref: helm.Ref{Namespace: b.target, Name: "theirs"}, Timeout: time.Second, Values: map[string]any{"word": "theirs"},
		Chart: helmtest.Chart(t, "web", "0.9.0", map[string]string{"templates/cm.yaml": other}),
	}))
	theirs := b.wanted("theirs", 1, b.chart(t, "1.0.0", map[string]string{"templates/cm.yaml": other}), `{"word":"ours"}`)
	b.upsert(t, theirs)
	b.awaitPhase(t, theirs, agentv1.PhaseAdopted)

	left, err := b.m.Retire(t.Context())
	require.NoError(t, err)
	require.Empty(t, left)
	have, err := b.m.Have(t.Context())
	require.NoError(t, err)
	require.Empty(t, have)
	_, err = b.typed.CoreV1().ConfigMaps(b.target).Get(t.Context(), "web", metav1.GetOptions{})
	require.True(t, apierrors.IsNotFound(err))
	require.Empty(t, b.history(t, "web"))
	require.Len(t, b.history(t, "theirs"), 1, "what was there before us stays")
	_, err = b.typed.CoreV1().Secrets(b.namespace).Get(t.Context(), "release-web-values", metav1.GetOptions{})
	require.True(t, apierrors.IsNotFound(err))
	b.await(t, ours.GetId(), "the hub hears of it", func(s *agentv1.ReleaseStatus) bool { return s.GetPhase() == string(agentv1.PhaseRemoved) })

	b.upsert(t, b.wanted("late", 1, ours.GetSpec().GetChart(), ""))
	have, err = b.m.Have(t.Context())
	require.NoError(t, err)
	require.Empty(t, have)
	left, err = b.m.Retire(t.Context())
	require.NoError(t, err)
	require.Empty(t, left, "there is nothing left to do")
}

const other = `
apiVersion: v1
kind: ConfigMap
metadata: {name: theirs}
data: {word: "{{ .Values.word }}"}
`

// TestRetireTellsWhatStays: an object that does not go is not waited for for
// ever.
func TestRetireTellsWhatStays(t *testing.T) {
	t.Parallel()
	b := setup(t, func(cfg *release.Config) { cfg.RetirePatience = 100 * time.Millisecond })
	r := b.wanted("web", 1, b.chart(t, "1.0.0", simple()), `{"word":"one"}`)
	b.upsert(t, r)
	b.awaitPhase(t, r, agentv1.PhaseReady)
	maps := b.typed.CoreV1().ConfigMaps(b.target)
	hold := func(finalizers string) {
		_, err := maps.Patch(t.Context(), "web", types.MergePatchType, []byte(`{"metadata":{"finalizers":`+finalizers+`}}`), metav1.PatchOptions{})
		require.NoError(t, err)
	}
	hold(`["example.com/held"]`)
	left, err := b.m.Retire(t.Context())
	require.NoError(t, err)
	require.Len(t, left, 1)
	require.Contains(t, left[0], "release web in namespace "+b.target+" is")
	hold(`null`)
}
