package presence_test

import (
	"context"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"

	"github.com/budecosystem/budcluster/agent/agenttest"
	"github.com/budecosystem/budcluster/agent/internal/helm"
	"github.com/budecosystem/budcluster/agent/internal/kube"
	"github.com/budecosystem/budcluster/agent/internal/presence"
	"github.com/budecosystem/budcluster/internal/facts"
)

var server *agenttest.Kube

func TestMain(m *testing.M) {
	os.Exit(agenttest.RunWithKube(m, func(k *agenttest.Kube) { server = k }))
}

type bundle struct {
	*presence.Watcher
	client    kubernetes.Interface
	namespace string
	wake      <-chan struct{}
	take      func() ([]facts.Presence, bool)
}

func setup(t *testing.T, rc *rest.Config) *bundle {
	t.Helper()
	b := &bundle{client: server.Client(t), namespace: server.Namespace(t)}
	typed, err := kubernetes.NewForConfig(rc)
	require.NoError(t, err)
	meta, err := metadata.NewForConfig(rc)
	require.NoError(t, err)
	disco, err := discovery.NewDiscoveryClientForConfig(rc)
	require.NoError(t, err)
	b.Watcher, err = presence.New(presence.Config{
		Typed: typed, Metadata: meta, Kinds: helm.NewKinds(disco), Logger: slog.New(slog.DiscardHandler),
		Debounce: 20 * time.Millisecond, Again: 200 * time.Millisecond,
	})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = b.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	var unwatch func()
	b.wake, b.take, unwatch = b.Watch()
	t.Cleanup(unwatch)
	return b
}

// await returns the first answers that are as wanted.
func (b *bundle) await(t *testing.T, what string, want func([]facts.Presence) bool) []facts.Presence {
	t.Helper()
	patience := time.NewTimer(30 * time.Second)
	defer patience.Stop()
	var got []facts.Presence
	for {
		select {
		case <-patience.C:
			require.FailNow(t, "never came: "+what, "%+v", got)
		case <-b.wake:
			if answers, fresh := b.take(); fresh {
				if got = answers; want(got) {
					return got
				}
			}
		}
	}
}

// state is what was said of one probe; empty when nothing.
func state(answers []facts.Presence, probe string) facts.PresenceState {
	for _, a := range answers {
		if a.Probe == probe {
			return a.State
		}
	}
	return ""
}

func is(probe string, s facts.PresenceState) func([]facts.Presence) bool {
	return func(answers []facts.Presence) bool { return state(answers, probe) == s }
}

func daemonSet(name string) *appsv1.DaemonSet {
	labels := map[string]string{"app": "nfd", "role": "worker"}
	return &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels, Annotations: map[string]string{
			"meta.helm.sh/release-name": "nfd", "meta.helm.sh/release-namespace": "node-feature-discovery",
		}},
		Spec: appsv1.DaemonSetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{Containers: []corev1.Container{{
					Name: "w", Image: "registry.example:5000/nfd/worker:v0.17.1@sha256:0000000000000000000000000000000000000000000000000000000000000000",
				}}},
			},
		},
	}
}

func TestWorkloadsAsTheyChange(t *testing.T) {
	t.Parallel()
	b := setup(t, server.Config())
	ctx, sets := t.Context(), b.client.AppsV1().DaemonSets(b.namespace)
	b.Ask([]facts.Probe{
		{Name: "nfd/worker", APIVersion: "apps/v1", Kind: "DaemonSet", Namespace: b.namespace, Object: "*-worker", Selector: "app=nfd,role=worker"},
		{Name: "nfd/other", APIVersion: "apps/v1", Kind: "DaemonSet", Namespace: b.namespace, Selector: "role=other"},
		{Name: "nfd/broken", APIVersion: "apps/v1", Kind: "DaemonSet", Selector: "=("},
	})
	first := b.await(t, "the first answer", is("nfd/worker", facts.PresenceAbsent))
	require.Equal(t, facts.PresenceAbsent, state(first, "nfd/other"))
	require.Equal(t, facts.PresenceUnknown, state(first, "nfd/broken"))

	_, err := sets.Create(ctx, daemonSet("nfd-worker"), metav1.CreateOptions{})
	require.NoError(t, err)
	got := b.await(t, "found", is("nfd/worker", facts.PresenceFound))
	var found facts.Presence
	for _, a := range got {
		if a.Probe == "nfd/worker" {
			found = a
		}
	}
	require.NotNil(t, found.Ready)
	require.False(t, *found.Ready, "no controller has seen it")
	found.Ready = nil
	require.Equal(t, facts.Presence{
		Probe: "nfd/worker", State: facts.PresenceFound, Kind: "DaemonSet", Namespace: b.namespace, Object: "nfd-worker",
		Version: "v0.17.1", Release: "nfd", ReleaseNamespace: "node-feature-discovery",
	}, found)
	require.Equal(t, facts.PresenceAbsent, state(got, "nfd/other"))

	set, err := sets.Get(ctx, "nfd-worker", metav1.GetOptions{})
	require.NoError(t, err)
	set.Status = appsv1.DaemonSetStatus{ObservedGeneration: set.Generation, DesiredNumberScheduled: 2, NumberReady: 2}
	_, err = sets.UpdateStatus(ctx, set, metav1.UpdateOptions{})
	require.NoError(t, err)
	b.await(t, "ready", func(answers []facts.Presence) bool {
		for _, a := range answers {
			if a.Probe == "nfd/worker" && a.Ready != nil && *a.Ready {
				return true
			}
		}
		return false
	})
	require.NoError(t, sets.Delete(ctx, "nfd-worker", metav1.DeleteOptions{}))
	b.await(t, "gone", is("nfd/worker", facts.PresenceAbsent))
}

