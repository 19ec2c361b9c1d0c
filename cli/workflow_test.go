package cli_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/cli"
	"github.com/budecosystem/budcluster/hub/apitest"
	"github.com/budecosystem/budcluster/hub/hubapi"
	"github.com/budecosystem/budcluster/internal/testutil"
)

func TestWorkTranscript(t *testing.T) {
	t.Parallel()
	h := apitest.New(t, apitest.Options{})
	s := newShell(t, h)
	var out strings.Builder
	show := func(args ...string) result {
		t.Helper()
		r := s.run(args...)
		fmt.Fprintf(&out, "$ budcluster %s\n%s%s", strings.Join(args, " "), r.err, r.out)
		if r.status != 0 {
			fmt.Fprintf(&out, "(exit %d)\n", r.status)
		}
		out.WriteString("\n")
		return r
	}
	show("cluster", "register", "oslo", "--with", "hami", "--without", "hami")
	show("cluster", "register", "oslo", "--label", "site=no", "--with", "aibrix", "--without", "prometheus-stack")
	show("cluster", "register", "oslo")
	id := strings.TrimSpace(s.run("workflow", "list", "-o", "name").out)
	at, now := apitest.Now().Add(-90*time.Second), apitest.Now()
	h.Work(id, hubapi.Workflow{Status: hubapi.WorkflowRunning, Steps: []hubapi.WorkflowStep{
		{Status: hubapi.StepWaiting, StartedAt: &at, Message: "install the agent"},
	}})
	show("workflow", "list", "--active")
	show("workflow", "show", id)
	show("workflow", "retry", id)
	show("workflow", "cancel", id)
	h.Work(id, hubapi.Workflow{Status: hubapi.WorkflowCancelled, Reason: "Cancelled", Message: "cancelled by admin", Steps: []hubapi.WorkflowStep{
		{Status: hubapi.StepCancelled, StartedAt: &at, FinishedAt: &now, WaitedMillis: 80_000},
	}})
	show("workflow", "watch", id)
	show("workflow", "cancel", id)
	show("workflow", "list", "-o", "wide")
	show("component", "list")
	show("component", "list", "--cluster", "oslo", "-o", "wide")
	show("component", "install", "hami")
	show("component", "install", "nothing", "--cluster", "oslo")
	show("component", "install", "nfd", "--cluster", "oslo")
	show("component", "remove", "nfd", "--cluster", "oslo", "--yes")
	show("component", "upgrade", "nfd", "--cluster", "oslo", "--cluster", "nowhere", "--wave", "2")
	show("cluster", "remove", "nowhere", "--yes")
	testutil.Golden(t, "work", testutil.NormaliseDigests([]byte(out.String())))
}

// With a kubeconfig the hub installs the agent: no command is printed. What is
// wrong with the file is said in the hub's words, and nothing of it shown.
func TestRegisterWithAKubeconfig(t *testing.T) {
	t.Parallel()
	const good = `{apiVersion: v1, kind: Config, current-context: oslo, contexts: [{name: oslo, context: {cluster: oslo, user: ann}}],
		clusters: [{name: oslo, cluster: {server: "https://oslo.example.com:6443"}}], users: [{name: ann, user: {token: hunter2}}]}`
	s := newShell(t, apitest.New(t, apitest.Options{}))
	s.in = good
	out := s.ok("cluster", "register", "oslo", "--kubeconfig", "-")
	require.Contains(t, out, "budcluster workflow watch")
	require.NotContains(t, out, "helm install")
	file := writeFile(t, filepath.Join(t.TempDir(), "bergen.yaml"), strings.ReplaceAll(good, "token: hunter2", "token: hunter2, exec: {command: aws}"))
	for _, bad := range []struct {
		args   []string
		status int
		says   string
	}{
		{[]string{"--kubeconfig", file}, cli.ExitFailed, "kubeconfig.users[ann].user.exec"},
		{[]string{"--kubeconfig", file + "x"}, cli.ExitFailed, "no such file"},
		{[]string{"--kubeconfig", writeFile(t, filepath.Join(t.TempDir(), "empty"), "\n")}, cli.ExitUsage, "is empty; kubectl config view"},
		{[]string{"--kubeconfig", file, "--token-ttl", "1h"}, cli.ExitUsage, "leave one of them out"},
	} {
		r := s.run(append([]string{"cluster", "register", "bergen"}, bad.args...)...)
		require.Equal(t, bad.status, r.status, "%s%s", r.out, r.err)
		require.Contains(t, r.err, bad.says)
		require.NotContains(t, r.out+r.err, "hunter2")
	}
}

// Whoever watches sees each change of a step, and the exit status says how it
// ended.
func TestWatchAWorkflow(t *testing.T) {
	t.Parallel()
	h := apitest.New(t, apitest.Options{})
	s := newShell(t, h)
	require.Equal(t, cli.ExitOK, s.run("cluster", "register", "oslo").status)
	id := strings.TrimSpace(s.run("workflow", "list", "-o", "name").out)
	ended := make(chan result, 1)
	go func() { ended <- s.run("workflow", "watch", id) }()
	require.Eventually(t, func() bool { return h.Streams() > 0 }, time.Minute, time.Millisecond)
	h.Work(id, hubapi.Workflow{Status: hubapi.WorkflowRunning, Steps: []hubapi.WorkflowStep{{Status: hubapi.StepWaiting, Message: "waiting"}}})
	h.Work(id, hubapi.Workflow{Status: hubapi.WorkflowCompleted, Steps: []hubapi.WorkflowStep{
		{Status: hubapi.StepCompleted, Message: "it is connected"}, {Status: hubapi.StepCompleted, Message: "2 of 2 nodes are ready"},
	}})
	r := <-ended
	require.Equal(t, cli.ExitOK, r.status)
	require.Contains(t, r.err, "Waiting for the agent  it is connected")
	require.Contains(t, r.err, "Reading the inventory  2 of 2 nodes are ready")
	require.Contains(t, r.out, "is done")
}
