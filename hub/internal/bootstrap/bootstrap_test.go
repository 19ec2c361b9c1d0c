package bootstrap_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/internal/bootstrap"
	"github.com/budecosystem/budcluster/hub/internal/invalid"
	"github.com/budecosystem/budcluster/internal/install"
	"github.com/budecosystem/budcluster/internal/secret"
)

// TestMain is also the child: the installer runs this program with the
// argument install, as it would the agent's.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "install" {
		os.Exit(pretend())
	}
	os.Exit(m.Run())
}

const token, uid = "the-administrators-token", "0b8c1c0a-0000-4000-8000-000000000001"

// pretend is a scripted installer. The script is the name of the kubeconfig's
// user, for a child has no environment and no other arguments.
func pretend() int {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, install.MaxLine)
	say := func(s install.Stage) {
		line, _ := json.Marshal(s)
		_, _ = os.Stdout.Write(append(line, '\n'))
	}
	if !lines.Scan() {
		return 3
	}
	var req install.Request
	if json.Unmarshal(lines.Bytes(), &req) != nil || len(os.Environ()) > 0 {
		return 4
	}
	script := "fine"
	for _, name := range []string{"silent", "foreign", "gibberish", "panics", "endless", "refused", "stuck", "hangs"} {
		if strings.Contains(req.Kubeconfig, "name: "+name) {
			script = name
		}
	}
	switch script {
	case "silent":
		_, _ = io.Copy(io.Discard, os.Stdin)
		return 0
	case "gibberish":
		fmt.Println("Usage: something else")
		_, _ = io.Copy(io.Discard, os.Stdin)
		return 0
	case "panics":
		fmt.Fprintln(os.Stderr, "panic: with "+token)
		return 2
	case "endless":
		for {
			say(install.Stage{Stage: install.Waiting, Message: "x"})
		}
	}
	say(install.Stage{Stage: install.Checked, Server: "https://k8s:6443"})
	if script == "foreign" {
		say(install.Stage{Stage: install.Failed, Reason: install.ForeignAgent, Message: "an agent of another hub is there"})
		_, _ = io.Copy(io.Discard, os.Stdin)
		return 0
	}
	say(install.Stage{Stage: install.Ready, ServerVersion: "v1.33.1", ClusterUID: uid})
	for lines.Scan() {
		var o install.Order
		_ = json.Unmarshal(lines.Bytes(), &o)
		switch {
		case o.Undo:
			say(install.Stage{Stage: install.Undoing})
			say(install.Stage{Stage: install.Undone, Left: []string{"namespace x is not empty"}})
		case o.Go && script == "refused":
			say(install.Stage{Stage: install.Installing})
			say(install.Stage{Stage: install.Failed, Reason: install.NotInstalled, Message: "forbidden"})
		case o.Go && script == "hangs":
			time.Sleep(time.Hour)
		case o.Go:
			say(install.Stage{Stage: install.Installing, Message: o.JoinToken + string(o.Values) + req.Hub.Pin})
			say(install.Stage{Stage: install.Installed})
			say(install.Stage{Stage: install.Waiting, Message: "0 of 1 ready: ErrImagePull"})
			if script != "stuck" {
				say(install.Stage{Stage: install.Connected})
			}
		}
	}
	return 0
}

func kubeconfig(script string) []byte {
	return fmt.Appendf(nil, `current-context: a
contexts: [{name: a, context: {cluster: c, user: %[1]s}}]
clusters: [{name: c, cluster: {server: 'https://k8s:6443'}}]
users: [{name: %[1]s, user: {token: %[2]s}}]
`, script, token)
}

type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func installer(t *testing.T, change func(*bootstrap.Config)) (*bootstrap.Installer, *safeBuffer) {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	log := &safeBuffer{}
	cfg := bootstrap.Config{
		Binary: self, HubAddresses: []string{"hub:8443"}, Pin: func(context.Context) (string, error) { return "pin", nil },
		Logger: slog.New(slog.NewTextHandler(log, nil)),
	}
	if change != nil {
		change(&cfg)
	}
	i, err := bootstrap.New(cfg)
	require.NoError(t, err)
	return i, log
}

func begin(t *testing.T, script string) (*bootstrap.Run, *safeBuffer) {
	t.Helper()
	i, log := installer(t, nil)
	file := kubeconfig(script)
	r, err := i.Begin(t.Context(), bootstrap.Request{Kubeconfig: file})
	require.NoError(t, err)
	t.Cleanup(r.Close)
	require.Equal(t, make([]byte, len(file)), file, "the upload is wiped")
	return r, log
}

func TestInstall(t *testing.T) {
	t.Parallel()
	r, _ := begin(t, "fine")
	require.Equal(t, bootstrap.Found{Server: "https://k8s:6443", UID: uid, Version: "v1.33.1"}, r.Found())
	var stages []install.Name
	var said string
	note := func(s install.Stage) { stages, said = append(stages, s.Stage), said+s.Message }
	require.NoError(t, r.Go(t.Context(), bootstrap.Order{JoinToken: secret.New("bud1"), Values: map[string]any{"a": 1}}))
	require.NoError(t, r.Installed(t.Context(), note))
	require.NoError(t, r.Await(t.Context(), note))
	require.Equal(t, []install.Name{install.Installing, install.Installed, install.Waiting, install.Connected}, stages)
	require.Contains(t, said, `bud1{"a":1}pin`)
	left, err := r.Undo(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{"namespace x is not empty"}, left)
	r.Close()
	_, err = r.Undo(t.Context())
	require.Error(t, err)
}

