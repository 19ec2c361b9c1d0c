package charts_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/budecosystem/budcluster/agent"
	"github.com/budecosystem/budcluster/charts"
	"github.com/budecosystem/budcluster/internal/config"
)

// installed is what the agent's pod will see of a rendered chart.
type installed struct {
	settings  string // agent.yaml
	pod       corev1.PodSpec
	container corev1.Container
}

func install(t *testing.T, v map[string]any) installed {
	t.Helper()
	files, err := render(t, v)
	require.NoError(t, err)
	var in installed
	for _, o := range objects(t, files) {
		switch o.GetKind() {
		case "ConfigMap":
			in.settings, _, _ = unstructured.NestedString(o.Object, "data", "agent.yaml")
		case "Deployment":
			require.NoError(t, runtime.DefaultUnstructuredConverter.FromUnstructured(podSpec(o), &in.pod))
		}
	}
	require.Len(t, in.pod.Containers, 1)
	in.container = in.pod.Containers[0]
	return in
}

// load does what `budcluster-agent run` does with the file, the variables and
// the arguments that the chart gives it: whatever it does not know is an error.
func (in installed) load(t *testing.T) agent.Config {
	t.Helper()
	file := filepath.Join(t.TempDir(), "agent.yaml")
	require.NoError(t, os.WriteFile(file, []byte(in.settings), 0o600))
	var env []string
	for _, e := range in.container.Env {
		value := e.Value
		if e.ValueFrom != nil {
			value = map[string]string{"metadata.namespace": namespace, "metadata.name": "a-pod"}[e.ValueFrom.FieldRef.FieldPath]
		}
		env = append(env, e.Name+"="+value)
	}
	cfg := agent.Default()
	flags := pflag.NewFlagSet("run", pflag.ContinueOnError)
	require.NoError(t, config.Register(flags, &cfg))
	flags.String("config", "", "")
	require.Equal(t, "run", in.container.Args[0])
	require.NoError(t, flags.Parse(in.container.Args[1:]))
	require.NoError(t, config.Load(&cfg, config.Source{File: file, Env: env, EnvPrefix: agent.EnvPrefix, Flags: flags}))
	require.NoError(t, cfg.Check())
	return cfg
}

// mounted says whether a file that the configuration names will be there.
func (in installed) mounted(path string) bool {
	for _, m := range in.container.VolumeMounts {
		if strings.HasPrefix(path, m.MountPath+"/") {
			return true
		}
	}
	return false
}

func TestConfigurationIsTheAgents(t *testing.T) {
	t.Parallel()
	for name, v := range cases(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := install(t, v)
			cfg := in.load(t)
			require.Equal(t, "a-pod", cfg.PodName)
			require.Equal(t, namespace, cfg.Namespace)
			for _, path := range []string{cfg.TokenFile, cfg.Proxy.CAFile, cfg.Proxy.CredentialsFile} {
				require.True(t, path == "" || in.mounted(path), "%s is not in the pod", path)
			}
			require.Contains(t, in.container.Args, "--config=/etc/budcluster/agent.yaml")
			require.True(t, in.mounted("/etc/budcluster/agent.yaml"))
		})
	}
}

// TestDefaultsAreTheAgents: a value that nobody sets means the same in the
// chart and in the program.
func TestDefaultsAreTheAgents(t *testing.T) {
	t.Parallel()
	want := agent.Default()
	want.Hub.Addresses = []string{"hub.example.com:8443"}
	want.PodName = "a-pod"
	want.Installation = agent.InstallationConfig{ // of this release; nothing in general
		Release: charts.AgentName, Deployment: "budcluster-agent", Anchor: "budcluster-agent-retire",
	}
	got := install(t, cases(t)["default"]).load(t)
	if len(got.ImageMirrors) == 0 {
		got.ImageMirrors = nil
	}
	require.Equal(t, want, got)
}

func TestSettingsReachTheAgent(t *testing.T) {
	t.Parallel()
	cfg := install(t, cases(t)["airgap"]).load(t)
	require.Equal(t, []string{"hub-a.example.com:8443", "[2001:db8::1]:8443"}, cfg.Hub.Addresses)
	require.Equal(t, "hub.example.com", cfg.Hub.ServerName)
	require.Equal(t, "http://proxy.site.example:3128", cfg.Proxy.HTTPS)
	require.Equal(t, ".svc,10.0.0.0/8", cfg.Proxy.No)
	require.Equal(t, "/var/run/secrets/budcluster/proxy/credentials", cfg.Proxy.CredentialsFile)
	require.Equal(t, "registry.site.example/k8s/", cfg.ImageMirrors["registry.k8s.io/"])

	cfg = install(t, cases(t)["full"]).load(t)
	require.Equal(t, "debug", cfg.Log.Level)
	require.Equal(t, "bud-identity", cfg.IdentitySecret)
	require.Equal(t, "bud", cfg.LeaderElection.LeaseName)
}
