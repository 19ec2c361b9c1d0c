package v1alpha1

import (
	"encoding/json"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/budecosystem/budcluster/internal/facts"
	agentv1 "github.com/budecosystem/budcluster/proto/agent/v1"
)

// Group, Version and Kind name the custom resource.
const (
	Group   = "budcluster.io"
	Version = "v1alpha1"
	Kind    = "Release"
	// CRDName is the name of the CustomResourceDefinition.
	CRDName = "releases.budcluster.io"
)

// GroupVersionResource of the custom resource.
func GroupVersionResource() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: Group, Version: Version, Resource: "releases"}
}

// APIVersion is the apiVersion field of a Release.
func APIVersion() string { return GroupVersionResource().GroupVersion().String() }

// Release is one chart wanted in one namespace. Its metadata.name is the name
// of the Helm release.
type Release struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitzero"`

	Spec   ReleaseSpec   `json:"spec"`
	Status ReleaseStatus `json:"status,omitzero"`
}

// ReleaseSpec is what the hub wants. The agent writes it; changes by hand are
// undone when the hub speaks of this release again.
type ReleaseSpec struct {
	// ID of the release at the hub.
	ID string `json:"id"`
	// Generation grows at the hub with every change of the spec or removal.
	Generation int64 `json:"generation"`
	// Digest of the hub's spec, secret values included.
	Digest string `json:"digest"`
	// Namespace that the chart is installed into.
	Namespace string `json:"namespace"`
	// Removed is a tombstone: uninstall if we own it.
	Removed bool  `json:"removed,omitempty"`
	Chart   Chart `json:"chart"`
	// Values of the chart, unless they are large: then they lie in ValuesRef.
	Values json.RawMessage `json:"values,omitempty"`
	// ValuesRef names where large and secret values lie.
	ValuesRef       *ValuesRef     `json:"valuesRef,omitempty"`
	CreateNamespace bool           `json:"createNamespace,omitempty"`
	Timeout         string         `json:"timeout,omitempty"`
	Remediation     Remediation    `json:"remediation,omitempty"`
	MaxAttempts     int            `json:"maxAttempts,omitempty"`
	Drift           DriftPolicy    `json:"drift,omitempty"`
	Adoption        AdoptionPolicy `json:"adoption,omitempty"`
	Outputs         []Output       `json:"outputs,omitempty"`
	// Leftovers and NodeMarks are what the chart's uninstall leaves behind.
	Leftovers []Leftover `json:"leftovers,omitempty"`
	NodeMarks *NodeMarks `json:"nodeMarks,omitempty"`
}

// Leftover names objects that outlive the uninstall of the chart.
type Leftover = facts.Leftover

// NodeMarks are labels and annotations that the chart's programs write on
// nodes, as patterns.
type NodeMarks struct {
	Labels      []string `json:"labels,omitempty"`
	Annotations []string `json:"annotations,omitempty"`
}

// Facts is the same in the words of the hub.
func (m *NodeMarks) Facts() facts.NodeMarks {
	return facts.NodeMarks{Labels: m.Labels, Annotations: m.Annotations}
}

// Chart names a packaged chart by what it contains.
type Chart struct {
	Digest  string `json:"digest"`
	Name    string `json:"name,omitempty"`
	Version string `json:"version,omitempty"`
}

// ValuesRef names a Secret of the agent's namespace, owned by the Release.
type ValuesRef struct {
	Secret string `json:"secret"`
	// ValuesKey holds the values when they are too large for the spec.
	ValuesKey string `json:"valuesKey,omitempty"`
	// SecretValuesKey holds the values that are merged over the others.
	SecretValuesKey string `json:"secretValuesKey,omitempty"`
}

// Remediation is what happens when an install or upgrade fails.
type Remediation string

// The remediations.
const (
	// RemediationKeep leaves what is there for people to look at.
	RemediationKeep Remediation = "keep"
	// RemediationRollback returns to the last revision that was ready.
	RemediationRollback Remediation = "rollback"
	// RemediationUninstall removes a failed first install.
	RemediationUninstall Remediation = "uninstall"
)

// DriftPolicy is what happens when others change an object of the release.
type DriftPolicy string

// The drift policies.
const (
	DriftCorrect DriftPolicy = "correct"
	DriftReport  DriftPolicy = "report"
	DriftIgnore  DriftPolicy = "ignore"
)

// AdoptionPolicy is what happens when a Helm release of the name was there
// before us.
type AdoptionPolicy string

