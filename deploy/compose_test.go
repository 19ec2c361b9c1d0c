// Package deploy_test checks what can be checked of the Compose files without
// a container engine: the hub takes its settings, Dapr's programs their flags,
// and what one service is given another has.
package deploy_test

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"github.com/budecosystem/budcluster/hub"
	"github.com/budecosystem/budcluster/internal/config"
)

// compose is what these files have of Compose's format; anything else is
// refused.
type compose struct {
	Name     string              `json:"name,omitempty"`
	Services map[string]*service `json:"services"`
	Volumes  map[string]struct{} `json:"volumes"`
	Secrets  map[string]struct {
		Environment string `json:"environment"`
	} `json:"secrets"`
}

type service struct {
	Image       string            `json:"image"`
	Restart     string            `json:"restart"`
	Command     []string          `json:"command"`
	User        string            `json:"user"`
	Environment map[string]string `json:"environment"`
	Ports       []string          `json:"ports"`
	Volumes     []string          `json:"volumes"`
	Tmpfs       []string          `json:"tmpfs"`
	Secrets     []string          `json:"secrets"`
	NetworkMode string            `json:"network_mode"`
	DependsOn   map[string]struct {
		Condition string `json:"condition"`
	} `json:"depends_on"`
	Healthcheck *struct {
		Test        []string `json:"test"`
		Interval    string   `json:"interval"`
		Timeout     string   `json:"timeout"`
		StartPeriod string   `json:"start_period"`
		Retries     int      `json:"retries"`
	} `json:"healthcheck"`
	StopGracePeriod string   `json:"stop_grace_period"`
	ReadOnly        bool     `json:"read_only"`
	CapDrop         []string `json:"cap_drop"`
	SecurityOpt     []string `json:"security_opt"`
}

// given is what the comments of the files say to set.
func given() map[string]string {
	return map[string]string{
		"POSTGRES_PASSWORD": "0123", "BUDCLUSTER_TUNNEL_ADDRESS": "hub.example.com:8443",
		"REDIS_PASSWORD": "4567", "DAPR_API_TOKEN": "89ab", "APP_API_TOKEN": "cdef",
	}
}

// load reads the files as Compose does, later ones over earlier ones.
func load(t *testing.T, variables map[string]string, files ...string) *compose {
	t.Helper()
	all, err := read(variables, files...)
	require.NoError(t, err)
	return all
}

func read(variables map[string]string, files ...string) (*compose, error) {
	all := &compose{Services: map[string]*service{}, Volumes: map[string]struct{}{}}
	for _, name := range files {
		raw, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		text, err := expand(string(raw), variables)
		if err != nil {
			return nil, err
		}
		var one compose
		if err := yaml.UnmarshalStrict([]byte(text), &one); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		maps.Copy(all.Volumes, one.Volumes)
		if one.Secrets != nil {
			all.Secrets = one.Secrets
		}
		for name, s := range one.Services {
			if was := all.Services[name]; was != nil {
				maps.Copy(was.Environment, s.Environment)
				was.Secrets = append(was.Secrets, s.Secrets...)
				continue
			}
			all.Services[name] = s
		}
	}
	return all, nil
}

// expand fills in variables, in the three forms that the files use.
func expand(text string, variables map[string]string) (string, error) {
	var missing []error
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if strings.HasPrefix(strings.TrimSpace(line), "#") {
			continue
		}
		lines[i] = regexp.MustCompile(`\$\$|\$\{([A-Z_]+)(:[-?])([^}]*)\}`).ReplaceAllStringFunc(line, func(found string) string {
			if found == "$$" {
				return "$"
			}
			part := regexp.MustCompile(`\{([A-Z_]+):([-?])([^}]*)\}`).FindStringSubmatch(found)
			if value := variables[part[1]]; value != "" {
				return value
			}
			if part[2] == "?" {
				missing = append(missing, errors.New(part[3]))
			}
			return part[3]
		})
	}
	return strings.Join(lines, "\n"), errors.Join(missing...)
}

const plain, withDapr = "compose.yaml", "compose.dapr.yaml"

func TestEveryVariableIsAskedFor(t *testing.T) {
	t.Parallel()
	for name := range given() {
		some := given()
		delete(some, name)
		_, err := read(some, plain, withDapr)
		require.ErrorContains(t, err, "set "+name)
	}
}

// TestHubTakesItsSettings: a setting that the hub does not know, or that is
// wrong, would stop it.
func TestHubTakesItsSettings(t *testing.T) {
	t.Parallel()
	for _, files := range [][]string{{plain}, {plain, withDapr}} {
		settings := load(t, given(), files...).Services["hub"].Environment
		environment := make([]string, 0, len(settings))
		for name, value := range settings {
			environment = append(environment, name+"="+value)
		}
		cfg := hub.Defaults()
		require.NoError(t, config.Load(&cfg, config.Source{EnvPrefix: hub.EnvPrefix, Env: environment}))
		require.NoError(t, cfg.Complete().Validate())
		require.Equal(t, len(files) == 2, cfg.Dapr.Enabled)
	}
}