func helmRecord(name, revision, status string) *corev1.Secret {
	return &corev1.Secret{
		Type: "helm.sh/release.v1",
		ObjectMeta: metav1.ObjectMeta{
			Name:   "sh.helm.release.v1." + name + ".v" + revision,
			Labels: map[string]string{"owner": "helm", "name": name, "version": revision, "status": status},
		},
	}
}

func TestHelmsRecords(t *testing.T) {
	t.Parallel()
	b := setup(t, server.Config())
	ctx, secrets := t.Context(), b.client.CoreV1().Secrets(b.namespace)
	for _, s := range []*corev1.Secret{helmRecord("gpu", "9", "superseded"), helmRecord("gpu", "10", "deployed"), helmRecord("old", "1", "uninstalled")} {
		_, err := secrets.Create(ctx, s, metav1.CreateOptions{})
		require.NoError(t, err)
	}
	b.Ask([]facts.Probe{
		{Name: "gpu/release", APIVersion: facts.ProbeHelm, Kind: "Release", Namespace: b.namespace, Object: "gpu"},
		{Name: "old/release", APIVersion: facts.ProbeHelm, Kind: "Release", Namespace: b.namespace, Object: "old"},
	})
	got := b.await(t, "found", is("gpu/release", facts.PresenceFound))
	require.Len(t, got, 2, "one for each release, not for each revision: %+v", got)
	require.True(t, *got[0].Ready)
	require.Equal(t, "gpu", got[0].Release)
	require.Equal(t, facts.PresenceAbsent, state(got, "old/release"), "an uninstalled release is not there")

	failed := helmRecord("gpu", "11", "failed")
	_, err := secrets.Create(ctx, failed, metav1.CreateOptions{})
	require.NoError(t, err)
	b.await(t, "failed", func(answers []facts.Presence) bool { return answers[0].Ready != nil && !*answers[0].Ready })
}

const definition = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: gadgets.presence.test
  annotations: {budcluster.io/crd-version: "1"}
spec:
  group: presence.test
  scope: Cluster
  names: {kind: Gadget, plural: gadgets, singular: gadget}
  versions:
  - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}
`

func TestDefinitionsAndKindsThatComeLater(t *testing.T) {
	t.Parallel()
	b := setup(t, server.Config())
	b.Ask([]facts.Probe{
		{Name: "x/definition", APIVersion: "apiextensions.k8s.io/v1", Kind: "CustomResourceDefinition", Object: "gadgets.presence.test"},
		{Name: "x/object", APIVersion: "presence.test/v1", Kind: "Gadget", Object: "one"},
	})
	first := b.await(t, "the first answer", is("x/definition", facts.PresenceAbsent))
	require.Equal(t, facts.PresenceAbsent, state(first, "x/object"), "of a kind that the API server does not have")
	clients, err := kube.NewClients(server.Config())
	require.NoError(t, err)
	_, err = kube.ApplyCRD(t.Context(), clients.Dynamic, []byte(definition))
	require.NoError(t, err)
	b.await(t, "the definition", is("x/definition", facts.PresenceFound))
	raw := clients.Typed.Discovery().RESTClient()
	require.NoError(t, raw.Post().AbsPath("/apis/presence.test/v1/gadgets").
		Body([]byte(`{"apiVersion":"presence.test/v1","kind":"Gadget","metadata":{"name":"one"}}`)).Do(t.Context()).Error())
	b.await(t, "the object", is("x/object", facts.PresenceFound))
	require.NoError(t, raw.Delete().AbsPath("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/gadgets.presence.test").Do(t.Context()).Error())
	b.await(t, "gone with its definition", func(a []facts.Presence) bool {
		return state(a, "x/object") == facts.PresenceAbsent && state(a, "x/definition") == facts.PresenceAbsent
	})
}

// What may not be listed is unknown, and says why; newer probes replace the
// older ones.
func TestWithoutTheRight(t *testing.T) {
	t.Parallel()
	rc := server.Config()
	rc.Impersonate = rest.ImpersonationConfig{UserName: "nobody"}
	b := setup(t, rc)
	b.Ask([]facts.Probe{{Name: "a/a", APIVersion: "apps/v1", Kind: "Deployment", Object: "a"}})
	got := b.await(t, "unknown", is("a/a", facts.PresenceUnknown))
	require.Contains(t, got[0].Reason, "deployments.apps is forbidden")
	b.Ask([]facts.Probe{{Name: "b/b", APIVersion: "apps/v1", Kind: "StatefulSet", Object: "b"}})
	got = b.await(t, "the new question", is("b/b", facts.PresenceUnknown))
	require.Len(t, got, 1)
}
