package hub

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/budecosystem/budcluster/hub/internal/webhook"
	"github.com/budecosystem/budcluster/internal/secret"
)

// EnvPrefix begins every environment variable of the hub.
const EnvPrefix = "BUDCLUSTER"

// Config is everything that can be set about a hub. It is filled from
// Defaults, a file, BUDCLUSTER_* variables and flags, in that order.
type Config struct {
	StateDir        string            `json:"stateDir" usage:"folder for what the hub keeps on disk"`
	Dev             bool              `json:"dev" usage:"run for trying things out: a private PostgreSQL below the state folder, an admin key on first start, the API on localhost"`
	DatabaseURL     secret.String     `json:"databaseURL" usage:"PostgreSQL URL; it holds a password, so there is no flag for it"`
	DatabaseURLFile string            `json:"databaseURLFile" usage:"file that holds the PostgreSQL URL"`
	API             API               `json:"api"`
	Tunnel          Tunnel            `json:"tunnel"`
	TrustDomain     string            `json:"trustDomain" usage:"trust domain of the identities that this hub gives; it cannot change later"`
	Certificate     Certificate       `json:"certificate"`
	Token           Token             `json:"token"`
	AgentBinary     string            `json:"agentBinary" usage:"program of the agent, which installs it with an uploaded kubeconfig; empty is budcluster-agent beside the hub's own"`
	Bootstrap       Bootstrap         `json:"bootstrap"`
	ChartsDir       string            `json:"chartsDir" usage:"folder of charts that releases may name by path; empty allows none"`
	ComponentsDir   string            `json:"componentsDir" usage:"folder of YAML files that change the catalogue of components or add to it; empty changes nothing"`
	Components      map[string]string `json:"components" usage:"settings of components by their names: NFD_NAMESPACE and NFD_DETECTION_TIMEOUT, of which the variables of these names are read too"`
	Workflows       Workflows         `json:"workflows"`
	Dapr            Dapr              `json:"dapr"`
	CryptoKeysDir   string            `json:"cryptoKeysDir" usage:"folder of the key-encryption key; empty is crypto-keys below the state folder"`
	Log             Log               `json:"log"`
	Events          Events            `json:"events"`
	Webhooks        Webhooks          `json:"webhooks"`
	Heartbeat       Heartbeat         `json:"heartbeat"`
	Session         Session           `json:"session"`
	DrainTimeout    time.Duration     `json:"drainTimeout" usage:"how long a stopping hub waits for its agents to leave"`
}

// API is where operators and programs reach the hub.
type API struct {
	Listen      string `json:"listen" usage:"address of the API; empty is :8080, with --dev 127.0.0.1:8080"`
	URL         string `json:"url" usage:"URL under which the API is reached, for the commands that the hub shows; empty is the one that the request came to"`
	TLSCertFile string `json:"tlsCertFile" usage:"certificate chain of the API in PEM; empty serves plain HTTP, for a proxy in front"`
	TLSKeyFile  string `json:"tlsKeyFile" usage:"private key of the API's certificate in PEM"`
}

// Tunnel is where the agents dial.
type Tunnel struct {
	Listen  string   `json:"listen" usage:"address that agents' connections arrive at; empty is :8443"`
	Address string   `json:"address" usage:"host:port that agents dial, as their clusters see it; with --dev empty is this machine's own address"`
	Names   []string `json:"names" usage:"further DNS names and IP addresses that agents may dial"`
}

// Certificate is how agents' certificates live.
type Certificate struct {
	Lifetime     time.Duration `json:"lifetime" usage:"lifetime of an agent's certificate; agents renew at two thirds"`
	RenewalGrace time.Duration `json:"renewalGrace" usage:"how long after its end a certificate may still be renewed"`
}

// Token is how join tokens live.
type Token struct {
	TTL time.Duration `json:"ttl" usage:"lifetime of a join token unless it is made with another"`
}

// Bootstrap is how an agent gets into a cluster whose kubeconfig is uploaded.
type Bootstrap struct {
	DenyNetworks  []string `json:"denyNetworks" usage:"networks whose addresses no uploaded kubeconfig may lead to, for example 10.0.0.0/16; loopback and link-local ones never may"`
	AllowInsecure bool     `json:"allowInsecure" usage:"accept kubeconfigs with insecure-skip-tls-verify: whoever is on the way can take such a cluster"`
	ImageRegistry string   `json:"imageRegistry" usage:"registry that clusters pull the agent from; empty is the chart's"`
}

