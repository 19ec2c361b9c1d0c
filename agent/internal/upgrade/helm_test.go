package upgrade_test

import (
	"context"
	"log/slog"
	"maps"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/durationpb"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/budecosystem/budcluster/agent/internal/helm"
	"github.com/budecosystem/budcluster/agent/internal/helm/helmtest"
	"github.com/budecosystem/budcluster/agent/internal/upgrade"
	"github.com/budecosystem/budcluster/internal/chartfile"
	agentv1 "github.com/budecosystem/budcluster/proto/agent/v1"
)

// seat is an agent's standing that a test sets.
type seat struct {
	leads, linked bool
	aside         atomic.Bool
}

func (s *seat) Leads() bool           { return s.leads && !s.aside.Load() }
func (s *seat) Linked() bool          { return s.linked }
func (s *seat) StandAside(aside bool) { s.aside.Store(aside) }

const deploymentTemplate = `apiVersion: apps/v1
kind: Deployment
metadata: {name: agent}
spec:
  selector: {matchLabels: {app.kubernetes.io/component: agent, app.kubernetes.io/instance: agent}}
  template:
    metadata: {labels: {app.kubernetes.io/component: agent, app.kubernetes.io/instance: agent}}
    spec: {containers: [{name: agent, image: "agent:{{ .Chart.AppVersion }}", env: [{name: SITE, value: {{ .Values.site | quote }}}]}]}
`

// lab is one namespace with an agent of version 1 that Helm installed.
type lab struct {
	t      *testing.T
	ns     string
	client *helm.Client
	ref    helm.Ref
	store  *upgrade.ConfigMap
	next   []byte
}

func newLab(t *testing.T) *lab {
	t.Helper()
	l := &lab{t: t, ns: server.Namespace(t)}
	l.ref = helm.Ref{Namespace: l.ns, Name: "agent"}
	l.store = &upgrade.ConfigMap{Client: server.Client(t), Namespace: l.ns, Name: "agent-upgrade"}
	var err error
	l.client, err = helm.New(helm.Config{REST: server.Config(), Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	chart := func(version string) []byte {
		return helmtest.Chart(t, "agent", version, map[string]string{
			"Chart.yaml":       "apiVersion: v2\nname: agent\nversion: " + version + "\nappVersion: " + version + "\n",
			"templates/d.yaml": deploymentTemplate,
		})
	}
	l.next = chart("2.0.0")
	require.NoError(t, l.client.Install(t.Context(), helm.Operation{
		Ref: l.ref, Chart: chart("1.0.0"), Values: map[string]any{"site": "frankfurt"}, Labels: helm.Labels{ReleaseID: "x", Operation: "install"},
	}))
	return l
}

func (l *lab) pod(name, hash string) {
	l.t.Helper()
	labels := map[string]string{"pod-template-hash": hash, "app.kubernetes.io/component": "agent", "app.kubernetes.io/instance": "agent"}
	_, err := server.Client(l.t).CoreV1().Pods(l.ns).Create(l.t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: maps.Clone(labels)}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "agent", Image: "x"}}},
	}, metav1.CreateOptions{})
	require.NoError(l.t, err)
}

// run runs an agent until the record is as wanted.
func (l *lab) run(name string, s *seat, target *agentv1.AgentTarget, want func(upgrade.Record) bool) upgrade.Record {
	l.t.Helper()
	k, err := upgrade.New(upgrade.Config{
		Store: l.store, Helm: l.client, Standing: s, Pod: name, Ref: l.ref, Every: 50 * time.Millisecond,
		Cluster:    &upgrade.Installation{Typed: server.Client(l.t), Namespace: l.ns, Pod: name, Deployment: "agent", Release: "agent"},
		FetchChart: func(context.Context, string) ([]byte, error) { return l.next, nil }, Logger: slog.New(slog.DiscardHandler),
	})
	require.NoError(l.t, err)
	ctx, cancel := context.WithTimeout(l.t.Context(), time.Minute)
	defer cancel()
	wake, take, stop := k.Watch()
	defer stop()
	if target != nil {
		k.Want(target)
	}
	done := make(chan error, 1)
	go func() { done <- k.Run(ctx) }()
	for {
		select {
		case <-wake:
			take()
			r, _, err := l.store.Load(ctx)
			require.NoError(l.t, err)
			if want(r) {
				cancel()
				require.NoError(l.t, <-done)
				return r
			}
		case <-ctx.Done():
			r, _, _ := l.store.Load(context.WithoutCancel(ctx))
			require.Fail(l.t, "the phase did not come", "%+v", r)
		}
	}
}

func is(phase upgrade.Phase) func(upgrade.Record) bool {
	return func(r upgrade.Record) bool { return r.Phase == phase }
}

func (l *lab) image() (image, site string) {
	l.t.Helper()
	d, err := server.Client(l.t).AppsV1().Deployments(l.ns).Get(l.t.Context(), "agent", metav1.GetOptions{})
	require.NoError(l.t, err)
	c := d.Spec.Template.Spec.Containers[0]
	return c.Image, c.Env[0].Value
}

func (l *lab) target(within time.Duration) *agentv1.AgentTarget {
	return &agentv1.AgentTarget{
		Generation: 1, AppVersion: "2.0.0", ConnectWithin: durationpb.New(within), Chart: &agentv1.Chart{Digest: chartfile.Digest(l.next), Version: "2.0.0"},
	}
}

// TestReturnByHelm: on a real API server, with Helm itself. The new agent's
// image never comes; the old one puts back what there was.
func TestReturnByHelm(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.pod("old", "one")
	s := &seat{leads: true, linked: true}
	r := l.run("old", s, l.target(2*time.Second), is(upgrade.RolledBack))
	require.Equal(t, upgrade.NotConnected, r.Reason)
	require.Contains(t, r.Message, "returned to agent 1.0.0")
	require.Contains(t, r.Message, "deployment agent: 0 of 1 ready")
	image, site := l.image()
	require.Equal(t, []string{"agent:1.0.0", "frankfurt"}, []string{image, site})
	history, err := l.client.History(t.Context(), l.ref)
	require.NoError(t, err)
	require.Equal(t, helm.StatusDeployed, history[0].Status)
	require.Equal(t, 3, history[0].Revision)
	require.False(t, s.aside.Load())
}

// TestProofByAnother: the old agent has Helm apply the chart with the values
// that are there; the new one, another process, proves itself.
func TestProofByAnother(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.pod("old", "one")
	l.run("old", &seat{leads: true, linked: true}, l.target(time.Minute), func(r upgrade.Record) bool { return r.Applied })
	image, site := l.image()
	require.Equal(t, []string{"agent:2.0.0", "frankfurt"}, []string{image, site})
	l.pod("new", "two")
	r := l.run("new", &seat{leads: true, linked: true}, nil, is(upgrade.Current))
	require.Equal(t, upgrade.Connected, r.Reason)
	image, _ = l.image()
	require.Equal(t, "agent:2.0.0", image)
}
