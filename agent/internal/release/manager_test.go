package release_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"github.com/budecosystem/budcluster/agent/api/v1alpha1"
	"github.com/budecosystem/budcluster/agent/internal/helm"
	"github.com/budecosystem/budcluster/agent/internal/helm/helmtest"
	"github.com/budecosystem/budcluster/agent/internal/release"
	agentv1 "github.com/budecosystem/budcluster/proto/agent/v1"
)

func simple() map[string]string {
	return map[string]string{"templates/cm.yaml": helmtest.ConfigMapTemplate}
}

func (b *bench) word(t *testing.T) string {
	t.Helper()
	cm, err := b.typed.CoreV1().ConfigMaps(b.target).Get(t.Context(), "web", metav1.GetOptions{})
	require.NoError(t, err)
	return cm.Data["word"]
}

// TestLife goes through what a release sees: install, upgrade, tombstone,
// and the hub's Forget, after which nothing is left.
func TestLife(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := b.wanted("web", 1, b.chart(t, "1.0.0", simple()), `{"word":"one"}`)
	b.upsert(t, r)
	s := b.awaitPhase(t, r, agentv1.PhaseReady)
	require.True(t, s.GetOwned())
	require.Equal(t, "1.0.0", s.GetChartVersion())
	require.Equal(t, "1.0.0-app", s.GetAppVersion())
	require.Equal(t, int32(1), s.GetProgress().GetTotal())
	require.Equal(t, "one", b.word(t))

	have, err := b.m.Have(t.Context())
	require.NoError(t, err)
	require.Len(t, have, 1)
	require.True(t, proto.Equal(&agentv1.ReleaseRef{Id: r.GetId(), Generation: 1, Digest: "sha256:1"}, have[0]))

	r = b.wanted("web", 2, b.chart(t, "1.1.0", simple()), `{"word":"two"}`)
	r.Spec.SecretValues = []byte(`{"word":"secret"}`)
	b.upsert(t, r)
	s = b.awaitPhase(t, r, agentv1.PhaseReady)
	require.Equal(t, "1.1.0", s.GetChartVersion())
	require.Equal(t, "secret", b.word(t), "secret values are merged over the others")
	require.Equal(t, int32(1), s.GetAttempts())

	b.upsert(t, r) // the same again changes nothing
	require.Len(t, b.history(t, "web"), 2)

	r = b.wanted("web", 3, r.GetSpec().GetChart(), "")
	r.Removed = true
	b.upsert(t, r)
	b.awaitPhase(t, r, agentv1.PhaseRemoved)
	_, err = b.typed.CoreV1().ConfigMaps(b.target).Get(t.Context(), "web", metav1.GetOptions{})
	require.True(t, apierrors.IsNotFound(err))
	require.Empty(t, b.history(t, "web"))

	require.NoError(t, b.m.Forget(t.Context(), r.GetId()))
	have, err = b.m.Have(t.Context())
	require.NoError(t, err)
	require.Empty(t, have)
	maps, err := b.typed.CoreV1().ConfigMaps(b.namespace).List(t.Context(), metav1.ListOptions{LabelSelector: "budcluster.io/chart"})
	require.NoError(t, err)
	require.Empty(t, maps.Items, "cached charts without users are deleted")
	secrets, err := b.typed.CoreV1().Secrets(b.namespace).List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	require.Empty(t, secrets.Items)
}

// TestSpecChangesThatChangeNothing: a new generation with the same content is
// observed without a Helm operation.
func TestSpecChangesThatChangeNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	chart := b.chart(t, "1.0.0", simple())
	b.upsert(t, b.wanted("web", 1, chart, `{"a":1,"word":"one"}`))
	r := b.wanted("web", 2, chart, `{"word":"one", "a":1}`)
	b.upsert(t, r)
	b.awaitPhase(t, r, agentv1.PhaseReady)
	require.Len(t, b.history(t, "web"), 1)
}

// TestRestart: a second process finds everything as it was and does nothing.
func TestRestart(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := b.wanted("web", 1, b.chart(t, "1.0.0", simple()), `{"word":"one"}`)
	b.upsert(t, r)
	b.awaitPhase(t, r, agentv1.PhaseReady)
	b.stop()
	b.hub.set(release.ErrHubAway)
	b.start(t)
	s := b.awaitPhase(t, r, agentv1.PhaseReady)
	require.Equal(t, int32(1), s.GetRevision())
	require.Len(t, b.history(t, "web"), 1)
}

