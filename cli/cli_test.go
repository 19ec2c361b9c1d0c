package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/cli"
	"github.com/budecosystem/budcluster/hub/apitest"
	"github.com/budecosystem/budcluster/hub/hubapi"
	"github.com/budecosystem/budcluster/internal/testutil"
)

// shell runs command lines as an operator's terminal does.
type shell struct {
	t   *testing.T
	hub *apitest.Hub
	env map[string]string
	in  string
	// tty: a person sits there.
	tty    bool
	config string
	secret string
}

func newShell(t *testing.T, h *apitest.Hub) *shell {
	t.Helper()
	return &shell{
		t: t, hub: h, config: filepath.Join(t.TempDir(), "budcluster", "config.yaml"),
		env: map[string]string{"BUDCLUSTER_URL": h.URL, "BUDCLUSTER_KEY": apitest.AdminKey},
	}
}

// result is what a command line left.
type result struct {
	out, err string
	status   int
}

func (s *shell) run(args ...string) result {
	s.t.Helper()
	var out, errs safeBuffer
	status := cli.Run(s.t.Context(), args, s.world(&out, &errs))
	return result{out: out.String(), err: errs.String(), status: status}
}

func (s *shell) world(out, errs io.Writer) cli.World {
	return cli.World{
		In: strings.NewReader(s.in), Out: out, Err: errs, InTerminal: s.tty, OutTerminal: s.tty, ErrTerminal: s.tty, Width: 100,
		Env: func(name string) string { return s.env[name] }, ConfigFile: s.config, Now: apitest.Now,
		ReadSecret: func() (string, error) { return s.secret, nil },
	}
}

// ok runs and expects success; what is said on the side is added.
func (s *shell) ok(args ...string) string {
	s.t.Helper()
	r := s.run(args...)
	require.Zero(s.t, r.status, "budcluster %s\n%s%s", strings.Join(args, " "), r.out, r.err)
	return r.err + r.out
}

// contextWithStop is what Ctrl-C ends.
func contextWithStop(t *testing.T) (context.Context, func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	return ctx, cancel
}

// safeBuffer is written by the display's goroutine, too.
type safeBuffer struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func writeFile(t *testing.T, path, text string) string {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// webChart is the folder of a chart.
func webChart(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "Chart.yaml"), "apiVersion: v2\nname: web\nversion: 1.2.0\nappVersion: \"2.0\"\ndescription: serves pages\n")
	return dir
}

// Every help is a golden file, and every command has an example.
func TestHelp(t *testing.T) {
	t.Parallel()
	s := newShell(t, apitest.New(t, apitest.Options{}))
	var walk func(path ...string)
	walk = func(path ...string) {
		text := s.ok(append(path, "--help")...)
		name := strings.Join(append([]string{"budcluster"}, path...), "_")
		testutil.Golden(t, filepath.Join("help", name), []byte(text))
		require.Contains(t, text, "Examples:", name)
		for line := range strings.Lines(text) {
			require.LessOrEqual(t, len([]rune(line)), 125, "%s: %s", name, line)
		}
		_, list, found := strings.Cut(text, "Available Commands:\n")
		if !found {
			return
		}
		list, _, _ = strings.Cut(list, "\n\n")
		for line := range strings.Lines(list) {
			if sub := strings.Fields(line)[0]; sub != "help" && sub != "completion" {
				walk(append(append([]string{}, path...), sub)...)
			}
		}
	}
	walk()
}