// Log is how the hub logs.
type Log struct {
	Level  string `json:"level" usage:"debug, info, warn or error"`
	Format string `json:"format" usage:"text or json"`
}

// Events is the record of what happened.
type Events struct {
	Retention time.Duration `json:"retention" usage:"how long events are kept"`
}

// Webhooks is where the hub tells other programs of events.
type Webhooks struct {
	AllowedNetworks []string `json:"allowedNetworks" usage:"private networks (CIDR) in which webhooks may be; public addresses always may"`
}

// Workflows is how long work is run.
type Workflows struct {
	Engine    string        `json:"engine" usage:"what runs workflows: embedded, on the hub's database; or dapr, by the sidecar"`
	Lease     time.Duration `json:"lease" usage:"how long a step of a hub that was killed stays with it (embedded engine)"`
	Retention time.Duration `json:"retention" usage:"how long workflows are kept that are over"`
}

// The engines.
const (
	EngineEmbedded = "embedded"
	EngineDapr     = "dapr"
)

// Dapr is the sidecar through which the platform is spoken to.
type Dapr struct {
	Enabled      bool   `json:"enabled" usage:"speak to the platform through a Dapr sidecar"`
	HTTPAddress  string `json:"httpAddress" usage:"host:port of the sidecar's HTTP API"`
	GRPCAddress  string `json:"grpcAddress" usage:"host:port of the sidecar's gRPC API"`
	APITokenFile string `json:"apiTokenFile" usage:"file with the token that the sidecar wants to see; empty when it asks for none"`
	AppTokenFile string `json:"appTokenFile" usage:"file with the token that the sidecar shows to the hub; empty takes everybody who reaches the app port for the sidecar"`
	AppListen    string `json:"appListen" usage:"address at which the sidecar reaches the hub"`
	AppID        string `json:"appID" usage:"the hub's app id"`
	PubSub       string `json:"pubsub" usage:"name of the pub/sub component"`
	StateStore   string `json:"stateStore" usage:"name of the state store that the platform shares"`
	ConfigStore  string `json:"configStore" usage:"name of the configuration store; empty reads none"`
	SecretStore  string `json:"secretStore" usage:"name of the secret store that has the database's PSQL_USER and PSQL_PASSWORD, which win over the URL's; empty reads none"`
	SecretName   string `json:"secretName" usage:"secret of that store with both as its keys; empty has each as a secret of its own"`
	PeopleTopic  string `json:"peopleTopic" usage:"topic of the service that tells people; empty tells none"`
	Environment  string `json:"environment" usage:"development, testing or production; the last shows the platform no /docs and /openapi.json; empty is what the variable NAMESPACE says"`
}

// Heartbeat is how the two ends of a tunnel know that the other lives.
type Heartbeat struct {
	Interval time.Duration `json:"interval" usage:"time between two heartbeats on the control stream, in both directions"`
	Timeout  time.Duration `json:"timeout" usage:"silence after which an agent is taken for gone"`
}

// Session is a connected agent in the eyes of all replicas.
type Session struct {
	Lease time.Duration `json:"lease" usage:"how long a session outlives a hub that was killed"`
}

// Defaults is the configuration of which nothing was set.
func Defaults() Config {
	return Config{
		StateDir:    "/var/lib/budcluster",
		TrustDomain: "budcluster.local",
		Certificate: Certificate{Lifetime: 24 * time.Hour, RenewalGrace: 720 * time.Hour},
		Token:       Token{TTL: 24 * time.Hour},
		Log:         Log{Level: "info", Format: "text"},
		Events:      Events{Retention: 720 * time.Hour},
		Heartbeat:   Heartbeat{Interval: 10 * time.Second, Timeout: 25 * time.Second},
		Session:     Session{Lease: 30 * time.Second},
		Components:  map[string]string{},
		Workflows:   Workflows{Engine: EngineEmbedded, Lease: 10 * time.Second, Retention: 2160 * time.Hour},
		Dapr: Dapr{
			HTTPAddress: "127.0.0.1:3500", GRPCAddress: "127.0.0.1:50001", AppListen: ":9081", AppID: "budcluster",
			PubSub: "pubsub", StateStore: "statestore",
		},
		DrainTimeout: 10 * time.Second,
	}
}

