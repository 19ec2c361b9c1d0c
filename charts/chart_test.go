package charts_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/lint/support"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"
	syaml "sigs.k8s.io/yaml"

	"github.com/budecosystem/budcluster/charts"
	"github.com/budecosystem/budcluster/internal/buildinfo"
	"github.com/budecosystem/budcluster/internal/testutil"
)

const namespace = "budcluster-system"

// load reads the chart out of the embedded files, as the hub does.
func load(t *testing.T) *chart.Chart {
	t.Helper()
	agent, err := charts.Agent()
	require.NoError(t, err)
	var files []*loader.BufferedFile
	require.NoError(t, fs.WalkDir(agent, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasPrefix(name, "ci/") {
			return err
		}
		data, err := fs.ReadFile(agent, name)
		files = append(files, &loader.BufferedFile{Name: name, Data: data})
		return err
	}))
	c, err := loader.LoadFiles(files)
	require.NoError(t, err)
	return c
}

// cases returns the values files of ci/ by their names.
func cases(t *testing.T) map[string]map[string]any {
	t.Helper()
	agent, err := charts.Agent()
	require.NoError(t, err)
	found, err := fs.Glob(agent, "ci/*-values.yaml")
	require.NoError(t, err)
	require.NotEmpty(t, found)
	all := map[string]map[string]any{}
	for _, name := range found {
		data, err := fs.ReadFile(agent, name)
		require.NoError(t, err)
		all[strings.TrimSuffix(path.Base(name), "-values.yaml")] = values(t, string(data))
	}
	return all
}

func values(t *testing.T, text string) map[string]any {
	t.Helper()
	v, err := chartutil.ReadValues([]byte(text))
	require.NoError(t, err)
	return v
}

// render does what `helm install` does before it talks to a cluster: values
// against the schema, then the templates.
func render(t *testing.T, v map[string]any) (map[string]string, error) {
	t.Helper()
	return renderChart(load(t), charts.AgentName, v)
}

func renderChart(c *chart.Chart, release string, v map[string]any) (map[string]string, error) {
	return renderOn("v1.33.0", c, release, v)
}

// renderOn renders for a cluster of that version.
func renderOn(version string, c *chart.Chart, release string, v map[string]any) (map[string]string, error) {
	capabilities := chartutil.DefaultCapabilities.Copy()
	capabilities.KubeVersion = chartutil.KubeVersion{Version: version}
	all, err := chartutil.ToRenderValues(c, v, chartutil.ReleaseOptions{
		Name: release, Namespace: namespace, IsInstall: true, Revision: 1,
	}, capabilities)
	if err != nil {
		return nil, err
	}
	rendered, err := engine.Render(c, all)
	if err != nil {
		return nil, err
	}
	files := map[string]string{}
	for name, text := range rendered {
		name = strings.TrimPrefix(name, c.Name()+"/templates/")
		if strings.TrimSpace(text) != "" && !strings.HasPrefix(path.Base(name), "_") {
			files[name] = text
		}
	}
	return files, nil
}

// objects decodes every rendered document strictly: a key that is given twice
// is an error here, as it is for the API server.
func objects(t *testing.T, files map[string]string) []*unstructured.Unstructured {
	t.Helper()
	var all []*unstructured.Unstructured
	for name, text := range files {
		if !strings.HasSuffix(name, ".yaml") {
			continue
		}
		r := yaml.NewYAMLReader(bufio.NewReader(strings.NewReader(text)))
		for {
			doc, err := r.Read()
			if errors.Is(err, io.EOF) {
				break
			}
			require.NoError(t, err)
			var object map[string]any
			require.NoError(t, syaml.UnmarshalStrict(doc, &object), name)
			if len(object) > 0 { // nothing but a comment: a part that is switched off
				all = append(all, &unstructured.Unstructured{Object: object})
			}
		}
	}
	return all
}

func TestChartVersionIsTheProducts(t *testing.T) {
	t.Parallel()
	m := load(t).Metadata
	require.Equal(t, buildinfo.Version(), m.AppVersion)
	require.Equal(t, m.AppVersion, m.Version)
	require.Contains(t, m.Annotations["artifacthub.io/images"], "budcluster-agent:"+m.AppVersion)
}

