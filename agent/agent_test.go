package agent_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/durationpb"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"

	"github.com/budecosystem/budcluster/agent"
	"github.com/budecosystem/budcluster/agent/agenttest"
	"github.com/budecosystem/budcluster/agent/internal/helm/helmtest"
	"github.com/budecosystem/budcluster/internal/testutil"
	agentv1 "github.com/budecosystem/budcluster/proto/agent/v1"
)

var server *agenttest.Kube

func TestMain(m *testing.M) {
	klog.SetSlogLogger(slog.New(slog.DiscardHandler)) // as main does
	os.Exit(agenttest.RunWithKube(m, func(k *agenttest.Kube) { server = k }))
}

// bundle is a whole agent between a real API server and a scripted hub.
type bundle struct {
	hub     *agenttest.Hub
	address string
	stopHub func()
	cfg     agent.Config
	token   string
}

func setup(t *testing.T) *bundle {
	t.Helper()
	b := &bundle{hub: agenttest.NewHub(t, agenttest.HubConfig{}), cfg: agent.Default()}
	b.address, b.stopHub = b.hub.Listen(t, "")
	b.token = filepath.Join(t.TempDir(), "token")
	b.cfg.Kubeconfig, b.cfg.Namespace, b.cfg.PodName = server.Kubeconfig(), server.Namespace(t), "agent-0"
	b.cfg.Hub.Addresses, b.cfg.TokenFile, b.cfg.Listen = []string{b.address}, b.token, "127.0.0.1:0"
	b.cfg.Drift.Interval = time.Second
	return b
}

func (b *bundle) giveToken(t *testing.T, token string) {
	t.Helper()
	require.NoError(t, os.WriteFile(b.token, []byte(token), 0o600))
}

// process is one running agent.
type process struct {
	url  string
	stop func()
}

func (b *bundle) start(t *testing.T, change ...func(*agent.Config)) *process {
	t.Helper()
	cfg := b.cfg
	for _, f := range change {
		f(&cfg)
	}
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	a, err := agent.New(cfg, agent.Options{
		Logger:   slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo})),
		Listener: ln, Probe: time.Second, Elections: agent.Elections{Lease: 4 * time.Second, Renew: 3 * time.Second, Retry: 500 * time.Millisecond},
	})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	stopped := false
	p := &process{url: "http://" + ln.Addr().String()}
	p.stop = func() {
		if !stopped {
			stopped = true
			cancel()
			require.NoError(t, <-done)
		}
	}
	t.Cleanup(p.stop)
	return p
}

func (p *process) get(t *testing.T, path string) (int, string) {
	t.Helper()
	resp, err := http.Get(p.url + path)
	require.NoError(t, err)
	defer func() { require.NoError(t, resp.Body.Close()) }()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(body)
}

// awaitReadyz asks as the kubelet does.
func (p *process) awaitReadyz(t *testing.T, status int, text string) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(30 * time.Second)
	for {
		got, body := p.get(t, "/readyz")
		if got == status && strings.Contains(body, text) {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("readyz says %d %s, and should say %d %s", got, body, status, text)
		}
	}
}

func (b *bundle) release(t *testing.T, generation int64, values string) *agentv1.Release {
	t.Helper()
	chart := helmtest.Chart(t, "web", "1.0.0", map[string]string{
		"templates/cm.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: {{ .Release.Name }}}\ndata: {greeting: {{ .Values.greeting | quote }}}\n",
	})
	return &agentv1.Release{
		Id: "0199-" + b.cfg.Namespace, Name: "web", Namespace: b.cfg.Namespace, Generation: generation, Digest: "sha256:" + values,
		Spec: &agentv1.ReleaseSpec{
			Chart:  &agentv1.Chart{Digest: b.hub.AddChart(chart), Name: "web", Version: "1.0.0"},
			Values: []byte(values), Timeout: durationpb.New(20 * time.Second),
		},
	}
}

func phaseOf(id string, phase agentv1.Phase, generation int64) func(agenttest.HubState) bool {
	return func(s agenttest.HubState) bool {
		got := s.Statuses[id]
		return got.GetPhase() == string(phase) && got.GetObservedGeneration() == generation
	}
}

