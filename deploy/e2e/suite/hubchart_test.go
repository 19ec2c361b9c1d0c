//go:build e2e

package suite_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/budecosystem/budcluster/hub/hubapi"
)

const (
	// hubArchive is the hub's image, as make images writes it.
	hubArchive = "dist/budcluster-hub.tar"
	hubRelease = "budcluster-hub"
	hubSpace   = "bud-hub"
	// blindBar is how long a cluster may be without a session while the hub's
	// replicas are replaced.
	blindBar = 5 * time.Second
)

// chartedHub is a hub that runs in the cluster, by its chart.
type chartedHub struct {
	*hub

	database *postgres
}

// TestHubChart is the life of a hub in Kubernetes: it is installed beside a
// PostgreSQL of one's own, an agent joins it, both replicas are replaced
// without losing the agent, it is removed and comes back as the same hub, and
// in the end nothing of it is left.
func TestHubChart(t *testing.T) {
	require.NoError(t, env.cluster.LoadImage(t.Context(), filepath.Join(env.repo, hubArchive)))
	before := everything(t)
	h := newChartedHub(t)
	h.install(t)
	h.createKey(t)
	s := join(t, h.hub, "charted", "bud-charted")
	t.Cleanup(func() {
		if t.Failed() {
			h.explain(t)
			s.explain(t)
		}
		s.leave(t)
	})
	proved(t, "an agent joined a hub of two replicas in %s, through its Service, with the command that the hub printed", s.joinTime.Round(10*time.Millisecond))

	t.Run("secrets", h.secretsStay)
	t.Run("release", func(t *testing.T) {
		a := newApp(t, s, "charted-app")
		r := a.apply(t, values{"greeting": "hi"})
		a.settle(t, r.Generation, hubapi.PhaseReady)
		proved(t, "a release was installed through a hub in Kubernetes")
	})
	t.Run("upgrade", func(t *testing.T) { h.upgrade(t, s) })
	t.Run("replica-killed", func(t *testing.T) { h.killReplica(t, s) })
	t.Run("unknown-setting", h.refuseUnknownSetting)
	t.Run("again", func(t *testing.T) { h.comeBack(t, s) })

	s.leave(t)
	h.uninstall(t)
	await(t, time.Minute, "the hub's pods to be gone, and nothing but the key to be left", func(context.Context) error {
		if left := h.left(t); !slices.Equal(left, []string{"secrets/" + hubRelease + "-encryption-key"}) {
			return fmt.Errorf("there is %s", strings.Join(left, ", "))
		}
		return nil
	})
	h.clear(t)
	await(t, time.Minute, "everything to be as before", func(context.Context) error {
		// The agent's definition stays for other agents; it is removed by hand.
		agents := []string{"/customresourcedefinitions/releases.budcluster.io", "/apiservices/v1alpha1.budcluster.io"}
		if left := slices.DeleteFunc(everything(t), func(name string) bool { return slices.Contains(append(agents, before...), name) }); len(left) > 0 {
			return fmt.Errorf("there is still %s", strings.Join(left, ", "))
		}
		return nil
	})
	proved(t, "helm uninstall leaves the encryption key's Secret and nothing else; with it the whole cluster is as before")
}

func newChartedHub(t *testing.T) *chartedHub {
	t.Helper()
	h := &chartedHub{hub: &hub{world: env, dir: t.TempDir()}, database: newPostgres(t)}
	t.Cleanup(func() { h.clear(t) })
	h.kubectl(t, "create", "namespace", hubSpace)
	kube := env.cluster.Kube().CoreV1().Secrets(hubSpace)
	for name, data := range map[string]map[string]string{
		"hub-database": {"uri": h.database.url("/var/run/secrets/budcluster/database-ca/ca.crt")},
		"hub-ca":       {"ca.crt": string(h.database.ca)},
	} {
		_, err := kube.Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}, StringData: data}, metav1.CreateOptions{})
		require.NoError(t, err)
	}
	return h
}