// TestBigChartIsCachedInParts also repairs a damaged part.
func TestBigChartIsCachedInParts(t *testing.T) {
	t.Parallel()
	b := setup(t)
	files := simple()
	noise := make([]byte, 1<<20)
	seed := uint64(1)
	for i := range noise {
		seed = seed*6364136223846793005 + 1442695040888963407
		noise[i] = "0123456789abcdefghijklmnopqrstuv"[seed>>59]
	}
	files["files/noise.txt"] = string(noise)
	files[".helmignore"] = "files\n"
	chart := b.chart(t, "1.0.0", files)
	r := b.wanted("web", 1, chart, `{"word":"one"}`)
	b.upsert(t, r)
	s := b.await(t, r.GetId(), "an end", func(s *agentv1.ReleaseStatus) bool {
		return s.GetPhase() == string(agentv1.PhaseReady) || s.GetPhase() == string(agentv1.PhaseFailed)
	})
	maps := b.typed.CoreV1().ConfigMaps(b.namespace)
	list, err := maps.List(t.Context(), metav1.ListOptions{LabelSelector: "budcluster.io/chart"})
	require.NoError(t, err)
	t.Logf("%d parts, %s %s", len(list.Items), s.GetPhase(), s.GetMessage())
	require.NotEmpty(t, list.Items)
	list.Items[0].BinaryData["part"] = []byte("damaged")
	_, err = maps.Update(t.Context(), &list.Items[0], metav1.UpdateOptions{})
	require.NoError(t, err)
	r = b.wanted("web", 2, chart, `{"word":"two"}`)
	b.upsert(t, r)
	b.await(t, r.GetId(), "an end", func(s *agentv1.ReleaseStatus) bool {
		return s.GetObservedGeneration() == 2 && (s.GetPhase() == string(agentv1.PhaseReady) || s.GetPhase() == string(agentv1.PhaseFailed))
	})
	require.Equal(t, 2, b.hub.asked)
}

// TestHubAway waits for the chart without counting attempts.
func TestHubAway(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.hub.set(release.ErrHubAway)
	r := b.wanted("web", 1, b.chart(t, "1.0.0", simple()), `{"word":"one"}`)
	b.upsert(t, r)
	s := b.await(t, r.GetId(), "ChartMissing", func(s *agentv1.ReleaseStatus) bool { return s.GetReason() == release.ReasonChartMissing })
	require.Equal(t, string(agentv1.PhasePending), s.GetPhase())
	require.Zero(t, s.GetAttempts())
	b.hub.set(nil)
	require.NoError(t, b.m.ApplySnapshot(t.Context(), []*agentv1.ReleaseRef{{Id: r.GetId(), Generation: 1}})) // the hub is back
	s = b.awaitPhase(t, r, agentv1.PhaseReady)
	require.Equal(t, int32(1), s.GetAttempts())
}

// TestWrongChart: bytes that are not the digest's are refused, and asked for again.
func TestWrongChart(t *testing.T) {
	t.Parallel()
	b := setup(t)
	chart := b.chart(t, "1.0.0", simple())
	good := b.hub.charts[chart.GetDigest()]
	b.hub.charts[chart.GetDigest()] = []byte("something else")
	r := b.wanted("web", 1, chart, `{"word":"one"}`)
	b.upsert(t, r)
	s := b.awaitPhase(t, r, agentv1.PhaseFailed)
	require.Equal(t, release.ReasonChartRefused, s.GetReason())
	require.NotNil(t, s.GetRetryAt())
	b.hub.mu.Lock()
	b.hub.charts[chart.GetDigest()] = good
	b.hub.mu.Unlock()
	b.awaitPhase(t, r, agentv1.PhaseReady)
}

// TestBadReleasesLeaveOthersWorking: each ends as Failed with one sentence.
func TestBadReleasesLeaveOthersWorking(t *testing.T) {
	t.Parallel()
	b := setup(t)
	cases := map[string]struct {
		files   map[string]string
		vals    string
		message string
	}{
		"fails":  {map[string]string{"templates/x.yaml": `{{ fail "no word given" }}`}, "", "no word given"},
		"schema": {map[string]string{"values.schema.json": `{"properties":{"word":{"type":"integer"}}}`}, `{"word":"x"}`, "schema"},
		"kind":   {map[string]string{"templates/x.yaml": "apiVersion: nosuch/v1\nkind: Thing\nmetadata: {name: x}\n"}, "", "nosuch/v1"},
		"yaml":   {map[string]string{"templates/x.yaml": "a: b: c"}, "", "YAML"},
	}
	all := map[string]*agentv1.Release{}
	for name, c := range cases {
		all[name] = b.wanted(name, 1, b.chart(t, "1.0.0", c.files), c.vals)
		b.upsert(t, all[name])
	}
	ok := b.wanted("ok", 1, b.chart(t, "1.0.0", simple()), `{"word":"one"}`)
	b.upsert(t, ok)
	for name, c := range cases {
		s := b.awaitPhase(t, all[name], agentv1.PhaseFailed)
		t.Logf("%s: %s", name, s.GetMessage())
		require.Contains(t, s.GetMessage(), c.message)
		require.NotContains(t, s.GetMessage(), "\n")
	}
	b.awaitPhase(t, ok, agentv1.PhaseReady)
}

