package charts_test

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/lint/support"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/budecosystem/budcluster/hub"
	"github.com/budecosystem/budcluster/internal/buildinfo"
	"github.com/budecosystem/budcluster/internal/config"
	"github.com/budecosystem/budcluster/internal/secret"
	"github.com/budecosystem/budcluster/internal/testutil"
)

// hubName is the hub's chart, its folder, and the release in these tests.
const hubName = "budcluster-hub"

// loadHub reads the hub's chart as `helm install ./budcluster-hub` does.
func loadHub(t *testing.T) *chart.Chart {
	t.Helper()
	c, err := loader.LoadDir(hubName)
	require.NoError(t, err)
	return c
}

// hubCases returns the values files of ci/ by their names.
func hubCases(t *testing.T) map[string]map[string]any {
	t.Helper()
	found, err := filepath.Glob(hubName + "/ci/*-values.yaml")
	require.NoError(t, err)
	require.NotEmpty(t, found)
	all := map[string]map[string]any{}
	for _, name := range found {
		data, err := os.ReadFile(name)
		require.NoError(t, err)
		all[strings.TrimSuffix(filepath.Base(name), "-values.yaml")] = values(t, string(data))
	}
	return all
}

// needed are the values without which nothing renders.
const needed = "database: {existingSecret: {name: db}}\ntunnel: {address: 'hub.example.com:8443'}\n"

func renderHub(t *testing.T, v map[string]any) (map[string]string, error) {
	t.Helper()
	return renderChart(loadHub(t), hubName, v)
}

func hubObjects(t *testing.T, v map[string]any) []*unstructured.Unstructured {
	t.Helper()
	files, err := renderHub(t, v)
	require.NoError(t, err)
	return objects(t, files)
}

// pick is the one object of that kind, whose name ends as given.
func pick(t *testing.T, all []*unstructured.Unstructured, kind, suffix string) *unstructured.Unstructured {
	t.Helper()
	for _, o := range all {
		if o.GetKind() == kind && strings.HasSuffix(o.GetName(), suffix) {
			return o
		}
	}
	t.Fatalf("no %s …%s", kind, suffix)
	return nil
}

func TestHubChartVersionIsTheProducts(t *testing.T) {
	t.Parallel()
	m := loadHub(t).Metadata
	require.Equal(t, buildinfo.Version(), m.AppVersion)
	require.Equal(t, m.AppVersion, m.Version)
	require.Contains(t, m.Annotations["artifacthub.io/images"], "budcluster-hub:"+m.AppVersion)
}

// madeKey is the one thing that is new in each rendering.
var madeKey = regexp.MustCompile(`(kek\.json: )[A-Za-z0-9+/=]+`)

func TestHubGoldenRenders(t *testing.T) {
	t.Parallel()
	for name, v := range hubCases(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			files, err := renderHub(t, v)
			require.NoError(t, err)
			objects(t, files)
			var all bytes.Buffer
			for _, file := range sorted(files) {
				text := madeKey.ReplaceAllString(files[file], "${1}<made>")
				fmt.Fprintf(&all, "--- # %s\n%s\n", file, strings.TrimSpace(strings.TrimPrefix(text, "---\n")))
			}
			testutil.Golden(t, "hub-"+name, all.Bytes())
		})
	}
}

func TestHubLintFindsNothing(t *testing.T) {
	t.Parallel()
	for name, v := range hubCases(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, m := range lint.All(hubName, v, namespace, true).Messages {
				require.LessOrEqual(t, m.Severity, support.InfoSev, m.Error())
			}
		})
	}
}

func TestHubPodsPassTheRestrictedStandard(t *testing.T) {
	t.Parallel()
	for name, v := range hubCases(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pods := 0
			for _, o := range hubObjects(t, v) {
				spec := podSpec(o)
				if spec == nil {
					continue
				}
				pods++
				requireRestricted(t, spec)
				require.Equal(t, false, spec["automountServiceAccountToken"], "the hub has no business with its cluster's API server")
			}
			require.Equal(t, 2, pods, "the deployment's pod and the test's")
		})
	}
}

