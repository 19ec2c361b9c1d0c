package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/internal/config"
	"github.com/budecosystem/budcluster/internal/secret"
	"github.com/budecosystem/budcluster/internal/testutil"
)

type settings struct {
	StateDir        string        `yaml:"stateDir" usage:"where state lies"`
	DatabaseURL     secret.String `yaml:"databaseURL" usage:"PostgreSQL to use"`
	DatabaseURLFile string        `yaml:"databaseURLFile" usage:"file with the URL"`
	Dev             bool          `yaml:"dev" usage:"start a database too"`
	API             struct {
		Listen      string        `json:"listen" usage:"where the API listens"`
		TLSCertFile string        `yaml:"tlsCertFile"`
		Timeout     time.Duration `yaml:"timeout"`
	} `yaml:"api"`
	Limits struct {
		Workers int     `yaml:"workers"`
		Bytes   int64   `yaml:"bytes"`
		Ratio   float64 `yaml:"ratio"`
	} `yaml:"limits"`
	Names   []string          `yaml:"names"`
	Mirrors map[string]string `yaml:"mirrors" usage:"image prefixes to replace"`
	Skipped string            `yaml:"-"`
}

func defaults() settings {
	var s settings
	s.StateDir, s.API.Listen, s.API.Timeout, s.Limits.Workers = "/var/lib/x", ":8080", 10*time.Second, 4
	s.Names = []string{"a", "b"}
	return s
}

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.yaml")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

func flags(t *testing.T, cfg any, args ...string) *pflag.FlagSet {
	t.Helper()
	fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
	require.NoError(t, config.Register(fs, cfg))
	require.NoError(t, fs.Parse(args))
	return fs
}

func TestLaterSourcesWin(t *testing.T) {
	t.Parallel()
	s := defaults()
	file := write(t, `
stateDir: /file
api: {listen: ":1", tlsCertFile: /file.pem, timeout: 1m}
limits: {workers: "7", bytes: 9007199254740993, ratio: 0.5}
names: [x]
mirrors: {registry.k8s.io: registry.site}
dev: true
databaseURL:
`)
	err := config.Load(&s, config.Source{
		File: file, EnvPrefix: "BUDCLUSTER", Flags: flags(t, &s, "--api-listen=:3", "--mirrors=a=b", "--mirrors", "c=d", "--dev=false"),
		Env: []string{"PATH=/bin", "BUDCLUSTER_API_LISTEN=:2", "BUDCLUSTER_API_TLS_CERT_FILE=/env.pem", "BUDCLUSTER_DATABASE_URL=postgres://u:p@h/d", "BUDCLUSTER_NAMES=p, q"},
	})
	require.NoError(t, err)
	require.Equal(t, "/file", s.StateDir)
	require.Equal(t, ":3", s.API.Listen)
	require.Equal(t, "/env.pem", s.API.TLSCertFile)
	require.Equal(t, time.Minute, s.API.Timeout)
	require.Equal(t, "postgres://u:p@h/d", s.DatabaseURL.Reveal())
	require.Equal(t, 7, s.Limits.Workers)
	require.Equal(t, int64(9007199254740993), s.Limits.Bytes)
	require.InDelta(t, 0.5, s.Limits.Ratio, 0)
	require.Equal(t, []string{"p", "q"}, s.Names)
	require.Equal(t, map[string]string{"a": "b", "c": "d"}, s.Mirrors)
	require.False(t, s.Dev)
}

func TestNothingGivenKeepsDefaults(t *testing.T) {
	t.Parallel()
	s := defaults()
	require.NoError(t, config.Load(&s, config.Source{File: write(t, "# empty\n"), Flags: flags(t, &s)}))
	require.Equal(t, defaults(), s)
}