// One session, as it looks.
func TestTranscript(t *testing.T) {
	t.Parallel()
	h := apitest.New(t, apitest.Options{})
	s := newShell(t, h)
	frankfurt := populate(h)
	chart := webChart(t)
	var out strings.Builder
	show := func(args ...string) {
		t.Helper()
		r := s.run(args...)
		line := strings.ReplaceAll(strings.Join(args, " "), chart, "./web")
		fmt.Fprintf(&out, "$ budcluster %s\n%s%s", line, r.err, r.out)
		if r.status != 0 {
			fmt.Fprintf(&out, "(exit %d)\n", r.status)
		}
		out.WriteString("\n")
	}
	show("cluster", "create", "nantes", "--label", "site=fr")
	show("cluster", "list")
	show("cluster", "list", "-o", "wide")
	show("cluster", "list", "-o", "name")
	show("cluster", "show", "frankfurt")
	show("cluster", "show", "nantes", "-o", "yaml")
	show("token", "create", "nantes", "--ttl", "2h")
	show("token", "list", "nantes")
	show("token", "revoke", "nantes", "tok1")
	show("token", "list", "nantes", "-o", "name")
	show("node", "list")
	show("node", "list", "-c", "lyon", "-o", "wide")
	show("node", "list", "--not-ready", "-o", "name")
	show("node", "show", "worker-1", "--cluster", "frankfurt")
	show("device", "list")
	show("device", "list", "--kind", "cuda", "-c", "frankfurt", "-o", "wide")
	show("chart", "push", chart)
	show("chart", "list")
	show("release", "apply", "web", "-c", "frankfurt", "-n", "web", "--chart", chart, "--set", "replicas=2")
	show("release", "apply", "web", "-c", "frankfurt", "-n", "web", "--chart", chart, "--set", "replicas=2")
	report(h, frankfurt, "web")
	show("release", "list")
	show("release", "list", "--phase", "Ready", "-o", "wide")
	show("release", "show", "web", "-c", "frankfurt")
	show("release", "delete", "web", "-c", "frankfurt", "--yes")
	show("release", "list")
	show("api-key", "create", "ci", "--role", "operator")
	show("api-key", "list")
	show("api-key", "revoke", "key1")
	show("webhook", "create", "pager", "https://ops.example.com/in", "--type", "release.status", "-c", "frankfurt")
	show("webhook", "create", "broken", "https://busy.example.com/in")
	h.Deliver("pager", 4, 204)
	h.Deliver("pager", 3, 422)
	show("webhook", "list")
	show("webhook", "list", "-o", "name")
	show("webhook", "test", "pager")
	show("webhook", "deliveries", "pager")
	show("webhook", "deliveries", "pager", "--status", "Dead", "-o", "name")
	show("webhook", "redeliver", "pager", "3")
	show("webhook", "deliveries", "pager")
	show("webhook", "delete", "pager", "--yes")
	h.Tell("budAppMessages", "results/COMPLETED", "")
	h.Tell("budpipelineEvents", "results/COMPLETED", "publish to budpipelineEvents: no answer in 10s")
	show("message", "list")
	show("message", "list", "--status", "Dead", "-o", "name")
	show("message", "retry", "2")
	show("message", "discard", "2", "--yes")
	show("message", "list")
	show("events")
	show("events", "--last", "2", "-o", "wide")
	show("events", "--after", "3", "--type", "release.applied", "-o", "json")
	show("cluster", "revoke", "lyon", "--yes")
	show("cluster", "delete", "lyon", "--yes")
	show("cluster", "delete", "frankfurt", "--yes")
	show("cluster", "delete", "frankfurt", "--yes", "--force")
	got := testutil.NormaliseDigests([]byte(out.String()))
	// What a compressor makes of a chart is its own affair, and may change.
	got = regexp.MustCompile(`sha256:[0-9a-f]{12}`).ReplaceAll(got, []byte("sha256:<short>    "))
	got = regexp.MustCompile(`\d+B   `).ReplaceAll(got, []byte("<n>B   "))
	testutil.Golden(t, "transcript", got)
}

