package retire_test

import (
	"context"
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"

	"github.com/budecosystem/budcluster/agent/agenttest"
	"github.com/budecosystem/budcluster/agent/api/v1alpha1"
	"github.com/budecosystem/budcluster/agent/internal/kube"
	"github.com/budecosystem/budcluster/agent/internal/retire"
)

var server *agenttest.Kube

func TestMain(m *testing.M) {
	os.Exit(agenttest.RunWithKube(m, func(k *agenttest.Kube) { server = k }))
}

// site is an agent as its chart and it would have made it. The API server has
// no garbage collector: what would be collected has the anchor as its owner.
type site struct {
	*retire.Installation
	client    kubernetes.Interface
	namespace string
	anchor    *rbacv1.ClusterRole
}

var (
	secrets     = schema.GroupVersionResource{Version: "v1", Resource: "secrets"}
	configMaps  = schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}
	deployments = schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}
)

func newSite(t *testing.T, change func(*retire.InstallationConfig)) *site {
	t.Helper()
	s := &site{client: server.Client(t), namespace: server.Namespace(t)}
	ctx := t.Context()
	ns, err := s.client.CoreV1().Namespaces().Get(ctx, s.namespace, metav1.GetOptions{})
	require.NoError(t, err)
	ns.Labels["name"] = s.namespace // as Helm's --create-namespace does
	_, err = s.client.CoreV1().Namespaces().Update(ctx, ns, metav1.UpdateOptions{})
	require.NoError(t, err)
	s.anchor, err = s.client.RbacV1().ClusterRoles().Create(ctx, &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: s.namespace + "-retire"}}, metav1.CreateOptions{})
	require.NoError(t, err)
	s.deploy(t, s.namespace, "agent")
	s.configMap(t, "agent", nil)
	for _, name := range []string{"agent-identity", "release-web-values"} {
		s.secret(t, name, map[string]string{"app.kubernetes.io/managed-by": "budcluster-agent"})
	}
	s.secret(t, "sh.helm.release.v1.agent.v1", map[string]string{"owner": "helm", "name": "agent"})
	cfg := retire.InstallationConfig{
		Typed: s.client, Metadata: meta(t, server.Config()), Discovery: disco(t), Namespace: s.namespace,
		Release: "agent", Deployment: "agent", Anchor: s.anchor.Name, Lease: "agent", Logger: slog.New(slog.DiscardHandler),
		Manifest: func(context.Context) ([]retire.Object, error) {
			return []retire.Object{
				{Resource: configMaps, Kind: "ConfigMap", Namespace: s.namespace, Name: "agent"},
				{Resource: configMaps, Kind: "ConfigMap", Namespace: s.namespace, Name: "never-made"},
				{Resource: schema.GroupVersionResource{Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "clusterroles"}, Kind: "ClusterRole", Name: s.anchor.Name},
				{Resource: deployments, Kind: "Deployment", Namespace: s.namespace, Name: "agent"},
			}, nil
		},
	}
	if change != nil {
		change(&cfg)
	}
	s.Installation, err = retire.NewInstallation(cfg)
	require.NoError(t, err)
	return s
}

func meta(t *testing.T, rc *rest.Config) metadata.Interface {
	t.Helper()
	m, err := metadata.NewForConfig(rc)
	require.NoError(t, err)
	return m
}

func disco(t *testing.T) discovery.ServerResourcesInterface {
	t.Helper()
	d, err := discovery.NewDiscoveryClientForConfig(server.Config())
	require.NoError(t, err)
	return d
}

func (s *site) deploy(t *testing.T, namespace, name string) {
	t.Helper()
	labels := map[string]string{"app.kubernetes.io/part-of": "budcluster", "app.kubernetes.io/component": "agent"}
	_, err := s.client.AppsV1().Deployments(namespace).Create(t.Context(), &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels},
		Spec: appsv1.DeploymentSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "a", Image: "a"}}}},
		},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	t.Cleanup(func() { // others look for agents in all namespaces
		_ = s.client.AppsV1().Deployments(namespace).Delete(context.WithoutCancel(t.Context()), name, metav1.DeleteOptions{})
	})
}

