package cli_test

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/cli"
	"github.com/budecosystem/budcluster/hub/apitest"
	"github.com/budecosystem/budcluster/hub/hubapi"
)

// report says of a release what an agent would.
func report(h *apitest.Hub, id uuid.UUID, name string) {
	changed := apitest.Now().Add(-30 * time.Second)
	h.Report(id, name, hubapi.ReleaseStatus{
		ObservedGeneration: 1, Phase: hubapi.PhaseReady, Ready: 2, Total: 2, ChartVersion: "1.2.0", AppVersion: "2.0", Revision: 1, Owned: true,
		Attempts: 1, Corrections: 3, ChangedAt: &changed, Outputs: map[string]string{"ip": "10.0.0.9"},
	})
}

func shown(t *testing.T, s *shell, name string) hubapi.Release {
	t.Helper()
	var r hubapi.Release
	require.NoError(t, json.Unmarshal([]byte(s.ok("release", "show", name, "-c", "frankfurt", "-o", "json")), &r))
	return r
}

func TestApplyFromFlagsAndFile(t *testing.T) {
	t.Parallel()
	h := apitest.New(t, apitest.Options{})
	populate(h)
	s := newShell(t, h)
	chart := webChart(t)
	dir := t.TempDir()
	values := writeFile(t, filepath.Join(dir, "values.yaml"), "replicas: 1\nimage: {repo: a, tag: b}\nbig: 9007199254740993\n")
	secrets := writeFile(t, filepath.Join(dir, "secrets.yaml"), "password: hunter2\n")

	out := s.ok("release", "apply", "web", "-c", "frankfurt", "-n", "web", "--chart", chart, "--values", values, "--secret-values", secrets,
		"--set", "image.tag=c,hosts={a,b}", "--set-string", "version=1", "--set-json", `res={"cpu":2}`,
		"--timeout", "90s", "--remediation", "keep", "--max-attempts", "2", "--drift", "report", "--adoption", "takeOver", "--no-create-namespace")
	require.Equal(t, "Release web in cluster frankfurt is new and wanted.\n", out)
	r := shown(t, s, "web")
	require.JSONEq(t, `{"replicas":1,"image":{"repo":"a","tag":"c"},"big":9007199254740993,"hosts":["a","b"],"version":"1","res":{"cpu":2}}`, string(r.Spec.Values))
	require.Contains(t, string(r.Spec.Values), "9007199254740993", "a large number is not rounded")
	require.Equal(t, "1m30s keep 2 report takeOver false",
		strings.Join([]string{r.Spec.Timeout, r.Spec.Remediation, "2", r.Spec.Drift, r.Spec.Adoption, "false"}, " "))
	require.Equal(t, 2, r.Spec.MaxAttempts)
	require.False(t, r.Spec.CreateNamespace)

	writeFile(t, filepath.Join(dir, "web", "Chart.yaml"), "apiVersion: v2\nname: web\nversion: 3.0.0\n")
	file := writeFile(t, filepath.Join(dir, "web.yaml"), `
name: web2
cluster: frankfurt
namespace: web
chart: {path: ./web}
values: {replicas: 2, keep: true}
timeout: 5m
outputs: [{name: ip, apiVersion: v1, kind: Service, object: web, jsonPath: "{.spec.clusterIP}"}]
`)
	s.ok("release", "apply", "-f", file, "--set", "replicas=3")
	r = shown(t, s, "web2")
	require.Equal(t, "3.0.0", r.Spec.Chart.Version)
	require.JSONEq(t, `{"replicas":3,"keep":true}`, string(r.Spec.Values))
	require.Equal(t, "ip", r.Spec.Outputs[0].Name)
	require.True(t, r.Spec.CreateNamespace)
	require.Contains(t, s.ok("release", "apply", "web3", "-f", file), "Release web3", "flags stand above the file")
}

