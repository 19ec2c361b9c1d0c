//go:build e2e

package suite_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/budecosystem/budcluster/deploy/e2e/cluster"
	"github.com/budecosystem/budcluster/hub/hubapi"
)

// values of the chart in testdata/app.
type values map[string]any

// app is one release of that chart, in a namespace of its own.
type app struct {
	site   *site
	name   string // of the release and of its namespace
	digest string
}

// newApp pushes the chart and chooses a name. What is left of it is removed
// with the test.
func newApp(t *testing.T, s *site, name string) *app {
	t.Helper()
	a := &app{site: s, name: name, digest: pushChart(t, s.hub, packApp(t, "1.0.0"))}
	t.Cleanup(func() { a.clear(t) })
	return a
}

// packApp packs the chart under a version of its own, with Helm itself.
func packApp(t *testing.T, version string) []byte {
	t.Helper()
	dir := t.TempDir()
	out, err := env.cluster.Helm(t.Context(), "package", "testdata/app", "--version", version, "--app-version", version, "--destination", dir).CombinedOutput()
	require.NoError(t, err, "%s", out)
	tgz, err := os.ReadFile(filepath.Join(dir, "app-"+version+".tgz"))
	require.NoError(t, err)
	return tgz
}

func pushChart(t *testing.T, h *hub, tgz []byte) string {
	t.Helper()
	chart, err := h.client.PushChart(t.Context(), bytes.NewReader(tgz))
	require.NoError(t, err)
	return chart.Digest
}

// request is what the hub is asked for; change may alter it.
func (a *app) request(v values, change ...func(*hubapi.ReleaseRequest)) hubapi.ReleaseRequest {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	r := hubapi.ReleaseRequest{
		Namespace: a.name, Chart: hubapi.ChartSource{Digest: a.digest}, Values: raw, Timeout: "2m", Remediation: "rollback", Drift: "correct",
	}
	for _, f := range change {
		f(&r)
	}
	return r
}

// apply asks for the release and returns at once.
func (a *app) apply(t *testing.T, v values, change ...func(*hubapi.ReleaseRequest)) hubapi.Release {
	t.Helper()
	r, _, err := a.site.hub.client.ApplyRelease(t.Context(), a.site.name, a.name, a.request(v, change...), nil)
	require.NoError(t, err)
	return r
}

// settle waits until the agent is done with a generation, or one after it.
func (a *app) settle(t *testing.T, generation int64, phase hubapi.Phase) hubapi.Release {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	var last hubapi.Release
	var told string
	for r, err := range a.site.hub.client.WatchRelease(ctx, a.site.name, a.name) {
		if err != nil {
			t.Fatalf("release %s is not %s: %v; last seen %+v", a.name, phase, err, last.Status)
		}
		last = r
		if line := fmt.Sprintf("%s %s %d/%d %s", r.Status.Phase, r.Status.Reason, r.Status.Ready, r.Status.Total, r.Status.Message); line != told {
			told = line
			t.Logf("  %s: %s", a.name, line)
		}
		if r.Status.ObservedGeneration >= generation && r.Status.Phase == phase {
			return r
		}
	}
	t.Fatalf("release %s is not %s in time; last seen %+v", a.name, phase, last.Status)
	return last
}

func (a *app) awaitGone(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	require.NoError(t, a.site.hub.client.WaitReleaseGone(ctx, a.site.name, a.name, nil))
}

// clear removes what the test left, whatever state that is in.
func (a *app) clear(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
	defer cancel()
	if _, err := a.site.hub.client.DeleteRelease(ctx, a.site.name, a.name, false); err == nil {
		patience, cancel := context.WithTimeout(ctx, 20*time.Second)
		defer cancel()
		if c, err := a.site.hub.client.Cluster(ctx, a.site.name); err == nil && c.State != hubapi.ClusterConnected {
			cancel() // nobody is there to remove it
		}
		if err := a.site.hub.client.WaitReleaseGone(patience, a.site.name, a.name, nil); err != nil {
			_, _ = a.site.hub.client.DeleteRelease(ctx, a.site.name, a.name, true)
		}
	}
	err := env.cluster.Kube().CoreV1().Namespaces().Delete(ctx, a.name, metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		t.Errorf("delete namespace %s: %v", a.name, err)
	}
}

func (a *app) deployment(ctx context.Context) (*appsv1.Deployment, error) {
	return env.cluster.Kube().AppsV1().Deployments(a.name).Get(ctx, a.name, metav1.GetOptions{})
}

// says reads what the running pods were told to greet with.
func (a *app) greeting(t *testing.T) string {
	t.Helper()
	d, err := a.deployment(t.Context())
	require.NoError(t, err)
	for _, variable := range d.Spec.Template.Spec.Containers[0].Env {
		if variable.Name == "GREETING" {
			return variable.Value
		}
	}
	return ""
}

