package helm_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"

	"github.com/budecosystem/budcluster/agent/internal/helm"
	"github.com/budecosystem/budcluster/agent/internal/helm/helmtest"
)

// site is one namespace of the real API server.
type site struct {
	*helm.Client
	ref helm.Ref
}

func open(t *testing.T) *site {
	t.Helper()
	return &site{Client: client(t, helm.Config{REST: kube.Config()}), ref: helm.Ref{Namespace: kube.Namespace(t), Name: "web"}}
}

func (s *site) operation(t *testing.T, id string, files map[string]string) helm.Operation {
	t.Helper()
	return helm.Operation{
		Ref: s.ref, Chart: helmtest.Chart(t, "web", "1.0.0", files), Timeout: 20 * time.Second,
		Labels: helm.Labels{ReleaseID: "r", Operation: id, Content: "content-" + id},
	}
}

func (s *site) latest(t *testing.T) helm.Record {
	t.Helper()
	h, err := s.History(t.Context(), s.ref)
	require.NoError(t, err)
	r, ok := h.Latest()
	require.True(t, ok)
	return r
}

func (s *site) has(t *testing.T, name string) bool {
	t.Helper()
	_, err := kube.Client(t).CoreV1().ConfigMaps(s.ref.Namespace).Get(t.Context(), name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return false
	}
	require.NoError(t, err)
	return true
}

func configMap(name string) string {
	return "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: " + name + "}\ndata: {word: x}\n"
}

// refused is an object that the API server does not take.
const refused = "apiVersion: v1\nkind: Service\nmetadata: {name: refused}\nspec: {ports: [{port: 0}]}\n"

const hookJob = `apiVersion: batch/v1
kind: Job
metadata:
  name: hook
  annotations: {"helm.sh/hook": "pre-install,pre-upgrade,pre-rollback"}
spec:
  template: {spec: {restartPolicy: Never, containers: [{name: h, image: "x:1"}]}}
`

// TestRetryPrunes: a failed install left an object that the repaired chart
// does not have; Helm's own retry would leave it for ever.
func TestRetryPrunes(t *testing.T) {
	t.Parallel()
	s := open(t)
	err := s.Install(t.Context(), s.operation(t, "1", map[string]string{
		"templates/a.yaml": configMap("stays"), "templates/b.yaml": configMap("goes"), "templates/c.yaml": refused,
	}))
	require.ErrorContains(t, err, "spec.ports[0].port")
	require.NotContains(t, err.Error(), "\n")
	require.Equal(t, helm.StatusFailed, s.latest(t).Status)
	require.True(t, s.has(t, "goes"))

	require.NoError(t, s.Install(t.Context(), s.operation(t, "2", map[string]string{"templates/a.yaml": configMap("stays")})))
	require.False(t, s.has(t, "goes"))
	require.True(t, s.has(t, "stays"))
	require.Equal(t, "content-2", s.latest(t).Content)
}

// TestCustomResourcesGoInTheForeground: they wait for what they own, which the
// garbage collector that this API server has not would take away. Other objects
// go at once.
func TestCustomResourcesGoInTheForeground(t *testing.T) {
	t.Parallel()
	s := open(t)
	require.NoError(t, s.Install(t.Context(), s.operation(t, "1", map[string]string{
		"crds/gears.yaml": `apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: gears.foreground.test}
spec:
  group: foreground.test
  scope: Namespaced
  names: {kind: Gear, plural: gears}
  versions:
  - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}
`,
		"templates/a.yaml": configMap("plain"), "templates/gear.yaml": "apiVersion: foreground.test/v1\nkind: Gear\nmetadata: {name: one}\n",
	})))
	require.NoError(t, s.Uninstall(t.Context(), s.ref, time.Minute))
	require.False(t, s.has(t, "plain"))
	d, err := dynamic.NewForConfig(kube.Config())
	require.NoError(t, err)
	gears := d.Resource(schema.GroupVersionResource{Group: "foreground.test", Version: "v1", Resource: "gears"}).Namespace(s.ref.Namespace)
	gear, err := gears.Get(t.Context(), "one", metav1.GetOptions{})
	require.NoError(t, err)
	require.NotNil(t, gear.GetDeletionTimestamp())
	require.Equal(t, []string{metav1.FinalizerDeleteDependents}, gear.GetFinalizers())
}

// TestForeignObject: an object of the same name that is not of this release
// is not taken.
func TestForeignObject(t *testing.T) {
	t.Parallel()
	s := open(t)
	_, err := kube.Client(t).CoreV1().ConfigMaps(s.ref.Namespace).Create(t.Context(),
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "taken"}}, metav1.CreateOptions{})
	require.NoError(t, err)
	err = s.Install(t.Context(), s.operation(t, "1", map[string]string{"templates/a.yaml": configMap("taken")}))
	require.ErrorContains(t, err, "exists and cannot be imported into the current release")
	t.Log(err)
}