// TestUnstorable: what the API server would not even store is told as well.
func TestUnstorable(t *testing.T) {
	t.Parallel()
	b := setup(t)
	chart := b.chart(t, "1.0.0", simple())
	bad := b.wanted("Not_A_Name", 1, chart, "")
	array := b.wanted("array", 1, chart, `[1]`)
	huge := b.wanted("huge", 1, chart, `{"x":"`+strings.Repeat("x", 5<<20)+`"}`)
	for _, r := range []*agentv1.Release{bad, array, huge} {
		b.upsert(t, r)
		s := b.awaitPhase(t, r, agentv1.PhaseFailed)
		require.Equal(t, release.ReasonInvalid, s.GetReason())
	}
}

// TestLargeValues go to the Secret and come back.
func TestLargeValues(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := b.wanted("web", 1, b.chart(t, "1.0.0", simple()), `{"word":"one","pad":"`+strings.Repeat("x", 100<<10)+`"}`)
	b.upsert(t, r)
	b.awaitPhase(t, r, agentv1.PhaseReady)
	require.Equal(t, "one", b.word(t))
	secret, err := b.typed.CoreV1().Secrets(b.namespace).Get(t.Context(), "release-web-values", metav1.GetOptions{})
	require.NoError(t, err)
	require.Len(t, secret.Data, 1)
	require.Len(t, secret.OwnerReferences, 1)
}

// TestForeignRelease is only watched, until policy says to take it over; it
// never becomes ours to remove.
func TestForeignRelease(t *testing.T) {
	t.Parallel()
	b := setup(t)
	other := helm.Operation{
		Ref: helm.Ref{Namespace: b.target, Name: "web"}, Timeout: time.Second,
		Chart: helmtest.Chart(t, "web", "0.9.0", simple()), Values: map[string]any{"word": "theirs"},
	}
	require.NoError(t, b.helm(t).Install(t.Context(), other))

	r := b.wanted("web", 1, b.chart(t, "1.0.0", simple()), `{"word":"ours"}`)
	b.upsert(t, r)
	s := b.awaitPhase(t, r, agentv1.PhaseAdopted)
	require.False(t, s.GetOwned())
	require.Equal(t, "0.9.0", s.GetChartVersion())
	require.Equal(t, "theirs", b.word(t))

	r = proto.Clone(r).(*agentv1.Release)
	r.Generation, r.Spec.Adoption = 2, agentv1.AdoptionPolicy_ADOPTION_POLICY_TAKE_OVER
	b.upsert(t, r)
	s = b.awaitPhase(t, r, agentv1.PhaseReady)
	require.False(t, s.GetOwned())
	require.Equal(t, "ours", b.word(t))

	r = proto.Clone(r).(*agentv1.Release)
	r.Generation, r.Removed = 3, true
	b.upsert(t, r)
	b.awaitPhase(t, r, agentv1.PhaseRemoved)
	require.Equal(t, "ours", b.word(t), "what was there before us stays")
}

// TestOrphanAndStale: absence removes nothing, an older generation changes nothing.
func TestOrphanAndStale(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := b.wanted("web", 5, b.chart(t, "1.0.0", simple()), `{"word":"five"}`)
	b.upsert(t, r)
	b.awaitPhase(t, r, agentv1.PhaseReady)
	require.NoError(t, b.m.ApplySnapshot(t.Context(), nil))
	b.await(t, r.GetId(), "orphaned", func(s *agentv1.ReleaseStatus) bool { return strings.Contains(s.GetMessage(), "does not list") })
	require.NoError(t, b.m.Forget(t.Context(), r.GetId()))
	b.await(t, r.GetId(), "forgotten", func(s *agentv1.ReleaseStatus) bool { return strings.Contains(s.GetMessage(), "forgotten") })
	require.Equal(t, "five", b.word(t))

	b.upsert(t, b.wanted("web", 3, r.GetSpec().GetChart(), `{"word":"three"}`))
	s := b.await(t, r.GetId(), "stale", func(s *agentv1.ReleaseStatus) bool { return strings.Contains(s.GetMessage(), "older than 5") })
	require.Equal(t, int64(5), s.GetObservedGeneration())
	require.NoError(t, b.m.ApplySnapshot(t.Context(), []*agentv1.ReleaseRef{{Id: r.GetId(), Generation: 5, Digest: r.GetDigest()}}))
	b.await(t, r.GetId(), "all well", func(s *agentv1.ReleaseStatus) bool { return s.GetMessage() == "" })
	require.Equal(t, "five", b.word(t))
}