func (h *chartedHub) kubectl(t *testing.T, args ...string) string {
	t.Helper()
	out, err := env.cluster.Kubectl(t.Context(), args...).CombinedOutput()
	require.NoError(t, err, "kubectl %s\n%s", strings.Join(args, " "), out)
	return string(out)
}

func (h *chartedHub) helm(t *testing.T, args ...string) string {
	t.Helper()
	out, err := env.cluster.Helm(t.Context(), append(args, "--namespace", hubSpace)...).CombinedOutput()
	require.NoError(t, err, "helm %s\n%s", strings.Join(args, " "), out)
	return string(out)
}

// chart is what is installed: the folder, with the values of this cluster.
func (h *chartedHub) chart() []string {
	return []string{
		hubRelease, filepath.Join(env.repo, "charts/budcluster-hub"), "--wait", "--timeout", "5m",
		"--set", "database.existingSecret.name=hub-database", "--set", "database.caSecret.name=hub-ca",
		"--set", "networkPolicy.databasePorts={" + h.database.port + "}",
		// No load balancer is in this cluster: agents in it use the Service, and this test a port of the nodes.
		"--set", "tunnel.address=" + hubRelease + "-tunnel." + hubSpace + ".svc.cluster.local:8443", "--set", "tunnel.service.type=ClusterIP",
		"--set", "api.service.type=NodePort", "--set", "image.pullPolicy=Never", "--set", "config.log.level=debug",
	}
}

func (h *chartedHub) install(t *testing.T) {
	t.Helper()
	started := time.Now()
	t.Logf("helm install says:\n%s", h.helm(t, append([]string{"install"}, h.chart()...)...))
	measured(t, "helm install --wait of a hub of two replicas, with its database's schema: %s", time.Since(started).Round(100*time.Millisecond))
	require.Len(t, h.pods(t), 2)
	nodes := map[string]bool{}
	for _, pod := range h.pods(t) {
		nodes[pod.Spec.NodeName] = true
	}
	require.Len(t, nodes, 2, "the replicas are on different nodes")
	require.Contains(t, h.helm(t, "test", hubRelease, "--timeout", "2m"), "Phase:          Succeeded")
	proved(t, "helm test of the hub's chart passes: ready, and the tunnel's certificate is for the address that agents dial")
	service, err := env.cluster.Kube().CoreV1().Services(hubSpace).Get(t.Context(), hubRelease, metav1.GetOptions{})
	require.NoError(t, err)
	node, err := env.cluster.Kube().CoreV1().Nodes().Get(t.Context(), env.cluster.Nodes()[0], metav1.GetOptions{})
	require.NoError(t, err)
	h.api = fmt.Sprintf("%s:%d", node.Status.Addresses[0].Address, service.Spec.Ports[0].NodePort)
}

// createKey does what the chart's notes say.
func (h *chartedHub) createKey(t *testing.T) {
	t.Helper()
	out, err := env.cluster.Kubectl(t.Context(), "--namespace", hubSpace, "exec", "deployment/"+hubRelease, "--", "/usr/local/bin/budcluster-hub",
		"admin", "create-key", "--config", "/etc/budcluster/hub.yaml", "--name", "e2e", "--role", "admin").Output()
	require.NoError(t, err)
	h.key = strings.TrimSpace(string(out))
	h.client, err = hubapi.New("http://"+h.api, h.key, hubapi.Options{PollInterval: time.Second, RetryBase: 50 * time.Millisecond})
	require.NoError(t, err)
}

func (h *chartedHub) pods(t *testing.T) []corev1.Pod {
	t.Helper()
	pods, err := env.cluster.Kube().CoreV1().Pods(hubSpace).List(t.Context(), metav1.ListOptions{LabelSelector: "app.kubernetes.io/component=hub"})
	require.NoError(t, err)
	return slices.DeleteFunc(pods.Items, func(p corev1.Pod) bool { return p.DeletionTimestamp != nil })
}