func (s *site) configMap(t *testing.T, name string, owners []metav1.OwnerReference) {
	t.Helper()
	_, err := s.client.CoreV1().ConfigMaps(s.namespace).Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, OwnerReferences: owners}}, metav1.CreateOptions{})
	require.NoError(t, err)
}

func (s *site) secret(t *testing.T, name string, labels map[string]string) {
	t.Helper()
	_, err := s.client.CoreV1().Secrets(s.namespace).Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}, metav1.CreateOptions{})
	require.NoError(t, err)
}

// collected names what the garbage collector would remove with the anchor.
func (s *site) collected(t *testing.T) []string {
	t.Helper()
	var out []string
	m := meta(t, server.Config())
	for kind, gvr := range map[string]schema.GroupVersionResource{
		"Secret": secrets, "ConfigMap": configMaps, "Deployment": deployments,
		"CustomResourceDefinition": {Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"},
		"Namespace":                {Version: "v1", Resource: "namespaces"},
	} {
		list, err := m.Resource(gvr).List(t.Context(), metav1.ListOptions{})
		require.NoError(t, err)
		for i := range list.Items {
			for _, owner := range list.Items[i].OwnerReferences {
				if owner.UID == s.anchor.UID {
					out = append(out, kind+"/"+strings.ReplaceAll(list.Items[i].Name, s.namespace, "own"))
				}
			}
		}
	}
	return out
}

// begin runs Leave until the anchor is gone or the test says otherwise.
func (s *site) begin(t *testing.T) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Leave(ctx) }()
	return func() {
		cancel()
		require.NoError(t, <-done)
	}
}

func (s *site) awaitAnchorGone(t *testing.T) {
	t.Helper()
	w, err := s.client.RbacV1().ClusterRoles().Watch(t.Context(), metav1.ListOptions{FieldSelector: "metadata.name=" + s.anchor.Name})
	require.NoError(t, err)
	defer w.Stop()
	for {
		if _, err := s.client.RbacV1().ClusterRoles().Get(t.Context(), s.anchor.Name, metav1.GetOptions{}); apierrors.IsNotFound(err) {
			return
		}
		<-w.ResultChan()
	}
}