// TestPendingRecordOfADeadAgent: fleet#637, harvester#8309. The record was
// left in pending-upgrade by a kill -9; nobody runs helm rollback by hand.
func TestPendingRecordOfADeadAgent(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := b.wanted("web", 1, b.chart(t, "1.0.0", simple()), `{"word":"one"}`)
	b.upsert(t, r)
	b.awaitPhase(t, r, agentv1.PhaseReady)
	b.stop()
	secrets := b.typed.CoreV1().Secrets(b.target)
	plantPending(t, b, "web", 2, map[string]string{helm.LabelReleaseID: r.GetId(), helm.LabelOperation: "dead", helm.LabelContent: "x"})
	_, err := secrets.Get(t.Context(), "sh.helm.release.v1.web.v2", metav1.GetOptions{})
	require.NoError(t, err)
	b.start(t)
	r = b.wanted("web", 2, b.chart(t, "1.1.0", simple()), `{"word":"two"}`)
	b.upsert(t, r)
	b.awaitPhase(t, r, agentv1.PhaseReady)
	require.Equal(t, "two", b.word(t))
}

// plantPending writes a pending record as a Helm that died would leave it.
func plantPending(t *testing.T, b *bench, name string, revision int, labels map[string]string) {
	t.Helper()
	helmtest.PlantSecret(t, b.typed, helm.Ref{Namespace: b.target, Name: name}, revision, helm.StatusPendingUpgrade, labels)
}

// TestForeignPending waits until the timeout has passed since the last change.
func TestForeignPending(t *testing.T) {
	t.Parallel()
	b := setup(t)
	plantPending(t, b, "web", 1, nil)
	r := b.wanted("web", 1, b.chart(t, "1.0.0", simple()), `{"word":"one"}`)
	r.Spec.Adoption = agentv1.AdoptionPolicy_ADOPTION_POLICY_TAKE_OVER
	r.Spec.Timeout.Seconds = 3
	b.upsert(t, r)
	began := time.Now()
	s := b.awaitPhase(t, r, agentv1.PhaseLocked)
	require.Equal(t, release.ReasonForeignOperation, s.GetReason())
	b.awaitPhase(t, r, agentv1.PhaseReady)
	require.Greater(t, time.Since(began), 2*time.Second)
}

// TestUsedByHand: an upgrade with Helm's own CLI copies our labels; it is
// seen for what it is and undone.
func TestUsedByHand(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := b.wanted("web", 1, b.chart(t, "1.0.0", simple()), `{"word":"one"}`)
	b.upsert(t, r)
	b.awaitPhase(t, r, agentv1.PhaseReady)
	latest, _ := b.history(t, "web").Latest()
	byHand := helm.Operation{
		Ref: helm.Ref{Namespace: b.target, Name: "web"}, Timeout: time.Second, Labels: latest.Labels,
		Chart: helmtest.Chart(t, "web", "1.0.0", simple()), Values: map[string]any{"word": "by hand"},
	}
	require.NoError(t, b.helm(t).Upgrade(t.Context(), byHand))
	b.await(t, r.GetId(), "revision 3", func(s *agentv1.ReleaseStatus) bool {
		return s.GetRevision() == 3 && s.GetPhase() == string(agentv1.PhaseReady)
	})
	require.Equal(t, "one", b.word(t))
}

