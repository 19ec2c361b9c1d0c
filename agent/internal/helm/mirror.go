package helm

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"

	"helm.sh/helm/v3/pkg/releaseutil"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/yaml"
)

const (
	defaultRegistry = "docker.io"
	officialPath    = "library/"
)

// Mirrors rewrites image references to a site's own registries.
type Mirrors struct {
	rules []mirrorRule // longest prefix first
}

type mirrorRule struct{ prefix, target string }

// NewMirrors makes a map of prefixes, e.g. "registry.k8s.io" or
// "docker.io/library", to what replaces them. A trailing "/*" is accepted.
func NewMirrors(m map[string]string) (Mirrors, error) {
	var out Mirrors
	for from, to := range m {
		prefix, target := trimPattern(from), trimPattern(to)
		if prefix == "" || target == "" {
			return Mirrors{}, fmt.Errorf("image mirror %q: %q: both sides need a registry, e.g. registry.k8s.io: registry.site", from, to)
		}
		if first, _, _ := strings.Cut(prefix, "/"); !isHost(first) {
			return Mirrors{}, fmt.Errorf("image mirror %q: begin with the registry, e.g. docker.io/%s", from, prefix)
		}
		out.rules = append(out.rules, mirrorRule{prefix: normalisePrefix(prefix), target: target})
	}
	slices.SortFunc(out.rules, func(a, b mirrorRule) int {
		return cmp.Or(cmp.Compare(len(b.prefix), len(a.prefix)), cmp.Compare(a.prefix, b.prefix))
	})
	return out, nil
}

func trimPattern(s string) string {
	return strings.TrimRight(strings.TrimSuffix(strings.TrimSpace(s), "*"), "/")
}

// normalisePrefix gives the one default registry its one name.
func normalisePrefix(s string) string {
	if rest, ok := strings.CutPrefix(s, "index."+defaultRegistry); ok {
		return defaultRegistry + rest
	}
	return s
}

// normalise completes an image name the way container runtimes do:
// nginx → docker.io/library/nginx.
func normalise(name string) string {
	first, rest, found := strings.Cut(name, "/")
	switch {
	case !found:
		return defaultRegistry + "/" + officialPath + name
	case first == defaultRegistry || first == "index."+defaultRegistry:
		if !strings.Contains(rest, "/") {
			rest = officialPath + rest
		}
		return defaultRegistry + "/" + rest
	case isHost(first):
		return name
	default:
		return defaultRegistry + "/" + name
	}
}

func isHost(s string) bool {
	return s == "localhost" || strings.ContainsAny(s, ".:")
}

// Image returns the reference to use instead of ref. Tag and digest are kept;
// what no rule covers, or what is a mirror already, is returned as it is.
func (m Mirrors) Image(ref string) string {
	if ref == "" || len(m.rules) == 0 {
		return ref
	}
	name, suffix := splitReference(ref)
	full := normalise(name)
	for _, r := range m.rules {
		if below(name, r.target) || below(full, r.target) {
			return ref
		}
	}
	for _, r := range m.rules {
		if below(full, r.prefix) {
			return r.target + strings.TrimPrefix(full, r.prefix) + suffix
		}
	}
	return ref
}

// below reports whether a name lies under a prefix, by whole path elements.
func below(name, prefix string) bool {
	rest, ok := strings.CutPrefix(name, prefix)
	return ok && (rest == "" || rest[0] == '/')
}

// splitReference cuts tag and digest off; a port is not a tag.
func splitReference(ref string) (name, suffix string) {
	name = ref
	if i := strings.IndexByte(name, '@'); i >= 0 {
		name = name[:i]
	}
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		name = name[:i]
	}
	return name, ref[len(name):]
}

// Manifests rewrites every image of a YAML stream. Documents without a change
// keep their text, comments included.
func (m Mirrors) Manifests(stream string) (string, error) {
	if len(m.rules) == 0 {
		return stream, nil
	}
	docs := releaseutil.SplitManifests(stream)
	keys := make([]string, 0, len(docs))
	for k := range docs {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) })
	var out strings.Builder
	for _, k := range keys {
		doc, err := m.document(docs[k])
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&out, "---\n%s\n", strings.TrimSuffix(doc, "\n"))
	}
	return out.String(), nil
}

func (m Mirrors) document(doc string) (string, error) {
	raw, err := yaml.YAMLToJSON([]byte(doc))
	if err != nil {
		return "", fmt.Errorf("read manifest to rewrite images: %w", err)
	}
	var tree any
	if err := utiljson.Unmarshal(raw, &tree); err != nil {
		return "", fmt.Errorf("read manifest to rewrite images: %w", err)
	}
	if !m.Object(tree) {
		return doc, nil
	}
	text, err := yaml.Marshal(tree)
	if err != nil {
		return "", fmt.Errorf("write manifest with rewritten images: %w", err)
	}
	return string(text), nil
}

// Run implements Helm's post-renderer.
func (m Mirrors) Run(rendered *bytes.Buffer) (*bytes.Buffer, error) {
	text, err := m.Manifests(rendered.String())
	if err != nil {
		return nil, err
	}
	return bytes.NewBufferString(text), nil
}

// Object rewrites the images of containers wherever they stand in an object,
// so that custom resources with pod templates are covered too. It reports
// whether something changed.
func (m Mirrors) Object(node any) bool {
	changed := false
	switch n := node.(type) {
	case map[string]any:
		for key, child := range n {
			switch key {
			case "containers", "initContainers", "ephemeralContainers":
				changed = m.containers(child) || changed
			case "volumes":
				changed = m.volumes(child) || changed
			}
			changed = m.Object(child) || changed
		}
	case []any:
		for _, child := range n {
			changed = m.Object(child) || changed
		}
	}
	return changed
}

func (m Mirrors) containers(node any) bool {
	return eachMap(node, func(c map[string]any) bool { return m.field(c, "image") })
}

// volumes covers image volumes (volumes[].image.reference).
func (m Mirrors) volumes(node any) bool {
	return eachMap(node, func(v map[string]any) bool {
		image, ok := v["image"].(map[string]any)
		return ok && m.field(image, "reference")
	})
}

func eachMap(node any, fn func(map[string]any) bool) bool {
	list, ok := node.([]any)
	if !ok {
		return false
	}
	changed := false
	for _, item := range list {
		if entry, ok := item.(map[string]any); ok {
			changed = fn(entry) || changed
		}
	}
	return changed
}

func (m Mirrors) field(entry map[string]any, key string) bool {
	old, ok := entry[key].(string)
	if !ok {
		return false
	}
	next := m.Image(old)
	entry[key] = next
	return next != old
}
