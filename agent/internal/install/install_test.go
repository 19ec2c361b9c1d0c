package install_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/budecosystem/budcluster/agent/agenttest"
	"github.com/budecosystem/budcluster/agent/internal/helm"
	agentinstall "github.com/budecosystem/budcluster/agent/internal/install"
	"github.com/budecosystem/budcluster/internal/install"
	"github.com/budecosystem/budcluster/internal/kubeconfig"
	"github.com/budecosystem/budcluster/internal/pki"
)

var server *agenttest.Kube

func TestMain(m *testing.M) {
	os.Exit(agenttest.RunWithKube(m, func(k *agenttest.Kube) { server = k }))
}

// hub is one that agents may belong to.
type hub struct {
	ca      *pki.Authority
	address string
}

func newHub(t *testing.T, address string) hub {
	t.Helper()
	ca, err := pki.NewAuthority("hub.test", time.Now(), 24*time.Hour)
	require.NoError(t, err)
	return hub{ca: ca, address: address}
}

func (h hub) token(t *testing.T) string {
	t.Helper()
	token, err := pki.NewJoinToken(h.ca.Pin())
	require.NoError(t, err)
	return token.Reveal()
}

func (h hub) request(t *testing.T, namespace string) install.Request {
	t.Helper()
	file, err := os.ReadFile(server.Kubeconfig())
	require.NoError(t, err)
	return install.Request{
		Kubeconfig: string(file), Addresses: kubeconfig.Addresses{AllowLoopback: true}, Namespace: namespace,
		Hub: install.Hub{Addresses: []string{h.address}, Pin: h.ca.Pin()},
	}
}

// talk is one conversation.
type talk struct {
	t      *testing.T
	in     *io.PipeWriter
	stages chan install.Stage // closed at the end
	ended  sync.WaitGroup
	mu     sync.Mutex
	text   strings.Builder // all that was said
}

func start(t *testing.T, mode agentinstall.Mode, req install.Request) *talk {
	t.Helper()
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	c := &talk{t: t, in: inW, stages: make(chan install.Stage, 100)}
	ctx, cancel := context.WithCancel(t.Context())
	c.ended.Go(func() {
		defer func() { _ = outW.Close() }()
		if err := agentinstall.Run(ctx, agentinstall.Config{Mode: mode, In: inR, Out: outW}); err != nil {
			t.Error(err)
		}
	})
	c.ended.Go(func() {
		defer close(c.stages)
		lines := bufio.NewScanner(outR)
		for lines.Scan() {
			c.mu.Lock()
			c.text.WriteString(lines.Text() + "\n")
			c.mu.Unlock()
			var s install.Stage
			if json.Unmarshal(lines.Bytes(), &s) == nil {
				c.stages <- s
			}
		}
	})
	t.Cleanup(func() { cancel(); _ = inW.Close(); c.ended.Wait() })
	c.send(req)
	return c
}

func (c *talk) send(m any) {
	c.t.Helper()
	line, err := json.Marshal(m)
	require.NoError(c.t, err)
	_, err = c.in.Write(append(line, '\n'))
	require.NoError(c.t, err)
}

func (c *talk) await(want install.Name) install.Stage {
	c.t.Helper()
	for s := range c.stages {
		if s.Stage == want {
			return s
		}
		require.NotEqual(c.t, install.Failed, s.Stage, s.Message)
	}
	require.Fail(c.t, "the conversation ended before "+string(want), c.said())
	return install.Stage{}
}

func (c *talk) said() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.text.String()
}

func (c *talk) end() {
	_ = c.in.Close()
	c.ended.Wait()
}

func namespace(t *testing.T) string {
	t.Helper()
	return fmt.Sprintf("agent-%d-%s", os.Getpid(), strings.ToLower(strings.NewReplacer("/", "-", "_", "-").Replace(t.Name())))
}

func history(t *testing.T, ns string) helm.History {
	t.Helper()
	c, err := helm.New(helm.Config{REST: server.Config(), Logger: discard()})
	require.NoError(t, err)
	h, err := c.History(t.Context(), helm.Ref{Namespace: ns, Name: install.DefaultRelease})
	require.NoError(t, err)
	return h
}

func deployment(t *testing.T, ns string) (*appsv1.Deployment, bool) {
	t.Helper()
	d, err := server.Client(t).AppsV1().Deployments(ns).Get(t.Context(), install.DefaultRelease, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, false
	}
	require.NoError(t, err)
	return d, true
}

