package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub"
	"github.com/budecosystem/budcluster/internal/config"
	"github.com/budecosystem/budcluster/internal/testutil"
)

func run(t *testing.T, env []string, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	root := newRoot(program{env: env, out: &out, err: &out})
	root.SetArgs(args)
	err := root.ExecuteContext(t.Context())
	return out.String(), err
}

func TestHelpIsGoldenAndHasExamples(t *testing.T) {
	t.Parallel()
	var text bytes.Buffer
	var walk func(path []string, c *cobra.Command)
	walk = func(path []string, c *cobra.Command) {
		require.NotEmpty(t, c.Example, "%v has no example", path)
		out, err := run(t, nil, append(path, "--help")...)
		require.NoError(t, err)
		text.WriteString(">>> budcluster-hub")
		for _, p := range path {
			text.WriteString(" " + p)
		}
		text.WriteString(" --help\n" + out + "\n")
		for _, sub := range c.Commands() {
			walk(append(slices.Clip(path), sub.Name()), sub)
		}
	}
	walk(nil, newRoot(program{}))
	testutil.Golden(t, "help", text.Bytes())
}

func TestDefaultConfigIsGoldenAndLoads(t *testing.T) {
	t.Parallel()
	out, err := run(t, nil, "default-config")
	require.NoError(t, err)
	testutil.Golden(t, "default-config", []byte(out))

	file := filepath.Join(t.TempDir(), "hub.yaml")
	require.NoError(t, os.WriteFile(file, []byte(out), 0o600))
	var cfg hub.Config
	require.NoError(t, config.Load(&cfg, config.Source{File: file}))
	require.Empty(t, cfg.Tunnel.Names)
	require.Empty(t, cfg.Webhooks.AllowedNetworks)
	require.Empty(t, cfg.Bootstrap.DenyNetworks)
	cfg.Tunnel.Names, cfg.Webhooks.AllowedNetworks, cfg.Bootstrap.DenyNetworks = nil, nil, nil
	require.Equal(t, hub.Defaults(), cfg)
}

func TestBadSettingsAreSentences(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		env  []string
		args []string
		says string
	}{
		"unknown variable": {env: []string{"BUDCLUSTER_DATABASE_ULR=x"}, args: []string{"serve"}, says: "BUDCLUSTER_DATABASE_URL"},
		"bad duration":     {env: []string{"BUDCLUSTER_SESSION_LEASE=soon"}, args: []string{"serve"}, says: "is not a duration"},
		"no database":      {args: []string{"serve"}, says: "databaseURL: is not set"},
		"no name":          {args: []string{"admin", "create-key"}, says: `"name" not set`},
		"no such file":     {args: []string{"serve", "--config", "/nowhere"}, says: "/nowhere does not exist"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := run(t, tc.env, tc.args...)
			require.ErrorContains(t, err, tc.says)
		})
	}
}

func TestVariablesOfThePlatformAreRead(t *testing.T) {
	t.Parallel()
	var s settings
	cmd := s.with(&cobra.Command{})
	cfg, _, err := s.load(program{env: []string{"NFD_NAMESPACE=bud-system", "NFD_DETECTION_TIMEOUT=90", "BUDCLUSTER_COMPONENTS=NFD_DETECTION_TIMEOUT=60"}}, cmd, func(hub.Config) error { return nil })
	require.NoError(t, err)
	require.Equal(t, map[string]string{"NFD_NAMESPACE": "bud-system", "NFD_DETECTION_TIMEOUT": "60"}, cfg.Components)
}

func TestForeignVariablesAreLeftAlone(t *testing.T) {
	t.Parallel()
	_, err := run(t, []string{"BUDCLUSTER_AGENT_POD_NAME=x", "BUDCLUSTER_URL=x"}, "serve")
	require.ErrorContains(t, err, "databaseURL")
	require.NotContains(t, err.Error(), "BUDCLUSTER_AGENT")
	require.NotContains(t, err.Error(), "BUDCLUSTER_URL:")
}
