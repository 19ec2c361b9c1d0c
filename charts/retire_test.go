package charts_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

// rolesOf are the rules of the rendered roles: of namespace, or of all.
func rolesOf(t *testing.T, all []*unstructured.Unstructured) (cluster, own []rbacv1.PolicyRule) {
	t.Helper()
	for _, o := range all {
		var role rbacv1.Role // a ClusterRole's rules lie in the same place
		switch o.GetKind() {
		case "ClusterRole":
			require.NoError(t, runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &role))
			cluster = append(cluster, role.Rules...)
		case "Role":
			require.NoError(t, runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &role))
			own = append(own, role.Rules...)
		}
	}
	return cluster, own
}

func grants(rules []rbacv1.PolicyRule, group, resource, name, verb string) bool {
	return slices.ContainsFunc(rules, func(r rbacv1.PolicyRule) bool {
		return slices.Contains(r.APIGroups, group) && slices.Contains(r.Resources, resource) && slices.Contains(r.Verbs, verb) &&
			(len(r.ResourceNames) == 0 || slices.Contains(r.ResourceNames, name))
	})
}

func resourceOf(kind string) string {
	plural := strings.ToLower(kind) + "s"
	if kind == "NetworkPolicy" {
		return "networkpolicies"
	}
	return plural
}

// TestAgentMayRemoveItself: whatever the chart makes, with any values, the
// agent has the right to give it an owner, which is how it removes itself; and
// what its configuration names is what the chart made.
func TestAgentMayRemoveItself(t *testing.T) {
	t.Parallel()
	for name, v := range cases(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			files, err := render(t, v)
			require.NoError(t, err)
			all := objects(t, files)
			cluster, own := rolesOf(t, all)
			if len(cluster) == 0 {
				require.Empty(t, install(t, v).load(t).Installation.Anchor, "without roles it cannot")
				return
			}
			made := map[string]bool{}
			for _, o := range all {
				made[o.GetKind()+"/"+o.GetName()] = true
				if o.GetKind() == "Pod" { // of helm test: helm deletes it
					continue
				}
				for _, verb := range []string{"get", "patch", "delete"} {
					rules := cluster
					if o.GetNamespace() != "" {
						rules = slices.Concat(cluster, own)
					}
					require.True(t, grants(rules, o.GroupVersionKind().Group, resourceOf(o.GetKind()), o.GetName(), verb),
						"%s %s/%s", verb, o.GetKind(), o.GetName())
				}
			}
			cfg := install(t, v).load(t).Installation
			require.True(t, made["ClusterRole/"+cfg.Anchor], cfg.Anchor)
			require.True(t, made["Deployment/"+cfg.Deployment], cfg.Deployment)
			require.NotEmpty(t, cfg.Release)
			require.True(t, grants(cluster, "apiextensions.k8s.io", "customresourcedefinitions", "releases.budcluster.io", "delete"))
			require.True(t, grants(cluster, "", "namespaces", namespace, "delete"))
		})
	}
}