// secretsStay looks for the database's password and the encryption key where
// they must not be.
func (h *chartedHub) secretsStay(t *testing.T) {
	key := h.encryptionKey(t)
	places := map[string]string{
		"ConfigMaps and pods": h.kubectl(t, "get", "configmaps,pods,deployments,events", "--namespace", hubSpace, "-o", "yaml"),
		"logs":                h.kubectl(t, "logs", "--namespace", hubSpace, "-l", "app.kubernetes.io/component=hub", "--tail=-1", "--prefix"),
		"Helm's notes":        h.helm(t, "get", "notes", hubRelease),
		"Helm's values":       h.helm(t, "get", "values", hubRelease, "--all"),
		"process arguments":   commandLines(t),
	}
	var keyset struct {
		Key []struct {
			KeyData struct{ Value string }
		}
	}
	require.NoError(t, json.Unmarshal([]byte(key), &keyset))
	for name, content := range places {
		require.NotEmpty(t, content, name)
		require.NotContains(t, content, h.database.password, name)
		require.NotContains(t, content, keyset.Key[0].KeyData.Value, name)
	}
	require.Contains(t, places["logs"], "hub listens")
	for _, pod := range h.pods(t) {
		for _, volume := range pod.Spec.Volumes {
			require.Nil(t, volume.Projected, "the hub has no token for its cluster's API server")
		}
	}
	proved(t, "the database's password and the encryption key are in no ConfigMap, pod, event, log, note, value or process argument")
}

func (h *chartedHub) encryptionKey(t *testing.T) string {
	t.Helper()
	s, err := env.cluster.Kube().CoreV1().Secrets(hubSpace).Get(t.Context(), hubRelease+"-encryption-key", metav1.GetOptions{})
	require.NoError(t, err)
	return string(s.Data["kek.json"])
}

// upgrade replaces both replicas, asking all the time.
func (h *chartedHub) upgrade(t *testing.T, s *site) {
	agentBefore, err := s.agentPod(t.Context())
	require.NoError(t, err)
	key, old := h.encryptionKey(t), s.cluster(t).Session.Replica
	w := h.watch(t, s)
	started := time.Now()
	h.helm(t, append(append([]string{"upgrade"}, h.chart()...), "--set", "config.log.level=info")...)
	rolled := time.Since(started)
	await(t, time.Minute, "the agent to be at a new replica, and the old ones to be gone", func(ctx context.Context) error {
		c, err := h.client.Cluster(ctx, s.name)
		if err != nil {
			return err
		}
		all, err := env.cluster.Kube().CoreV1().Pods(hubSpace).List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/component=hub"})
		if err != nil {
			return err
		}
		if c.Session == nil || c.Session.Replica == old || len(all.Items) != 2 {
			return fmt.Errorf("the session is %+v, and there are %d pods", c.Session, len(all.Items))
		}
		return nil
	})
	w.end()
	agentAfter, err := s.agentPod(t.Context())
	require.NoError(t, err)
	require.Equal(t, agentBefore.UID, agentAfter.UID)
	require.Equal(t, agentBefore.Status.ContainerStatuses[0].RestartCount, agentAfter.Status.ContainerStatuses[0].RestartCount)
	require.Equal(t, key, h.encryptionKey(t), "an upgrade finds the key that is there")
	measured(t, "helm upgrade --wait of a hub of two replicas: %s; the cluster without a session for %s at most (bar: %s), %d of %d requests to the API failed",
		rolled.Round(100*time.Millisecond), w.blind.Round(10*time.Millisecond), blindBar, len(w.failed), w.asked)
	require.Empty(t, w.failed, "requests that were not answered")
	require.LessOrEqual(t, w.blind, blindBar)
	proved(t, "both replicas were replaced: the API answered all the time, the agent did not restart and was away for less than %s", blindBar)
}