// installedHub is what a hub's pod will see of a rendered chart.
func installedHub(t *testing.T, v map[string]any) installed {
	t.Helper()
	all := hubObjects(t, v)
	var in installed
	in.settings, _, _ = unstructured.NestedString(pick(t, all, "ConfigMap", "").Object, "data", "hub.yaml")
	require.NoError(t, runtime.DefaultUnstructuredConverter.FromUnstructured(podSpec(pick(t, all, "Deployment", "")), &in.pod))
	require.Len(t, in.pod.Containers, 1)
	in.container = in.pod.Containers[0]
	return in
}

// loadHub does what `budcluster-hub serve` does with the file that the chart
// gives it: whatever it does not know is an error.
func (in installed) loadHub(t *testing.T) (hub.Config, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "hub.yaml")
	require.NoError(t, os.WriteFile(file, []byte(in.settings), 0o600))
	cfg := hub.Defaults()
	err := config.Load(&cfg, config.Source{File: file, EnvPrefix: hub.EnvPrefix})
	return cfg.Complete(), err
}

func TestHubConfigurationIsTheHubs(t *testing.T) {
	t.Parallel()
	for name, v := range hubCases(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := installedHub(t, v)
			require.Equal(t, []string{"serve", "--config=/etc/budcluster/hub.yaml"}, in.container.Args[:2])
			require.True(t, in.mounted("/etc/budcluster/hub.yaml"))
			cfg, err := in.loadHub(t)
			require.NoError(t, err)
			for _, path := range []string{
				cfg.DatabaseURLFile, cfg.CryptoKeysDir + "/kek.json", cfg.API.TLSCertFile, cfg.API.TLSKeyFile, cfg.StateDir + "/x", cfg.ChartsDir,
			} {
				require.True(t, path == "" || in.mounted(path) || in.mounted(path+"/x"), "%s is not in the pod", path)
			}
			if cfg.ChartsDir != "" {
				cfg.ChartsDir = t.TempDir() // its place is in the pod
			}
			require.NoError(t, cfg.Validate())
			require.Equal(t, ":8080", cfg.API.Listen)
			require.Equal(t, ":8443", cfg.Tunnel.Listen)
			require.False(t, cfg.Dev)
		})
	}
}

// TestHubDefaultsAreTheHubs: a setting that nobody makes means the same in the
// chart and in the program, but for what a pod needs otherwise.
func TestHubDefaultsAreTheHubs(t *testing.T) {
	t.Parallel()
	want := hub.Defaults()
	want.Tunnel.Address = "hub.example.com:8443"
	want.Tunnel.Names = []string{}
	want.Log.Format = "json"
	want.DatabaseURLFile = "/var/run/secrets/budcluster/database/url"
	want.CryptoKeysDir = "/var/run/secrets/budcluster/keys"
	got, err := installedHub(t, hubCases(t)["default"]).loadHub(t)
	require.NoError(t, err)
	require.Equal(t, want.Complete(), got)
}

func TestHubSettingsReachTheHub(t *testing.T) {
	t.Parallel()
	cfg, err := installedHub(t, hubCases(t)["production"]).loadHub(t)
	require.NoError(t, err)
	require.Equal(t, "agents.example.com:443", cfg.Tunnel.Address)
	require.Equal(t, []string{"agents.internal.example.com", "10.0.0.7", "2001:db8::7"}, cfg.Tunnel.Names)
	require.Equal(t, "https://hub.example.com", cfg.API.URL)
	require.Equal(t, "hub.example.com", cfg.TrustDomain)
	require.Equal(t, "12h0m0s", cfg.Certificate.Lifetime.String())
	require.Equal(t, hub.Log{Level: "warn", Format: "json"}, cfg.Log)
	require.Equal(t, hub.Defaults().Certificate.RenewalGrace, cfg.Certificate.RenewalGrace)
}

