//go:build e2e

package suite_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/budecosystem/budcluster/hub/hubapi"
)

// TestReleaseLife takes one release through all of its life, once in peace and
// then with the hub or the agent taken away at every point of it.
func TestReleaseLife(t *testing.T) {
	s := shared(t)
	for _, c := range []struct {
		name    string
		disturb func(t *testing.T)
	}{
		{"in-peace", func(*testing.T) {}},
		{"hub-killed", func(t *testing.T) { s.hub.kill(); s.hub.again(t) }},
		{"hub-restarted", func(t *testing.T) { s.hub.stop(t); s.hub.again(t) }},
		{"agent-killed", s.killAgent},
		{"agent-replaced", s.restartAgent},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := &life{app: newApp(t, s, "life-"+c.name), disturb: c.disturb}
			started := time.Now()
			l.install(t)
			l.upgrade(t)
			l.drift(t)
			l.fail(t)
			l.end(t)
			measured(t, "a release's whole life (install, upgrade, drift, failed upgrade, removal), %s: %s", c.name, time.Since(started).Round(100*time.Millisecond))
			s.awaitState(t, hubapi.ClusterConnected, time.Minute)
		})
	}
}

// life is one release and what goes wrong in the middle of each step.
type life struct {
	*app

	disturb func(t *testing.T)
}

func (l *life) install(t *testing.T) {
	t.Helper()
	g := newGate(t, l.name+"-install")
	r := l.apply(t, values{"greeting": "one", "hold": g.url()})
	require.Equal(t, int64(1), r.Generation)
	l.awaitHook(t)
	l.disturb(t)
	g.open(t)
	l.settle(t, r.Generation, hubapi.PhaseReady)
	require.Equal(t, "one", l.greeting(t))
	l.requireOne(t)
	proved(t, "installed: Ready, one of everything; Helm's revisions: %v", l.revisions(t))
}

func (l *life) upgrade(t *testing.T) {
	t.Helper()
	before, err := l.deployment(t.Context())
	require.NoError(t, err)
	g := newGate(t, l.name+"-upgrade")
	r := l.apply(t, values{"greeting": "two", "hold": g.url()})
	l.awaitHook(t)
	l.disturb(t)
	g.open(t)
	l.settle(t, r.Generation, hubapi.PhaseReady)
	require.Equal(t, "two", l.greeting(t))
	l.requireOne(t)
	after, err := l.deployment(t.Context())
	require.NoError(t, err)
	require.Equal(t, before.UID, after.UID, "it was changed, not made anew")
	proved(t, "upgraded: Ready with the new value, the same deployment; Helm's revisions: %v", l.revisions(t))
}

func (l *life) drift(t *testing.T) {
	t.Helper()
	patch := []byte(`{"spec":{"replicas":3,"template":{"spec":{"containers":[{"name":"hello","env":[{"name":"GREETING","value":"meddled"}]}]}}}}`)
	_, err := env.cluster.Kube().AppsV1().Deployments(l.name).Patch(t.Context(), l.name, types.StrategicMergePatchType, patch,
		metav1.PatchOptions{FieldManager: "somebody"})
	require.NoError(t, err)
	l.disturb(t)
	await(t, time.Minute, "the drift to be corrected", func(ctx context.Context) error {
		d, err := l.deployment(ctx)
		if err != nil {
			return err
		}
		if *d.Spec.Replicas != 1 || l.greeting(t) != "two" {
			return fmt.Errorf("%d replicas, greeting %s", *d.Spec.Replicas, l.greeting(t))
		}
		return nil
	})
	await(t, time.Minute, "the hub to hear of the correction", func(ctx context.Context) error {
		r, err := l.site.hub.client.Release(ctx, l.site.name, l.name)
		if err != nil {
			return err
		}
		if r.Status.Corrections == 0 || r.Status.Phase != hubapi.PhaseReady {
			return fmt.Errorf("%s, %d corrections", r.Status.Phase, r.Status.Corrections)
		}
		return nil
	})
	l.requireOne(t)
	proved(t, "drift corrected: what somebody changed by hand is as the chart has it again")
}

