//go:build e2e

package suite_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/budecosystem/budcluster/agent/api/v1alpha1"
	"github.com/budecosystem/budcluster/hub/hubapi"
)

// agentRelease is what the printed command calls the agent's Helm release.
const agentRelease = "budcluster-agent"

// site is a hub with one joined cluster.
type site struct {
	hub       *hub
	name      string // of the cluster, at the hub
	namespace string // of the agent
	command   string // as the hub printed it
	token     string
	joinTime  time.Duration
}

// shared returns the hub and agent that tests share, joining them first when
// this is the first test to ask.
func shared(t *testing.T) *site {
	t.Helper()
	if env.common == nil {
		if env.unjoined {
			t.Fatal("the shared cluster could not be joined: see the first test that failed")
		}
		env.unjoined = true
		h, err := env.newHub(t.Context(), "shared")
		require.NoError(t, err)
		s := join(t, h, "shared", "budcluster-system")
		// What is compared every minute by default is compared every few seconds here.
		s.upgradeAgent(t, "--set", "drift.interval=3s")
		env.common, env.unjoined = s, false
	}
	t.Cleanup(func() {
		if t.Failed() {
			env.common.explain(t)
		}
	})
	return env.common
}

// own gives the test a hub and an agent of its own, which end with it.
func own(t *testing.T, hubFlags ...string) *site {
	t.Helper()
	h := newHub(t, hubFlags...)
	name := strings.ToLower(regexp.MustCompile(`[^a-zA-Z0-9]+`).ReplaceAllString(strings.TrimPrefix(t.Name(), "Test"), "-"))
	s := join(t, h, name, "bud-"+name)
	t.Cleanup(func() {
		if t.Failed() {
			s.explain(t)
		}
		s.leave(t)
	})
	return s
}

// join creates a cluster through the command line, runs the very command that
// it prints, and waits until the hub hears from the agent.
func join(t *testing.T, h *hub, name, namespace string) *site {
	t.Helper()
	s := &site{hub: h, name: name, namespace: namespace}
	out := h.cli(t, "cluster", "create", name)
	s.command = printedCommand(t, out)
	s.token = regexp.MustCompile(`bud1\.[^\s'"]+`).FindString(s.command)
	require.NotEmpty(t, s.token, "no token in: %s", s.command)
	started := time.Now()
	s.install(t, s.command)
	s.awaitState(t, hubapi.ClusterConnected, 90*time.Second)
	s.joinTime = time.Since(started)
	return s
}

// printedCommand finds the one command in what the command line said.
func printedCommand(t *testing.T, out string) string {
	t.Helper()
	joined := strings.ReplaceAll(out, "\\\n", " ")
	for line := range strings.Lines(joined) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "helm install ") {
			return line
		}
	}
	t.Fatalf("no helm install command in:\n%s", out)
	return ""
}

// install runs a printed command in a shell, as a person would. Sites beside
// the shared one get a namespace of their own, since a cluster has one agent.
func (s *site) install(t *testing.T, command string) {
	t.Helper()
	command = strings.Replace(command, "--namespace budcluster-system", "--namespace "+s.namespace, 1)
	out, err := shell(t, command)
	require.NoError(t, err, "%s\n%s", command, out)
}

// shell runs a command line with helm and kubectl in reach of the cluster.
func shell(t *testing.T, line string) (string, error) {
	t.Helper()
	bin := filepath.Join(env.dir, "path")
	require.NoError(t, os.MkdirAll(bin, 0o755))
	for name, program := range map[string]string{"helm": "helm", "kubectl": "kube"} {
		if err := os.Symlink(env.bin.Path(program), filepath.Join(bin, name)); !errors.Is(err, os.ErrExist) {
			require.NoError(t, err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "sh", "-c", line)
	home := filepath.Join(env.dir, "helm")
	cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "KUBECONFIG="+env.cluster.Kubeconfig(),
		"HELM_CACHE_HOME="+home, "HELM_CONFIG_HOME="+home, "HELM_DATA_HOME="+home)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// upgradeAgent changes values of the agent's chart, and waits until the new
// agent is connected.
func (s *site) upgradeAgent(t *testing.T, flags ...string) {
	t.Helper()
	before := s.cluster(t).Session
	chart := regexp.MustCompile(`https?://\S+\.tgz`).FindString(s.command)
	out, err := shell(t, fmt.Sprintf("helm upgrade %s %s --namespace %s --reuse-values %s", agentRelease, chart, s.namespace, strings.Join(flags, " ")))
	require.NoError(t, err, out)
	await(t, 90*time.Second, "the upgraded agent to connect", func(ctx context.Context) error {
		now, err := s.hub.client.Cluster(ctx, s.name)
		if err != nil {
			return err
		}
		if now.Session == nil || before != nil && now.Session.Instance == before.Instance {
			return fmt.Errorf("the session is %+v", now.Session)
		}
		return nil
	})
}

// leave removes the agent and all that it left.
func (s *site) leave(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 2*time.Minute)
	defer cancel()
	if out, err := env.cluster.Helm(ctx, "uninstall", agentRelease, "--namespace", s.namespace, "--ignore-not-found").CombinedOutput(); err != nil {
		t.Errorf("uninstall the agent: %v\n%s", err, out)
	}
	err := env.cluster.Kube().CoreV1().Namespaces().Delete(ctx, s.namespace, metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		t.Errorf("delete namespace %s: %v", s.namespace, err)
	}
}

// cluster is the hub's view.
func (s *site) cluster(t *testing.T) hubapi.Cluster {
	t.Helper()
	c, err := s.hub.client.Cluster(t.Context(), s.name)
	require.NoError(t, err)
	return c
}

func (s *site) awaitState(t *testing.T, state hubapi.ClusterState, atMost time.Duration) hubapi.Cluster {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), atMost)
	defer cancel()
	c, err := s.hub.client.WaitCluster(ctx, s.name, func(c hubapi.Cluster) bool { return c.State == state })
	if err != nil {
		s.explain(t)
		t.Fatalf("cluster %s is %s, not %s, after %s: %v", s.name, c.State, state, atMost, err)
	}
	return c
}

