package pair_test

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/budecosystem/budcluster/agent"
	"github.com/budecosystem/budcluster/agent/agenttest"
	"github.com/budecosystem/budcluster/hub/hubapi"
	"github.com/budecosystem/budcluster/hub/hubtest"
	"github.com/budecosystem/budcluster/internal/chartfile"
)

var kube *agenttest.Kube

func TestMain(m *testing.M) {
	os.Exit(agenttest.RunWithKube(m, func(k *agenttest.Kube) { kube = k }))
}

// pair is a hub and the agent of one cluster.
type pair struct {
	t    *testing.T
	hub  *hubtest.Hub
	cfg  agent.Config
	log  *hubtest.Log
	name string

	stop context.CancelFunc
	done chan error
}

// newPair starts both and waits until the agent is connected.
func newPair(t *testing.T, name string, opts ...hubtest.Option) *pair {
	t.Helper()
	p := &pair{t: t, hub: hubtest.New(t, opts...), log: &hubtest.Log{}, name: name}
	token := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(token, []byte(p.hub.Create(name).JoinToken.Token), 0o600))
	p.cfg = agent.Default()
	p.cfg.Hub.Addresses = []string{p.hub.TunnelAddress}
	p.cfg.TokenFile, p.cfg.Kubeconfig, p.cfg.Namespace = token, kube.Kubeconfig(), kube.Namespace(t)
	p.cfg.PodName, p.cfg.Listen = "agent-0", "127.0.0.1:0"
	p.cfg.Drift.Interval = time.Second
	t.Cleanup(func() {
		if p.stop != nil {
			require.NoError(t, p.stopAgent())
		}
		if t.Failed() {
			t.Logf("the agent's log:\n%s", p.log)
		}
	})
	p.startAgent()
	p.await(hubapi.ClusterConnected)
	return p
}

func (p *pair) startAgent() {
	p.t.Helper()
	a, err := agent.New(p.cfg, agent.Options{
		Logger:    slog.New(slog.NewTextHandler(p.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Elections: agent.Elections{Lease: 3 * time.Second, Renew: 2 * time.Second, Retry: 200 * time.Millisecond},
	})
	require.NoError(p.t, err)
	ctx, cancel := context.WithCancel(context.WithoutCancel(p.t.Context()))
	p.stop, p.done = cancel, make(chan error, 1)
	go func() { p.done <- a.Run(ctx) }()
}

func (p *pair) stopAgent() error {
	p.stop()
	p.stop = nil
	return <-p.done
}

// soon bounds every wait: these machines can be slow, a hang is a failure.
func (p *pair) soon() context.Context {
	ctx, cancel := context.WithTimeout(p.t.Context(), 60*time.Second)
	p.t.Cleanup(cancel)
	return ctx
}

func (p *pair) await(state hubapi.ClusterState) hubapi.Cluster {
	p.t.Helper()
	c, err := p.hub.Client.WaitCluster(p.soon(), p.name, func(c hubapi.Cluster) bool { return c.State == state })
	require.NoError(p.t, err)
	return c
}

// node makes a node as a kubelet would.
func (p *pair) node(name string, ready corev1.ConditionStatus) *corev1.Node {
	p.t.Helper()
	nodes := kube.Client(p.t).CoreV1().Nodes()
	n, err := nodes.Create(p.t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{
		Name: name, Labels: map[string]string{
			"nvidia.com/gpu.present": "true", "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3",
			"nvidia.com/gpu.count": "2", "nvidia.com/gpu.memory": "81559",
		},
	}}, metav1.CreateOptions{})
	require.NoError(p.t, err)
	p.t.Cleanup(func() {
		_ = nodes.Delete(context.WithoutCancel(p.t.Context()), name, metav1.DeleteOptions{})
	})
	n.Status = corev1.NodeStatus{
		Capacity: resources(), Allocatable: resources(),
		Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready, Reason: "Test"}},
		NodeInfo:   corev1.NodeSystemInfo{Architecture: "amd64", OperatingSystem: "linux", KubeletVersion: "v1.37.0"},
	}
	n, err = nodes.UpdateStatus(p.t.Context(), n, metav1.UpdateOptions{})
	require.NoError(p.t, err)
	return n
}

// chart is one ConfigMap that shows a value.
func (p *pair) chart(version, template string) string {
	p.t.Helper()
	tgz, _, err := chartfile.Pack(fstest.MapFS{
		"Chart.yaml":          {Data: []byte("apiVersion: v2\nname: note\nversion: " + version + "\n")},
		"values.yaml":         {Data: []byte("text: none\n")},
		"templates/note.yaml": {Data: []byte(template)},
	})
	require.NoError(p.t, err)
	pushed, err := p.hub.Client.PushChart(p.t.Context(), bytes.NewReader(tgz))
	require.NoError(p.t, err)
	return pushed.Digest
}

const note = `kind: ConfigMap
apiVersion: v1
metadata: {name: note}
data: {text: {{ .Values.text | quote }}}
`
