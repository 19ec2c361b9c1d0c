package component

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/budecosystem/budcluster/internal/facts"
)

// Component is one entry of the catalogue.
type Component struct {
	// Name is the entry's, and that of its file.
	Name        string `json:"name"`
	Title       string `json:"title"`
	Description string `json:"description"`
	// Required: a registration fails with it.
	Required bool `json:"required,omitempty"`
	// Wanted is what holds for a cluster that does not say.
	Wanted Default `json:"wanted"`
	// When says which facts ask for it, where Wanted is auto.
	When      *Condition `json:"when,omitempty"`
	Chart     Chart      `json:"chart"`
	Release   string     `json:"release"`
	Namespace string     `json:"namespace"`
	// Settings names the settings of the hub that change a field of this entry.
	Settings map[string]SettingField `json:"settings,omitempty"`
	// Timeout is the longest that an installation may take.
	Timeout  Duration       `json:"timeout"`
	Values   map[string]any `json:"values,omitempty"`
	Variants []Variant      `json:"variants,omitempty"`
	// Requires names components without which this one makes no sense.
	Requires []string `json:"requires,omitempty"`
	// After names components that come first if they come at all.
	After []string `json:"after,omitempty"`
	// Needs are things that no component brings.
	Needs     []Need      `json:"needs,omitempty"`
	Conflicts []Conflict  `json:"conflicts,omitempty"`
	Blocked   []Block     `json:"blocked,omitempty"`
	Presence  []Presence  `json:"presence,omitempty"`
	Ready     []Readiness `json:"ready,omitempty"`
	Removal   Removal     `json:"removal,omitzero"`
	RBAC      RBAC        `json:"rbac,omitzero"`
}

// Default is whether a component is wanted where nobody says.
type Default string

// The defaults.
const (
	WantedAlways Default = "always"
	// WantedAuto: when the facts ask for it.
	WantedAuto Default = "auto"
	// WantedOnRequest: only when a cluster's settings say yes.
	WantedOnRequest Default = "onRequest"
)

// Defaults lists the defaults.
func Defaults() []Default { return []Default{WantedAlways, WantedAuto, WantedOnRequest} }

// Chart says where a chart is: in a repository, in a registry, or in this
// program. Without any of them somebody has to upload it.
type Chart struct {
	// Repository is the URL of a folder with an index.yaml.
	Repository string `json:"repository,omitempty"`
	// OCI is a registry's reference without a tag.
	OCI string `json:"oci,omitempty"`
	// Builtin is the name of a chart that this program carries.
	Builtin string `json:"builtin,omitempty"`
	Name    string `json:"name"`
	Version string `json:"version"`
	// Digest is "sha256:" and hex of the packed chart. Empty: nobody could say
	// it when this was written; the hub keeps that of the first download.
	Digest string `json:"digest,omitempty"`
	// Unverified says why there is no digest.
	Unverified string `json:"unverified,omitempty"`
}

// Published reports whether the hub can get the chart by itself.
func (c Chart) Published() bool { return c.Repository != "" || c.OCI != "" || c.Builtin != "" }

// Variant is values for clusters of a kind.
type Variant struct {
	Name   string         `json:"name"`
	When   Condition      `json:"when"`
	Values map[string]any `json:"values"`
}

// Need is something that must be in the cluster and that no component brings.
type Need struct {
	Probe Probe `json:"probe"`
	// Remedy says in a sentence how to get it.
	Remedy string `json:"remedy"`
}

// Conflict is something of somebody else's beside which a component cannot
// work.
type Conflict struct {
	// With names a presence as component/probe.
	With string `json:"with"`
	// Remedy says in a sentence what to do.
	Remedy string `json:"remedy"`
}

// Block says where a component cannot be installed at all.
type Block struct {
	When Condition `json:"when"`
	// Remedy says in a sentence what to do instead.
	Remedy string `json:"remedy"`
}

// Presence is a way to see that a component is there, whoever installed it.
type Presence struct {
	Probe
	// Decisive: what is found is the component itself. Else it is a trace, such
	// as a definition that a removed installation has left.
	Decisive bool `json:"decisive,omitempty"`
}

