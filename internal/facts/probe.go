package facts

import (
	"cmp"
	"fmt"
	"strings"
)

// Probe asks whether something is in the cluster, whoever put it there. The
// agent does not know what it is asked for: it looks, and answers.
type Probe struct {
	// Name is the asker's; the answer carries it.
	Name string `json:"name"`
	// APIVersion and Kind say what to look at. APIVersion ProbeHelm with Kind
	// Release looks at Helm's own records.
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	// Namespace is empty for any, and for what has none.
	Namespace string `json:"namespace,omitempty"`
	// Object is a name in which * stands for any text; empty is any name.
	Object string `json:"object,omitempty"`
	// Selector is a label selector; empty selects all.
	Selector string `json:"selector,omitempty"`
}

// ProbeHelm is the APIVersion of Helm's own records.
const ProbeHelm = "helm.sh/v3"

// MaxProbes and MaxPresences bound what is asked at once, and how many objects
// answer one probe.
const (
	MaxProbes    = 128
	MaxPresences = 16
)

// Presence is one answer: each object that a probe found gives one, and a
// probe that found none gives one that says so.
type Presence struct {
	Probe string        `json:"probe"`
	State PresenceState `json:"state"`
	// Reason says why the state is unknown, in a sentence.
	Reason string `json:"reason,omitempty"`
	// Kind, Namespace and Object name what was found.
	Kind      string `json:"kind,omitempty"`
	Namespace string `json:"namespace,omitempty"`
	Object    string `json:"object,omitempty"`
	// Version is that of the software: the label app.kubernetes.io/version, else
	// the tag of the first container's image, else empty.
	Version string `json:"version,omitempty"`
	// Ready is nil where it means nothing, such as for a ConfigMap.
	Ready *bool `json:"ready,omitempty"`
	// Release and ReleaseNamespace name the Helm release that the object says it
	// belongs to.
	Release          string `json:"release,omitempty"`
	ReleaseNamespace string `json:"releaseNamespace,omitempty"`
}

// PresenceState says whether something is there.
type PresenceState string

// The states of presence. Unknown is not absent.
const (
	PresenceFound  PresenceState = "found"
	PresenceAbsent PresenceState = "absent"
	// PresenceUnknown: the cluster did not say, for example for want of a right.
	PresenceUnknown PresenceState = "unknown"
)

// String names what was found, for people.
func (p Presence) String() string {
	if p.State != PresenceFound {
		return fmt.Sprintf("%s %s", p.Probe, p.State)
	}
	name := p.Kind + " " + p.Object
	if p.Namespace != "" {
		name += " in namespace " + p.Namespace
	}
	return name
}

// ComparePresence orders answers: by probe, and then by what was found.
func ComparePresence(a, b Presence) int {
	return cmp.Or(
		strings.Compare(a.Probe, b.Probe), strings.Compare(string(a.State), string(b.State)), strings.Compare(a.Kind, b.Kind),
		strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Object, b.Object),
	)
}

// MatchObject reports whether a name is one that a Probe's Object means.
func MatchObject(pattern, name string) bool {
	if pattern == "" {
		return true
	}
	first, rest, wild := strings.Cut(pattern, "*")
	if !wild {
		return pattern == name
	}
	if !strings.HasPrefix(name, first) {
		return false
	}
	name = name[len(first):]
	for {
		part, more, again := strings.Cut(rest, "*")
		if !again {
			return strings.HasSuffix(name, part)
		}
		at := strings.Index(name, part)
		if at < 0 {
			return false
		}
		name, rest = name[at+len(part):], more
	}
}

// Leftover names what a release may leave behind when it is uninstalled: it is
// removed afterwards, if it was not there before the release.
type Leftover struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Namespace  string `json:"namespace,omitempty"`
	// Object is a name, or a pattern as in Probe; with it or with Selector.
	Object   string `json:"object,omitempty"`
	Selector string `json:"selector,omitempty"`
	// IfUnused keeps a CustomResourceDefinition of which objects are left, and a
	// Namespace in which more is left than Kubernetes puts into every one: it
	// would go with it, and is somebody's.
	IfUnused bool `json:"ifUnused,omitempty"`
}

// NodeMarks are labels and annotations that a component wrote on nodes, as
// patterns in which * stands for any text.
type NodeMarks struct {
	Labels      []string `json:"labels,omitempty"`
	Annotations []string `json:"annotations,omitempty"`
}