// The adoption policies.
const (
	// AdoptionObserve reports it and never changes it.
	AdoptionObserve AdoptionPolicy = "observe"
	// AdoptionTakeOver upgrades it to the spec; it is still not ours to remove.
	AdoptionTakeOver AdoptionPolicy = "takeOver"
)

// Output names a field of an object of the release to report.
type Output struct {
	Name       string `json:"name"`
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	// Object is the object's name: in the release's namespace, or, of a kind
	// without one, of the release itself.
	Object   string `json:"object"`
	JSONPath string `json:"jsonPath"`
}

// ReleaseStatus is what the agent observed.
type ReleaseStatus struct {
	ObservedGeneration int64         `json:"observedGeneration,omitempty"`
	Phase              agentv1.Phase `json:"phase,omitempty"`
	Reason             string        `json:"reason,omitempty"`
	Message            string        `json:"message,omitempty"`
	// Ready is the progress for people, e.g. 3/5.
	Ready        string            `json:"ready,omitempty"`
	Progress     *Progress         `json:"progress,omitempty"`
	ChartVersion string            `json:"chartVersion,omitempty"`
	AppVersion   string            `json:"appVersion,omitempty"`
	Revision     int               `json:"revision,omitempty"`
	Owned        bool              `json:"owned,omitempty"`
	Drift        []Drift           `json:"drift,omitempty"`
	Outputs      map[string]string `json:"outputs,omitempty"`
	Corrections  int64             `json:"corrections,omitempty"`
	ChangedAt    *metav1.Time      `json:"changedAt,omitempty"`
	// Attempts, RetryAt and Failure are the machine's memory: what cannot be
	// read from Helm's records, kept across restarts.
	Attempts   int          `json:"attempts,omitempty"`
	RetryAt    *metav1.Time `json:"retryAt,omitempty"`
	Failure    *Failure     `json:"failure,omitempty"`
	Conditions []Condition  `json:"conditions,omitempty"`
	// Before is what was there of the leftovers before the first install. It is
	// never removed.
	Before *Before `json:"before,omitempty"`
}

// Before is what was there before us.
type Before struct {
	// Asked are the leftovers that were looked for; of another one it is not
	// known, so it stays.
	Asked []string `json:"asked,omitempty"`
	// Found are objects, as Kind/namespace/name.
	Found []string `json:"found,omitempty"`
	// Nodes: they were looked at, and Marks were on some.
	Nodes bool     `json:"nodes,omitempty"`
	Marks []string `json:"marks,omitempty"`
}

// DeepCopy is a copy that shares nothing.
func (b *Before) DeepCopy() *Before {
	return &Before{Asked: slices.Clone(b.Asked), Found: slices.Clone(b.Found), Nodes: b.Nodes, Marks: slices.Clone(b.Marks)}
}

// Progress counts the objects of the release.
type Progress struct {
	Ready int `json:"ready"`
	Total int `json:"total"`
	// WaitingFor says what the first object that is not ready waits for.
	WaitingFor string `json:"waitingFor,omitempty"`
}

// Drift is one field that is not as the chart has it.
type Drift struct {
	// Object is Kind/namespace/name.
	Object string `json:"object"`
	Field  string `json:"field,omitempty"`
	// Manager is the field manager that changed it, where known.
	Manager string `json:"manager,omitempty"`
}

// Failure is why the last attempt failed.
type Failure struct {
	// Generation that the attempts were made for.
	Generation int64 `json:"generation,omitempty"`
	// Operation whose failure is counted; empty when it left no record.
	Operation string `json:"operation,omitempty"`
	Reason    string `json:"reason,omitempty"`
	Message   string `json:"message,omitempty"`
	// Permanent: trying again cannot help before the spec changes.
	Permanent bool `json:"permanent,omitempty"`
}

// Condition is a fact about the release beside its phase.
type Condition struct {
	Type               string      `json:"type"`
	Status             string      `json:"status"`
	Reason             string      `json:"reason,omitempty"`
	Message            string      `json:"message,omitempty"`
	LastTransitionTime metav1.Time `json:"lastTransitionTime,omitzero"`
}

// The conditions' types.
const (
	// ConditionOrphaned: the hub does not list this release any more. It is
	// kept: only a tombstone removes.
	ConditionOrphaned = "Orphaned"
	// ConditionRefused: the hub sent something that was not taken.
	ConditionRefused = "Refused"
)