func (l *life) fail(t *testing.T) {
	t.Helper()
	quickly := func(r *hubapi.ReleaseRequest) { r.Timeout, r.MaxAttempts = "12s", 1 }
	r := l.apply(t, values{"greeting": "three", "broken": true}, quickly)
	await(t, time.Minute, "the broken upgrade to be under way", func(ctx context.Context) error {
		d, err := l.deployment(ctx)
		if err != nil {
			return err
		}
		if d.Generation < 2 || l.greeting(t) != "three" {
			return fmt.Errorf("greeting %s", l.greeting(t))
		}
		return nil
	})
	l.disturb(t)
	failed := l.settle(t, r.Generation, hubapi.PhaseFailed)
	require.NotEmpty(t, failed.Status.Message)
	await(t, time.Minute, "the release before it to serve again", func(ctx context.Context) error {
		d, err := l.deployment(ctx)
		if err != nil {
			return err
		}
		if l.greeting(t) != "two" || d.Status.ReadyReplicas != 1 || d.Status.UpdatedReplicas != 1 {
			return fmt.Errorf("greeting %s, %d ready", l.greeting(t), d.Status.ReadyReplicas)
		}
		return nil
	})
	l.requireOne(t)
	proved(t, "a broken upgrade ended Failed (%s) and was rolled back: what ran before runs again; Helm's revisions: %v", failed.Status.Message, l.revisions(t))
}

func (l *life) end(t *testing.T) {
	t.Helper()
	_, err := l.site.hub.client.DeleteRelease(t.Context(), l.site.name, l.name, false)
	require.NoError(t, err)
	l.disturb(t)
	l.awaitGone(t)
	l.requireNone(t)
	events, err := l.site.hub.client.Events(t.Context(), hubapi.EventQuery{Cluster: l.site.name, Types: []string{"release.removed"}, Limit: 1000})
	require.NoError(t, err)
	var removed int
	for _, event := range events.Items {
		if event.Subject == l.name {
			removed++
		}
	}
	require.Equal(t, 1, removed, "it is told once that it is gone")
	proved(t, "removed: nothing is left in the cluster or at the hub, and that was told once")
}

// TestReleaseByCommandLine does it as a person would.
func TestReleaseByCommandLine(t *testing.T) {
	s := shared(t)
	a := newApp(t, s, "by-hand")
	chart := filepath.Join(t.TempDir(), "app.tgz")
	require.NoError(t, os.WriteFile(chart, packApp(t, "1.2.3"), 0o600))
	out := s.hub.cli(t, "release", "apply", a.name, "--cluster", s.name, "--namespace", a.name, "--chart", chart, "--set", "greeting=hi", "--wait")
	t.Logf("$ budcluster release apply\n%s", out)
	require.Contains(t, out, "Ready")
	out = s.hub.cli(t, "release", "list", "--cluster", s.name)
	require.Regexp(t, `by-hand.*Ready`, out)
	t.Logf("$ budcluster release list\n%s", out)
	var shown hubapi.Release
	require.NoError(t, json.Unmarshal([]byte(s.hub.cli(t, "release", "show", a.name, "--cluster", s.name, "-o", "json")), &shown))
	require.Equal(t, "1.2.3", shown.Status.ChartVersion)

	columns, err := env.cluster.Kubectl(t.Context(), "get", "releases.budcluster.io", "-n", s.namespace).CombinedOutput()
	require.NoError(t, err, "%s", columns)
	t.Logf("$ kubectl get releases.budcluster.io\n%s", columns)
	header, _, _ := strings.Cut(string(columns), "\n")
	require.Equal(t, []string{"NAME", "PHASE", "VERSION", "READY", "AGE", "MESSAGE"}, strings.Fields(header))
	require.Regexp(t, `by-hand +Ready +1\.2\.3 +`, string(columns))

	s.hub.cli(t, "release", "delete", a.name, "--cluster", s.name, "--wait", "--yes")
	a.requireNone(t)
	proved(t, "apply, list, show and delete by the command line, and people on site see the same by kubectl")
}

