package agent_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/agent"
)

func TestConfigCheck(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*agent.Config)
		want   string // empty: fine
	}{
		"default with an address": {func(*agent.Config) {}, ""},
		"no address":              {func(c *agent.Config) { c.Hub.Addresses = nil }, "hub.addresses"},
		"address with a scheme":   {func(c *agent.Config) { c.Hub.Addresses = []string{"https://hub"} }, "hub.addresses"},
		"no namespace":            {func(c *agent.Config) { c.Namespace = "" }, "namespace"},
		"no lease":                {func(c *agent.Config) { c.LeaderElection.LeaseName = "" }, "leaderElection.leaseName"},
		"no lease, no election":   {func(c *agent.Config) { c.LeaderElection = agent.LeaderElectionConfig{} }, ""},
		"listen":                  {func(c *agent.Config) { c.Listen = "8080" }, "listen"},
		"zero interval":           {func(c *agent.Config) { c.Drift.Interval = 0 }, "drift.interval"},
		"negative grace":          {func(c *agent.Config) { c.Inventory.SuspectGrace = -time.Second }, "inventory.suspectGrace"},
		"workers":                 {func(c *agent.Config) { c.Releases.Workers = 0 }, "releases.workers"},
		"level":                   {func(c *agent.Config) { c.Log.Level = "loud" }, "log.level"},
		"format":                  {func(c *agent.Config) { c.Log.Format = "xml" }, "log.format"},
		"proxy":                   {func(c *agent.Config) { c.Proxy.HTTPS = "proxy:3128" }, "proxy.https"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := agent.Default()
			cfg.Hub.Addresses = []string{"hub.example.com:8443"}
			c.change(&cfg)
			err := cfg.Check()
			if c.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, c.want)
		})
	}
}

// TestProxyFiles: the files that the proxy's settings name are read at start,
// and what is wrong with them is said with the setting's name.
func TestProxyFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	for name, c := range map[string]struct {
		proxy agent.ProxyConfig
		want  string
	}{
		"fine":           {agent.ProxyConfig{HTTPS: "http://p:3128", CredentialsFile: file("good", "user:pa:ss\n")}, ""},
		"no credentials": {agent.ProxyConfig{HTTPS: "http://p:3128", CredentialsFile: filepath.Join(dir, "none")}, "proxy.credentialsFile"},
		"half":           {agent.ProxyConfig{HTTPS: "http://p:3128", CredentialsFile: file("half", "user")}, "proxy.credentialsFile"},
		"no certificate": {agent.ProxyConfig{HTTPS: "https://p:3129", CAFile: file("ca", "nonsense")}, "proxy.caFile"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := agent.Default()
			cfg.Hub.Addresses, cfg.Proxy, cfg.Kubeconfig = []string{"hub:1"}, c.proxy, server.Kubeconfig()
			_, err := agent.New(cfg, agent.Options{Logger: slog.New(slog.DiscardHandler)})
			if c.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, c.want)
			require.NotContains(t, err.Error(), "pa:ss")
		})
	}
}