func TestExitStatus(t *testing.T) {
	t.Parallel()
	h := apitest.New(t, apitest.Options{})
	populate(h)
	chart := webChart(t)
	for name, c := range map[string]struct {
		args   []string
		env    map[string]string
		status int
		says   string
	}{
		"done":                {args: []string{"cluster", "list"}, status: cli.ExitOK},
		"command":             {args: []string{"clusterr"}, status: cli.ExitUsage, says: "clusterr"},
		"sub-command":         {args: []string{"cluster", "explode"}, status: cli.ExitUsage, says: `there is no command "explode"`},
		"flag":                {args: []string{"cluster", "list", "--wat"}, status: cli.ExitUsage, says: "unknown flag: --wat"},
		"arguments":           {args: []string{"cluster", "show"}, status: cli.ExitUsage, says: "accepts 1 arg"},
		"required flag":       {args: []string{"node", "show", "n1"}, status: cli.ExitUsage, says: `required flag(s) "cluster" not set`},
		"exclusive flags":     {args: []string{"node", "list", "--ready", "--not-ready"}, status: cli.ExitUsage, says: "none of the others can be"},
		"output":              {args: []string{"cluster", "list", "-o", "xml"}, status: cli.ExitUsage, says: `--output "xml" is not known; use table, wide, json, yaml or name`},
		"not confirmed":       {args: []string{"cluster", "delete", "lyon"}, status: cli.ExitUsage, says: "Give --yes to confirm"},
		"no chart":            {args: []string{"release", "apply", "x", "-c", "lyon", "-n", "x"}, status: cli.ExitUsage, says: "no chart is given"},
		"no namespace":        {args: []string{"release", "apply", "x", "-c", "lyon", "--chart", chart}, status: cli.ExitUsage, says: "no namespace is named"},
		"no cluster":          {args: []string{"release", "apply", "x", "-n", "x", "--chart", chart}, status: cli.ExitUsage, says: "no cluster is named"},
		"no release":          {args: []string{"release", "apply", "-c", "lyon", "-n", "x", "--chart", chart}, status: cli.ExitUsage, says: "no release is named"},
		"repository":          {args: []string{"release", "apply", "x", "-c", "lyon", "-n", "x", "--chart", "https://h/x"}, status: cli.ExitUsage, says: "name the chart in it with --chart-name"},
		"set":                 {args: []string{"release", "apply", "x", "-c", "lyon", "-n", "x", "--chart", chart, "--set", "a"}, status: cli.ExitUsage, says: "not of the form key=value"},
		"no such chart":       {args: []string{"chart", "push", "/nowhere"}, status: cli.ExitFailed, says: "chart /nowhere: no such file or directory"},
		"no chart folder":     {args: []string{"chart", "push", t.TempDir()}, status: cli.ExitFailed, says: "There is no Chart.yaml"},
		"invalid":             {args: []string{"release", "apply", "x", "-c", "lyon", "-n", "x", "--chart", chart, "--drift", "x", "--timeout", "1s"}, status: cli.ExitFailed, says: "2 values cannot be used.\n  - timeout: 1s is out of range"},
		"not found":           {args: []string{"cluster", "show", "absent"}, status: cli.ExitNotFound, says: `There is no cluster "absent"`},
		"release not found":   {args: []string{"release", "watch", "absent", "-c", "lyon"}, status: cli.ExitNotFound},
		"bad key":             {args: []string{"cluster", "list"}, env: map[string]string{"BUDCLUSTER_KEY": "budk_x_y"}, status: cli.ExitUnauthorised, says: "The API key is not valid"},
		"role":                {args: []string{"api-key", "list"}, env: map[string]string{"BUDCLUSTER_KEY": "budk_viewer_secret"}, status: cli.ExitUnauthorised, says: "needs admin"},
		"no hub":              {args: []string{"cluster", "list"}, env: map[string]string{"BUDCLUSTER_URL": "", "BUDCLUSTER_KEY": ""}, status: cli.ExitUsage, says: "budcluster login URL"},
		"no key":              {args: []string{"cluster", "list"}, env: map[string]string{"BUDCLUSTER_KEY": ""}, status: cli.ExitUsage, says: "there is no API key for http://"},
		"no such key file":    {args: []string{"cluster", "list", "--key-file", "/nowhere"}, status: cli.ExitFailed, says: "read API key"},
		"hub is away":         {args: []string{"cluster", "list"}, env: map[string]string{"BUDCLUSTER_URL": "http://127.0.0.1:1"}, status: cli.ExitUnavailable, says: "cannot be reached"},
		"bad url":             {args: []string{"cluster", "list"}, env: map[string]string{"BUDCLUSTER_URL": "127.0.0.1"}, status: cli.ExitUsage, says: "not an http or https address"},
		"precondition":        {args: []string{"release", "apply", "x", "-c", "lyon", "-n", "x", "--chart", chart, "--if-generation", "4"}, status: cli.ExitFailed, says: "generation 4"},
		"no such context":     {args: []string{"cluster", "list", "--context", "x"}, status: cli.ExitUsage, says: `there is no context "x"`},
		"completion":          {args: []string{"completion", "bash"}, status: cli.ExitOK},
		"group without verbs": {args: []string{"cluster"}, status: cli.ExitOK},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newShell(t, h)
			maps.Copy(s.env, c.env)
			r := s.run(c.args...)
			require.Equal(t, c.status, r.status, r.err)
			require.Contains(t, r.err, c.says)
			if r.status != 0 {
				require.Regexp(t, `^Error: `, r.err)
				require.Empty(t, r.out)
			}
		})
	}
}

