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
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	syaml "sigs.k8s.io/yaml"

	"github.com/budecosystem/budcluster/internal/testutil"
)

// entry is what the hub's catalogue says of the rights that a component takes.
type entry struct {
	Name string
	RBAC struct {
		Default bool
		Why     string
		Rules   []struct {
			rbacv1.PolicyRule `json:",inline"`
			For               string
		}
	}
}

// entries reads the catalogue's files: the package that owns them is the hub's
// alone.
func entries(t *testing.T) []entry {
	t.Helper()
	files, err := filepath.Glob("../hub/internal/component/catalogue/*.yaml")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	all := make([]entry, 0, len(files))
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		var e entry
		require.NoError(t, syaml.Unmarshal(text, &e), file)
		if len(e.RBAC.Rules) > 0 {
			all = append(all, e)
		}
	}
	return all
}

// right is one thing that somebody may do.
type right struct{ group, resource, name, url, verb string }

func (r right) String() string {
	if r.url != "" {
		return r.verb + " " + r.url
	}
	return strings.TrimSpace(fmt.Sprintf("%s %s.%s %s", r.verb, r.resource, r.group, r.name))
}

type rights map[right]bool

func (r rights) add(rules ...rbacv1.PolicyRule) {
	for _, rule := range rules {
		names := rule.ResourceNames
		if len(names) == 0 {
			names = []string{""}
		}
		for _, verb := range rule.Verbs {
			for _, url := range rule.NonResourceURLs {
				r[right{url: url, verb: verb}] = true
			}
			for _, group := range rule.APIGroups {
				for _, resource := range rule.Resources {
					for _, name := range names {
						r[right{group: group, resource: resource, name: name, verb: verb}] = true
					}
				}
			}
		}
	}
}

// has: a right on all objects of a kind is one on each.
func (r rights) has(one right) bool {
	all := one
	all.name = ""
	return r[one] || r[all]
}

// lacking is what of a rule somebody with these rights does not have, as rules
// that keep its form.
func (r rights) lacking(rule rbacv1.PolicyRule) []rbacv1.PolicyRule {
	urls := rights{}
	urls.add(rbacv1.PolicyRule{NonResourceURLs: rule.NonResourceURLs, Verbs: rule.Verbs})
	if slices.ContainsFunc(slices.Collect(maps.Keys(urls)), func(o right) bool { return !r.has(o) }) {
		return []rbacv1.PolicyRule{rule}
	}
	var out []rbacv1.PolicyRule
	for _, group := range rule.APIGroups {
		for _, resource := range rule.Resources {
			var verbs []string
			for _, verb := range rule.Verbs {
				one := rights{}
				one.add(rbacv1.PolicyRule{APIGroups: []string{group}, Resources: []string{resource}, ResourceNames: rule.ResourceNames, Verbs: []string{verb}})
				if slices.ContainsFunc(slices.Collect(maps.Keys(one)), func(o right) bool { return !r.has(o) }) {
					verbs = append(verbs, verb)
				}
			}
			if len(verbs) > 0 {
				out = append(out, rbacv1.PolicyRule{APIGroups: []string{group}, Resources: []string{resource}, ResourceNames: rule.ResourceNames, Verbs: verbs})
			}
		}
	}
	return joined(out)
}

// joined unites rules that differ in their resources only, and then those that
// differ in their groups only.
func joined(rules []rbacv1.PolicyRule) []rbacv1.PolicyRule {
	for _, part := range []func(*rbacv1.PolicyRule) *[]string{
		func(p *rbacv1.PolicyRule) *[]string { return &p.Resources },
		func(p *rbacv1.PolicyRule) *[]string { return &p.APIGroups },
	} {
		var out []rbacv1.PolicyRule
		for _, rule := range rules {
			bare := func(p rbacv1.PolicyRule) string { *part(&p) = nil; return p.String() }
			at := slices.IndexFunc(out, func(o rbacv1.PolicyRule) bool { return bare(o) == bare(rule) })
			if at < 0 {
				out = append(out, *rule.DeepCopy())
				continue
			}
			*part(&out[at]) = append(*part(&out[at]), *part(&rule)...)
		}
		rules = out
	}
	return rules
}

// bound gathers what the ClusterRoles of a render give whose names end so.
func bound(t *testing.T, files map[string]string, suffix string) rights {
	t.Helper()
	all := rights{}
	for _, o := range objects(t, files) {
		if o.GetKind() == "ClusterRole" && strings.HasSuffix(o.GetName(), suffix) {
			all.add(rules(t, o)...)
		}
	}
	return all
}

const minimal = "hub: {addresses: ['h:1']}\n"

// TestRightsOfComponentsAreTheCatalogues: the chart's file has, for each
// component, exactly what the catalogue says beyond the installer's role.
func TestRightsOfComponentsAreTheCatalogues(t *testing.T) {
	t.Parallel()
	files, err := render(t, values(t, minimal+"rbac: {components: null}"))
	require.NoError(t, err)
	installer := bound(t, files, "-installer")
	require.NotEmpty(t, installer)

	var out bytes.Buffer
	out.WriteString("# The rights that the charts of components hand out, beyond those of the installer's role.\n" +
		"# Made from the hub's catalogue by `go test ./charts -run TestRightsOfComponents -update`. DO NOT EDIT.\n")
	for _, e := range entries(t) {
		fmt.Fprintf(&out, "%s:\n", e.Name)
		have := maps.Clone(installer)
		for _, rule := range e.RBAC.Rules {
			for i, lacking := range have.lacking(rule.PolicyRule) {
				if i == 0 {
					fmt.Fprintf(&out, "  # %s\n", rule.For)
				}
				writeRule(&out, lacking)
			}
			have.add(rule.PolicyRule)
		}
	}
	const file = "budcluster-agent/files/components.yaml"
	if testutil.Updating() {
		require.NoError(t, os.WriteFile(file, out.Bytes(), 0o644))
	}
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, out.String(), string(text), "differs from %s; if that is right, run the test with -update", file)
}