// The environments in the platform's words.
const (
	EnvironmentDevelopment = "development"
	EnvironmentTesting     = "testing"
	EnvironmentProduction  = "production"
)

// Inherit takes what is not set from the variables that an installation of the
// platform gives all its services, without EnvPrefix: the settings of components,
// and NAMESPACE. A hub that takes the place of a service finds them where it was.
func (c Config) Inherit(env []string) Config {
	components := map[string]string{}
	for _, variable := range env {
		switch name, value, _ := strings.Cut(variable, "="); name {
		case "NFD_NAMESPACE", "NFD_DETECTION_TIMEOUT":
			components[name] = value
		case "NAMESPACE":
			c.Dapr.Environment = cmp.Or(c.Dapr.Environment, environment(value))
		}
	}
	maps.Copy(components, c.Components)
	c.Components = components
	return c
}

// environment finds an environment in a text, such as bud-prod or Development,
// as the platform's services do; empty if there is none in it.
func environment(text string) string {
	found := regexp.MustCompile(`(?i)\b(dev|prod|test)(elop|elopment|uction|ing|er)?\b`).FindStringSubmatch(text)
	if found == nil {
		return ""
	}
	return map[string]string{"dev": EnvironmentDevelopment, "prod": EnvironmentProduction, "test": EnvironmentTesting}[strings.ToLower(found[1])]
}

// Complete fills what follows from other settings, and is idempotent.
func (c Config) Complete() Config {
	if c.API.Listen == "" {
		c.API.Listen = ":8080"
		if c.Dev {
			c.API.Listen = "127.0.0.1:8080"
		}
	}
	if c.Tunnel.Listen == "" {
		c.Tunnel.Listen = ":8443"
	}
	if c.Tunnel.Address == "" && c.Dev {
		if _, port, err := net.SplitHostPort(c.Tunnel.Listen); err == nil {
			c.Tunnel.Address = net.JoinHostPort(machineAddress(), port)
		}
	}
	if c.AgentBinary == "" {
		c.AgentBinary = besideUs("budcluster-agent")
	}
	if c.CryptoKeysDir == "" {
		c.CryptoKeysDir = filepath.Join(c.StateDir, "crypto-keys")
	}
	return c
}

// besideUs is the path of a program in the folder of this one.
func besideUs(name string) string {
	self, err := os.Executable()
	if err != nil {
		return name
	}
	return filepath.Join(filepath.Dir(self), name)
}

// machineAddress is the address under which the pods of a cluster on this
// machine reach it: localhost would be their own.
func machineAddress() string {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return "127.0.0.1"
	}
	for _, a := range addrs {
		prefix, err := netip.ParsePrefix(a.String())
		if err == nil && prefix.Addr().Is4() && prefix.Addr().IsGlobalUnicast() {
			return prefix.Addr().String()
		}
	}
	return "127.0.0.1"
}

// Validate says everything that is wrong, a sentence each.
func (c Config) Validate() error {
	return errors.Join(slices.Concat(c.checkDatabase(), c.checkAPI(), c.checkTunnel(), c.checkIdentity(), c.checkTimes(), c.checkWorkflows(), c.checkRest())...)
}

// ValidateDatabase says what is wrong for the commands that need nothing but
// the database.
func (c Config) ValidateDatabase() error {
	return errors.Join(slices.Concat(c.checkDatabase(), c.checkRest())...)
}

func wrong(key, format string, args ...any) error {
	return fmt.Errorf("%s: "+format, append([]any{key}, args...)...)
}