// Ctrl-C is not a failure that needs a sentence.
func TestInterrupt(t *testing.T) {
	t.Parallel()
	s := newShell(t, apitest.New(t, apitest.Options{}))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	var out, errs safeBuffer
	require.Equal(t, cli.ExitInterrupted, cli.Run(ctx, []string{"events", "--follow"}, s.world(&out, &errs)))
	require.Empty(t, errs.String())
}

func TestLoginKeepsAContext(t *testing.T) {
	t.Parallel()
	h := apitest.New(t, apitest.Options{})
	s := newShell(t, h)
	s.env = map[string]string{}
	require.Equal(t, cli.ExitUsage, s.run("login", h.URL).status, "nobody there to ask")
	s.tty, s.secret = true, "budk_viewer_secret\n"
	require.Contains(t, s.ok("login", h.URL, "--name", "look"), `as viewer (viewer). The context is "look"`)
	s.tty, s.in = false, apitest.AdminKey+"\n"
	s.ok("login", h.URL+"/", "--name", "admin", "--key-file", "-")
	info, err := os.Stat(s.config)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())

	s.ok("api-key", "list")
	require.Equal(t, cli.ExitUnauthorised, s.run("api-key", "list", "--context", "look").status)
	s.ok("context", "use", "look")
	require.Equal(t, cli.ExitUnauthorised, s.run("api-key", "list").status)
	shown := s.ok("context", "list", "-o", "json") + s.ok("context", "show") + s.ok("context", "list")
	require.NotContains(t, shown, "budk_")
	require.Contains(t, shown, h.URL)
	s.ok("cluster", "list", "--url", h.URL) // the key of the context with this address

	require.NoError(t, os.Chmod(s.config, 0o644))
	require.Contains(t, s.run("cluster", "list").err, "can be read by others; run: chmod 600")
	writeFile(t, s.config, "contextss: {}\n")
	require.Contains(t, s.run("cluster", "list").err, "is not what this command writes")
}

// The key of one hub is never sent to another.
func TestTheKeyStaysWithItsHub(t *testing.T) {
	t.Parallel()
	h, other := apitest.New(t, apitest.Options{}), apitest.New(t, apitest.Options{})
	s := newShell(t, h)
	s.env, s.in = map[string]string{}, apitest.AdminKey
	s.ok("login", h.URL, "--key-file", "-")
	for _, r := range []result{s.run("cluster", "list", "--url", other.URL), func() result {
		s.env["BUDCLUSTER_URL"] = other.URL
		return s.run("cluster", "list")
	}()} {
		require.Equal(t, cli.ExitUsage, r.status)
		require.Contains(t, r.err, "there is no API key for "+other.URL)
	}
}

func TestLoginSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	h := apitest.New(t, apitest.Options{})
	s := newShell(t, h)
	s.env = map[string]string{}
	s.in = "budk_x_wrong"
	r := s.run("login", h.URL, "--key-file", "-")
	require.Equal(t, cli.ExitUnauthorised, r.status)
	require.NoFileExists(t, s.config)
	s.in = "two words"
	require.Contains(t, s.run("login", h.URL, "--key-file", "-").err, "one line with the key")
	s.in = apitest.AdminKey
	r = s.run("login", "http://hub.invalid:1", "--key-file", "-")
	require.Contains(t, r.err, "is not https; the key travels where others may read it")
	require.Equal(t, cli.ExitUsage, s.run("login", "https://u:p@h", "--key-file", "-").status)
}

// Names and messages come from clusters; a terminal obeys what it is sent.
func TestNothingMovesTheCursor(t *testing.T) {
	t.Parallel()
	h := apitest.New(t, apitest.Options{})
	id := h.AddCluster("edge")
	evil := apitest.Node("n1\x1b[2J\x07\u009b31m", 0)
	evil.ReadyMessage, evil.Ready = "a\x1b]0;title\x07\r\nb", false
	evil.Labels = map[string]string{"k\x1b": "v\x1b[1m"}
	evil.Problems = []string{"p\x1b[1m"}
	h.SetNode(id, evil)
	s := newShell(t, h)
	for _, args := range [][]string{{"node", "list", "-o", "wide"}, {"device", "list", "-o", "wide"}, {"node", "show", evil.Name, "-c", "edge"}} {
		out := s.ok(args...)
		require.NotContains(t, out, "\x1b", args)
		require.NotContains(t, out, "\x07", args)
		require.NotContains(t, out, "\u009b", args)
	}
}

func TestColoursOnlyOnATerminal(t *testing.T) {
	t.Parallel()
	h := apitest.New(t, apitest.Options{})
	h.AddCluster("edge")
	s := newShell(t, h)
	require.NotContains(t, s.ok("cluster", "list"), "\x1b")
	s.tty = true
	require.Contains(t, s.ok("cluster", "list"), "\x1b[32mConnected\x1b[0m")
	require.NotContains(t, s.ok("cluster", "list", "-o", "json"), "\x1b")
	s.env["NO_COLOR"] = "1"
	require.NotContains(t, s.ok("cluster", "list"), "\x1b")
}

func TestJSONIsTheHubs(t *testing.T) {
	t.Parallel()
	h := apitest.New(t, apitest.Options{})
	s := newShell(t, h)
	require.JSONEq(t, `{"items":[]}`, s.ok("cluster", "list", "-o", "json"))
	h.AddCluster("edge")
	var c hubapi.Cluster
	require.NoError(t, json.Unmarshal([]byte(s.ok("cluster", "show", "edge", "-o", "json")), &c))
	require.Equal(t, hubapi.ClusterConnected, c.State)
}

func TestCompletion(t *testing.T) {
	t.Parallel()
	h := apitest.New(t, apitest.Options{})
	populate(h)
	s := newShell(t, h)
	require.Contains(t, s.run("__complete", "cluster", "show", "").out, "frankfurt\nlyon\n")
	require.Contains(t, s.run("__complete", "node", "list", "--cluster", "").out, "frankfurt\nlyon\n")
	require.Contains(t, s.run("__complete", "cluster", "list", "-o", "").out, "wide\n")
}

func TestConfirm(t *testing.T) {
	t.Parallel()
	h := apitest.New(t, apitest.Options{})
	h.AddCluster("edge")
	s := newShell(t, h)
	s.tty, s.in = true, "n\n"
	require.Equal(t, cli.ExitFailed, s.run("cluster", "delete", "edge").status)
	s.in = "y\n"
	r := s.run("cluster", "delete", "edge")
	require.Equal(t, "Everything that is known of cluster edge is forgotten. [y/N] ", r.err)
	require.Equal(t, "Cluster edge is deleted.\n", r.out)
}