// TestInstallAndUndo is the whole way there and back.
func TestInstallAndUndo(t *testing.T) {
	t.Parallel()
	h, ns := newHub(t, "hub.example.com:8443"), namespace(t)
	kube := server.Client(t)
	kubeSystem, err := kube.CoreV1().Namespaces().Get(t.Context(), "kube-system", metav1.GetOptions{})
	require.NoError(t, err)

	c := start(t, agentinstall.ModeInstall, h.request(t, ns))
	require.Equal(t, server.Config().Host, c.await(install.Checked).Server)
	ready := c.await(install.Ready)
	require.Equal(t, string(kubeSystem.UID), ready.ClusterUID)
	require.True(t, strings.HasPrefix(ready.ServerVersion, "v1."))
	require.Empty(t, ready.AgentVersion)
	_, there := deployment(t, ns)
	require.False(t, there, "before Go nothing is changed")

	token := h.token(t)
	c.send(install.Order{Go: true, JoinToken: token, Values: json.RawMessage(`{"image":{"tag":"other"}}`)})
	c.await(install.Installed)
	require.Contains(t, c.await(install.Waiting).Message, "0 of 1 ready")
	d, there := deployment(t, ns)
	require.True(t, there)
	require.True(t, strings.HasSuffix(d.Spec.Template.Spec.Containers[0].Image, ":other"))
	secret, err := kube.CoreV1().Secrets(ns).Get(t.Context(), "budcluster-agent-join-token", metav1.GetOptions{})
	require.NoError(t, err)
	require.Equal(t, token, string(secret.Data["token"]))

	d.Status = appsv1.DeploymentStatus{ObservedGeneration: d.Generation, Replicas: 1, UpdatedReplicas: 1, ReadyReplicas: 1, AvailableReplicas: 1}
	_, err = kube.AppsV1().Deployments(ns).UpdateStatus(t.Context(), d, metav1.UpdateOptions{})
	require.NoError(t, err)
	replicaSet(t, d)
	c.await(install.Connected)

	_, err = kube.CoreV1().Secrets(ns).Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "budcluster-agent-identity"}}, metav1.CreateOptions{})
	require.NoError(t, err)
	c.send(install.Order{Undo: true})
	require.Empty(t, c.await(install.Undone).Left)
	_, there = deployment(t, ns)
	require.False(t, there)
	require.Empty(t, history(t, ns))
	secrets, err := kube.CoreV1().Secrets(ns).List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	require.Empty(t, secrets.Items)
	gone, err := kube.CoreV1().Namespaces().Get(t.Context(), ns, metav1.GetOptions{})
	require.True(t, apierrors.IsNotFound(err) || gone.DeletionTimestamp != nil, "the namespace was ours")
	roles, err := kube.RbacV1().ClusterRoles().List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	for _, r := range roles.Items {
		require.NotContains(t, r.Name, ns)
	}
	c.end()
	require.NotContains(t, c.said(), token)
	require.NotContains(t, c.said(), "agenttest-admin")
}

// replicaSet plays the controller, as Helm's rule wants one.
func replicaSet(t *testing.T, d *appsv1.Deployment) {
	t.Helper()
	yes := true
	_, err := server.Client(t).AppsV1().ReplicaSets(d.Namespace).Create(t.Context(), &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{
			Name: d.Name + "-1", Labels: d.Spec.Template.Labels, Annotations: map[string]string{"deployment.kubernetes.io/revision": "1"},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "Deployment", Name: d.Name, UID: d.UID, Controller: &yes}},
		},
		Spec: appsv1.ReplicaSetSpec{Selector: d.Spec.Selector, Template: d.Spec.Template},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	rs, err := server.Client(t).AppsV1().ReplicaSets(d.Namespace).Get(t.Context(), d.Name+"-1", metav1.GetOptions{})
	require.NoError(t, err)
	rs.Status = appsv1.ReplicaSetStatus{ObservedGeneration: rs.Generation, Replicas: 1, ReadyReplicas: 1, AvailableReplicas: 1}
	_, err = server.Client(t).AppsV1().ReplicaSets(d.Namespace).UpdateStatus(t.Context(), rs, metav1.UpdateOptions{})
	require.NoError(t, err)
}

func (c *talk) installs(h hub, values string) {
	c.t.Helper()
	c.await(install.Ready)
	c.send(install.Order{Go: true, JoinToken: h.token(c.t), Values: json.RawMessage(values)})
	c.await(install.Installed)
}