// killReplica takes the replica that holds the agent's session, without a word
// to it: the other one takes over.
func (h *chartedHub) killReplica(t *testing.T, s *site) {
	old := s.cluster(t).Session.Replica
	started := time.Now()
	h.kubectl(t, "delete", "pod", old, "--namespace", hubSpace, "--grace-period=0", "--force")
	await(t, time.Minute, "the agent to be at the other replica", func(ctx context.Context) error {
		c, err := h.client.Cluster(ctx, s.name)
		if err != nil {
			return err
		}
		if c.State != hubapi.ClusterConnected || c.Session == nil || c.Session.Replica == old {
			return fmt.Errorf("it is %s, the session %+v", c.State, c.Session)
		}
		return nil
	})
	measured(t, "the agent's replica killed: at another one after %s", time.Since(started).Round(10*time.Millisecond))
	h.kubectl(t, "rollout", "status", "deployment/"+hubRelease, "--namespace", hubSpace, "--timeout=2m")
	proved(t, "a replica that is killed loses no agent")
}

// watcher asks the API for the cluster all the time.
type watcher struct {
	cancel context.CancelFunc
	done   sync.WaitGroup

	asked  int
	failed []string
	blind  time.Duration // longest time without a session
}

func (h *chartedHub) watch(t *testing.T, s *site) *watcher {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	w := &watcher{cancel: cancel}
	// A connection for each question: it may go to any replica, also to one that is about to go.
	transport := &http.Transport{DisableKeepAlives: true}
	client, err := hubapi.New("http://"+h.api, h.key, hubapi.Options{HTTPClient: &http.Client{Transport: transport}})
	require.NoError(t, err)
	w.done.Go(func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		var since time.Time
		for {
			select {
			case <-ctx.Done():
				return
			case now := <-tick.C:
				c, err := client.Cluster(ctx, s.name)
				if ctx.Err() != nil {
					return
				}
				w.asked++
				switch {
				case err != nil:
					w.failed = append(w.failed, err.Error())
				case c.Session != nil:
					since = time.Time{}
				case since.IsZero():
					since = now
				default:
					w.blind = max(w.blind, now.Sub(since))
				}
			}
		}
	})
	return w
}

func (w *watcher) end() {
	w.cancel()
	w.done.Wait()
}

// refuseUnknownSetting: a mistyped setting keeps the new replica from starting,
// and the old ones go on.
func (h *chartedHub) refuseUnknownSetting(t *testing.T) {
	old := h.pods(t)
	h.helm(t, append(append([]string{"upgrade"}, slices.DeleteFunc(h.chart(), func(arg string) bool { return arg == "--wait" })...),
		"--set", "config.sesion.lease=1m")...)
	await(t, time.Minute, "the new replica to say what is wrong", func(ctx context.Context) error {
		for _, pod := range h.pods(t) {
			if slices.ContainsFunc(old, func(o corev1.Pod) bool { return o.UID == pod.UID }) {
				continue
			}
			out, err := env.cluster.Kubectl(ctx, "logs", "--namespace", hubSpace, pod.Name).CombinedOutput()
			if err == nil && regexp.MustCompile(`sesion`).Match(out) {
				proved(t, "a setting that the hub does not know: %s", strings.TrimSpace(string(out)))
				return nil
			}
		}
		return fmt.Errorf("no replica says so")
	})
	ready := 0
	for _, pod := range h.pods(t) {
		if slices.ContainsFunc(old, func(o corev1.Pod) bool { return o.UID == pod.UID }) {
			ready++
		}
	}
	require.Equal(t, 2, ready, "the old replicas go on")
	h.helm(t, "rollback", hubRelease, "--wait", "--timeout", "5m")
}