// What users see, reviewed as a whole.
func TestErrors(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	for _, tc := range []struct {
		name string
		file string
		env  []string
	}{
		{name: "unknown key", file: "stateDirs: /x"},
		{name: "unknown key in a section", file: "api: {listn: x}"},
		{name: "nothing like it", file: "zzz: 1"},
		{name: "wrong types", file: "dev: 3\napi: {timeout: 10, listen: 8080}\nnames: a\nmirrors: [a]\nlimits: {workers: yes, ratio: {}}"},
		{name: "list of others", file: "names: [1]\nmirrors: {a: true}"},
		{name: "section", file: "api: x"},
		{name: "bad duration", file: "api: {timeout: 10 seconds}"},
		{name: "not a mapping", file: "- a"},
		{name: "not YAML", file: "a: [b"},
		{name: "twice", file: "dev: true\ndev: false"},
		{name: "environment", env: []string{"BUDCLUSTER_DEVV=1", "BUDCLUSTER_DEV=maybe", "BUDCLUSTER_LIMITS_WORKERS=4.5", "BUDCLUSTER_MIRRORS=a"}},
	} {
		s := defaults()
		src := config.Source{Env: tc.env, EnvPrefix: "BUDCLUSTER"}
		if tc.file != "" {
			src.File = write(t, tc.file)
		}
		err := config.Load(&s, src)
		require.Error(t, err, tc.name)
		text := err.Error()
		if src.File != "" {
			text = strings.ReplaceAll(text, src.File, "config.yaml")
		}
		out.WriteString("# " + tc.name + "\n" + text + "\n")
	}
	testutil.Golden(t, "errors", []byte(out.String()))

	s := defaults()
	require.ErrorContains(t, config.Load(&s, config.Source{File: "/no/such/file"}), "does not exist")
	require.Error(t, config.Load(s, config.Source{}))
	require.Error(t, config.Load(&struct{ C chan int }{}, config.Source{}))
}

func TestEnvironmentOfOthersIsLeftAlone(t *testing.T) {
	t.Parallel()
	s := defaults()
	require.NoError(t, config.Load(&s, config.Source{
		EnvPrefix: "BUDCLUSTER", IgnoreEnv: []string{"BUDCLUSTER_CONTEXT", "BUDCLUSTER_AGENT_*"},
		Env: []string{
			"BUDCLUSTER_CONTEXT=x", "BUDCLUSTER_AGENT_HUB=y", "BUDCLUSTERX=1", "BUDCLUSTER=1",
			// What Kubernetes sets for a Service of that name.
			"BUDCLUSTER_HUB_SERVICE_HOST=10.0.0.1", "BUDCLUSTER_HUB_SERVICE_PORT=80", "BUDCLUSTER_HUB_SERVICE_PORT_HTTP=80", "BUDCLUSTER_HUB_PORT=tcp://10.0.0.1:80",
			"BUDCLUSTER_HUB_PORT_80_TCP=tcp://10.0.0.1:80", "BUDCLUSTER_HUB_PORT_80_TCP_PROTO=tcp", "BUDCLUSTER_HUB_PORT_80_TCP_ADDR=10.0.0.1",
		},
	}))
}

func TestHelp(t *testing.T) {
	t.Parallel()
	s := defaults()
	s.DatabaseURL = secret.New("hunter2")
	usage := flags(t, &s).FlagUsages()
	require.NotContains(t, usage, "hunter2")
	testutil.Golden(t, "help", []byte(usage))

	fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
	fs.SetOutput(&strings.Builder{})
	require.NoError(t, config.Register(fs, &s))
	require.Error(t, config.Register(fs, &s), "the same flags twice")
	require.Error(t, fs.Parse([]string{"--limits-workers=x"}))
	require.NoError(t, fs.Parse([]string{"--dev"}))
}

func FuzzLoad(f *testing.F) {
	f.Add("stateDir: /x\napi: {listen: a}", "BUDCLUSTER_DEV=true")
	f.Add("names: [a, b]\nmirrors: {a: b}\nlimits: {workers: 1e99}", "BUDCLUSTER_MIRRORS==,=")
	f.Add("&a [*a]", "BUDCLUSTER_")
	f.Add("api: &x {listen: *x}", "=")
	f.Fuzz(func(t *testing.T, file, env string) {
		path := write(t, file)
		s := defaults()
		err := config.Load(&s, config.Source{File: path, EnvPrefix: "BUDCLUSTER", Env: []string{env}})
		if err != nil {
			require.NotEmpty(t, err.Error())
		}
	})
}