func TestReleaseFileIsStrict(t *testing.T) {
	t.Parallel()
	h := apitest.New(t, apitest.Options{})
	populate(h)
	s := newShell(t, h)
	for text, says := range map[string]string{
		"":                                    "is empty",
		"name: x\nchartt: {}\n":               `unknown field "chartt"`,
		"name: x\nname: y\n":                  `key "name" already set in map`,
		"name: x\nvalues: [1]\n":              "cannot unmarshal array",
		"- x\n":                               "cannot unmarshal array",
		"name: x\nchart: {path: a, oci: b}\n": "no cluster is named",
		"{name: x, cluster: frankfurt, namespace: y, chart: {path: a, oci: 'oci://h/b'}}": "chart holds path and more",
		"{name: x, cluster: frankfurt, namespace: y, chart: {}}":                          "no chart is given",
	} {
		s.in = text
		r := s.run("release", "apply", "-f", "-")
		require.Equal(t, cli.ExitUsage, r.status, "%s\n%s", text, r.err)
		require.Contains(t, r.err, says, text)
	}
}

// stepping reports one state after the other, each once the one before was
// shown.
type stepping struct {
	safeBuffer
	seen  map[string]bool
	steps map[string]func()
}

func (w *stepping) Write(p []byte) (int, error) {
	n, err := w.safeBuffer.Write(p)
	for text, next := range w.steps {
		if !w.seen[text] && bytes.Contains(p, []byte(text)) {
			w.seen[text] = true
			go next()
		}
	}
	return n, err
}

func applyAndWait(t *testing.T, tty bool, last hubapi.ReleaseStatus) (out, errs string, status int) {
	t.Helper()
	h := apitest.New(t, apitest.Options{})
	id := populate(h)
	s := newShell(t, h)
	s.tty = tty
	say := func(st hubapi.ReleaseStatus) func() { return func() { h.Report(id, "web", st) } }
	w := &stepping{seen: map[string]bool{}, steps: map[string]func(){
		"waiting for the agent": say(hubapi.ReleaseStatus{ObservedGeneration: 1, Phase: hubapi.PhaseInstalling}),
		"Installing":            say(hubapi.ReleaseStatus{ObservedGeneration: 1, Phase: hubapi.PhaseProgressing, Ready: 1, Total: 3, WaitingFor: "Deployment web"}),
		"1/3 ready":             say(last),
	}}
	var printed safeBuffer
	status = cli.Run(t.Context(), []string{"release", "apply", "web", "-c", "frankfurt", "-n", "web", "--chart", webChart(t), "--wait"}, s.world(&printed, w))
	return printed.String(), w.String(), status
}

func TestApplyWaitsAndShowsLines(t *testing.T) {
	t.Parallel()
	out, errs, status := applyAndWait(t, false, hubapi.ReleaseStatus{ObservedGeneration: 1, Phase: hubapi.PhaseReady, Ready: 3, Total: 3})
	require.Zero(t, status, errs)
	require.Equal(t, "Release web in cluster frankfurt is Ready after 0s.\n", out)
	require.Equal(t, "  0s  waiting for the agent\n  0s  Installing\n  0s  Progressing  1/3 ready  waiting for Deployment web\n  0s  Ready  3/3 ready\n", errs)
}

func TestApplyWaitsInPlaceOnATerminal(t *testing.T) {
	t.Parallel()
	out, errs, status := applyAndWait(t, true, hubapi.ReleaseStatus{ObservedGeneration: 1, Phase: hubapi.PhaseReady, Ready: 3, Total: 3})
	require.Zero(t, status, errs)
	require.Contains(t, out, "is \x1b[32mReady\x1b[0m after 0s")
	require.Contains(t, errs, "\r\x1b[K⠋   0s  waiting for the agent")
	require.True(t, strings.HasSuffix(errs, "\r\x1b[K"), "the line is taken away: %q", errs)
	require.Equal(t, 3, strings.Count(errs, "\n"), "one line for each phase that is over")
}