// Probe is a facts.Probe as the catalogue writes it.
type Probe struct {
	Name       string `json:"name"`
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Namespace  string `json:"namespace,omitempty"`
	Object     string `json:"object,omitempty"`
	Selector   string `json:"selector,omitempty"`
}

// Readiness is what must be so before a component counts as ready, beyond its
// release being ready. Exactly one of Output, NodeFeatures and Resource is set.
type Readiness struct {
	Output *OutputReady `json:"output,omitempty"`
	// NodeFeatures: feature discovery has labelled the nodes.
	NodeFeatures bool `json:"nodeFeatures,omitempty"`
	// Resource: nodes offer this extended resource.
	Resource *ResourceReady `json:"resource,omitempty"`
	// Within is how long it may take from when the release was ready. When it is
	// over and nothing of it is so, the component has failed; when some nodes
	// are missing, it is ready with a warning.
	Within Duration `json:"within"`
}

// OutputReady is a field of an object of the release.
type OutputReady struct {
	Name       string `json:"name"`
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Object     string `json:"object"`
	JSONPath   string `json:"jsonPath"`
	Equals     string `json:"equals"`
}

// ResourceReady is an extended resource of nodes.
type ResourceReady struct {
	Name string `json:"name"`
	// Nodes are those that are expected to offer it.
	Nodes NodeCondition `json:"nodes"`
}

// Removal is what goes when a component goes, beside its release.
type Removal struct {
	// Namespace: the release's namespace is the component's own. It goes with it
	// unless it was there before, or something else has come to live in it.
	Namespace bool `json:"namespace,omitempty"`
	// Leftovers may say ${namespace} for that of the release.
	Leftovers []facts.Leftover `json:"leftovers,omitempty"`
	Nodes     facts.NodeMarks  `json:"nodes,omitzero"`
	// Stays tells people in sentences what nobody can take back.
	Stays []string `json:"stays,omitempty"`
}

// RBAC is what an agent must be allowed to do to install a component, beyond
// what installing any chart takes.
type RBAC struct {
	// Default is whether the agent's chart grants it unless told otherwise.
	Default bool `json:"default,omitempty"`
	// Why explains the default and what is dangerous, for values.yaml.
	Why   string `json:"why,omitempty"`
	Rules []Rule `json:"rules,omitempty"`
}

// Rule is a policy rule. Wildcards are refused.
type Rule struct {
	APIGroups       []string `json:"apiGroups,omitempty"`
	Resources       []string `json:"resources,omitempty"`
	ResourceNames   []string `json:"resourceNames,omitempty"`
	NonResourceURLs []string `json:"nonResourceURLs,omitempty"`
	Verbs           []string `json:"verbs"`
	// For says what of the chart asks for it.
	For string `json:"for,omitempty"`
}

// SettingField is a field of an entry that a setting of the hub may change.
type SettingField string

// The fields.
const (
	SettingNamespace SettingField = "namespace"
	SettingTimeout   SettingField = "timeout"
	// SettingFeatures is how long feature discovery may take to label nodes.
	SettingFeatures SettingField = "nodeFeatures"
)

// Duration is written as 30s or 10m; a number is seconds.
type Duration time.Duration

// MarshalJSON writes it as 30s.
func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(time.Duration(d).String()) }

// UnmarshalJSON reads what MarshalJSON writes, and numbers of seconds.
func (d *Duration) UnmarshalJSON(data []byte) error {
	var text string
	if err := json.Unmarshal(data, &text); err != nil {
		text = string(data)
	}
	parsed, err := parseDuration(text)
	if err != nil {
		return err
	}
	*d = parsed
	return nil
}

func parseDuration(text string) (Duration, error) {
	if seconds, err := strconv.ParseUint(text, 10, 24); err == nil {
		return Duration(time.Duration(seconds) * time.Second), nil
	}
	parsed, err := time.ParseDuration(text)
	if err != nil || parsed < 0 {
		return 0, fmt.Errorf("%q is not a duration; write it as 30s or 10m", clip(text))
	}
	return Duration(parsed), nil
}