// TestAgentKilledDuringInstall: the agent dies while Helm waits for a hook, so
// that Helm's record says pending-install, which Helm itself never leaves.
func TestAgentKilledDuringInstall(t *testing.T) {
	s := shared(t)
	a := newApp(t, s, "killed-install")
	g := newGate(t, a.name)
	r := a.apply(t, values{"hold": g.url()})
	hook := a.awaitHook(t)
	require.Equal(t, []string{"1 pending-install"}, a.revisions(t))
	s.killAgent(t)
	killed := time.Now()
	t.Logf("the agent was killed (SIGKILL) while hook %s ran", hook)
	g.open(t)
	a.settle(t, r.Generation, hubapi.PhaseReady)
	measured(t, "agent killed in the middle of an install: Ready again by itself after %s", time.Since(killed).Round(100*time.Millisecond))
	a.requireOne(t)
	proved(t, "an agent that was killed in the middle of an install recovers by itself: no revision is left pending (%v)", a.revisions(t))
}

// TestWrongReleases: each ends Failed with a sentence, and disturbs nobody.
func TestWrongReleases(t *testing.T) {
	s := shared(t)
	good := newApp(t, s, "good-neighbour")
	r := good.apply(t, values{"greeting": "fine"})
	good.settle(t, r.Generation, hubapi.PhaseReady)
	before, err := good.deployment(t.Context())
	require.NoError(t, err)

	once := func(r *hubapi.ReleaseRequest) { r.MaxAttempts, r.Timeout = 1, "15s" }
	for _, c := range []struct {
		name   string
		values values
		says   string // what the message must hold
	}{
		{"wrong-values", values{"replicas": "many"}, "replicas"},
		{"wrong-object", values{"replicas": 1, "image": "not an image name"}, `(?i)image|invalid`},
		{"never-ready", values{"broken": true}, `(?i)wrong|ready|deployment|never-ready`},
	} {
		t.Run(c.name, func(t *testing.T) {
			bad := newApp(t, s, c.name)
			r := bad.apply(t, c.values, once)
			failed := bad.settle(t, r.Generation, hubapi.PhaseFailed)
			require.Regexp(t, c.says, failed.Status.Message)
			require.NotContains(t, failed.Status.Message, "\n", "one sentence")
			require.NotContains(t, failed.Status.Message, "context deadline exceeded")
			proved(t, "Failed (%s): %s", failed.Status.Reason, failed.Status.Message)
		})
	}
	now, err := s.hub.client.Release(t.Context(), s.name, good.name)
	require.NoError(t, err)
	require.Equal(t, hubapi.PhaseReady, now.Status.Phase)
	after, err := good.deployment(t.Context())
	require.NoError(t, err)
	require.Equal(t, before.Generation, after.Generation)
	proved(t, "the release beside them stayed Ready and untouched")
}

// TestRefusedAtTheHub: what cannot be right is refused before any cluster
// hears of it.
func TestRefusedAtTheHub(t *testing.T) {
	s := shared(t)
	a := newApp(t, s, "refused")
	for name, change := range map[string]func(*hubapi.ReleaseRequest){
		"values that are a list": func(r *hubapi.ReleaseRequest) { r.Values = json.RawMessage(`[1]`) },
		"5 MB of values": func(r *hubapi.ReleaseRequest) {
			r.Values = json.RawMessage(`{"a":"` + strings.Repeat("x", 5<<20) + `"}`)
		},
		"an unknown digest": func(r *hubapi.ReleaseRequest) { r.Chart.Digest = "sha256:" + strings.Repeat("0", 64) },
		"a wrong timeout":   func(r *hubapi.ReleaseRequest) { r.Timeout = "soon" },
	} {
		_, _, err := s.hub.client.ApplyRelease(t.Context(), s.name, a.name, a.request(values{}, change), nil)
		require.Error(t, err, name)
		require.Less(t, len(err.Error()), 1000, "%s: a sentence, not the values", name)
		t.Logf("%s: %v", name, err)
	}
	_, err := s.hub.client.PushChart(t.Context(), strings.NewReader("this is no chart"))
	require.Error(t, err)
	t.Logf("no chart: %v", err)
	_, err = s.hub.client.Release(t.Context(), s.name, a.name)
	require.True(t, hubapi.IsNotFound(err))
	proved(t, "what cannot be right is refused at the hub with a sentence, and nothing is stored")
}
