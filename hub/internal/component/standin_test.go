package component_test

import (
	"encoding/json"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"

	"github.com/budecosystem/budcluster/hub/internal/component"
	"github.com/budecosystem/budcluster/internal/facts"
)

// standins loads the charts that stand in for the real ones on a test cluster,
// by name. They have the keys of the real ones, as far as they have any.
func standins(t *testing.T) map[string]*chart.Chart {
	t.Helper()
	folders, err := filepath.Glob("../../../deploy/e2e/standin/charts/*")
	require.NoError(t, err)
	all := map[string]*chart.Chart{}
	for _, folder := range folders {
		c, err := loader.LoadDir(folder)
		require.NoError(t, err)
		all[c.Name()] = c
	}
	return all
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

// TestChartsTakeTheCataloguesValues: on every distribution, each key of the
// values is one of the chart's, and the chart renders with them.
func TestChartsTakeTheCataloguesValues(t *testing.T) {
	t.Parallel()
	charts, c := standins(t), catalogue(t)
	rendered := map[string]int{}
	for name, cluster := range map[string]facts.Cluster{
		"kubernetes": {Platform: facts.PlatformKubernetes, Distribution: "kubernetes"},
		"k3s":        {Platform: facts.PlatformKubernetes, Distribution: "k3s"},
		"rke2":       {Platform: facts.PlatformKubernetes, Distribution: "rke2"},
		"openshift":  {Platform: facts.PlatformOpenShift, Distribution: "openshift"},
	} {
		wishes := map[string]component.Wish{}
		for _, entry := range c.Components() {
			wishes[entry.Name] = component.Wish{Wanted: component.WantYes}
		}
		items, err := c.Plan(component.Input{ClusterID: "c-1", ClusterName: "one", Cluster: cluster, Nodes: []facts.Node{gpuNode("gpu-1")}, Wishes: wishes, Presence: nothing(t)})
		require.NoError(t, err)
		for _, item := range items {
			standin, ok := charts[item.Chart.Name]
			if !ok || item.Action != component.ActionInstall {
				continue
			}
			require.Equal(t, item.Chart.Version, standin.Metadata.Version, "the stand-in is of another version than the catalogue's %s", item.Component)
			var values map[string]any
			require.NoError(t, json.Unmarshal(item.Values, &values))
			require.Empty(t, strangers(values, standin.Values, ""), "%s on %s", item.Component, name)
			all, err := chartutil.ToRenderValues(standin, values, chartutil.ReleaseOptions{Name: item.Release, Namespace: item.Namespace, IsInstall: true}, nil)
			require.NoError(t, err)
			_, err = engine.Render(standin, all)
			require.NoError(t, err)
			rendered[item.Component]++
		}
	}
	require.Equal(t, map[string]int{"nfd": 3, "nvidia-gpu-operator": 3, "hami": 3, "prometheus-stack": 3, "scaler": 4, "amd-gpu": 3}, rendered,
		"nobody looked at the others")
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
