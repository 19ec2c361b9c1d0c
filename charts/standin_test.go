package charts_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	rbacv1 "k8s.io/api/rbac/v1"
	syaml "sigs.k8s.io/yaml"
)

// TestAgentMayInstallTheStandIns: the charts that stand in for the real ones
// have the rights of the real ones, and none beyond those that the agent's
// chart grants for the component.
func TestAgentMayInstallTheStandIns(t *testing.T) {
	t.Parallel()
	agent, err := render(t, values(t, minimal))
	require.NoError(t, err)
	files, err := filepath.Glob("../hub/internal/component/catalogue/*.yaml")
	require.NoError(t, err)
	seen := 0
	for _, file := range files {
		var e struct {
			Name, Release, Namespace string
			Chart                    struct{ Name string }
			Values                   map[string]any
		}
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		require.NoError(t, syaml.Unmarshal(text, &e))
		folder := "../deploy/e2e/standin/charts/" + e.Chart.Name
		if _, err := os.Stat(folder); err != nil {
			continue
		}
		standin, err := loader.LoadDir(folder)
		require.NoError(t, err)
		all, err := chartutil.ToRenderValues(standin, e.Values, chartutil.ReleaseOptions{Name: e.Release, Namespace: e.Namespace, IsInstall: true}, nil)
		require.NoError(t, err)
		rendered, err := engine.Render(standin, all)
		require.NoError(t, err)

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