// TestLife is the life of an agent: join, report, install, lose the hub, stop,
// start again, remove.
func TestLife(t *testing.T) {
	t.Parallel()
	b := setup(t)
	client := server.Client(t)
	b.giveToken(t, b.hub.Token(t))
	p := b.start(t)
	p.awaitReadyz(t, http.StatusOK, "leading, connected")
	require.Equal(t, "agent-0", b.hub.Session(t, 1).Hello.GetInstance())

	_, err := client.CoreV1().Nodes().Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "life"}}, metav1.CreateOptions{})
	require.NoError(t, err)
	made := time.Now()
	b.hub.Await(t, "node", func(s agenttest.HubState) bool { return s.Nodes["life"] != nil })
	t.Logf("a new node reached the hub after %s", time.Since(made).Round(time.Millisecond))

	r := b.release(t, 1, `{"greeting":"hello"}`)
	b.hub.Want(r)
	b.hub.Await(t, "release", phaseOf(r.GetId(), agentv1.PhaseReady, 1))
	cm, err := client.CoreV1().ConfigMaps(b.cfg.Namespace).Get(t.Context(), "web", metav1.GetOptions{})
	require.NoError(t, err)
	require.Equal(t, "hello", cm.Data["greeting"])
	_, text := p.get(t, "/metrics")
	require.Contains(t, text, `budcluster_agent_releases{phase="Ready"} 1`)
	require.Contains(t, text, "budcluster_agent_connected 1")

	b.stopHub()
	p.awaitReadyz(t, http.StatusServiceUnavailable, "HubUnreachable")
	cm.Data["greeting"] = "changed by hand"
	_, err = client.CoreV1().ConfigMaps(b.cfg.Namespace).Update(t.Context(), cm, metav1.UpdateOptions{FieldManager: "kubectl"})
	require.NoError(t, err)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for cm.Data["greeting"] != "hello" { // without the hub, drift is corrected
		<-tick.C
		cm, err = client.CoreV1().ConfigMaps(b.cfg.Namespace).Get(t.Context(), "web", metav1.GetOptions{})
		require.NoError(t, err)
	}
	_, b.stopHub = b.hub.Listen(t, b.address)
	p.awaitReadyz(t, http.StatusOK, "leading, connected")

	session := b.hub.Session(t, b.hub.State().Sessions)
	p.stop()
	<-session.Done()
	require.True(t, session.Left(), "it says goodbye")
	lease, err := client.CoordinationV1().Leases(b.cfg.Namespace).Get(t.Context(), b.cfg.LeaderElection.LeaseName, metav1.GetOptions{})
	require.NoError(t, err)
	require.Empty(t, *lease.Spec.HolderIdentity)

	require.NoError(t, os.Remove(b.token))
	p = b.start(t, func(c *agent.Config) { c.PodName = "agent-1" })
	p.awaitReadyz(t, http.StatusOK, "leading, connected")
	require.Equal(t, 1, b.hub.State().Enrolled)
	gone := b.release(t, 2, `{"greeting":"hello"}`)
	gone.Removed = true
	b.hub.Want(gone)
	b.hub.Await(t, "removal", phaseOf(r.GetId(), agentv1.PhaseRemoved, 2))
	_, err = client.CoreV1().ConfigMaps(b.cfg.Namespace).Get(t.Context(), "web", metav1.GetOptions{})
	require.Error(t, err)
}

// TestRefusedToken: the reason stands in /readyz and in an Event, the process
// stays, and a new token in the mounted Secret is all it takes.
func TestRefusedToken(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.hub.RefuseCalls("Enroll", "TokenExpired", "join token expired; create a new one")
	b.giveToken(t, b.hub.Token(t))
	p := b.start(t)
	p.awaitReadyz(t, http.StatusServiceUnavailable, "TokenExpired: join token expired; create a new one")
	status, _ := p.get(t, "/healthz")
	require.Equal(t, http.StatusOK, status)
	events, err := server.Client(t).CoreV1().Events(b.cfg.Namespace).Watch(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	defer events.Stop()
	for e := range events.ResultChan() {
		if event, ok := e.Object.(*corev1.Event); ok && event.Reason == "TokenExpired" {
			break
		}
	}
	b.hub.RefuseCalls("Enroll", "", "")
	b.giveToken(t, b.hub.Token(t))
	p.awaitReadyz(t, http.StatusOK, "leading, connected")
}

// TestStandby: the second agent is ready without leading, and takes over.
func TestStandby(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.giveToken(t, b.hub.Token(t))
	first := b.start(t)
	first.awaitReadyz(t, http.StatusOK, "leading")
	second := b.start(t, func(c *agent.Config) { c.PodName = "agent-1" })
	second.awaitReadyz(t, http.StatusOK, "standing by, agent-0 leads")
	_, text := second.get(t, "/metrics")
	require.NotContains(t, text, "budcluster_agent_connected", "only a leader is to be connected")
	first.stop()
	second.awaitReadyz(t, http.StatusOK, "leading, connected")
	require.Equal(t, "agent-1", b.hub.Session(t, 2).Hello.GetInstance())
	require.Equal(t, 1, b.hub.State().Enrolled)
}

// TestAPIServerAway: the link stays up and says what is wrong.
func TestAPIServerAway(t *testing.T) { //nolint:paralleltest // takes the API server away from everybody
	b := setup(t)
	b.giveToken(t, b.hub.Token(t))
	p := b.start(t)
	p.awaitReadyz(t, http.StatusOK, "leading, connected")
	r := b.release(t, 1, `{"greeting":"hello"}`)
	b.hub.Want(r)
	b.hub.Await(t, "release", phaseOf(r.GetId(), agentv1.PhaseReady, 1))
	server.StopServer()
	b.hub.Await(t, "degradation", func(s agenttest.HubState) bool {
		return slices.ContainsFunc(s.Degraded, func(d *agentv1.Degradation) bool { return d.GetReason() == "APIServerUnreachable" })
	})
	require.Equal(t, 1, b.hub.State().Sessions)
	require.NoError(t, server.StartServer())
	p.awaitReadyz(t, http.StatusOK, "leading, connected")
	b.hub.Await(t, "recovery", func(s agenttest.HubState) bool { return len(s.Degraded) == 0 })
	next := b.release(t, 2, `{"greeting":"again"}`)
	b.hub.Want(next)
	b.hub.Await(t, "release", phaseOf(r.GetId(), agentv1.PhaseReady, 2))
	require.Equal(t, 1, b.hub.State().Sessions, "the connection was never lost")
}

// TestMetricNames: dashboards and alerts of others hang on them.
func TestMetricNames(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.giveToken(t, b.hub.Token(t))
	p := b.start(t)
	p.awaitReadyz(t, http.StatusOK, "leading, connected")
	_, text := p.get(t, "/metrics")
	var names []string
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (budcluster_\S+ \S+)$`).FindAllStringSubmatch(text, -1) {
		names = append(names, m[1])
	}
	slices.Sort(names)
	testutil.Golden(t, "metrics", []byte(strings.Join(names, "\n")+"\n"))
}