// The tests below share the one custom resource definition of the API server,
// and look for each other's agents: one after the other.
func TestLeaving(t *testing.T) { //nolint:paralleltest // see above
	clients, err := kube.NewClients(server.Config())
	require.NoError(t, err)
	define := func(t *testing.T) {
		t.Helper()
		_, err := kube.ApplyCRD(t.Context(), clients.Dynamic, v1alpha1.CRD())
		require.NoError(t, err)
	}
	define(t)
	t.Run("everything goes", func(t *testing.T) { //nolint:paralleltest // one after the other
		s := newSite(t, nil)
		s.configMap(t, "of-another", []metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: "agent", UID: "1"}})
		require.Empty(t, s.Rehearse(t.Context()))
		require.Empty(t, s.collected(t), "a rehearsal changes nothing")
		leaving, err := s.Leaving(t.Context())
		require.NoError(t, err)
		require.False(t, leaving)

		stop := s.begin(t)
		s.awaitAnchorGone(t)
		stop()
		require.ElementsMatch(t, []string{
			"Secret/agent-identity", "Secret/release-web-values", "Secret/sh.helm.release.v1.agent.v1", "ConfigMap/agent",
			"Deployment/agent", "CustomResourceDefinition/releases.budcluster.io", "Namespace/own",
		}, s.collected(t))
		leaving, err = s.Leaving(t.Context())
		require.NoError(t, err)
		require.True(t, leaving, "whoever starts now knows")
		stop = s.begin(t) // and has nothing left to do
		stop()
		require.NoError(t, s.client.AppsV1().Deployments(s.namespace).Delete(t.Context(), "agent", metav1.DeleteOptions{}))
		leaving, err = s.Leaving(t.Context())
		require.NoError(t, err)
		require.True(t, leaving, "also when the deployment is gone")
	})
	reset(t, clients)
	t.Run("strangers and other agents stay", func(t *testing.T) { //nolint:paralleltest // one after the other
		define(t)
		s := newSite(t, nil)
		s.secret(t, "somebodys", nil)
		other := newSite(t, nil)
		left := strings.Join(s.Rehearse(t.Context()), "\n")
		require.Contains(t, left, "CustomResourceDefinition/releases.budcluster.io stays: the agent "+other.namespace+"/agent of another hub uses it")
		require.Contains(t, left, "stays: Secret/somebodys lives there too")
		stop := s.begin(t)
		s.awaitAnchorGone(t)
		stop()
		got := s.collected(t)
		require.NotContains(t, got, "Namespace/own")
		require.NotContains(t, got, "CustomResourceDefinition/releases.budcluster.io")
		require.NotContains(t, got, "Secret/somebodys")
		require.Contains(t, got, "Deployment/agent")
	})
	reset(t, clients)
	t.Run("a namespace that was there before", func(t *testing.T) { //nolint:paralleltest // one after the other
		define(t)
		s := newSite(t, nil)
		ns, err := s.client.CoreV1().Namespaces().Get(t.Context(), s.namespace, metav1.GetOptions{})
		require.NoError(t, err)
		delete(ns.Labels, "name")
		_, err = s.client.CoreV1().Namespaces().Update(t.Context(), ns, metav1.UpdateOptions{})
		require.NoError(t, err)
		require.Empty(t, s.Rehearse(t.Context()), "it is not ours, so it is not left behind")
		stop := s.begin(t)
		s.awaitAnchorGone(t)
		stop()
		require.NotContains(t, s.collected(t), "Namespace/own")
	})
	reset(t, clients)
	t.Run("a namespace that the hub made", func(t *testing.T) { //nolint:paralleltest // one after the other
		define(t)
		s := newSite(t, nil)
		ns, err := s.client.CoreV1().Namespaces().Get(t.Context(), s.namespace, metav1.GetOptions{})
		require.NoError(t, err)
		delete(ns.Labels, "name")
		ns.Annotations = map[string]string{kube.MadeBy: "budcluster-agent"}
		_, err = s.client.CoreV1().Namespaces().Update(t.Context(), ns, metav1.UpdateOptions{})
		require.NoError(t, err)
		stop := s.begin(t)
		s.awaitAnchorGone(t)
		stop()
		require.Contains(t, s.collected(t), "Namespace/own")
	})
	reset(t, clients)
	t.Run("not installed by Helm", func(t *testing.T) { //nolint:paralleltest // one after the other
		s := newSite(t, func(cfg *retire.InstallationConfig) {
			cfg.Manifest = func(context.Context) ([]retire.Object, error) { return nil, nil }
		})
		require.Contains(t, strings.Join(s.Rehearse(t.Context()), ""), "helm has no record of release agent")
		none := newSite(t, func(cfg *retire.InstallationConfig) { cfg.Anchor = "" })
		require.Contains(t, strings.Join(none.Rehearse(t.Context()), ""), "remove the agent the way it was installed")
	})
	t.Run("without a right", func(t *testing.T) { //nolint:paralleltest // one after the other
		s := newSite(t, func(cfg *retire.InstallationConfig) {
			rc := server.Config()
			rc.Impersonate = rest.ImpersonationConfig{UserName: "nobody"}
			cfg.Metadata = meta(t, rc)
		})
		require.NotEmpty(t, s.Rehearse(t.Context()))
		require.Empty(t, s.collected(t))
	})
}

// reset takes the owners off the definition: no garbage collector does it.
func reset(t *testing.T, clients *kube.Clients) {
	t.Helper()
	err := clients.Dynamic.Resource(schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}).
		Delete(t.Context(), v1alpha1.CRDName, metav1.DeleteOptions{})
	if !apierrors.IsNotFound(err) {
		require.NoError(t, err)
	}
}