// TestHubRefusesASettingThatItDoesNotKnow: what is below config is open in the
// schema, because the hub is the judge of it.
func TestHubRefusesASettingThatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	in := installedHub(t, values(t, needed+"config: {sesion: {lease: 1m}}"))
	_, err := in.loadHub(t)
	require.ErrorContains(t, err, "sesion")
}

// TestHubSecretsStayInSecrets: whatever is secret is mounted from a Secret, and
// no other object of the chart has it.
func TestHubSecretsStayInSecrets(t *testing.T) {
	t.Parallel()
	for name, v := range hubCases(t) {
		for _, o := range hubObjects(t, v) {
			if o.GetKind() == "Secret" {
				require.True(t, strings.HasSuffix(o.GetName(), "-encryption-key"), "%s: %s", name, o.GetName())
				continue
			}
			text := fmt.Sprint(o.Object)
			require.NotContains(t, text, "postgres://", "%s: %s", name, o.GetKind())
			require.NotContains(t, text, "AesGcmKey", "%s: %s", name, o.GetKind())
		}
		pod := installedHub(t, v).pod
		for _, volume := range pod.Volumes {
			if volume.Name == "database" || volume.Name == "keys" {
				require.NotNil(t, volume.Secret, "%s: %s", name, volume.Name)
			}
		}
		for _, mount := range pod.Containers[0].VolumeMounts {
			require.True(t, mount.ReadOnly || slices.Contains([]string{"state", "tmp", "charts"}, mount.Name), "%s: %s", name, mount.Name)
		}
	}
}

// TestHubKeyIsMadeOnceAndOpens: the chart writes a Tink keyset by hand, which
// the hub must take; what it made can be changed by nobody.
func TestHubKeyIsMadeOnceAndOpens(t *testing.T) {
	t.Parallel()
	var made []string
	for range 2 {
		var object corev1.Secret
		o := pick(t, hubObjects(t, values(t, needed)), "Secret", "-encryption-key")
		require.NoError(t, runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &object))
		require.NotNil(t, object.Immutable)
		require.True(t, *object.Immutable)
		require.Equal(t, "keep", object.Annotations["helm.sh/resource-policy"])
		made = append(made, string(object.Data["kek.json"]))
		requireKeyOpens(t, object.Data["kek.json"])
	}
	require.NotEqual(t, made[0], made[1], "the key is random")
}

func requireKeyOpens(t *testing.T, key []byte) {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "kek.json"), key, 0o600))
	keys, err := secret.OpenKeyring(dir)
	require.NoError(t, err)
	sealed, err := keys.Seal([]byte("the CA's key"), []byte("ca/1"))
	require.NoError(t, err)
	plain, err := keys.Unseal(sealed, []byte("ca/1"))
	require.NoError(t, err)
	require.Equal(t, "the CA's key", string(plain))
}

func TestHubTunnelIsPassedThrough(t *testing.T) {
	t.Parallel()
	for name, v := range hubCases(t) {
		for _, o := range hubObjects(t, v) {
			if o.GetKind() == "Ingress" || o.GetKind() == "HTTPRoute" {
				require.NotContains(t, fmt.Sprint(o.Object["spec"]), "tunnel", "%s: %s would end the agents' TLS", name, o.GetKind())
			}
		}
	}
	service := pick(t, hubObjects(t, hubCases(t)["production"]), "Service", "-tunnel")
	ports, _, _ := unstructured.NestedSlice(service.Object, "spec", "ports")
	require.Equal(t, []any{map[string]any{"name": "tunnel", "port": float64(443), "targetPort": "tunnel", "protocol": "TCP", "nodePort": float64(30443)}}, ports,
		"the port is the one that agents dial")
}