func (c Config) checkDatabase() []error {
	var errs []error
	hasURL, hasFile := !c.DatabaseURL.IsZero(), c.DatabaseURLFile != ""
	switch {
	case hasURL && hasFile:
		errs = append(errs, wrong("databaseURL", "is set and databaseURLFile too; keep one of them"))
	case !hasURL && !hasFile && !c.Dev:
		errs = append(errs, wrong("databaseURL", "is not set; give the URL of a PostgreSQL database in %s_DATABASE_URL, or use --dev for a private one", EnvPrefix))
	case hasURL:
		if u, err := url.Parse(c.DatabaseURL.Reveal()); err != nil || (u.Scheme != "postgres" && u.Scheme != "postgresql") {
			errs = append(errs, wrong("databaseURL", "is not a URL that begins with postgres://; write postgres://user:password@host:5432/database"))
		}
	}
	if c.StateDir == "" {
		errs = append(errs, wrong("stateDir", "is empty; name a folder"))
	}
	return errs
}

func (c Config) checkAPI() []error {
	var errs []error
	if err := checkListen("api.listen", c.API.Listen); err != nil {
		errs = append(errs, err)
	}
	if (c.API.TLSCertFile == "") != (c.API.TLSKeyFile == "") {
		errs = append(errs, wrong("api.tlsCertFile", "and api.tlsKeyFile go together; set both, or none for plain HTTP"))
	}
	if u, err := url.Parse(c.API.URL); c.API.URL != "" && (err != nil || (u.Scheme != "http" && u.Scheme != "https") || !hostName(u.Hostname()) || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.User != nil) {
		errs = append(errs, wrong("api.url", "%q is not of the form https://host:port", c.API.URL))
	}
	return errs
}

func (c Config) checkTunnel() []error {
	var errs []error
	if err := checkListen("tunnel.listen", c.Tunnel.Listen); err != nil {
		errs = append(errs, err)
	}
	host, port, err := net.SplitHostPort(c.Tunnel.Address)
	switch {
	case c.Tunnel.Address == "":
		errs = append(errs, wrong("tunnel.address", "is not set; give the host:port that agents dial, for example hub.example.com:8443"))
	case err != nil || !hostName(host) || !isPort(port) || port == "0":
		errs = append(errs, wrong("tunnel.address", "%q is not of the form host:port", c.Tunnel.Address))
	}
	for _, n := range c.Tunnel.Names {
		if !hostName(n) {
			errs = append(errs, wrong("tunnel.names", "%q is neither a DNS name nor an IP address", n))
		}
	}
	return errs
}

func (c Config) checkIdentity() []error {
	var errs []error
	if !dnsName(c.TrustDomain) {
		errs = append(errs, wrong("trustDomain", "%q is not a lower-case DNS name", c.TrustDomain))
	}
	if c.Certificate.Lifetime < time.Second || c.Certificate.Lifetime > 365*24*time.Hour {
		errs = append(errs, wrong("certificate.lifetime", "%s is not between 1s and 8760h", c.Certificate.Lifetime))
	}
	if c.Certificate.RenewalGrace < 0 {
		errs = append(errs, wrong("certificate.renewalGrace", "%s is negative; 0s allows no renewal after the end", c.Certificate.RenewalGrace))
	}
	if c.Token.TTL < time.Minute || c.Token.TTL > 90*24*time.Hour {
		errs = append(errs, wrong("token.ttl", "%s is not between 1m and 2160h", c.Token.TTL))
	}
	return errs
}

func (c Config) checkTimes() []error {
	var errs []error
	if c.Heartbeat.Interval < 10*time.Millisecond {
		errs = append(errs, wrong("heartbeat.interval", "%s is too short; use at least 10ms", c.Heartbeat.Interval))
	}
	if c.Heartbeat.Timeout < 2*c.Heartbeat.Interval {
		errs = append(errs, wrong("heartbeat.timeout", "%s is less than two intervals of %s; one lost frame would end a session", c.Heartbeat.Timeout, c.Heartbeat.Interval))
	}
	if c.Session.Lease < time.Second {
		errs = append(errs, wrong("session.lease", "%s is too short; use at least 1s", c.Session.Lease))
	}
	if c.DrainTimeout < 0 || c.DrainTimeout > 5*time.Minute {
		errs = append(errs, wrong("drainTimeout", "%s is not between 0s and 5m", c.DrainTimeout))
	}
	if c.Workflows.Retention < time.Hour {
		errs = append(errs, wrong("workflows.retention", "%s is too short; use at least 1h", c.Workflows.Retention))
	}
	if c.Events.Retention < time.Hour {
		errs = append(errs, wrong("events.retention", "%s is too short; use at least 1h", c.Events.Retention))
	}
	return errs
}

