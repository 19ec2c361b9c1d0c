package charts_test

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	rbacv1 "k8s.io/api/rbac/v1"
	syaml "sigs.k8s.io/yaml"
)

// standin is a chart that stands in for the one of a catalogue's entry.
type standin struct {
	Name, Release, Namespace string
	Chart                    struct{ Name, Version string }
	Values                   map[string]any

	chart *chart.Chart
}

func standins(t *testing.T) []standin {
	t.Helper()
	files, err := filepath.Glob("../hub/internal/component/catalogue/*.yaml")
	require.NoError(t, err)
	var all []standin
	for _, file := range files {
		var e standin
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		require.NoError(t, syaml.Unmarshal(text, &e))
		folder := "../deploy/e2e/standin/charts/" + e.Chart.Name
		if _, err := os.Stat(folder); err != nil {
			continue
		}
		e.chart, err = loader.LoadDir(folder)
		require.NoError(t, err)
		all = append(all, e)
	}
	return all
}

func (e standin) render(t *testing.T, given map[string]any) map[string]string {
	t.Helper()
	all, err := chartutil.ToRenderValues(e.chart, given, chartutil.ReleaseOptions{Name: e.Release, Namespace: e.Namespace, IsInstall: true}, nil)
	require.NoError(t, err)
	rendered, err := engine.Render(e.chart, all)
	require.NoError(t, err)
	return rendered
}

// TestAgentMayInstallTheStandIns: the charts that stand in for the real ones
// have the rights of the real ones, and none beyond those that the agent's
// chart grants for the component.
func TestAgentMayInstallTheStandIns(t *testing.T) {
	t.Parallel()
	agent, err := render(t, values(t, minimal))
	require.NoError(t, err)
	seen := 0
	for _, e := range standins(t) {
		rendered := e.render(t, e.Values)
		have := bound(t, agent, "-installer")
		for r := range bound(t, agent, "-component-"+e.Name) {
			have[r] = true
		}
		for _, o := range objects(t, rendered) {
			if len(o.Object) == 0 {
				continue
			}
			for _, verb := range []string{"create", "get", "patch", "update", "delete"} {
				one := right{group: o.GroupVersionKind().Group, resource: plural(o.GetKind()), verb: verb}
				require.True(t, have.has(one), "%s: the agent may not %s", e.Name, one)
			}
			for _, rule := range rules(t, o) {
				require.Empty(t, have.lacking(rule), "%s: %s %s", e.Name, o.GetKind(), o.GetName())
				seen++
			}
			if ref, ok := o.Object["roleRef"].(map[string]any); ok && ref["kind"] == "ClusterRole" {
				requireBindable(t, have, rendered, ref["name"].(string))
			}
		}
	}
	require.Greater(t, seen, 30)
}

// plural is how the API calls the objects of a kind.
func plural(kind string) string {
	kind = strings.ToLower(kind)
	switch {
	case kind == "endpoints":
		return kind
	case strings.HasSuffix(kind, "y"):
		return strings.TrimSuffix(kind, "y") + "ies"
	case strings.HasSuffix(kind, "s"):
		return kind + "es"
	default:
		return kind + "s"
	}
}

// requireBindable: the role is one of the chart's own, or the agent may bind it.
func requireBindable(t *testing.T, have rights, rendered map[string]string, name string) {
	t.Helper()
	for _, o := range objects(t, rendered) {
		if o.GetKind() == "ClusterRole" && o.GetName() == name {
			return
		}
	}
	require.True(t, have.has(right{group: rbacv1.GroupName, resource: "clusterroles", name: name, verb: "bind"}), "%s may not be bound", name)
}

// open are keys below which a chart takes what one gives it.
func open(path string) bool {
	return slices.ContainsFunc([]string{
		"worker.config", "worker.tolerations", "toolkit.env", "devicePlugin.nvidiaNodeSelector", "devicePlugin.tolerations", "node_selector",
		"kube-state-metrics.collectors", "kube-state-metrics.resources", "prometheus.prometheusSpec.externalLabels",
		"prometheus.prometheusSpec.resources", "prometheus.prometheusSpec.storageSpec", "prometheus.prometheusSpec.additionalScrapeConfigs", "extraManifests",
	}, func(p string) bool { return path == p })
}

// strangers are the keys of values that a chart does not know: Helm would take
// them and say nothing.
func strangers(values, known map[string]any, at string) []string {
	var found []string
	for _, key := range slices.Sorted(maps.Keys(values)) {
		path := strings.TrimPrefix(at+"."+key, ".")
		have, ok := known[key]
		if !ok {
			found = append(found, path)
			continue
		}
		inner, isObject := values[key].(map[string]any)
		below, wantsObject := have.(map[string]any)
		switch {
		case open(path):
		case isObject != wantsObject:
			found = append(found, path+" (an object, or not)")
		case isObject:
			found = append(found, strangers(inner, below, path)...)
		}
	}
	return found
}

// TestChartsTakeTheCataloguesValues: on every distribution each key of what the
// hub plans is one of the chart's, of which the stand-in has a part, and the
// chart renders with them.
func TestChartsTakeTheCataloguesValues(t *testing.T) {
	t.Parallel()
	rendered := map[string]int{}
	for _, e := range standins(t) {
		files, err := filepath.Glob("../hub/internal/component/testdata/values/*/" + e.Name + ".golden")
		require.NoError(t, err)
		for _, file := range files {
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			given := values(t, string(text))
			require.Empty(t, strangers(given, e.chart.Values, ""), file)
			e.render(t, given)
			rendered[e.Name]++
		}
		require.Equal(t, e.Chart.Version, e.chart.Metadata.Version, "the stand-in is of another version than the catalogue's")
	}
	require.Equal(t, map[string]int{"nfd": 3, "nvidia-gpu-operator": 3, "hami": 3, "prometheus-stack": 3, "scaler": 3, "amd-gpu": 3}, rendered)
}

// TestStrangersAreFound is what the test above rests on.
func TestStrangersAreFound(t *testing.T) {
	t.Parallel()
	known := map[string]any{"driver": map[string]any{"enabled": true}, "worker": map[string]any{"config": map[string]any{}}}
	require.Equal(t, []string{"driver.enable", "drivers"}, strangers(map[string]any{
		"driver": map[string]any{"enable": false}, "drivers": map[string]any{}, "worker": map[string]any{"config": map[string]any{"core": 1}},
	}, known, ""))
	require.Equal(t, []string{"driver (an object, or not)"}, strangers(map[string]any{"driver": true}, known, ""))
}
