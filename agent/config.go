package agent

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"time"
)

// EnvPrefix begins each environment variable of the agent.
const EnvPrefix = "BUDCLUSTER_AGENT"

// Config is everything that can be set. The chart writes it as agent.yaml; each
// key is also a flag and a variable.
type Config struct {
	Hub            HubConfig            `yaml:"hub"`
	TokenFile      string               `yaml:"tokenFile" usage:"file that holds the join token; needed until the cluster has joined"`
	Namespace      string               `yaml:"namespace" usage:"the agent's own namespace"`
	PodName        string               `yaml:"podName" usage:"name of the agent's pod; empty outside a cluster"`
	IdentitySecret string               `yaml:"identitySecret" usage:"name of the Secret that keeps the agent's identity"`
	Installation   InstallationConfig   `yaml:"installation"`
	LeaderElection LeaderElectionConfig `yaml:"leaderElection"`
	Proxy          ProxyConfig          `yaml:"proxy"`
	ImageMirrors   map[string]string    `yaml:"imageMirrors" usage:"image rewrites for every release, prefix=replacement"`
	Drift          DriftConfig          `yaml:"drift"`
	Inventory      InventoryConfig      `yaml:"inventory"`
	Releases       ReleasesConfig       `yaml:"releases"`
	Listen         string               `yaml:"listen" usage:"address of /healthz, /readyz and /metrics"`
	Log            LogConfig            `yaml:"log"`
	Kubeconfig     string               `yaml:"kubeconfig" usage:"kubeconfig for development; empty means the pod's service account"`
}

// HubConfig says where the hub is.
type HubConfig struct {
	Addresses  []string `yaml:"addresses" usage:"host:port of the hub's tunnel; several are tried in random order"`
	ServerName string   `yaml:"serverName" usage:"name in the hub's certificate; empty means the host of each address"`
}

// InstallationConfig says what the agent's chart made, so that the agent can
// take itself out of the cluster when the hub retires it.
type InstallationConfig struct {
	Release    string `yaml:"release" usage:"name of the agent's own Helm release; empty when it was not installed by Helm"`
	Deployment string `yaml:"deployment" usage:"name of the agent's own Deployment; empty outside a cluster"`
	Anchor     string `yaml:"anchor" usage:"ClusterRole of the agent's chart that is deleted last and takes the rest along; empty when the chart made no roles"`
}

// LeaderElectionConfig lets one of several agents work.
type LeaderElectionConfig struct {
	Enabled   bool   `yaml:"enabled" usage:"elect one of several agents; off only for a single process in development"`
	LeaseName string `yaml:"leaseName" usage:"name of the Lease"`
}

// ProxyConfig is the way out of the site.
type ProxyConfig struct {
	HTTPS           string `yaml:"https" usage:"HTTP CONNECT proxy for the way to the hub, http://host:port or https://host:port"`
	No              string `yaml:"no" usage:"hosts that are dialed directly, in the form of NO_PROXY"`
	CAFile          string `yaml:"caFile" usage:"PEM certificates to trust for an https proxy, beside the system's"`
	CredentialsFile string `yaml:"credentialsFile" usage:"file that holds user:password for the proxy"`
}

// DriftConfig is about objects that others change.
type DriftConfig struct {
	Interval time.Duration `yaml:"interval" usage:"how often a quiet release is looked at"`
}

// InventoryConfig is about what is reported.
type InventoryConfig struct {
	Debounce        time.Duration `yaml:"debounce" usage:"how long changes are gathered into one message"`
	SummaryInterval time.Duration `yaml:"summaryInterval" usage:"how often the digests are compared with the hub's"`
	SuspectGrace    time.Duration `yaml:"suspectGrace" usage:"how long a device whose labels vanished stays"`
}

// ReleasesConfig is about Helm.
type ReleasesConfig struct {
	Workers int `yaml:"workers" usage:"Helm operations that render or apply at once"`
}

// LogConfig is about the log.
type LogConfig struct {
	Level  string `yaml:"level" usage:"debug, info, warn or error"`
	Format string `yaml:"format" usage:"json or text"`
}

// Default is the configuration of an agent that was told nothing.
func Default() Config {
	return Config{ //nolint:gosec // paths and names, no credentials
		TokenFile:      "/var/run/secrets/budcluster/join/token",
		Namespace:      "budcluster-system",
		IdentitySecret: "budcluster-agent-identity",
		LeaderElection: LeaderElectionConfig{Enabled: true, LeaseName: "budcluster-agent"},
		Drift:          DriftConfig{Interval: time.Minute},
		Inventory:      InventoryConfig{Debounce: 200 * time.Millisecond, SummaryInterval: 5 * time.Minute, SuspectGrace: 10 * time.Minute},
		Releases:       ReleasesConfig{Workers: 4},
		Listen:         ":8080",
		Log:            LogConfig{Level: "info", Format: "json"},
	}
}

// Check reports everything that is wrong at once, each with its key, its value
// and what would be right.
func (c *Config) Check() error {
	var errs []error
	wrong := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	wrong(len(c.Hub.Addresses) == 0, "hub.addresses is empty: name at least one host:port of the hub's tunnel")
	for _, a := range c.Hub.Addresses {
		host, port, err := net.SplitHostPort(a)
		_, notNumber := strconv.ParseUint(port, 10, 16)
		wrong(err != nil || host == "" || notNumber != nil, "hub.addresses has %q, which is not host:port, e.g. hub.example.com:8443", a)
	}
	wrong(c.Namespace == "", "namespace is empty: name the agent's own namespace")
	wrong(c.IdentitySecret == "", "identitySecret is empty: name the Secret that keeps the identity")
	wrong(c.TokenFile == "", "tokenFile is empty: name the file that holds the join token")
	wrong(c.LeaderElection.Enabled && c.LeaderElection.LeaseName == "", "leaderElection.leaseName is empty: name the Lease")
	_, _, err := net.SplitHostPort(c.Listen)
	wrong(err != nil, "listen is %q, which is not host:port, e.g. :8080", c.Listen)
	for key, d := range map[string]time.Duration{
		"drift.interval": c.Drift.Interval, "inventory.debounce": c.Inventory.Debounce,
		"inventory.summaryInterval": c.Inventory.SummaryInterval, "inventory.suspectGrace": c.Inventory.SuspectGrace,
	} {
		wrong(d <= 0, "%s is %s and must be more than nothing, e.g. 1m", key, d)
	}
	wrong(c.Releases.Workers < 1, "releases.workers is %d and must be at least 1", c.Releases.Workers)
	switch c.Log.Level {
	case "debug", "info", "warn", "error":
	default:
		wrong(true, "log.level is %q and must be debug, info, warn or error", c.Log.Level)
	}
	wrong(c.Log.Format != "json" && c.Log.Format != "text", "log.format is %q and must be json or text", c.Log.Format)
	if c.Proxy.HTTPS != "" {
		u, err := url.Parse(c.Proxy.HTTPS)
		// The value is not repeated: it may hold a password.
		wrong(err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https"), "proxy.https is not a URL of the form http://host:port or https://host:port")
	}
	return errors.Join(errs...)
}