func (c Config) checkWorkflows() []error {
	var errs []error
	switch {
	case c.Workflows.Engine != EngineEmbedded && c.Workflows.Engine != EngineDapr:
		errs = append(errs, wrong("workflows.engine", "%q is neither embedded nor dapr", c.Workflows.Engine))
	case c.Workflows.Engine == EngineDapr && !c.Dapr.Enabled:
		errs = append(errs, wrong("workflows.engine", "is dapr, and dapr.enabled is not set; set it, or use embedded"))
	}
	if c.Workflows.Lease < time.Second || c.Workflows.Lease > 10*time.Minute {
		errs = append(errs, wrong("workflows.lease", "%s is not between 1s and 10m", c.Workflows.Lease))
	}
	if c.ComponentsDir != "" {
		if info, err := os.Stat(c.ComponentsDir); err != nil || !info.IsDir() {
			errs = append(errs, wrong("componentsDir", "%q is not a folder that the hub can read", c.ComponentsDir))
		}
	}
	if !c.Dapr.Enabled {
		return errs
	}
	if !slices.Contains([]string{"", EnvironmentDevelopment, EnvironmentTesting, EnvironmentProduction}, c.Dapr.Environment) {
		errs = append(errs, wrong("dapr.environment", "%q is none of development, testing and production", c.Dapr.Environment))
	}
	for key, address := range map[string]string{"dapr.httpAddress": c.Dapr.HTTPAddress, "dapr.grpcAddress": c.Dapr.GRPCAddress, "dapr.appListen": c.Dapr.AppListen} {
		if err := checkListen(key, address); err != nil {
			errs = append(errs, err)
		}
	}
	for key, name := range map[string]string{"dapr.appID": c.Dapr.AppID, "dapr.pubsub": c.Dapr.PubSub, "dapr.stateStore": c.Dapr.StateStore} {
		if name == "" {
			errs = append(errs, wrong(key, "is empty; give its name"))
		}
	}
	return errs
}

func (c Config) checkRest() []error {
	var errs []error
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, c.Log.Level) {
		errs = append(errs, wrong("log.level", "%q is none of debug, info, warn and error", c.Log.Level))
	}
	if !slices.Contains([]string{"text", "json"}, c.Log.Format) {
		errs = append(errs, wrong("log.format", "%q is neither text nor json", c.Log.Format))
	}
	if _, err := webhook.NewGuard(c.Webhooks.AllowedNetworks, c.Dev); err != nil {
		errs = append(errs, wrong("webhooks.allowedNetworks", "%w", err))
	}
	for _, n := range c.Bootstrap.DenyNetworks {
		if _, err := netip.ParsePrefix(n); err != nil {
			errs = append(errs, wrong("bootstrap.denyNetworks", "%q is not a network; write one such as 10.0.0.0/16", n))
		}
	}
	if c.ChartsDir != "" {
		if info, err := os.Stat(c.ChartsDir); err != nil || !info.IsDir() {
			errs = append(errs, wrong("chartsDir", "%q is not a folder that the hub can read", c.ChartsDir))
		}
	}
	return errs
}

func checkListen(key, address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil || !isPort(port) || (host != "" && !hostName(host)) {
		return wrong(key, "%q is not of the form host:port or :port", address)
	}
	return nil
}

func isPort(s string) bool {
	return regexp.MustCompile(`^(0|[1-9][0-9]{0,4})$`).MatchString(s) && len(s) <= 5 && (len(s) < 5 || s <= "65535")
}

// hostName is strict, because these values end up in a shell command that the
// hub shows.
func hostName(s string) bool {
	if _, err := netip.ParseAddr(s); err == nil && !strings.Contains(s, "%") {
		return true
	}
	return dnsName(strings.ToLower(s))
}

func dnsName(s string) bool {
	return len(s) <= 253 && regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$`).MatchString(s)
}

// databaseURL reads the URL from where it is.
func (c Config) databaseURL() (string, error) {
	if c.DatabaseURLFile == "" {
		return c.DatabaseURL.Reveal(), nil
	}
	text, err := os.ReadFile(c.DatabaseURLFile)
	if err != nil {
		return "", fmt.Errorf("databaseURLFile: read the database's URL: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}
