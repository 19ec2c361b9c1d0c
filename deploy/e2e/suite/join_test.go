//go:build e2e

package suite_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/budecosystem/budcluster/hub/hubapi"
)

// The promises of the product.
const (
	agentRSSBar    = 45 << 20
	agentBinaryBar = 60_000_000
	agentImageBar  = 25_000_000
	latencyBar     = time.Second
	revokeBar      = 5 * time.Second
)

func TestJoin(t *testing.T) {
	s := shared(t)
	require.Contains(t, s.command, "helm install budcluster-agent http://"+s.hub.api+"/charts/budcluster-agent-")
	c := s.cluster(t)
	require.Equal(t, hubapi.ClusterConnected, c.State)
	require.NotNil(t, c.JoinedAt)
	require.NotNil(t, c.Session)
	system, err := env.cluster.Kube().CoreV1().Namespaces().Get(t.Context(), "kube-system", metav1.GetOptions{})
	require.NoError(t, err)
	require.Equal(t, string(system.UID), c.UID)
	proved(t, "the command that `budcluster cluster create` printed, run unchanged, made the cluster Connected in %s", s.joinTime.Round(10*time.Millisecond))
	measured(t, "helm install to Connected: %s", s.joinTime.Round(10*time.Millisecond))

	await(t, 20*time.Second, "the cluster's facts", func(ctx context.Context) error {
		c, err := s.hub.client.Cluster(ctx, s.name)
		if err != nil {
			return err
		}
		if c.Facts == nil || c.Facts.Version == "" || c.ReadyNodes != 2 {
			return fmt.Errorf("facts %+v, %d of %d nodes ready", c.Facts, c.ReadyNodes, c.Nodes)
		}
		return nil
	})
	c = s.cluster(t)
	require.Regexp(t, `^v1\.\d+\.\d+`, c.Facts.Version)
	require.Empty(t, c.Degraded)
	proved(t, "the hub knows the cluster: Kubernetes %s, 2 of 2 nodes ready, nothing degraded", c.Facts.Version)

	for _, args := range [][]string{{"cluster", "list"}, {"cluster", "show", s.name}, {"node", "list"}, {"device", "list"}} {
		out := s.hub.cli(t, args...)
		require.Contains(t, out, s.name, "budcluster %s", strings.Join(args, " "))
		t.Logf("$ budcluster %s\n%s", strings.Join(args, " "), out)
	}
}

func TestHelmTest(t *testing.T) {
	s := shared(t)
	out, err := shell(t, "helm test --namespace "+s.namespace+" "+agentRelease+" --timeout 2m")
	require.NoError(t, err, out)
	require.Contains(t, out, "Phase:          Succeeded")
	proved(t, "helm test of the agent's chart passes")
}

func TestAgentThroughTheTunnel(t *testing.T) {
	s := shared(t)
	a, err := s.hub.client.Agent(t.Context(), s.name)
	require.NoError(t, err)
	pod, err := s.agentPod(t.Context())
	require.NoError(t, err)
	require.Equal(t, pod.Name, a.Instance)
	require.NotNil(t, a.CertificateNotAfter)
	proved(t, "the hub asked pod %s about itself through the tunnel that the pod had dialed (%.1f ms)", a.Instance, a.RoundTripMillis)
	measured(t, "question from hub to agent and back: %.1f ms", a.RoundTripMillis)
}

func TestAgentListensToNobodyOutside(t *testing.T) {
	s := shared(t)
	services, err := env.cluster.Kube().CoreV1().Services(s.namespace).List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	for _, service := range services.Items {
		require.Equal(t, "ClusterIP", string(service.Spec.Type), service.Name)
		require.Empty(t, service.Spec.ExternalIPs, service.Name)
	}
	pod, err := s.agentPod(t.Context())
	require.NoError(t, err)
	require.False(t, pod.Spec.HostNetwork)
	for _, container := range pod.Spec.Containers {
		for _, port := range container.Ports {
			require.Zero(t, port.HostPort, "%s", port.Name)
		}
	}
	proved(t, "the agent has no host port and no service that is reachable from outside of the cluster")
}

func TestAgentMemory(t *testing.T) {
	s := shared(t)
	pid, err := s.agentProcess(t.Context())
	require.NoError(t, err)
	// Idle is: connected for a while, and nothing asked of it. What its start
	// took, the Go runtime gives back within minutes; some seconds must do here.
	var samples []int64
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for range 20 {
		now, err := residentBytes(pid)
		require.NoError(t, err, "the agent's process ended: it restarted while idle")
		samples = append(samples, now)
		<-tick.C
	}
	last := slices.Max(samples[len(samples)-5:])
	asked, err := s.hub.client.Agent(t.Context(), s.name)
	require.NoError(t, err)
	t.Logf("it says of itself: %.1f MiB, %d goroutines", float64(asked.ResidentBytes)/(1<<20), asked.Goroutines)
	measured(t, "agent's resident memory, idle, 2 nodes: %.1f MiB; at most %.1f MiB since (bar: %d MiB)",
		float64(last)/(1<<20), float64(slices.Max(samples))/(1<<20), agentRSSBar>>20)
	require.LessOrEqual(t, last, int64(agentRSSBar))
	proved(t, "the idle agent stays below %d MiB", agentRSSBar>>20)
}

func residentBytes(pid int) (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	var kib int64
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	_, err = fmt.Sscan(rest, &kib)
	return kib << 10, err
}