func TestHubSelectorsMeetThePod(t *testing.T) {
	t.Parallel()
	for name, v := range hubCases(t) {
		all := hubObjects(t, v)
		labels, _, _ := unstructured.NestedStringMap(pick(t, all, "Deployment", "").Object, "spec", "template", "metadata", "labels")
		for _, at := range [][]string{
			{"Deployment", "spec", "selector", "matchLabels"},
			{"Service", "spec", "selector"},
			{"PodDisruptionBudget", "spec", "selector", "matchLabels"},
			{"NetworkPolicy", "spec", "podSelector", "matchLabels"},
		} {
			for _, o := range all {
				if o.GetKind() != at[0] {
					continue
				}
				selector, _, _ := unstructured.NestedStringMap(o.Object, at[1:]...)
				require.NotEmpty(t, selector)
				for key, value := range selector {
					require.Equal(t, value, labels[key], "%s: %s %s", name, o.GetKind(), o.GetName())
				}
			}
		}
		test := pick(t, all, "Pod", "-test").GetLabels()
		require.NotEqual(t, labels["app.kubernetes.io/component"], test["app.kubernetes.io/component"], "the test's pod is no endpoint")
	}
}

// TestHubDaprIsAskedForOnlyWhenEnabled, and then with tokens both ways.
func TestHubDaprIsAskedForOnlyWhenEnabled(t *testing.T) {
	t.Parallel()
	for name, v := range hubCases(t) {
		all := hubObjects(t, v)
		annotations, _, _ := unstructured.NestedStringMap(pick(t, all, "Deployment", "").Object, "spec", "template", "metadata", "annotations")
		asked := slices.ContainsFunc(slices.Collect(maps.Keys(annotations)), func(key string) bool { return strings.HasPrefix(key, "dapr.io/") })
		require.Equal(t, name == "dapr", asked, name)
		if !asked {
			require.False(t, slices.ContainsFunc(all, func(o *unstructured.Unstructured) bool { return o.GetKind() == "Component" }))
			continue
		}
		require.Equal(t, "budcluster", annotations["dapr.io/app-id"])
		require.Equal(t, "9081", annotations["dapr.io/app-port"])
		require.Equal(t, "dapr-api-token", annotations["dapr.io/api-token-secret"])
		require.Equal(t, "dapr-app-token", annotations["dapr.io/app-token-secret"])
		require.Equal(t, "true", annotations["dapr.io/disable-builtin-k8s-secret-store"])
		require.Equal(t, "256Mi", annotations["dapr.io/sidecar-memory-limit"])
		require.Equal(t, "50m", annotations["dapr.io/sidecar-cpu-request"])
		in := installedHub(t, v)
		cfg, err := in.loadHub(t)
		require.NoError(t, err)
		require.True(t, cfg.Dapr.Enabled)
		require.Equal(t, "127.0.0.1:9081", cfg.Dapr.AppListen, "nobody but the sidecar reaches the app port")
		require.Equal(t, annotations["dapr.io/app-id"], cfg.Dapr.AppID)
		require.True(t, in.mounted(cfg.Dapr.APITokenFile) && in.mounted(cfg.Dapr.AppTokenFile))
		require.Equal(t, "statestore-postgres", cfg.Dapr.StateStore)
		require.Equal(t, hub.EngineDapr, cfg.Workflows.Engine)
		scopes, _, _ := unstructured.NestedStringSlice(pick(t, all, "Component", "statestore-postgres").Object, "scopes")
		require.Equal(t, []string{"budcluster"}, scopes, "a component is the hub's alone unless more are named")
	}
	pod := podSpec(pick(t, hubObjects(t, values(t, needed+"dapr: {enabled: true, kubernetesSecretStore: true}")), "Deployment", ""))
	require.Equal(t, true, pod["automountServiceAccountToken"])
}