// TestRecordIsAsOldAsItIs: an upgrade's record is not dated back by the
// labels that Helm copies from the record before.
func TestRecordIsAsOldAsItIs(t *testing.T) {
	t.Parallel()
	s := open(t)
	files := map[string]string{"templates/a.yaml": configMap("a")}
	require.NoError(t, s.Install(t.Context(), s.operation(t, "1", files)))
	secrets := kube.Client(t).CoreV1().Secrets(s.ref.Namespace)
	old, err := secrets.Get(t.Context(), "sh.helm.release.v1.web.v1", metav1.GetOptions{})
	require.NoError(t, err)
	old.Labels["createdAt"], old.Labels["modifiedAt"] = "1000000000", "1000000000"
	_, err = secrets.Update(t.Context(), old, metav1.UpdateOptions{})
	require.NoError(t, err)
	require.NoError(t, s.Upgrade(t.Context(), s.operation(t, "2", files)))
	fresh, err := secrets.Get(t.Context(), "sh.helm.release.v1.web.v2", metav1.GetOptions{})
	require.NoError(t, err)
	require.NotEqual(t, "1000000000", fresh.Labels["createdAt"])
	require.NotEqual(t, "1000000000", fresh.Labels["modifiedAt"])
	require.WithinDuration(t, time.Now(), s.latest(t).ChangedAt, time.Minute)
}

// TestStopInAHook: the operation returns at once, and its record says failed
// and interrupted; so does the rollback's, whose record Helm leaves pending.
func TestStopInAHook(t *testing.T) {
	t.Parallel()
	s := open(t)
	files := map[string]string{"templates/a.yaml": configMap("a"), "templates/h.yaml": hookJob}
	run := map[string]func(context.Context) error{
		"rollback": func(ctx context.Context) error {
			return s.Rollback(ctx, s.ref, 1, helm.Labels{ReleaseID: "r", Operation: "3"}, time.Minute)
		},
		"upgrade": func(ctx context.Context) error { return s.Upgrade(ctx, s.operation(t, "2", files)) },
	}
	require.NoError(t, s.Install(t.Context(), s.operation(t, "0", map[string]string{"templates/a.yaml": configMap("a")})))
	require.NoError(t, s.Uninstall(t.Context(), s.ref, time.Second))
	require.NoError(t, s.Purge(t.Context(), s.ref))
	run["install"] = func(ctx context.Context) error { return s.Install(ctx, s.operation(t, "1", files)) }
	for _, name := range []string{"install", "rollback", "upgrade"} {
		require.ErrorIs(t, s.stopInHook(t, run[name]), context.Canceled, name)
		r := s.latest(t)
		require.Equal(t, helm.StatusFailed, r.Status, name)
		require.True(t, r.Interrupted, name)
	}
}

// stopInHook stops an operation as soon as its hook's job is there, and waits
// for it to heed.
func (s *site) stopInHook(t *testing.T, do func(context.Context) error) error {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	jobs := kube.Client(t).BatchV1().Jobs(s.ref.Namespace)
	there, err := jobs.List(ctx, metav1.ListOptions{})
	require.NoError(t, err)
	changes, err := jobs.Watch(ctx, metav1.ListOptions{ResourceVersion: there.ResourceVersion})
	require.NoError(t, err)
	defer changes.Stop()
	go func() {
		for change := range changes.ResultChan() {
			if change.Type == watch.Added {
				cancel()
			}
		}
	}()
	return do(ctx)
}

// TestDetails completes objects as Helm applies them.
func TestDetails(t *testing.T) {
	t.Parallel()
	s := open(t)
	require.NoError(t, s.Install(t.Context(), s.operation(t, "1", map[string]string{
		"templates/a.yaml": configMap("a"),
		"templates/b.yaml": "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: {{ .Release.Namespace }}}\nrules: []\n",
		"templates/c.yaml": "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: ConfigMap, metadata: {name: l1}}\n- {apiVersion: v1, kind: ConfigMap, metadata: {name: l2, annotations: {helm.sh/resource-policy: keep}}}\n",
	})))
	disco, err := discovery.NewDiscoveryClientForConfig(kube.Config())
	require.NoError(t, err)
	d, err := s.Details(t.Context(), helm.NewKinds(disco), s.ref, 1)
	require.NoError(t, err)
	names := map[string]helm.Object{}
	for _, o := range d.Objects {
		names[o.GetName()] = o
		require.True(t, o.Known)
		require.Equal(t, "Helm", o.GetLabels()["app.kubernetes.io/managed-by"])
	}
	require.Equal(t, s.ref.Namespace, names["a"].GetNamespace())
	require.Empty(t, names[s.ref.Namespace].GetNamespace())
	require.Contains(t, names, "l1")
	require.True(t, names["l2"].Kept())
	require.Equal(t, "Install complete", d.Description)
}