// explain logs what helps to understand a failure.
func (s *site) explain(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 20*time.Second)
	defer cancel()
	for _, args := range [][]string{
		{"get", "pods", "-A", "-o", "wide"},
		{"get", "releases.budcluster.io", "-A"},
		{"logs", "-n", s.namespace, "-l", "app.kubernetes.io/component=agent", "--tail=60", "--prefix"},
		{"get", "events", "-n", s.namespace},
	} {
		out, _ := env.cluster.Kubectl(ctx, args...).CombinedOutput()
		t.Logf("kubectl %s\n%s", strings.Join(args, " "), out)
	}
	t.Logf("the end of the hub's log:\n%s", lastLines(s.hub.log, 30))
}

// agentPod is the agent's running pod.
func (s *site) agentPod(ctx context.Context) (*corev1.Pod, error) {
	pods, err := env.cluster.Kube().CoreV1().Pods(s.namespace).List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/component=agent"})
	if err != nil {
		return nil, err
	}
	for _, pod := range pods.Items {
		if pod.Status.Phase == corev1.PodRunning && pod.DeletionTimestamp == nil {
			return &pod, nil
		}
	}
	return nil, fmt.Errorf("no agent runs in %s", s.namespace)
}

// agentProcess finds the agent's process on this machine: nodes share its
// kernel, so a pod's process can be found by its control group.
func (s *site) agentProcess(ctx context.Context) (int, error) {
	pod, err := s.agentPod(ctx)
	if err != nil {
		return 0, err
	}
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return 0, err
	}
	for _, dir := range dirs {
		groups, err := os.ReadFile(filepath.Join(dir, "cgroup"))
		if err != nil || !strings.Contains(string(groups), string(pod.UID)) {
			continue
		}
		if line, err := os.ReadFile(filepath.Join(dir, "cmdline")); err == nil && strings.Contains(string(line), "budcluster-agent") {
			return strconv.Atoi(filepath.Base(dir))
		}
	}
	return 0, fmt.Errorf("no process of pod %s", pod.Name)
}

// killAgent ends the agent's process as a crash would (SIGKILL).
func (s *site) killAgent(t *testing.T) {
	t.Helper()
	pid, err := s.agentProcess(t.Context())
	require.NoError(t, err)
	require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
}

// restartAgent deletes the agent's pod; another takes over.
func (s *site) restartAgent(t *testing.T) {
	t.Helper()
	pod, err := s.agentPod(t.Context())
	require.NoError(t, err)
	require.NoError(t, env.cluster.Kube().CoreV1().Pods(s.namespace).Delete(t.Context(), pod.Name, metav1.DeleteOptions{}))
}

// agentLog is everything that the site's agents have logged.
func (s *site) agentLog(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	for _, previous := range []string{"--previous=false", "--previous=true"} {
		out, _ := env.cluster.Kubectl(t.Context(), "logs", "-n", s.namespace, "-l", "app.kubernetes.io/component=agent", "--tail=-1", previous).Output()
		all.Write(out)
	}
	return all.String()
}

// resource is the custom resource of a release.
func (s *site) resource(ctx context.Context, name string) (*unstructured.Unstructured, error) {
	return env.cluster.Dynamic().Resource(v1alpha1.GroupVersionResource()).Namespace(s.namespace).Get(ctx, name, metav1.GetOptions{})
}

// cli runs the real command line against the hub and returns what it said.
func (h *hub) cli(t *testing.T, args ...string) string {
	t.Helper()
	out, err := h.cliError(t, args...)
	require.NoError(t, err, "budcluster %s\n%s", strings.Join(args, " "), out)
	return out
}

func (h *hub) cliError(t *testing.T, args ...string) (string, error) {
	t.Helper()
	cmd := h.world.command(t.Context(), "budcluster", args...)
	cmd.Env = append(cmd.Env, "BUDCLUSTER_URL=http://"+h.api, "BUDCLUSTER_KEY="+h.key, "XDG_CONFIG_HOME="+h.dir)
	out, err := cmd.CombinedOutput()
	return string(out), err
}