func TestGoldenRenders(t *testing.T) {
	t.Parallel()
	for name, v := range cases(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			files, err := render(t, v)
			require.NoError(t, err)
			objects(t, files)
			var all bytes.Buffer
			for _, file := range sorted(files) {
				fmt.Fprintf(&all, "--- # %s\n%s\n", file, strings.TrimSpace(strings.TrimPrefix(files[file], "---\n")))
			}
			testutil.Golden(t, name, all.Bytes())
		})
	}
}

func TestLintFindsNothing(t *testing.T) {
	t.Parallel()
	for name, v := range cases(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			result := lint.All("budcluster-agent", v, namespace, true)
			for _, m := range result.Messages {
				require.LessOrEqual(t, m.Severity, support.InfoSev, m.Error())
			}
		})
	}
}

func TestRightsAreNamedOneByOne(t *testing.T) {
	t.Parallel()
	for name, v := range cases(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			files, err := render(t, v)
			require.NoError(t, err)
			for _, o := range objects(t, files) {
				for _, rule := range rules(t, o) {
					requireNamed(t, o, rule, name == "full") // the one case that asks for it
				}
				ref, _, _ := unstructured.NestedString(o.Object, "roleRef", "name")
				require.NotContains(t, []string{"cluster-admin", "admin", "edit"}, ref)
			}
		})
	}
}

func requireNamed(t *testing.T, o *unstructured.Unstructured, rule rbacv1.PolicyRule, escalates bool) {
	t.Helper()
	lists := [][]string{rule.APIGroups, rule.Resources, rule.Verbs}
	if len(rule.NonResourceURLs) > 0 {
		lists = [][]string{rule.NonResourceURLs, rule.Verbs}
	}
	for _, list := range lists {
		require.NotEmpty(t, list, "%s %s", o.GetKind(), o.GetName())
		for _, word := range list {
			require.NotContains(t, word, "*", "%s %s", o.GetKind(), o.GetName())
		}
	}
	require.NotContains(t, rule.Verbs, "impersonate")
	for _, role := range rule.ResourceNames {
		require.NotContains(t, []string{"cluster-admin", "admin", "edit"}, role)
	}
	if escalates {
		return
	}
	require.NotContains(t, rule.Verbs, "escalate")
	if slices.Contains(rule.Verbs, "bind") { // to roles of Kubernetes's own, by name
		require.NotEmpty(t, rule.ResourceNames)
	}
}

// rules returns the rules of a role, none of anything else.
func rules(t *testing.T, o *unstructured.Unstructured) []rbacv1.PolicyRule {
	t.Helper()
	var role rbacv1.ClusterRole // a Role has the same form
	if kind := o.GetKind(); kind != "Role" && kind != "ClusterRole" {
		return nil
	}
	require.NoError(t, runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &role))
	require.NotEmpty(t, role.Rules)
	return role.Rules
}

func TestSwitchedOffMeansNoRole(t *testing.T) {
	t.Parallel()
	files, err := render(t, cases(t)["observe"])
	require.NoError(t, err)
	require.NotContains(t, files, "rbac-installer.yaml")
	require.Contains(t, files, "rbac-inventory.yaml")

	files, err = render(t, values(t, "hub: {addresses: ['h:1']}\nrbac: {create: false}"))
	require.NoError(t, err)
	for name := range files {
		require.False(t, strings.HasPrefix(name, "rbac"), name)
	}
}

// TestPodsPassTheRestrictedStandard checks what the pod security standard
// "restricted" and OpenShift's restricted-v2 ask for, on every pod of the chart.
func TestPodsPassTheRestrictedStandard(t *testing.T) {
	t.Parallel()
	for name, v := range cases(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			files, err := render(t, v)
			require.NoError(t, err)
			pods := 0
			for _, o := range objects(t, files) {
				spec := podSpec(o)
				if spec == nil {
					continue
				}
				pods++
				requireRestricted(t, spec)
			}
			require.Equal(t, 2, pods, "the deployment's pod and the test's")
		})
	}
}

func podSpec(o *unstructured.Unstructured) map[string]any {
	at := []string{"spec", "template", "spec"}
	if o.GetKind() == "Pod" {
		at = []string{"spec"}
	}
	spec, _, _ := unstructured.NestedMap(o.Object, at...)
	return spec
}