// TestDrift: what others change is found, named and put back.
func TestDrift(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := b.wanted("web", 1, b.chart(t, "1.0.0", map[string]string{
		"templates/cm.yaml": helmtest.ConfigMapTemplate, "templates/deploy.yaml": deployment, "templates/svc.yaml": service,
	}), `{"word":"one"}`)
	b.upsert(t, r)
	b.makeReady(t, "web")
	s := b.awaitPhase(t, r, agentv1.PhaseReady)
	require.Empty(t, s.GetDrift(), "defaults are not drift")
	ctx := t.Context()

	_, err := b.typed.CoreV1().ConfigMaps(b.target).Patch(ctx, "web", types.MergePatchType, []byte(`{"data":{"word":"edited"}}`), metav1.PatchOptions{FieldManager: "kubectl-edit"})
	require.NoError(t, err)
	s = b.await(t, r.GetId(), "1 correction", func(s *agentv1.ReleaseStatus) bool { return s.GetCorrections() == 1 })
	require.Equal(t, "one", b.word(t))
	require.Equal(t, string(agentv1.PhaseReady), s.GetPhase())

	require.NoError(t, b.typed.CoreV1().ConfigMaps(b.target).Delete(ctx, "web", metav1.DeleteOptions{}))
	b.await(t, r.GetId(), "2 corrections", func(s *agentv1.ReleaseStatus) bool { return s.GetCorrections() == 2 })
	require.Equal(t, "one", b.word(t))
	cm, err := b.typed.CoreV1().ConfigMaps(b.target).Get(ctx, "web", metav1.GetOptions{})
	require.NoError(t, err)
	require.Equal(t, "Helm", cm.Labels["app.kubernetes.io/managed-by"], "what is made anew is Helm's to upgrade and uninstall")

	// A renumbered port: server-side apply alone would keep both, with one name.
	_, err = b.typed.CoreV1().Services(b.target).Patch(ctx, "web", types.JSONPatchType, []byte(`[{"op":"replace","path":"/spec/ports/0/port","value":8080}]`), metav1.PatchOptions{FieldManager: "kubectl-edit"})
	require.NoError(t, err)
	b.await(t, r.GetId(), "3 corrections", func(s *agentv1.ReleaseStatus) bool { return s.GetCorrections() == 3 })
	svc, err := b.typed.CoreV1().Services(b.target).Get(ctx, "web", metav1.GetOptions{})
	require.NoError(t, err)
	require.Len(t, svc.Spec.Ports, 1)
	require.Equal(t, int32(80), svc.Spec.Ports[0].Port)

	// The autoscaler's fields are the autoscaler's.
	scale, err := b.typed.AppsV1().Deployments(b.target).GetScale(ctx, "web", metav1.GetOptions{})
	require.NoError(t, err)
	scale.Spec.Replicas = 3
	_, err = b.typed.AppsV1().Deployments(b.target).UpdateScale(ctx, "web", scale, metav1.UpdateOptions{FieldManager: "kube-controller-manager"})
	require.NoError(t, err)
	_, err = b.typed.AppsV1().Deployments(b.target).Patch(ctx, "web", types.StrategicMergePatchType,
		[]byte(`{"spec":{"template":{"spec":{"containers":[{"name":"web","image":"evil:1"},{"name":"injected","image":"mesh:1"}]}}}}`), metav1.PatchOptions{FieldManager: "someone"})
	require.NoError(t, err)
	b.await(t, r.GetId(), "4 corrections", func(s *agentv1.ReleaseStatus) bool { return s.GetCorrections() == 4 })
	d, err := b.typed.AppsV1().Deployments(b.target).Get(ctx, "web", metav1.GetOptions{})
	require.NoError(t, err)
	require.Equal(t, int32(3), *d.Spec.Replicas, "scaled replicas stay")
	require.Len(t, d.Spec.Template.Spec.Containers, 2, "an injected container stays")
	require.Equal(t, "hello:1", d.Spec.Template.Spec.Containers[0].Image)

	// After all that, an upgrade and an uninstall still work.
	b.makeReady(t, "web")
	yes := true
	pods := b.typed.CoreV1().Pods(b.target)
	for name, owner := range map[string]string{"last": "web-1", "other": "web"} { // one of ours, one of somebody else's with our labels
		pod := b.pod(t, name, map[string]string{"app": "web"}, "x:1")
		pod.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: owner, UID: "x", Controller: &yes}}
		_, err := pods.Update(ctx, pod, metav1.UpdateOptions{})
		require.NoError(t, err)
	}
	r = proto.Clone(r).(*agentv1.Release)
	r.Generation, r.Removed = 2, true
	b.upsert(t, r)
	s = b.await(t, r.GetId(), "pods to end", func(s *agentv1.ReleaseStatus) bool { return s.GetReason() == release.ReasonObjectsRemain })
	require.Equal(t, "waiting for Pod/"+b.target+"/last to be gone", s.GetMessage())
	now := int64(0)
	require.NoError(t, pods.Delete(ctx, "last", metav1.DeleteOptions{GracePeriodSeconds: &now}))
	b.awaitPhase(t, r, agentv1.PhaseRemoved)
}