// comeBack removes the hub and installs it anew: with the database and the
// kept key it is the same hub, and the agent returns without a token.
func (h *chartedHub) comeBack(t *testing.T, s *site) {
	key := h.encryptionKey(t)
	h.uninstall(t)
	require.Equal(t, key, h.encryptionKey(t), "the key is kept")
	started := time.Now()
	h.helm(t, append([]string{"install"}, h.chart()...)...)
	require.Equal(t, key, h.encryptionKey(t), "and found again")
	service, err := env.cluster.Kube().CoreV1().Services(hubSpace).Get(t.Context(), hubRelease, metav1.GetOptions{})
	require.NoError(t, err)
	host, _, _ := strings.Cut(h.api, ":")
	h.api = fmt.Sprintf("%s:%d", host, service.Spec.Ports[0].NodePort)
	h.client, err = hubapi.New("http://"+h.api, h.key, hubapi.Options{PollInterval: time.Second, RetryBase: 50 * time.Millisecond})
	require.NoError(t, err)
	var replicas []string
	for _, pod := range h.pods(t) {
		replicas = append(replicas, pod.Name)
	}
	await(t, 2*time.Minute, "the agent to be back", func(ctx context.Context) error {
		c, err := h.client.Cluster(ctx, s.name)
		if err != nil {
			return err
		}
		if c.State != hubapi.ClusterConnected || c.Session == nil || !slices.Contains(replicas, c.Session.Replica) {
			return fmt.Errorf("it is %s, the session %+v, the replicas %v", c.State, c.Session, replicas)
		}
		measured(t, "a hub that was uninstalled and installed again: its agent connected %s after the install began",
			c.Session.ConnectedAt.Sub(started).Round(100*time.Millisecond))
		return nil
	})
	proved(t, "a hub that was uninstalled and installed again is the same hub: API key, CA and agent are valid")
}

func (h *chartedHub) uninstall(t *testing.T) {
	t.Helper()
	h.helm(t, "uninstall", hubRelease, "--wait", "--timeout", "3m")
}

// left is what is in the hub's namespace but for what Kubernetes and this test
// put there.
func (h *chartedHub) left(t *testing.T) []string {
	t.Helper()
	var left []string
	for _, name := range everything(t) {
		if rest, ours := strings.CutPrefix(name, hubSpace+"/"); ours && !slices.Contains([]string{
			"secrets/hub-database", "secrets/hub-ca", "serviceaccounts/default", "configmaps/kube-root-ca.crt",
		}, rest) {
			left = append(left, rest)
		}
	}
	return left
}

// clear removes the namespace, whatever is in it.
func (h *chartedHub) clear(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 2*time.Minute)
	defer cancel()
	err := env.cluster.Kube().CoreV1().Namespaces().Delete(ctx, hubSpace, metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		t.Errorf("delete namespace %s: %v", hubSpace, err)
	}
}

func (h *chartedHub) explain(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 20*time.Second)
	defer cancel()
	for _, args := range [][]string{
		{"get", "all", "-n", hubSpace, "-o", "wide"},
		{"get", "events", "-n", hubSpace},
		{"logs", "-n", hubSpace, "-l", "app.kubernetes.io/component=hub", "--tail=60", "--prefix"},
	} {
		out, _ := env.cluster.Kubectl(ctx, args...).CombinedOutput()
		t.Logf("kubectl %s\n%s", strings.Join(args, " "), out)
	}
}

// everything is each object of the cluster, as namespace/resource/name, but
// for those that come and go by themselves.
func everything(t *testing.T) []string {
	t.Helper()
	_, resources, err := env.cluster.Kube().Discovery().ServerGroupsAndResources()
	require.NoError(t, err)
	var all []string
	for _, list := range resources {
		for _, r := range list.APIResources {
			if !slices.Contains(r.Verbs, "list") || !slices.Contains(r.Verbs, "delete") ||
				slices.Contains([]string{"events", "leases", "endpoints", "endpointslices"}, r.Name) {
				continue
			}
			found, err := env.cluster.Dynamic().Resource(gvr(list.GroupVersion, r.Name)).List(t.Context(), metav1.ListOptions{})
			require.NoError(t, err, "%s %s", list.GroupVersion, r.Name)
			for _, o := range found.Items {
				all = append(all, o.GetNamespace()+"/"+r.Name+"/"+o.GetName())
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func gvr(groupVersion, resource string) schema.GroupVersionResource {
	group, version, both := strings.Cut(groupVersion, "/")
	if !both {
		group, version = "", groupVersion
	}
	return schema.GroupVersionResource{Group: group, Version: version, Resource: resource}
}