func requireRestricted(t *testing.T, spec map[string]any) {
	t.Helper()
	pod, _, _ := unstructured.NestedMap(spec, "securityContext")
	require.Equal(t, map[string]any{
		"runAsNonRoot":   true,
		"seccompProfile": map[string]any{"type": "RuntimeDefault"},
	}, pod, "a fixed user or group is refused by OpenShift")
	for _, key := range []string{"hostNetwork", "hostPID", "hostIPC"} {
		require.NotContains(t, spec, key)
	}
	require.Equal(t, false, spec["enableServiceLinks"])
	containers, _, _ := unstructured.NestedSlice(spec, "containers")
	require.NotEmpty(t, containers)
	for _, c := range containers {
		require.Equal(t, map[string]any{
			"allowPrivilegeEscalation": false,
			"readOnlyRootFilesystem":   true,
			"capabilities":             map[string]any{"drop": []any{"ALL"}},
		}, c.(map[string]any)["securityContext"])
	}
	volumes, _, _ := unstructured.NestedSlice(spec, "volumes")
	for _, v := range volumes {
		require.NotContains(t, v, "hostPath")
	}
}

func TestNothingLeavesTheCluster(t *testing.T) {
	t.Parallel()
	for name, v := range cases(t) {
		files, err := render(t, v)
		require.NoError(t, err)
		for _, o := range objects(t, files) {
			require.NotContains(t, []string{"Ingress", "Route", "Gateway", "HTTPRoute"}, o.GetKind(), name)
			if o.GetKind() == "Service" {
				kind, _, _ := unstructured.NestedString(o.Object, "spec", "type")
				require.Equal(t, "ClusterIP", kind, name)
			}
		}
	}
}

// TestBadValuesAreRefused is the list of what a user sees; each is refused
// before anything reaches a cluster.
func TestBadValuesAreRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ values, want string }{
		"no address":            {"joinToken: ''", "hub.addresses is empty"},
		"address without port":  {"hub: {addresses: [hub.example.com]}", "/hub/addresses/0"},
		"address with scheme":   {"hub: {addresses: ['https://hub:8443']}", "/hub/addresses/0"},
		"mistyped key":          {"hub: {adresses: ['hub:8443']}", "adresses"},
		"unknown top level":     {"hub: {addresses: ['h:1']}\ntoken: x", "token"},
		"truncated token":       {"hub: {addresses: ['h:1']}\njoinToken: bud1.id.secret", "/joinToken"},
		"two tokens":            {"hub: {addresses: ['h:1']}\njoinToken: bud1.a.b." + strings.Repeat("0", 64) + "\nexistingSecret: {name: x}", "keep one of them"},
		"wildcard rule":         {"hub: {addresses: ['h:1']}\nrbac: {installer: {extraRules: [{apiGroups: ['*'], resources: [x], verbs: [get]}]}}", "/rbac/installer/extraRules/0/apiGroups/0"},
		"proxy with password":   {"hub: {addresses: ['h:1']}\nproxy: {https: 'http://user:pw@proxy:3128'}", "/proxy/https"},
		"image digest no hash":  {"hub: {addresses: ['h:1']}\nimage: {digest: latest}", "/image/digest"},
		"interval is no time":   {"hub: {addresses: ['h:1']}\ndrift: {interval: often}", "/drift/interval"},
		"log level is mistyped": {"hub: {addresses: ['h:1']}\nlog: {level: loud}", "/log/level"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := render(t, values(t, c.values))
			require.Error(t, err)
			require.Contains(t, strings.ReplaceAll(err.Error(), ".", "/")+err.Error(), c.want)
		})
	}
}

func TestNetworkPolicyLetsOutToHubAndProxyOnly(t *testing.T) {
	t.Parallel()
	files, err := render(t, values(t, "hub: {addresses: ['a:8443', 'b:443', 'c:8443']}\nproxy: {https: 'https://proxy.example'}"))
	require.NoError(t, err)
	for _, o := range objects(t, files) {
		if o.GetKind() != "NetworkPolicy" {
			continue
		}
		egress, _, _ := unstructured.NestedSlice(o.Object, "spec", "egress")
		var ports []any
		for _, p := range egress[0].(map[string]any)["ports"].([]any) {
			ports = append(ports, p.(map[string]any)["port"])
		}
		require.ElementsMatch(t, []any{float64(443), float64(8443)}, ports)
		return
	}
	t.Fatal("no NetworkPolicy was rendered")
}

func sorted(files map[string]string) []string {
	var names []string
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
