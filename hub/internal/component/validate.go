package component

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/budecosystem/budcluster/internal/chartfile"
	"github.com/budecosystem/budcluster/internal/facts"
)

// The bounds of an entry; those of names are Helm's and Kubernetes's.
const (
	maxName      = 53
	maxNamespace = 63
	minTimeout   = 10 * time.Second
	maxTimeout   = 24 * time.Hour
)

var (
	namePattern    = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`)
	apiPattern     = regexp.MustCompile(`^([a-z0-9]([a-z0-9.-]*[a-z0-9])?/)?v[0-9][a-z0-9]*$`)
	kindPattern    = regexp.MustCompile(`^[A-Z][A-Za-z0-9]{0,62}$`)
	hexPattern     = regexp.MustCompile(`^[0-9a-f]{4}$`)
	classPattern   = regexp.MustCompile(`^[0-9a-f]{2,4}$`)
	settingPattern = regexp.MustCompile(`^[A-Z][A-Z0-9_]{2,62}$`)
)

// problems gathers what is wrong, with the path of each field.
type problems []error

func (p *problems) add(field, format string, args ...any) {
	*p = append(*p, fmt.Errorf("%s: %w", field, fmt.Errorf(format, args...)))
}

// validate names everything that is wrong with an entry by itself.
func (c *Component) validate() error {
	var p problems
	if !validName(c.Name) {
		p.add("name", "%q is not a name; use at most %d lower-case letters, digits and dashes", clip(c.Name), maxName)
	}
	if c.Title == "" || c.Description == "" {
		p.add("title, description", "both are needed; people choose by them")
	}
	c.validateWanted(&p)
	c.Chart.validate(&p)
	if !validName(c.Release) {
		p.add("release", "%q is not a release name; use at most %d lower-case letters, digits and dashes", clip(c.Release), maxName)
	}
	if len(c.Namespace) > maxNamespace || !namePattern.MatchString(c.Namespace) {
		p.add("namespace", "%q is not a namespace; use at most %d lower-case letters, digits and dashes", clip(c.Namespace), maxNamespace)
	}
	if d := time.Duration(c.Timeout); d < minTimeout || d > maxTimeout {
		p.add("timeout", "%s is out of range; use a duration from %s to %s", d, minTimeout, maxTimeout)
	}
	c.validateValues(&p)
	c.validateOthers(&p)
	c.validateProbes(&p)
	c.validateReady(&p)
	c.Removal.validate(&p, c.Namespace)
	c.RBAC.validate(&p)
	return errors.Join(p...)
}

func validName(name string) bool { return len(name) <= maxName && namePattern.MatchString(name) }

func (c *Component) validateWanted(p *problems) {
	switch {
	case !slices.Contains(Defaults(), c.Wanted):
		p.add("wanted", "%q is not known; use one of always, auto, onRequest", clip(string(c.Wanted)))
	case c.Wanted == WantedAuto && c.When == nil:
		p.add("when", "it is missing; wanted: auto has to say which facts ask for it")
	case c.Wanted != WantedAuto && c.When != nil:
		p.add("when", "it goes only with wanted: auto; leave it out")
	}
	if c.When != nil {
		c.When.validate(p, "when")
		if c.When.asksThere() {
			p.add("when", "it asks what is there, which is decided only afterwards; use requires")
		}
	}
	for name, field := range c.Settings {
		if !settingPattern.MatchString(name) {
			p.add("settings", "%q is not the name of a setting; use capital letters, digits and underscores", clip(name))
		}
		switch field {
		case SettingNamespace, SettingTimeout, SettingFeatures:
		default:
			p.add("settings."+clip(name), "%q is not a field that a setting may change; use one of namespace, timeout, nodeFeatures", clip(string(field)))
		}
	}
}

func (c Chart) validate(p *problems) {
	if c.Name == "" || c.Version == "" {
		p.add("chart", "name and version are needed, as the chart's Chart.yaml has them")
	}
	places := 0
	for _, place := range []string{c.Repository, c.OCI, c.Builtin} {
		if place != "" {
			places++
		}
	}
	if places > 1 {
		p.add("chart", "it is in more than one place; keep one of repository, oci and builtin")
	}
	switch u, err := url.Parse(c.Repository); {
	case c.Repository == "":
	case err == nil && u.User != nil:
		p.add("chart.repository", "it holds a user or a password; everybody who may see components would see it")
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		p.add("chart.repository", "%q is not the URL of a repository; use one such as https://charts.example.com", clip(c.Repository))
	}
	if c.OCI != "" && !strings.HasPrefix(c.OCI, "oci://") {
		p.add("chart.oci", "%q is not a reference; use one such as oci://ghcr.io/example/charts/name", clip(c.OCI))
	}
	switch {
	case c.Digest != "" && !chartfile.IsDigest(c.Digest):
		p.add("chart.digest", "%q is not a digest; use sha256: and 64 hex digits", clip(c.Digest))
	case c.Builtin != "" && (c.Digest != "" || c.Unverified != ""):
		p.add("chart.digest", "a chart of this program has the digest of what the program carries; leave digest and unverified out")
	case c.Builtin == "" && (c.Digest == "") == (c.Unverified == ""):
		p.add("chart.digest", "give the digest, or say under unverified why there is none, and not both")
	}
}

func (c *Component) validateValues(p *problems) {
	if err := checkPlaceholders(c.Values); err != nil {
		p.add("values", "%w", err)
	}
	seen := map[string]bool{}
	for i, v := range c.Variants {
		field := fmt.Sprintf("variants[%d]", i)
		if v.Name == "" || seen[v.Name] {
			p.add(field+".name", "%q is missing or used twice; name each variant", clip(v.Name))
		}
		seen[v.Name] = true
		v.When.validate(p, field+".when")
		if err := checkPlaceholders(v.Values); err != nil {
			p.add(field+".values", "%w", err)
		}
	}
}

func (c *Component) validateOthers(p *problems) {
	seen := map[string]bool{c.Name: true}
	for _, name := range slices.Concat(c.Requires, c.After) {
		if seen[name] {
			p.add("requires, after", "%q is named twice, or is the component itself", clip(name))
		}
		seen[name] = true
	}
	for i, b := range c.Blocked {
		b.When.validate(p, fmt.Sprintf("blocked[%d].when", i))
		if b.When.asksThere() {
			p.add(fmt.Sprintf("blocked[%d].when", i), "it asks what is there, which is decided only afterwards; ask adopted, or use conflicts")
		}
		if b.Remedy == "" {
			p.add(fmt.Sprintf("blocked[%d].remedy", i), "it is missing; say what to do instead")
		}
	}
	for i, conflict := range c.Conflicts {
		if conflict.Remedy == "" {
			p.add(fmt.Sprintf("conflicts[%d].remedy", i), "it is missing; say what to do")
		}
	}
}

func (c *Component) validateProbes(p *problems) {
	seen := map[string]bool{namespaceProbe: true} // the program's own
	for i, one := range c.Presence {
		one.validate(p, fmt.Sprintf("presence[%d]", i), seen)
	}
	for i, need := range c.Needs {
		need.Probe.validate(p, fmt.Sprintf("needs[%d].probe", i), seen)
		if need.Remedy == "" {
			p.add(fmt.Sprintf("needs[%d].remedy", i), "it is missing; say how to get it")
		}
	}
}

func (pr Probe) validate(p *problems, field string, seen map[string]bool) {
	if !validName(pr.Name) || seen[pr.Name] {
		p.add(field+".name", "%q is not a name, or is used twice; name each probe with lower-case letters, digits and dashes", clip(pr.Name))
	}
	seen[pr.Name] = true
	if pr.APIVersion != facts.ProbeHelm && !apiPattern.MatchString(pr.APIVersion) {
		p.add(field+".apiVersion", "%q is not an API version; use one such as apps/v1, or %s for Helm's records", clip(pr.APIVersion), facts.ProbeHelm)
	}
	if !kindPattern.MatchString(pr.Kind) {
		p.add(field+".kind", "%q is not a kind; use one such as DaemonSet", clip(pr.Kind))
	}
	if strings.Trim(pr.Object, "*") == "" && pr.Selector == "" {
		p.add(field, "object and selector are empty; it would find everything")
	}
}

func (c *Component) validateReady(p *problems) {
	for i, r := range c.Ready {
		field := fmt.Sprintf("ready[%d]", i)
		set := 0
		if r.NodeFeatures {
			set++
		}
		if r.Output != nil {
			set++
			r.Output.validate(p, field+".output")
		}
		if r.Resource != nil {
			set++
			if r.Resource.Name == "" {
				p.add(field+".resource.name", "it is missing; use one such as nvidia.com/gpu")
			}
			r.Resource.Nodes.validate(p, field+".resource.nodes")
		}
		if set != 1 {
			p.add(field, "set exactly one of output, nodeFeatures and resource")
		}
		if r.Within <= 0 {
			p.add(field+".within", "it is missing; use a duration such as 30s")
		}
	}
}

func (o OutputReady) validate(p *problems, field string) {
	if o.Name == "" || o.Object == "" || o.Equals == "" || !apiPattern.MatchString(o.APIVersion) || !kindPattern.MatchString(o.Kind) ||
		!strings.HasPrefix(o.JSONPath, "{") || !strings.HasSuffix(o.JSONPath, "}") {
		p.add(field, "name, apiVersion, kind, object, jsonPath such as {.status.state}, and equals are needed")
	}
}

// validate asks what the agent will ask too, so that nobody writes an entry
// that it refuses.
func (r Removal) validate(p *problems, namespace string) {
	for i, l := range r.Leftovers {
		field := fmt.Sprintf("removal.leftovers[%d]", i)
		if strings.Contains(l.Namespace, "$") && l.Namespace != ownNamespace {
			p.add(field+".namespace", "%q is not known; use a name, or ${namespace} for that of the release", clip(l.Namespace))
		}
		if !apiPattern.MatchString(l.APIVersion) || !kindPattern.MatchString(l.Kind) {
			p.add(field, "apiVersion and kind are needed, such as v1 and Secret")
		}
		if l.Object != "" && l.Selector != "" {
			p.add(field, "name an object, or select by labels; not both")
		}
		if l.IfUnused && l.Kind != kindDefinition {
			p.add(field+".ifUnused", "it means something only for a CustomResourceDefinition")
		}
		if l.Namespace == ownNamespace {
			l.Namespace = namespace
		}
		if err := l.Check(namespace); err != nil {
			p.add(field, "%w", err)
		}
	}
	if len(r.Leftovers) > facts.MaxLeftovers-1 { // and the namespace
		p.add("removal.leftovers", "there are %d; use at most %d", len(r.Leftovers), facts.MaxLeftovers-1)
	}
	if err := r.Nodes.Check(); err != nil {
		p.add("removal.nodes", "%w", err)
	}
}

func (r RBAC) validate(p *problems) {
	if len(r.Rules) > 0 && r.Why == "" {
		p.add("rbac.why", "it is missing; people read it before they grant the rules")
	}
	for i, rule := range r.Rules {
		field := fmt.Sprintf("rbac.rules[%d]", i)
		for _, text := range slices.Concat(rule.APIGroups, rule.Resources, rule.ResourceNames, rule.NonResourceURLs, rule.Verbs) {
			if strings.Contains(text, "*") {
				p.add(field, "%q is a wildcard; name every group, resource and verb", clip(text))
			}
		}
		if len(rule.Verbs) == 0 || (len(rule.NonResourceURLs) > 0) == (len(rule.APIGroups) > 0 && len(rule.Resources) > 0) {
			p.add(field, "give verbs, and apiGroups with resources or nonResourceURLs")
		}
	}
}

// validate refuses a condition that asks nothing, or two things.
func (c Condition) validate(p *problems, field string) {
	set := 0
	for _, asked := range []bool{
		len(c.AnyOf) > 0, len(c.AllOf) > 0, c.Not != nil, c.Node != nil, len(c.Platform) > 0, len(c.Distribution) > 0, c.There != "", c.Adopted != "", c.Found != "",
	} {
		if asked {
			set++
		}
	}
	if set != 1 {
		p.add(field, "set exactly one of anyOf, allOf, not, node, platform, distribution, there, adopted and found")
	}
	for _, platform := range c.Platform {
		if platform != facts.PlatformKubernetes && platform != facts.PlatformOpenShift {
			p.add(field+".platform", "%q is not a platform; use kubernetes or openshift", clip(string(platform)))
		}
	}
	for i, one := range c.AnyOf {
		one.validate(p, fmt.Sprintf("%s.anyOf[%d]", field, i))
	}
	for i, one := range c.AllOf {
		one.validate(p, fmt.Sprintf("%s.allOf[%d]", field, i))
	}
	if c.Not != nil {
		c.Not.validate(p, field+".not")
	}
	if c.Node != nil {
		c.Node.validate(p, field+".node")
	}
}

// asksThere: a condition, or one below it, asks what is or will be there.
func (c Condition) asksThere() bool {
	return c.There != "" || c.Not != nil && c.Not.asksThere() ||
		slices.ContainsFunc(slices.Concat(c.AnyOf, c.AllOf), Condition.asksThere)
}

func (c NodeCondition) validate(p *problems, field string) {
	set := 0
	if len(c.AnyOf) > 0 {
		set++
		for i, one := range c.AnyOf {
			one.validate(p, fmt.Sprintf("%s.anyOf[%d]", field, i))
		}
	}
	if c.Label != nil {
		set++
		if c.Label.Key == "" {
			p.add(field+".label.key", "it is missing")
		}
	}
	if c.PCI != nil {
		set++
		c.PCI.validate(p, field+".pci")
	}
	if c.Device != nil {
		set++
		if c.Device.Vendor == "" || !slices.Contains([]facts.Kind{facts.KindCUDA, facts.KindROCm, facts.KindHPU, facts.KindCPU}, c.Device.Kind) {
			p.add(field+".device", "a vendor and one of the kinds cuda, rocm, hpu and cpu are needed")
		}
	}
	if set != 1 {
		p.add(field, "set exactly one of anyOf, label, pci and device")
	}
}

func (c PCICondition) validate(p *problems, field string) {
	for _, id := range append([]string{c.Vendor}, c.Devices...) {
		if !hexPattern.MatchString(id) {
			p.add(field, "%q is not a PCI id; use four lower-case hex digits", clip(id))
		}
	}
	if len(c.Classes)+len(c.Devices) == 0 && !c.VendorAlone {
		p.add(field, "nothing would match; give classes or devices, or set vendorAlone")
	}
	for _, class := range c.Classes {
		if !classPattern.MatchString(class) {
			p.add(field+".classes", "%q is not a PCI class; use two to four lower-case hex digits", clip(class))
		}
	}
}