func TestApplyFails(t *testing.T) {
	t.Parallel()
	retry := apitest.Now().Add(time.Minute)
	out, errs, status := applyAndWait(t, false, hubapi.ReleaseStatus{
		ObservedGeneration: 1, Phase: hubapi.PhaseFailed, Message: "values don't meet the chart's schema: replicas must be a number", Attempts: 1, RetryAt: &retry,
	})
	require.Equal(t, cli.ExitReleaseFailed, status)
	require.Empty(t, out)
	require.Contains(t, errs, "Error: release web in cluster frankfurt is Failed: values don't meet the chart's schema: replicas must be a number (attempt 1 of 5; the next is due 2026-11-23T12:01:00Z)")
}

func TestWaitEnds(t *testing.T) {
	t.Parallel()
	h := apitest.New(t, apitest.Options{})
	populate(h)
	s := newShell(t, h)
	r := s.run("release", "apply", "web", "-c", "lyon", "-n", "web", "--chart", webChart(t), "--wait", "--wait-timeout", "100ms")
	require.Equal(t, cli.ExitFailed, r.status)
	require.Contains(t, r.err, "waiting for the agent  (the cluster is away; last seen 7m ago)")
	require.Contains(t, r.err, "release web is not done after 100ms; it goes on, follow it with: budcluster release watch web --cluster lyon")
}

func TestDeleteWaits(t *testing.T) {
	t.Parallel()
	h := apitest.New(t, apitest.Options{})
	id := populate(h)
	s := newShell(t, h)
	s.ok("release", "apply", "web", "-c", "frankfurt", "-n", "web", "--chart", webChart(t))
	w := &stepping{seen: map[string]bool{}, steps: map[string]func(){
		"to be removed": func() { h.Report(id, "web", hubapi.ReleaseStatus{ObservedGeneration: 2, Phase: hubapi.PhaseRemoving}) },
		"Removing":      func() { h.Report(id, "web", hubapi.ReleaseStatus{Phase: hubapi.PhaseRemoved}) },
	}}
	var out safeBuffer
	require.Zero(t, cli.Run(t.Context(), []string{"release", "delete", "web", "-c", "frankfurt", "--yes", "--wait"}, s.world(&out, w)), w.String())
	require.Equal(t, "Release web in cluster frankfurt is gone.\n", out.String())
	require.Equal(t, cli.ExitNotFound, s.run("release", "show", "web", "-c", "frankfurt").status)
}

func TestWatchEndsWithTheRelease(t *testing.T) {
	t.Parallel()
	h := apitest.New(t, apitest.Options{})
	id := populate(h)
	s := newShell(t, h)
	s.ok("release", "apply", "web", "-c", "frankfurt", "-n", "web", "--chart", webChart(t))
	w := &stepping{seen: map[string]bool{}, steps: map[string]func(){
		"waiting for the agent": func() { report(h, id, "web") },
		"Ready  2/2":            func() { h.Report(id, "web", hubapi.ReleaseStatus{Phase: hubapi.PhaseRemoved}) },
	}}
	var errs safeBuffer
	require.Zero(t, cli.Run(t.Context(), []string{"release", "watch", "web", "-c", "frankfurt"}, s.world(w, &errs)), errs.String())
	require.Equal(t, "12:00:00  waiting for the agent\n12:00:00  Ready  2/2 ready\n", w.String())
	require.Equal(t, "Release web is gone.\n", errs.String())
}

func TestEventsFollow(t *testing.T) {
	t.Parallel()
	h := apitest.New(t, apitest.Options{})
	populate(h)
	s := newShell(t, h)
	s.ok("cluster", "create", "one")
	ctx, stop := contextWithStop(t)
	w := &stepping{seen: map[string]bool{}, steps: map[string]func(){
		"cluster one was created": func() { s.run("cluster", "create", "two") },
		"cluster two was created": stop,
	}}
	var errs safeBuffer
	require.Equal(t, cli.ExitInterrupted, cli.Run(ctx, []string{"events", "--follow", "--type", "cluster.created"}, s.world(w, &errs)))
	require.Equal(t, 2, strings.Count(w.String(), "\n"), w.String())
}