func TestSizes(t *testing.T) {
	binary, err := os.Stat(filepath.Join(env.repo, "bin/budcluster-agent"))
	require.NoError(t, err)
	measured(t, "agent's binary: %.1f MB (bar: %d MB)", float64(binary.Size())/1e6, agentBinaryBar/1_000_000)
	require.LessOrEqual(t, binary.Size(), int64(agentBinaryBar))
	size := compressedImage(t, "budcluster-agent")
	measured(t, "agent's image, compressed: %.1f MB (bar: %d MB)", float64(size)/1e6, agentImageBar/1_000_000)
	require.LessOrEqual(t, size, int64(agentImageBar))
	proved(t, "binary and image are within their bars")
}

// compressedImage adds up what a registry would send for an image of the
// layout that make images writes.
func compressedImage(t *testing.T, name string) int64 {
	t.Helper()
	type descriptor struct {
		Digest      string            `json:"digest"`
		Size        int64             `json:"size"`
		Annotations map[string]string `json:"annotations"`
	}
	read := func(path string, into any) {
		content, err := os.ReadFile(filepath.Join(env.repo, "dist/oci", path))
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(content, into))
	}
	var index struct {
		Manifests []descriptor `json:"manifests"`
	}
	read("index.json", &index)
	for _, image := range index.Manifests {
		if !strings.Contains(fmt.Sprint(image.Annotations), name) {
			continue
		}
		var manifest struct {
			Config descriptor   `json:"config"`
			Layers []descriptor `json:"layers"`
		}
		read("blobs/"+strings.Replace(image.Digest, ":", "/", 1), &manifest)
		total := manifest.Config.Size
		for _, layer := range manifest.Layers {
			total += layer.Size
		}
		return total
	}
	t.Fatalf("no image %s in dist/oci", name)
	return 0
}

func TestTokenTwice(t *testing.T) {
	s := shared(t)
	// The same command again, into another namespace: a second agent that
	// shows the token that the first one used.
	second := &site{hub: s.hub, name: s.name, namespace: "bud-token-twice"}
	second.install(t, s.command)
	t.Cleanup(func() { second.leave(t) })
	await(t, time.Minute, "the second agent to be refused", func(ctx context.Context) error {
		return second.logSays(ctx, `(?i)token.*used`)
	})
	c := s.cluster(t)
	require.Equal(t, hubapi.ClusterConnected, c.State)
	pod, err := s.agentPod(t.Context())
	require.NoError(t, err)
	require.Equal(t, pod.Name, c.Session.Instance, "the first agent's session was not disturbed")
	proved(t, "a token that was used is refused with a sentence, and the agent that used it is not disturbed")
}

func TestSameClusterUnderASecondName(t *testing.T) {
	s := shared(t)
	other := &site{hub: s.hub, name: "second-name", namespace: "bud-second-name"}
	other.command = printedCommand(t, s.hub.cli(t, "cluster", "create", other.name))
	t.Cleanup(func() { _ = s.hub.client.DeleteCluster(context.WithoutCancel(t.Context()), other.name, true) })
	other.install(t, other.command)
	t.Cleanup(func() { other.leave(t) })
	await(t, time.Minute, "the agent to be refused, with the other name", func(ctx context.Context) error {
		return other.logSays(ctx, `"?`+regexp.QuoteMeta(s.name)+`"?`)
	})
	require.Equal(t, hubapi.ClusterPending, other.cluster(t).State)
	proved(t, "a cluster that is registered already is refused under a second name, with a sentence that names the first")
}

func TestForeignToken(t *testing.T) {
	s := shared(t)
	for name, spoil := range map[string]func(string) string{
		"wrong-pin": func(token string) string { return token[:len(token)-64] + strings.Repeat("0", 64) },
		"wrong-secret": func(token string) string {
			parts := strings.Split(token, ".")
			parts[2] = strings.Repeat("A", len(parts[2]))
			return strings.Join(parts, ".")
		},
	} {
		t.Run(name, func(t *testing.T) {
			created, err := s.hub.client.CreateCluster(t.Context(), hubapi.CreateClusterRequest{Name: name})
			require.NoError(t, err)
			t.Cleanup(func() { _ = s.hub.client.DeleteCluster(context.WithoutCancel(t.Context()), name, true) })
			bad := &site{hub: s.hub, name: name, namespace: "bud-" + name}
			good := created.JoinToken.Token
			bad.install(t, strings.Replace(created.InstallCommand, good, spoil(good), 1))
			t.Cleanup(func() { bad.leave(t) })
			await(t, time.Minute, "the agent to say what is wrong", func(ctx context.Context) error {
				return bad.logSays(ctx, `(?i)token`)
			})
			require.Equal(t, hubapi.ClusterPending, bad.cluster(t).State)
			log := bad.agentLog(t)
			require.NotContains(t, log, strings.Split(good, ".")[2], "the secret part is in no log")
			proved(t, "refused, and the agent says: %s", lastMatch(log, `(?i)[^\n]*(token|pin)[^\n]*`))
		})
	}
	t.Run("truncated", func(t *testing.T) {
		out, err := shell(t, strings.Replace(s.command, s.token, s.token[:len(s.token)/2], 1)+" --dry-run")
		require.Error(t, err)
		require.Contains(t, out, "joinToken")
		proved(t, "a token that lost its end is refused by the chart already")
	})
	require.Equal(t, hubapi.ClusterConnected, s.cluster(t).State)
}

// logSays is nil once the agent's log matches.
func (s *site) logSays(ctx context.Context, pattern string) error {
	out, err := env.cluster.Kubectl(ctx, "logs", "-n", s.namespace, "-l", "app.kubernetes.io/component=agent", "--tail=-1").CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	if !regexp.MustCompile(pattern).Match(out) {
		return fmt.Errorf("the agent's log does not match %s:\n%s", pattern, out)
	}
	return nil
}

func lastMatch(text, pattern string) string {
	all := regexp.MustCompile(pattern).FindAllString(text, -1)
	if len(all) == 0 {
		return ""
	}
	return strings.TrimSpace(all[len(all)-1])
}