// revisions are Helm's records of the release, oldest first, as
// "1 superseded", "2 deployed".
func (a *app) revisions(t *testing.T) []string {
	t.Helper()
	secrets, err := env.cluster.Kube().CoreV1().Secrets(a.name).List(t.Context(), metav1.ListOptions{LabelSelector: "owner=helm,name=" + a.name})
	require.NoError(t, err)
	slices.SortFunc(secrets.Items, func(x, y corev1.Secret) int {
		var a, b int
		_, _ = fmt.Sscan(x.Labels["version"], &a)
		_, _ = fmt.Sscan(y.Labels["version"], &b)
		return a - b
	})
	var all []string
	for _, secret := range secrets.Items {
		all = append(all, secret.Labels["version"]+" "+secret.Labels["status"])
	}
	return all
}

// requireOne checks that nothing is there twice: one deployed revision and
// none pending, one custom resource, one entry at the hub, one deployment.
func (a *app) requireOne(t *testing.T) {
	t.Helper()
	await(t, 30*time.Second, "Helm to be done with "+a.name, func(context.Context) error {
		var deployed int
		revisions := a.revisions(t)
		for _, revision := range revisions {
			if strings.Contains(revision, "pending") {
				return fmt.Errorf("it has %v", revisions)
			}
			if strings.HasSuffix(revision, " deployed") {
				deployed++
			}
		}
		if deployed != 1 {
			return fmt.Errorf("%d revisions are deployed: %v", deployed, revisions)
		}
		return nil
	})
	deployments, err := env.cluster.Kube().AppsV1().Deployments(a.name).List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	require.Len(t, deployments.Items, 1)
	_, err = a.site.resource(t.Context(), a.name)
	require.NoError(t, err)
	releases, err := hubapi.Collect(a.site.hub.client.AllReleases(t.Context(), hubapi.ReleaseQuery{Cluster: a.site.name}))
	require.NoError(t, err)
	require.Len(t, slices.DeleteFunc(releases, func(r hubapi.Release) bool { return r.Name != a.name }), 1)
}

// requireNone checks that nothing is left.
func (a *app) requireNone(t *testing.T) {
	t.Helper()
	require.Empty(t, a.revisions(t))
	_, err := a.deployment(t.Context())
	require.True(t, apierrors.IsNotFound(err), "%v", err)
	// The agent drops its record once the hub has confirmed that it heard.
	await(t, 20*time.Second, "the custom resource to go", func(ctx context.Context) error {
		if _, err := a.site.resource(ctx, a.name); !apierrors.IsNotFound(err) {
			return fmt.Errorf("it is there (%w)", err)
		}
		return nil
	})
	_, err = a.site.hub.client.Release(t.Context(), a.site.name, a.name)
	require.True(t, hubapi.IsNotFound(err), "%v", err)
}

// gate holds a release in its hook until it is opened.
type gate struct{ name string }

const gates = "e2e-gates"

// newGate makes a Service that nothing answers yet.
func newGate(t *testing.T, name string) gate {
	t.Helper()
	require.NoError(t, env.cluster.Apply(t.Context(), fmt.Appendf(nil, `
apiVersion: v1
kind: Namespace
metadata: {name: %[2]s}
---
apiVersion: v1
kind: Service
metadata: {name: %[1]s, namespace: %[2]s}
spec: {selector: {gate: %[1]s}, ports: [{port: 80, targetPort: 8080}]}
`, name, gates)))
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		_ = env.cluster.Kube().CoreV1().Services(gates).Delete(ctx, name, metav1.DeleteOptions{})
		_ = env.cluster.Kube().CoreV1().Pods(gates).Delete(ctx, name, metav1.DeleteOptions{})
	})
	return gate{name: name}
}

func (g gate) url() string { return "http://" + g.name + "." + gates + ".svc.cluster.local/healthz" }

// open lets the hook pass.
func (g gate) open(t *testing.T) {
	t.Helper()
	require.NoError(t, env.cluster.Apply(t.Context(), fmt.Appendf(nil, `
apiVersion: v1
kind: Pod
metadata: {name: %[1]s, namespace: %[2]s, labels: {gate: %[1]s}}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: gate, image: "%[3]s", args: [serve]}]
`, g.name, gates, cluster.HelloImage)))
}

// awaitHook waits until the release's hook runs, and returns its Job's UID.
func (a *app) awaitHook(t *testing.T) (uid string) {
	t.Helper()
	await(t, time.Minute, "the hook of "+a.name+" to run", func(ctx context.Context) error {
		job, err := env.cluster.Kube().BatchV1().Jobs(a.name).Get(ctx, a.name+"-hold", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if job.Status.Active == 0 {
			return fmt.Errorf("its job is %+v", job.Status)
		}
		uid = string(job.UID)
		return nil
	})
	return uid
}