func TestUndoAfterFailure(t *testing.T) {
	t.Parallel()
	r, _ := begin(t, "refused")
	var failed *bootstrap.Error
	require.NoError(t, r.Go(t.Context(), bootstrap.Order{}))
	require.ErrorAs(t, r.Installed(t.Context(), nil), &failed)
	require.Equal(t, install.NotInstalled, failed.Reason)
	require.False(t, failed.LaterMayWork())
	_, err := r.Undo(t.Context())
	require.NoError(t, err)
}

// TestAwaitSaysWhy: an agent whose pod does not start is told with the pod's
// own reason.
func TestAwaitSaysWhy(t *testing.T) {
	t.Parallel()
	r, _ := begin(t, "stuck")
	require.NoError(t, r.Go(t.Context(), bootstrap.Order{}))
	require.NoError(t, r.Installed(t.Context(), nil))
	ctx, cancel := context.WithCancel(t.Context())
	err := r.Await(ctx, func(s install.Stage) {
		if s.Stage == install.Waiting {
			cancel()
		}
	})
	require.ErrorContains(t, err, "ErrImagePull")
}

func TestBeginRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		script string
		change func(*bootstrap.Config)
		reason install.Reason
	}{
		"an agent of another hub": {"foreign", nil, install.ForeignAgent},
		"another program":         {"gibberish", nil, install.Broken},
		"one that talks too much": {"endless", nil, install.TimedOut},
		"an unreachable cluster":  {"silent", func(c *bootstrap.Config) { c.CheckTimeout = 50 * time.Millisecond }, install.TimedOut},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i, _ := installer(t, c.change)
			_, err := i.Begin(t.Context(), bootstrap.Request{Kubeconfig: kubeconfig(c.script)})
			if c.script == "endless" { // it is stopped, and has not said that it is ready
				require.ErrorIs(t, err, bootstrap.ErrClosed)
				return
			}
			var failed *bootstrap.Error
			require.ErrorAs(t, err, &failed)
			require.Equal(t, c.reason, failed.Reason)
		})
	}
}

// TestPanicShowsNoSecret: what a child complained about is in the log, without
// what it was given.
func TestPanicShowsNoSecret(t *testing.T) {
	t.Parallel()
	i, log := installer(t, nil)
	_, err := i.Begin(t.Context(), bootstrap.Request{Kubeconfig: kubeconfig("panics")})
	require.ErrorIs(t, err, bootstrap.ErrClosed)
	require.Contains(t, log.String(), "[redacted]")
	require.NotContains(t, log.String(), token)
}

func TestCheckNamesFields(t *testing.T) {
	t.Parallel()
	i, _ := installer(t, nil)
	err := i.Check(bootstrap.Request{Kubeconfig: bytes.Replace(kubeconfig("x"), []byte("https:"), []byte("http:"), 1)})
	require.Equal(t, "kubeconfig.clusters[c].cluster.server", invalid.Of(err)[0].Field)
	require.NoError(t, i.Check(bootstrap.Request{Kubeconfig: kubeconfig("x")}))
	_, err = i.Begin(t.Context(), bootstrap.Request{Kubeconfig: []byte("a: b")})
	require.NotEmpty(t, invalid.Of(err))
}

// TestFewAtOnce: the next one waits until a child has ended.
func TestFewAtOnce(t *testing.T) {
	t.Parallel()
	i, _ := installer(t, func(c *bootstrap.Config) { c.Limit = 1 })
	first, err := i.Begin(t.Context(), bootstrap.Request{Kubeconfig: kubeconfig("fine")})
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err = i.Begin(ctx, bootstrap.Request{Kubeconfig: kubeconfig("fine")})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	first.Close()
	second, err := i.Begin(t.Context(), bootstrap.Request{Kubeconfig: kubeconfig("fine")})
	require.NoError(t, err)
	second.Close()
}

func TestLifetimeEndsAChild(t *testing.T) {
	t.Parallel()
	i, _ := installer(t, func(c *bootstrap.Config) { c.Lifetime = time.Second })
	r, err := i.Begin(t.Context(), bootstrap.Request{Kubeconfig: kubeconfig("hangs")})
	require.NoError(t, err)
	require.NoError(t, r.Go(t.Context(), bootstrap.Order{}))
	require.ErrorIs(t, r.Installed(t.Context(), nil), bootstrap.ErrClosed)
}

func TestNoBinary(t *testing.T) {
	t.Parallel()
	i, _ := installer(t, func(c *bootstrap.Config) { c.Binary = filepath.Join(t.TempDir(), "none") })
	_, err := i.Begin(t.Context(), bootstrap.Request{Kubeconfig: kubeconfig("fine")})
	require.ErrorContains(t, err, "agentBinary")
	_, err = bootstrap.New(bootstrap.Config{})
	require.Error(t, err)
}