// TestDriftReported names object, field and manager, and changes nothing.
func TestDriftReported(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := b.wanted("web", 1, b.chart(t, "1.0.0", simple()), `{"word":"one"}`)
	r.Spec.Drift = agentv1.DriftPolicy_DRIFT_POLICY_REPORT
	b.upsert(t, r)
	b.awaitPhase(t, r, agentv1.PhaseReady)
	_, err := b.typed.CoreV1().ConfigMaps(b.target).Patch(t.Context(), "web", types.MergePatchType, []byte(`{"data":{"word":"edited","more":"theirs"}}`), metav1.PatchOptions{FieldManager: "kubectl-edit"})
	require.NoError(t, err)
	s := b.awaitPhase(t, r, agentv1.PhaseDrifted)
	require.Len(t, s.GetDrift(), 1, "what others add is theirs")
	require.Equal(t, "ConfigMap/"+b.target+"/web", s.GetDrift()[0].GetObject())
	require.Equal(t, "data.word", s.GetDrift()[0].GetField())
	require.Equal(t, "kubectl-edit", s.GetDrift()[0].GetManager())
	require.Equal(t, "edited", b.word(t))
}

const deployment = `apiVersion: apps/v1
kind: Deployment
metadata: {name: {{ .Release.Name }}}
spec:
  replicas: 1
  selector: {matchLabels: {app: {{ .Release.Name }}}}
  template:
    metadata: {labels: {app: {{ .Release.Name }}}}
    spec:
      containers: [{name: web, image: "{{ .Values.image | default "hello:1" }}", resources: {limits: {cpu: 1000m, memory: 1024Mi}}}]
`

const service = `apiVersion: v1
kind: Service
metadata: {name: {{ .Release.Name }}}
spec: {selector: {app: {{ .Release.Name }}}, ports: [{name: http, port: 80, targetPort: 8080}]}
`

// TestNotReadyRollsBack: the new revision never becomes ready; the status
// names the pod's reason, the last ready revision comes back, and attempts
// are counted.
func TestNotReadyRollsBack(t *testing.T) {
	t.Parallel()
	b := setup(t)
	files := map[string]string{"templates/deploy.yaml": deployment}
	r := b.wanted("web", 1, b.chart(t, "1.0.0", files), "{}")
	b.upsert(t, r)
	b.makeReady(t, "web")
	b.awaitPhase(t, r, agentv1.PhaseReady)

	r = b.wanted("web", 2, b.chart(t, "1.0.1", files), `{"image":"registry.example/nosuch:1"}`)
	r.Spec.Timeout.Seconds, r.Spec.MaxAttempts = 3, 1
	b.upsert(t, r)
	b.awaitPhase(t, r, agentv1.PhaseProgressing)
	b.breakPods(t, "web", "registry.example/nosuch:1")
	s := b.await(t, r.GetId(), "why", func(s *agentv1.ReleaseStatus) bool {
		return strings.Contains(s.GetProgress().GetWaitingFor(), "ImagePullBackOff pulling registry.example/nosuch:1")
	})
	t.Log(s.GetMessage())
	s = b.await(t, r.GetId(), "failed for good", func(s *agentv1.ReleaseStatus) bool {
		return s.GetPhase() == string(agentv1.PhaseFailed) && s.GetRevision() == 3
	})
	t.Log(s.GetMessage())
	require.Contains(t, s.GetMessage(), "deployment web: 0 of 1 ready: ImagePullBackOff")
	require.Contains(t, s.GetMessage(), "gave up after 1 attempt")
	require.Nil(t, s.GetRetryAt(), "the hub learns from it that this is the end")
	d, err := b.typed.AppsV1().Deployments(b.target).Get(t.Context(), "web", metav1.GetOptions{})
	require.NoError(t, err)
	require.Equal(t, "hello:1", d.Spec.Template.Spec.Containers[0].Image)
}

// TestFailedInstallIsRemoved, then tried again, then given up.
func TestFailedInstallIsRemoved(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := b.wanted("web", 1, b.chart(t, "1.0.0", map[string]string{"templates/deploy.yaml": deployment}), "{}")
	r.Spec.Timeout.Seconds, r.Spec.MaxAttempts, r.Spec.Remediation = 2, 2, agentv1.Remediation_REMEDIATION_UNINSTALL
	b.upsert(t, r)
	s := b.await(t, r.GetId(), "given up", func(s *agentv1.ReleaseStatus) bool {
		return strings.Contains(s.GetMessage(), "gave up after 2 attempts")
	})
	require.Equal(t, string(agentv1.PhaseFailed), s.GetPhase())
	require.Nil(t, s.GetRetryAt())
	_, err := b.typed.AppsV1().Deployments(b.target).Get(t.Context(), "web", metav1.GetOptions{})
	require.True(t, apierrors.IsNotFound(err))
}