// TestAgain: an agent of this hub is upgraded with the values that it has, and
// Undo puts back what was there. Another hub's is left alone.
func TestAgain(t *testing.T) {
	t.Parallel()
	h, ns := newHub(t, "hub.example.com:8443"), namespace(t)
	first := start(t, agentinstall.ModeInstall, h.request(t, ns))
	first.installs(h, `{"podLabels":{"site":"a"},"image":{"tag":"one"}}`)
	first.end()

	second := start(t, agentinstall.ModeInstall, h.request(t, ns))
	require.NotEmpty(t, second.await(install.Ready).AgentVersion)
	second.send(install.Order{Go: true, JoinToken: h.token(t), Values: json.RawMessage(`{"image":{"tag":"two"}}`)})
	second.await(install.Installed)
	d, _ := deployment(t, ns)
	require.Equal(t, "a", d.Spec.Template.Labels["site"], "what was given before is kept")
	require.True(t, strings.HasSuffix(d.Spec.Template.Spec.Containers[0].Image, ":two"))
	second.send(install.Order{Undo: true})
	second.await(install.Undone)
	d, there := deployment(t, ns)
	require.True(t, there, "it was there before")
	require.True(t, strings.HasSuffix(d.Spec.Template.Spec.Containers[0].Image, ":one"))
	second.end()

	other := newHub(t, "elsewhere.example.com:8443")
	for _, mode := range []agentinstall.Mode{agentinstall.ModeInstall, agentinstall.ModeUninstall} {
		third := start(t, mode, other.request(t, ns))
		third.await(install.Checked)
		s := <-third.stages
		require.Equal(t, install.ForeignAgent, s.Reason)
		require.Contains(t, s.Message, "hub.example.com:8443")
		third.end()
	}

	last := start(t, agentinstall.ModeUninstall, h.request(t, ns))
	last.await(install.Ready)
	last.send(install.Order{Go: true})
	require.Empty(t, last.await(install.Undone).Left)
	_, there = deployment(t, ns)
	require.False(t, there)
}

// TestHubLeaves: before Go nothing is done; in the middle it is ended.
func TestHubLeaves(t *testing.T) {
	t.Parallel()
	h, ns := newHub(t, "hub.example.com:8443"), namespace(t)
	c := start(t, agentinstall.ModeInstall, h.request(t, ns))
	c.await(install.Ready)
	c.end()
	_, err := server.Client(t).CoreV1().Namespaces().Get(t.Context(), ns, metav1.GetOptions{})
	require.True(t, apierrors.IsNotFound(err))

	c = start(t, agentinstall.ModeInstall, h.request(t, ns))
	c.await(install.Ready)
	c.send(install.Order{Go: true, JoinToken: h.token(t)})
	c.await(install.Installing)
	c.end()
	_, there := deployment(t, ns)
	require.True(t, there)
	last, _ := history(t, ns).Latest()
	require.Equal(t, helm.StatusDeployed, last.Status)
}

// TestForeignNamespaceStays: what others have put beside the agent is kept.
func TestForeignNamespaceStays(t *testing.T) {
	t.Parallel()
	h, ns := newHub(t, "hub.example.com:8443"), namespace(t)
	c := start(t, agentinstall.ModeInstall, h.request(t, ns))
	c.installs(h, `{}`)
	_, err := server.Client(t).CoreV1().ConfigMaps(ns).Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "precious"}}, metav1.CreateOptions{})
	require.NoError(t, err)
	c.send(install.Order{Undo: true})
	left := c.await(install.Undone).Left
	require.Len(t, left, 1)
	require.Contains(t, left[0], "configmap precious")
	kept, err := server.Client(t).CoreV1().Namespaces().Get(t.Context(), ns, metav1.GetOptions{})
	require.NoError(t, err)
	require.Nil(t, kept.DeletionTimestamp)
}

// TestUndoOfAFailure: what a failed installation left is taken away.
func TestUndoOfAFailure(t *testing.T) {
	t.Parallel()
	h, ns := newHub(t, "hub.example.com:8443"), namespace(t)
	c := start(t, agentinstall.ModeInstall, h.request(t, ns))
	c.await(install.Ready)
	c.send(install.Order{Go: true, JoinToken: h.token(t), Values: json.RawMessage(`{"nonsense":1}`)})
	c.await(install.Installing)
	s := <-c.stages
	require.Equal(t, install.NotInstalled, s.Reason)
	require.Contains(t, s.Message, "nonsense")
	c.send(install.Order{Undo: true})
	c.await(install.Undone)
	gone, err := server.Client(t).CoreV1().Namespaces().Get(t.Context(), ns, metav1.GetOptions{})
	require.True(t, apierrors.IsNotFound(err) || gone.DeletionTimestamp != nil)
}