func TestServicesFitTogether(t *testing.T) {
	t.Parallel()
	for _, files := range [][]string{{plain}, {plain, withDapr}} {
		all := load(t, given(), files...)
		for name, s := range all.Services {
			require.Regexp(t, `^[a-z./-]+:v?\d+\.\d+[a-z0-9.-]*$`, s.Image, "%s: a tag that stays what it is", name)
			require.Equal(t, "unless-stopped", s.Restart, name)
			for needed, how := range s.DependsOn {
				require.Contains(t, all.Services, needed, name)
				if how.Condition == "service_healthy" {
					require.NotNil(t, all.Services[needed].Healthcheck, needed)
				}
			}
			for _, v := range s.Volumes {
				from, _, _ := strings.Cut(v, ":")
				if strings.HasPrefix(from, ".") {
					require.DirExists(t, from, name)
					continue
				}
				require.Contains(t, all.Volumes, from, name)
			}
			for _, secret := range s.Secrets {
				require.Contains(t, all.Secrets, secret, name)
				require.Contains(t, given(), all.Secrets[secret].Environment)
			}
			if shared, ok := strings.CutPrefix(s.NetworkMode, "service:"); ok {
				require.Contains(t, all.Services, shared, name)
			}
		}
	}
}

// TestDaprTakesItsFlags: those of the release that the images are of.
func TestDaprTakesItsFlags(t *testing.T) {
	t.Parallel()
	bin := os.Getenv("DAPR_BIN_DIR")
	require.NotEmpty(t, bin, "DAPR_BIN_DIR is not set: run `make test`, which builds Dapr and sets it")
	mod, err := os.ReadFile("dapr/runtime/go.mod")
	require.NoError(t, err)
	release := regexp.MustCompile(`github\.com/dapr/dapr v(\S+)`).FindSubmatch(mod)
	require.NotNil(t, release)
	for name, s := range load(t, given(), withDapr).Services {
		image, isDapr := strings.CutPrefix(s.Image, "daprio/")
		if !isDapr {
			continue
		}
		program, tag, _ := strings.Cut(image, ":")
		require.Equal(t, string(release[1]), tag, "%s: the release that the tests run on", name)
		require.Equal(t, "./"+program, s.Command[0], name)
		help, err := exec.CommandContext(t.Context(), filepath.Join(bin, program), "--help").CombinedOutput()
		if err != nil {
			require.ErrorContains(t, err, "exit status", "%s", help) // for help some end with 2
		}
		for _, argument := range s.Command[1:] {
			flag, _, _ := strings.Cut(argument, "=")
			require.Regexp(t, regexp.QuoteMeta(flag)+`\b`, string(help), "%s", name)
		}
	}
}

// component is a file of dapr/components.
type component struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name string `json:"name"`
	} `json:"metadata"`
	Spec struct {
		Type     string `json:"type"`
		Version  string `json:"version"`
		Metadata []struct {
			Name         string `json:"name"`
			Value        string `json:"value"`
			EnvRef       string `json:"envRef"`
			SecretKeyRef struct {
				Name string `json:"name"`
				Key  string `json:"key"`
			} `json:"secretKeyRef"`
		} `json:"metadata"`
		// A subscription's.
		PubSub     string            `json:"pubsubname"`
		Topic      string            `json:"topic"`
		DeadLetter string            `json:"deadLetterTopic"`
		Routes     map[string]string `json:"routes"`
	} `json:"spec"`
	Auth struct {
		SecretStore string `json:"secretStore"`
	} `json:"auth"`
	Scopes []string `json:"scopes"`
}

func components(t *testing.T, folder string) map[string]component {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("dapr", "components", folder, "*.yaml"))
	require.NoError(t, err)
	require.NotEmpty(t, files, folder)
	found := map[string]component{}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		require.NoError(t, err)
		var c component
		require.NoError(t, yaml.UnmarshalStrict(raw, &c), file)
		require.NotContains(t, found, c.Metadata.Name)
		found[c.Metadata.Name] = c
	}
	return found
}

// TestComponentsGetWhatTheyName: variables and secrets come from the sidecar's
// environment, and no component is given a password in the clear.
func TestComponentsGetWhatTheyName(t *testing.T) {
	t.Parallel()
	all := load(t, given(), plain, withDapr)
	sidecar, settings := all.Services["sidecar"], all.Services["hub"].Environment
	for _, store := range []string{"redis", "postgres"} {
		found := components(t, "common")
		maps.Copy(found, components(t, store))
		kinds := map[string]string{}
		for name, c := range found {
			kind, _, _ := strings.Cut(c.Spec.Type, ".")
			kinds[name] = kind
			for _, m := range c.Spec.Metadata {
				if m.EnvRef != "" {
					require.Contains(t, sidecar.Environment, m.EnvRef, name)
				}
				if secret := m.SecretKeyRef.Name; secret != "" {
					require.Contains(t, sidecar.Environment, "SECRETS_"+secret, name)
					require.Contains(t, found, c.Auth.SecretStore, name)
				}
				secretive := slices.ContainsFunc([]string{"password", "connectionstring", "token"}, func(word string) bool {
					return strings.Contains(strings.ToLower(m.Name), word)
				})
				require.False(t, secretive && m.Value != "", "%s: %s in the clear", name, m.Name)
			}
			if c.Kind == "Subscription" {
				require.Contains(t, found, c.Spec.PubSub)
				require.Equal(t, "/notifications", c.Spec.Routes["default"])
			}
		}
		for variable, kind := range map[string]string{
			"BUDCLUSTER_DAPR_PUBSUB": "pubsub", "BUDCLUSTER_DAPR_STATE_STORE": "state",
			"BUDCLUSTER_DAPR_CONFIG_STORE": "configuration", "BUDCLUSTER_DAPR_SECRET_STORE": "secretstores",
		} {
			require.Equal(t, kind, kinds[settings[variable]], variable)
		}
	}
}
