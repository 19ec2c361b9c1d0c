//go:build e2e

package suite_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/budecosystem/budcluster/deploy/e2e/cluster"
	"github.com/budecosystem/budcluster/hub/hubapi"
)

// returnBar is how long an agent may take to be back after one that does not
// reach the hub: the minute that this one has, and the time of both starts.
const returnBar = 100 * time.Second

// TestAgentReplacesItself has agents replaced by the command line: by one of
// another version, by one that starts and does not reach the hub, and by one
// whose image nobody has. From the latter two the old one comes back by itself;
// what runs in the cluster never notices.
func TestAgentReplacesItself(t *testing.T) {
	next := nextAgent(t)
	t.Run("both", func(t *testing.T) {
		// A failure takes a minute by the product's own rule, so both are waited for at
		// once, each in a site of its own.
		t.Run("cannot-connect", func(t *testing.T) {
			t.Parallel()
			r := newReplacing(t)
			r.becomes(t, next)
			r.comesBack(t, agentChart(t, next, func(template string) string {
				return regexp.MustCompile(`(?s)\{\{- range \.Values\.hub\.addresses \}\}.*?\{\{- end \}\}`).ReplaceAllString(template, `- "192.0.2.1:8443"`)
			}), next, "NotConnected", "did not reach the hub within 1m0s")
		})
		t.Run("no-image", func(t *testing.T) {
			t.Parallel()
			r := newReplacing(t)
			r.comesBack(t, agentChart(t, "0.9.9", nil), "", "NotConnected", "budcluster-agent:0.9.9")
			r.becomes(t, next)
		})
	})
}

// nextAgent builds the agent under another version and brings its image into
// the cluster.
func nextAgent(t *testing.T) (version string) {
	t.Helper()
	started := time.Now()
	out, err := exec.CommandContext(t.Context(), "make", "-C", env.repo, "--no-print-directory", "next-agent").CombinedOutput()
	require.NoError(t, err, "%s", out)
	binary := filepath.Join(env.repo, "dist/next/budcluster-agent")
	text, err := exec.CommandContext(t.Context(), binary, "version").CombinedOutput()
	require.NoError(t, err, "%s", text)
	version = regexp.MustCompile(`\d+\.\d+\.\d+-next`).FindString(string(text))
	require.NotEmpty(t, version, "%s", text)
	archive := filepath.Join(t.TempDir(), "next.tar")
	require.NoError(t, cluster.WriteImage(archive, "ghcr.io/budecosystem/budcluster-agent:"+version, binary, false))
	require.NoError(t, env.cluster.LoadImage(t.Context(), archive))
	t.Logf("agent %s built and loaded in %s", version, time.Since(started).Round(100*time.Millisecond))
	return version
}

// agentChart is the agent's chart under a version, with its configuration's
// template changed, packed by Helm.
func agentChart(t *testing.T, version string, change func(template string) string) []byte {
	t.Helper()
	dir, packed := filepath.Join(t.TempDir(), "budcluster-agent"), t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS(filepath.Join(env.repo, "charts/budcluster-agent"))))
	if change != nil {
		file := filepath.Join(dir, "templates/configmap.yaml")
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		changed := change(string(text))
		require.NotEqual(t, string(text), changed)
		require.NoError(t, os.WriteFile(file, []byte(changed), 0o644))
	}
	out, err := env.cluster.Helm(t.Context(), "package", dir, "--version", version, "--app-version", version, "--destination", packed).CombinedOutput()
	require.NoError(t, err, "%s", out)
	tgz, err := os.ReadFile(filepath.Join(packed, "budcluster-agent-"+version+".tgz"))
	require.NoError(t, err)
	return tgz
}

// replacing is a site in which something runs that must not notice.
type replacing struct {
	*site

	app      *app
	revision string
	pods     map[string]int32
}

func newReplacing(t *testing.T) *replacing {
	t.Helper()
	r := &replacing{site: own(t)}
	r.app = newApp(t, r.site, strings.Replace(r.namespace, "bud-", "app-", 1))
	applied := r.app.apply(t, values{"greeting": "hi"})
	r.app.settle(t, applied.Generation, hubapi.PhaseReady)
	r.revision, r.pods = r.helmHistory(t), r.running(t)
	require.NotEmpty(t, r.pods)
	return r
}

func (r *replacing) helmHistory(t *testing.T) string {
	t.Helper()
	out, err := env.cluster.Helm(t.Context(), "history", r.app.name, "--namespace", r.app.name, "-o", "json").Output()
	require.NoError(t, err)
	return string(out)
}