func writeRule(out *bytes.Buffer, rule rbacv1.PolicyRule) {
	before := "  - "
	for _, part := range []struct {
		key  string
		list []string
	}{
		{"apiGroups", rule.APIGroups},
		{"resources", rule.Resources},
		{"resourceNames", rule.ResourceNames},
		{"nonResourceURLs", rule.NonResourceURLs},
		{"verbs", rule.Verbs},
	} {
		if len(part.list) == 0 {
			continue
		}
		words := make([]string, 0, len(part.list))
		for _, word := range part.list {
			if word == "" || strings.Contains(word, ":") {
				word = `"` + word + `"`
			}
			words = append(words, word)
		}
		fmt.Fprintf(out, "%s%s: [%s]\n", before, part.key, strings.Join(words, ", "))
		before = "    "
	}
}

// TestComponentsHaveASwitchEach: on or off as the catalogue says unless told
// otherwise, with its reason in values.yaml, and with nothing of the others.
func TestComponentsHaveASwitchEach(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("budcluster-agent/values.yaml")
	require.NoError(t, err)
	comments := comment.ReplaceAllString(string(text), " ")
	var names []string
	for _, e := range entries(t) {
		names = append(names, e.Name)
		require.Contains(t, comments, strings.Join(strings.Fields(e.RBAC.Why), " "), "values.yaml does not say what is granted for %s", e.Name)

		files, err := render(t, values(t, minimal))
		require.NoError(t, err)
		require.Equal(t, e.RBAC.Default, len(bound(t, files, "-component-"+e.Name)) > 0, e.Name)

		for _, on := range []bool{true, false} {
			files, err := render(t, values(t, fmt.Sprintf("%srbac: {components: {%s: %t}}", minimal, e.Name, on)))
			require.NoError(t, err)
			granted := bound(t, files, "-component-"+e.Name)
			require.Equal(t, on, len(granted) > 0, e.Name)
			if !on {
				continue
			}
			have := bound(t, files, "-installer")
			maps.Copy(have, granted)
			for _, rule := range e.RBAC.Rules {
				require.Empty(t, have.lacking(rule.PolicyRule), "%s: %s", e.Name, rule.For)
			}
		}
	}
	known := slices.Collect(maps.Keys(load(t).Values["rbac"].(map[string]any)["components"].(map[string]any)))
	require.ElementsMatch(t, names, known)
}

var comment = regexp.MustCompile(`\s*\n\s*#\s*|\s+`)

// TestComponentsAreGrantedToTheAgent: each role of a component is bound to the
// agent's service account and to nobody else, and binds no powerful role.
func TestComponentsAreGrantedToTheAgent(t *testing.T) {
	t.Parallel()
	files, err := render(t, cases(t)["full"])
	require.NoError(t, err)
	bindings := map[string]*unstructured.Unstructured{}
	for _, o := range objects(t, files) {
		if o.GetKind() == "ClusterRoleBinding" {
			bindings[o.GetName()] = o
		}
	}
	for _, e := range entries(t) {
		b := bindings["bud-component-"+e.Name]
		require.NotNil(t, b, "%s in %v", e.Name, slices.Sorted(maps.Keys(bindings)))
		require.Equal(t, map[string]any{"apiGroup": rbacv1.GroupName, "kind": "ClusterRole", "name": b.GetName()}, b.Object["roleRef"])
		require.Equal(t, []any{map[string]any{"kind": "ServiceAccount", "name": "bud", "namespace": namespace}}, b.Object["subjects"])
	}
}

// TestUnknownComponentIsRefused: a mistyped switch would silently grant nothing.
func TestUnknownComponentIsRefused(t *testing.T) {
	t.Parallel()
	_, err := render(t, values(t, minimal+"rbac: {components: {nfdd: true}}"))
	require.ErrorContains(t, err, "nfdd")
}

// TestRightsSubtract is the arithmetic of the tests above.
func TestRightsSubtract(t *testing.T) {
	t.Parallel()
	have := rights{}
	have.add(rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"pods", "nodes"}, Verbs: []string{"get", "list"}})
	for name, c := range map[string]struct{ rule, want []string }{
		"all there":         {[]string{"|pods,nodes|get"}, nil},
		"a verb is missing": {[]string{"|pods|get,delete"}, []string{"|pods|delete"}},
		"resources differ":  {[]string{"|pods,services,secrets|get"}, []string{"|services,secrets|get"}},
		"groups differ":     {[]string{",apps,batch|pods|get"}, []string{"apps,batch|pods|get"}},
		"by resource":       {[]string{"|pods,services|get,delete"}, []string{"|pods|delete", "|services|get,delete"}},
	} {
		var got []string
		for _, rule := range c.rule {
			parts := strings.Split(rule, "|")
			for _, l := range have.lacking(rbacv1.PolicyRule{APIGroups: strings.Split(parts[0], ","), Resources: strings.Split(parts[1], ","), Verbs: strings.Split(parts[2], ",")}) {
				got = append(got, strings.Join(l.APIGroups, ",")+"|"+strings.Join(l.Resources, ",")+"|"+strings.Join(l.Verbs, ","))
			}
		}
		slices.Sort(got)
		require.Equal(t, c.want, got, name)
	}
	named := rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"pods"}, ResourceNames: []string{"a"}, Verbs: []string{"get"}}
	require.Empty(t, have.lacking(named), "all includes one")
	one := rights{}
	one.add(named)
	named.ResourceNames = nil
	require.Len(t, one.lacking(named), 1, "one does not include all")
}