// TestKeptInstallIsNotAppliedAgain: it may still become ready, and does.
func TestKeptInstallIsNotAppliedAgain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := b.wanted("web", 1, b.chart(t, "1.0.0", map[string]string{"templates/deploy.yaml": deployment}), "{}")
	r.Spec.Timeout.Seconds, r.Spec.MaxAttempts, r.Spec.Remediation = 2, 3, agentv1.Remediation_REMEDIATION_KEEP
	b.upsert(t, r)
	s := b.awaitPhase(t, r, agentv1.PhaseFailed)
	require.Equal(t, release.ReasonNotReadyInTime, s.GetReason())
	require.Nil(t, s.GetRetryAt(), "and that is the end")
	require.EqualValues(t, 1, s.GetRevision())
	b.makeReady(t, "web")
	s = b.awaitPhase(t, r, agentv1.PhaseReady)
	require.EqualValues(t, 1, s.GetRevision())
}

const hook = `apiVersion: batch/v1
kind: Job
metadata:
  name: {{ .Release.Name }}-hook
  annotations: {"helm.sh/hook": pre-install, "helm.sh/hook-delete-policy": before-hook-creation}
spec:
  backoffLimit: 0
  template:
    spec: {restartPolicy: Never, containers: [{name: h, image: "busybox:1"}]}
`

// TestStoppedInTheMiddleOfAHook: SIGTERM ends the operation as failed, not
// as pending; the next process goes on, and the attempt was not lost.
// Meanwhile, with one worker, another release is not held up.
func TestStoppedInTheMiddleOfAHook(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *release.Config) {
		c.Workers = 1
		c.Mirrors = map[string]string{"docker.io": "registry.site"}
	})
	files := simple()
	files["templates/hook.yaml"] = hook
	r := b.wanted("slow", 1, b.chart(t, "1.0.0", files), `{"word":"one"}`)
	b.upsert(t, r)
	b.awaitPhase(t, r, agentv1.PhaseInstalling)
	first := b.awaitJob(t, "slow-hook")

	quick := b.wanted("quick", 1, b.chart(t, "1.0.0", simple()), `{"word":"one"}`)
	b.upsert(t, quick)
	b.awaitPhase(t, quick, agentv1.PhaseReady)

	began := time.Now()
	b.stop()
	require.Less(t, time.Since(began), 10*time.Second)
	latest, _ := b.history(t, "slow").Latest()
	require.Equal(t, helm.StatusFailed, latest.Status)
	require.True(t, latest.Interrupted)

	b.start(t)
	var job *batchv1.Job
	until(t, "second job", func() bool { job = b.awaitJob(t, "slow-hook"); return job.UID != first.UID })
	require.Equal(t, "registry.site/library/busybox:1", job.Spec.Template.Spec.Containers[0].Image, "hooks are rewritten too")
	b.finishJob(t, "slow-hook", corev1.PodSucceeded, "")
	s := b.awaitPhase(t, r, agentv1.PhaseReady)
	require.Equal(t, int32(1), s.GetAttempts())
}

// TestNewSpecEndsAHook: a hook that cannot succeed does not hold up the spec
// that repairs it, nor a removal; and what hooks left is removed with the rest.
func TestNewSpecEndsAHook(t *testing.T) {
	t.Parallel()
	b := setup(t)
	files := simple()
	files["templates/hook.yaml"] = hook
	r := b.wanted("web", 1, b.chart(t, "1.0.0", files), `{"word":"one"}`)
	r.Spec.Timeout.Seconds = 3600
	b.upsert(t, r)
	first := b.awaitJob(t, "web-hook")
	b.upsert(t, b.wanted("web", 2, b.chart(t, "1.0.0", files), `{"word":"two"}`))
	until(t, "second job", func() bool { return b.awaitJob(t, "web-hook").UID != first.UID })

	r = b.wanted("web", 3, b.chart(t, "1.0.0", files), `{"word":"two"}`)
	r.Removed = true
	b.upsert(t, r)
	b.awaitPhase(t, r, agentv1.PhaseRemoved)
	until(t, "end of the hook's job", func() bool {
		_, err := b.typed.BatchV1().Jobs(b.target).Get(t.Context(), "web-hook", metav1.GetOptions{})
		return apierrors.IsNotFound(err)
	})
}

const job = `apiVersion: batch/v1
kind: Job
metadata: {name: {{ .Release.Name }}}
spec:
  backoffLimit: 0
  template:
    spec: {restartPolicy: Never, containers: [{name: j, image: "busybox:1"}]}
`

