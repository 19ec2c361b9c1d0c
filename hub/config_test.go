package hub_test

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub"
	"github.com/budecosystem/budcluster/internal/secret"
)

func valid(t *testing.T) hub.Config {
	t.Helper()
	c := hub.Defaults()
	c.StateDir = t.TempDir()
	c.DatabaseURL = secret.New("postgres://bud@db/bud")
	c.Tunnel.Address = "hub.example.com:8443"
	return c
}

func TestValidateSaysEverything(t *testing.T) {
	t.Parallel()
	require.NoError(t, valid(t).Complete().Validate())
	cases := map[string]struct {
		change func(*hub.Config)
		says   []string // each must be in the error
	}{
		"nothing but defaults": {func(c *hub.Config) { *c = hub.Defaults() }, []string{"databaseURL: is not set", "BUDCLUSTER_DATABASE_URL", "--dev", "tunnel.address: is not set"}},
		"both database URLs":   {func(c *hub.Config) { c.DatabaseURLFile = "/x" }, []string{"databaseURLFile too"}},
		"no database URL":      {func(c *hub.Config) { c.DatabaseURL = secret.New("db:5432 password=hunter2") }, []string{"databaseURL: is not a URL"}},
		"address without port": {func(c *hub.Config) { c.Tunnel.Address = "hub" }, []string{`tunnel.address: "hub" is not of the form host:port`}},
		"port zero":            {func(c *hub.Config) { c.Tunnel.Address = "hub:0" }, []string{"tunnel.address"}},
		"port too high":        {func(c *hub.Config) { c.Tunnel.Address = "hub:70000" }, []string{"tunnel.address"}},
		"shell in address":     {func(c *hub.Config) { c.Tunnel.Address = "a$(id):1" }, []string{"tunnel.address"}},
		"shell in url":         {func(c *hub.Config) { c.API.URL = "http://a;id:80" }, []string{"api.url"}},
		"quote in url":         {func(c *hub.Config) { c.API.URL = "http://a'b:80" }, []string{"api.url"}},
		"path in url":          {func(c *hub.Config) { c.API.URL = "http://a:80/x" }, []string{"api.url"}},
		"webhook network":      {func(c *hub.Config) { c.Webhooks.AllowedNetworks = []string{"10.0.0.1"} }, []string{`webhooks.allowedNetworks: "10.0.0.1" is not a network`}},
		"name":                 {func(c *hub.Config) { c.Tunnel.Names = []string{"ok", "-bad"} }, []string{`tunnel.names: "-bad"`}},
		"half of TLS":          {func(c *hub.Config) { c.API.TLSCertFile = "a" }, []string{"api.tlsCertFile"}},
		"trust domain":         {func(c *hub.Config) { c.TrustDomain = "Bad_Domain" }, []string{"trustDomain"}},
		"times": {func(c *hub.Config) {
			c.Heartbeat.Timeout, c.Session.Lease, c.DrainTimeout, c.Events.Retention, c.Workflows.Retention = time.Second, 1, -1, 1, 1
			c.Certificate.Lifetime, c.Certificate.RenewalGrace, c.Token.TTL = 0, -1, 1
		}, []string{"heartbeat.timeout", "session.lease", "drainTimeout", "events.retention", "workflows.retention", "certificate.lifetime", "certificate.renewalGrace", "token.ttl"}},
		"log":         {func(c *hub.Config) { c.Log = hub.Log{Level: "loud", Format: "xml"} }, []string{"log.level", "log.format"}},
		"environment": {func(c *hub.Config) { c.Dapr.Enabled, c.Dapr.Environment = true, "prod" }, []string{`dapr.environment: "prod" is none of`}},
		"charts dir":  {func(c *hub.Config) { c.ChartsDir = filepath.Join(c.StateDir, "no") }, []string{"chartsDir"}},
		"state dir":   {func(c *hub.Config) { c.StateDir = "" }, []string{"stateDir"}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := valid(t)
			tc.change(&c)
			err := c.Complete().Validate()
			require.Error(t, err)
			for _, s := range tc.says {
				require.Contains(t, err.Error(), s)
			}
			require.NotContains(t, err.Error(), "hunter2", "a database URL never shows")
		})
	}
}

// What an installation of the platform says to all its services counts where the
// hub is not told otherwise.
func TestPlatformVariablesAreInherited(t *testing.T) {
	t.Parallel()
	env := []string{"NFD_NAMESPACE=bud-system", "NFD_DETECTION_TIMEOUT=90", "NAMESPACE=bud-PROD", "HAMI_PORT=1", "BUDCLUSTER_LOG_LEVEL=debug"}
	c := valid(t).Inherit(env)
	require.Equal(t, map[string]string{"NFD_NAMESPACE": "bud-system", "NFD_DETECTION_TIMEOUT": "90"}, c.Components)
	require.Equal(t, hub.EnvironmentProduction, c.Dapr.Environment)

	told := valid(t)
	told.Components, told.Dapr.Environment = map[string]string{"NFD_NAMESPACE": "nfd"}, hub.EnvironmentTesting
	c = told.Inherit(env)
	require.Equal(t, map[string]string{"NFD_NAMESPACE": "nfd", "NFD_DETECTION_TIMEOUT": "90"}, c.Components)
	require.Equal(t, hub.EnvironmentTesting, c.Dapr.Environment)
	require.Equal(t, map[string]string{"NFD_NAMESPACE": "nfd"}, told.Components, "what was given stays as it is")

	for namespace, want := range map[string]string{
		"development": hub.EnvironmentDevelopment, "dev": hub.EnvironmentDevelopment, "PRODUCTION": hub.EnvironmentProduction, "test": hub.EnvironmentTesting,
		"products": "", "budcluster": "", "": "",
	} {
		require.Equal(t, want, valid(t).Inherit([]string{"NAMESPACE=" + namespace}).Dapr.Environment, namespace)
	}
	require.Equal(t, valid(t).Components, valid(t).Inherit(nil).Components)
}

func TestCompleteIsIdempotentAndLocalInDev(t *testing.T) {
	t.Parallel()
	c := hub.Defaults()
	c.Dev = true
	c = c.Complete()
	require.Equal(t, c, c.Complete())
	require.NoError(t, c.Validate())
	require.True(t, strings.HasPrefix(c.API.Listen, "127.0.0.1:"))
	require.NotContains(t, c.Tunnel.Address, "localhost", "pods of a local cluster could not reach it")

	c = valid(t).Complete()
	require.Equal(t, ":8080", c.API.Listen)
}