// running are the release's pods by their UIDs, with the restarts of each.
func (r *replacing) running(t *testing.T) map[string]int32 {
	t.Helper()
	pods, err := env.cluster.Kube().CoreV1().Pods(r.app.name).List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	found := map[string]int32{}
	for _, pod := range pods.Items {
		found[string(pod.UID)] = 0
		for _, c := range pod.Status.ContainerStatuses {
			found[string(pod.UID)] += c.RestartCount
		}
	}
	return found
}

// undisturbed: the release is as it was, for Helm, for the kubelet and for the hub.
func (r *replacing) undisturbed(t *testing.T) {
	t.Helper()
	require.Equal(t, r.revision, r.helmHistory(t), "no revision was made")
	require.Equal(t, r.pods, r.running(t), "no pod was replaced or restarted")
	release, err := r.hub.client.Release(t.Context(), r.name, r.app.name)
	require.NoError(t, err)
	require.Equal(t, hubapi.PhaseReady, release.Status.Phase, release.Status.Message)
}

// upgrade asks for a chart by the command line and waits for the workflow.
func (r *replacing) upgrade(t *testing.T, tgz []byte) (w hubapi.Workflow, out string, took time.Duration) {
	t.Helper()
	digest, started := pushChart(t, r.hub, tgz), time.Now()
	out, err := r.hub.cliError(t, "cluster", "upgrade-agent", r.name, "--digest", digest, "--watch")
	took = time.Since(started)
	t.Logf("$ budcluster cluster upgrade-agent %s --digest … --watch\n%s", r.name, out)
	runs, errList := r.hub.client.Workflows(t.Context(), hubapi.WorkflowQuery{Cluster: r.name, Kind: "upgrade_agent"})
	require.NoError(t, errList)
	require.NotEmpty(t, runs.Items, out)
	w = runs.Items[0] // the newest
	require.Equal(t, w.Status == hubapi.WorkflowCompleted, err == nil, "the command line's status is the workflow's: %s", w.Status)
	return w, out, took
}

// becomes: the agent is replaced by one of the version.
func (r *replacing) becomes(t *testing.T, version string) {
	t.Helper()
	w, _, took := r.upgrade(t, agentChart(t, version, nil))
	require.Equal(t, hubapi.WorkflowCompleted, w.Status, "%s: %s", w.Reason, w.Message)
	c := r.awaitState(t, hubapi.ClusterConnected, 30*time.Second)
	require.Equal(t, version, c.AgentVersion)
	r.oneAgent(t, version)
	r.undisturbed(t)
	measured(t, "an agent replaced itself by another version: %s", took.Round(100*time.Millisecond))
	proved(t, "`budcluster cluster upgrade-agent` made the agent be %s, and no release noticed", version)
}

// comesBack: the agent that is there returns after one that does not connect.
// Its version is the hub's own where none is named.
func (r *replacing) comesBack(t *testing.T, tgz []byte, version, reason, says string) {
	t.Helper()
	before := r.cluster(t)
	if version == "" {
		version = before.AgentVersion
	}
	w, out, took := r.upgrade(t, tgz)
	require.Equal(t, hubapi.WorkflowFailed, w.Status)
	require.Equal(t, reason, w.Reason)
	for where, text := range map[string]string{"workflow": w.Message, "command line": unwrapped(out)} {
		require.Contains(t, text, says, where)
		require.Contains(t, text, "returned to agent "+version, where)
	}
	require.Less(t, took, returnBar)
	c := r.awaitState(t, hubapi.ClusterConnected, 30*time.Second)
	require.Equal(t, version, c.AgentVersion)
	r.oneAgent(t, version)
	r.undisturbed(t)
	measured(t, "an agent was back after one that did not connect: %s", took.Round(100*time.Millisecond))
	proved(t, "the old agent came back by itself: %s", w.Message)
}

// oneAgent waits until the agents that were meant to go are gone.
func (r *replacing) oneAgent(t *testing.T, version string) {
	t.Helper()
	await(t, time.Minute, "one agent to be left", func(ctx context.Context) error {
		pods, err := env.cluster.Kube().CoreV1().Pods(r.namespace).List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/component=agent"})
		if err != nil {
			return err
		}
		if len(pods.Items) != 1 {
			return fmt.Errorf("%d pods", len(pods.Items))
		}
		if image := pods.Items[0].Spec.Containers[0].Image; !strings.HasSuffix(image, ":"+version) {
			return fmt.Errorf("it is %s", image)
		}
		return nil
	})
}

// unwrapped is a display without its line breaks and indents.
func unwrapped(text string) string { return strings.Join(strings.Fields(text), " ") }