// TestOutputsOfKindsWithoutNamespace: an operator's own resource often has no
// namespace. It is reported if the chart made it, again soon after it has
// changed, and never if it is somebody else's.
func TestOutputsOfKindsWithoutNamespace(t *testing.T) {
	t.Parallel()
	b := setup(t)
	name := "reported-" + b.target
	r := b.wanted("operator", 1, b.chart(t, "1.0.0", map[string]string{"templates/class.yaml": `apiVersion: scheduling.k8s.io/v1
kind: PriorityClass
metadata: {name: ` + name + `, labels: {state: notReady}}
value: 7
`}), "{}")
	r.Spec.Drift = agentv1.DriftPolicy_DRIFT_POLICY_IGNORE
	r.Spec.Outputs = []*agentv1.Output{
		{Name: "state", ApiVersion: "scheduling.k8s.io/v1", Kind: "PriorityClass", Object: name, JsonPath: "{.metadata.labels.state}"},
		{Name: "foreign", ApiVersion: "scheduling.k8s.io/v1", Kind: "PriorityClass", Object: "system-node-critical", JsonPath: "{.value}"},
	}
	b.upsert(t, r)
	s := b.awaitPhase(t, r, agentv1.PhaseReady)
	require.Equal(t, "notReady", s.GetOutputs()["state"])
	require.NotContains(t, s.GetOutputs(), "foreign")
	require.Contains(t, s.GetMessage(), "PriorityClass system-node-critical has no namespace and is not of this release")

	patch := []byte(`{"metadata":{"labels":{"state":"ready"}}}`)
	_, err := b.typed.SchedulingV1().PriorityClasses().Patch(t.Context(), name, types.MergePatchType, patch, metav1.PatchOptions{})
	require.NoError(t, err)
	b.await(t, r.GetId(), "the changed state", func(s *agentv1.ReleaseStatus) bool { return s.GetOutputs()["state"] == "ready" })
}

// TestJobs: ready means complete; the result is what the pod said last.
func TestJobs(t *testing.T) {
	t.Parallel()
	b := setup(t)
	files := map[string]string{"templates/job.yaml": job, "templates/svc.yaml": service}
	r := b.wanted("bench", 1, b.chart(t, "1.0.0", files), "{}")
	r.Spec.Outputs = []*agentv1.Output{
		{Name: "address", ApiVersion: "v1", Kind: "Service", Object: "bench", JsonPath: "{.spec.clusterIP}"},
		{Name: "secret", ApiVersion: "v1", Kind: "Secret", Object: "bench", JsonPath: "{.data}"},
		{Name: "absent", ApiVersion: "v1", Kind: "Service", Object: "bench", JsonPath: "{.spec.nosuch}"},
	}
	b.upsert(t, r)
	s := b.awaitPhase(t, r, agentv1.PhaseProgressing)
	require.Contains(t, s.GetMessage(), "job bench: 0 of 1 complete")
	b.finishJob(t, "bench", corev1.PodSucceeded, `{"tokensPerSecond":12}`)
	s = b.awaitPhase(t, r, agentv1.PhaseReady)
	require.Equal(t, `{"tokensPerSecond":12}`, s.GetOutputs()["result"])
	require.NotEmpty(t, s.GetOutputs()["address"])
	require.NotContains(t, s.GetOutputs(), "secret")
	require.NotContains(t, s.GetOutputs(), "absent")
	require.Contains(t, s.GetMessage(), "a Secret is never reported")

	failing := b.wanted("fails", 1, b.chart(t, "1.0.0", files), "{}")
	failing.Spec.MaxAttempts = 1
	b.upsert(t, failing)
	b.awaitPhase(t, failing, agentv1.PhaseProgressing)
	b.finishJob(t, "fails", corev1.PodFailed, "out of memory on device 0")
	s = b.awaitPhase(t, failing, agentv1.PhaseFailed)
	t.Log(s.GetMessage())
	require.Contains(t, s.GetMessage(), "exit code 3: out of memory on device 0")
}

// TestRecordDeletedByHand: the subscription ends, so that the link compares
// with the hub again; the workload is not touched, and is found when the hub
// sends the release anew.
func TestRecordDeletedByHand(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := b.wanted("web", 1, b.chart(t, "1.0.0", simple()), `{"word":"one"}`)
	b.upsert(t, r)
	b.awaitPhase(t, r, agentv1.PhaseReady)
	dyn, err := dynamic.NewForConfig(kube.Config())
	require.NoError(t, err)
	require.NoError(t, dyn.Resource(v1alpha1.GroupVersionResource()).Namespace(b.namespace).Delete(t.Context(), "web", metav1.DeleteOptions{}))
	for range b.statuses { // until it is closed
	}
	have, err := b.m.Have(t.Context())
	require.NoError(t, err)
	require.Empty(t, have)
	require.Equal(t, "one", b.word(t))

	b.statuses, b.seen = b.m.Statuses(t.Context()), map[string]*agentv1.ReleaseStatus{}
	b.upsert(t, r)
	s := b.awaitPhase(t, r, agentv1.PhaseReady)
	require.True(t, s.GetOwned())
	require.Len(t, b.history(t, "web"), 1)
}