// TestHubLeavesInOrder: a pod that is told to stop first goes on for a moment,
// where Kubernetes can let it: before 1.30 it would refuse the whole pod.
func TestHubLeavesInOrder(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]bool{"v1.28.0": false, "v1.29.9": false, "v1.30.0": true, "v1.31.2-eks-7f9249a": true} {
		files, err := renderOn(version, loadHub(t), hubName, values(t, needed))
		require.NoError(t, err)
		require.Equal(t, want, strings.Contains(files["deployment.yaml"], "preStop:"), version)
	}
	pod := installedHub(t, values(t, needed)).pod
	require.EqualValues(t, 5, pod.Containers[0].Lifecycle.PreStop.Sleep.Seconds)
	cfg := hub.Defaults()
	require.Greater(t, float64(*pod.TerminationGracePeriodSeconds), 5+cfg.DrainTimeout.Seconds()+20, "the pod outlives the hub's own patience")
}

// TestHubBadValuesAreRefused is the list of what a user sees; each is refused
// before anything reaches a cluster.
func TestHubBadValuesAreRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ values, want string }{
		"nothing":                {"", "database.existingSecret.name is empty"},
		"no address":             {"database: {existingSecret: {name: db}}", "tunnel.address is empty"},
		"address without port":   {"tunnel: {address: hub.example.com}", "/tunnel/address"},
		"address with scheme":    {"tunnel: {address: 'https://hub:8443'}", "/tunnel/address"},
		"mistyped key":           {needed + "databse: {}", "databse"},
		"mistyped inner key":     {needed + "api: {uri: x}", "uri"},
		"URL in values":          {needed + "config: {databaseURL: 'postgres://u:p@h/d'}", "config.databaseURL is not for this place; use database.existingSecret"},
		"URL's file":             {needed + "config: {databaseURLFile: /x}", "config.databaseURLFile"},
		"dev":                    {needed + "config: {dev: true}", "config.dev"},
		"keys by hand":           {needed + "config: {cryptoKeysDir: /x}", "use encryptionKey"},
		"listen by hand":         {needed + "config: {api: {listen: ':1'}}", "config.api.listen"},
		"address in two places":  {needed + "config: {tunnel: {address: 'x:1'}}", "config.tunnel.address is not for this place; use tunnel.address"},
		"Dapr in two places":     {needed + "config: {dapr: {enabled: true}}", "config.dapr.enabled is not for this place; use dapr.enabled"},
		"image digest no hash":   {needed + "image: {digest: latest}", "/image/digest"},
		"ingress without a host": {needed + "ingress: {enabled: true}", "neither ingress.hosts nor api.url"},
		"route without gateway":  {needed + "httpRoute: {enabled: true}", "names no Gateway"},
		"api URL with a path":    {needed + "api: {url: 'https://hub/x'}", "/api/url"},
		"scaling upside down":    {needed + "autoscaling: {enabled: true, minReplicas: 5, maxReplicas: 2}", "autoscaling.maxReplicas is less"},
		"components, no Dapr":    {needed + "dapr: {components: [{name: a, type: state.redis}]}", "dapr.enabled is false"},
		"state of our own":       {needed + "dapr: {enabled: true, components: [{name: statestore, type: state.redis}]}", "has no {name: keyPrefix, value: none}"},
		"component of no kind":   {needed + "dapr: {enabled: true, components: [{name: a, type: redis}]}", "/dapr/components/0/type"},
		"metadata of two minds":  {needed + "dapr: {enabled: true, components: [{name: a, type: state.redis, metadata: [{name: x, value: y, secretKeyRef: {name: z}}]}]}", "/dapr/components/0/metadata/0"},
		"foreign annotation":     {needed + "dapr: {enabled: true, annotations: {example.com/x: y}}", "/dapr/annotations"},
		"tunnel of no type":      {"tunnel: {address: 'h:1', service: {type: ExternalName}}", "/tunnel/service/type"},
		"port out of range":      {needed + "api: {service: {port: 70000}}", "/api/service/port"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := renderHub(t, values(t, c.values))
			require.Error(t, err)
			require.Contains(t, strings.ReplaceAll(err.Error(), ".", "/")+err.Error(), c.want)
		})
	}
}
