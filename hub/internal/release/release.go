// Package release holds desired state: the charts that the hub wants in each
// cluster, and what the agents say became of them.
//
// The row in the store is authoritative for what is wanted; the agent is
// authoritative for what is there. A change of a spec raises the generation;
// the agent's status names the generation that it speaks of. Deleting a
// release writes a tombstone: the row stays until the agent reports Removed,
// or an operator forgets it by force.
package release

import (
	"encoding/json"
	"time"

	"github.com/google/uuid"

	"github.com/budecosystem/budcluster/internal/facts"
	agentv1 "github.com/budecosystem/budcluster/proto/agent/v1"
)

// Release is one chart wanted in one namespace of one cluster.
type Release struct {
	ID         uuid.UUID
	ClusterID  uuid.UUID
	Name       string
	Namespace  string
	Generation int64
	// Digest is "sha256:" and hex over the canonical form of Spec, secret
	// values included, and of the tombstone.
	Digest    string
	Spec      Spec
	RemovedAt *time.Time // set: a tombstone
	CreatedAt time.Time
	UpdatedAt time.Time
	Status    Status
}

// Spec is what is wanted.
type Spec struct {
	Chart Chart `json:"chart"`
	// Values is a JSON object; anybody who may read the release may read it.
	Values json.RawMessage `json:"values,omitempty"`
	// SecretValues is a JSON object merged over Values. It is sealed at rest
	// and never leaves the hub but through the tunnel.
	SecretValues    json.RawMessage `json:"-"`
	CreateNamespace bool            `json:"createNamespace"`
	Timeout         time.Duration   `json:"timeout"`
	Remediation     Remediation     `json:"remediation"`
	MaxAttempts     int             `json:"maxAttempts"`
	Drift           DriftPolicy     `json:"drift"`
	Adoption        AdoptionPolicy  `json:"adoption"`
	Outputs         []Output        `json:"outputs,omitempty"`
	// Leftovers and NodeMarks are what the chart's uninstall leaves behind. The
	// agent removes them after it, if they were not there before.
	Leftovers []facts.Leftover `json:"leftovers,omitempty"`
	NodeMarks facts.NodeMarks  `json:"nodeMarks,omitzero"`
	// Component names the entry of the catalogue that the release is for.
	Component string `json:"component,omitempty"`
}

// Chart names a packaged chart by what it contains.
type Chart struct {
	// Digest is "sha256:" and hex of the .tgz.
	Digest  string `json:"digest"`
	Name    string `json:"name"`
	Version string `json:"version"`
}

// Output names a field of an object of the release to report.
type Output struct {
	Name       string `json:"name"`
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Object     string `json:"object"`
	JSONPath   string `json:"jsonPath"`
}

// Remediation is what happens when an install or upgrade fails.
type Remediation string

// The remediations.
const (
	RemediationKeep      Remediation = "keep"
	RemediationRollback  Remediation = "rollback"
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
	AdoptionObserve  AdoptionPolicy = "observe"
	AdoptionTakeOver AdoptionPolicy = "takeOver"
)

// Status is what the agent last said. Its zero value means nothing was said.
type Status struct {
	ObservedGeneration int64             `json:"observedGeneration"`
	Phase              agentv1.Phase     `json:"phase"`
	Reason             string            `json:"reason,omitempty"`
	Message            string            `json:"message,omitempty"`
	Ready              int               `json:"ready"`
	Total              int               `json:"total"`
	WaitingFor         string            `json:"waitingFor,omitempty"`
	ChartVersion       string            `json:"chartVersion,omitempty"`
	AppVersion         string            `json:"appVersion,omitempty"`
	Revision           int               `json:"revision,omitempty"`
	Owned              bool              `json:"owned"`
	Drift              []Drift           `json:"drift,omitempty"`
	Outputs            map[string]string `json:"outputs,omitempty"`
	Attempts           int               `json:"attempts,omitempty"`
	Corrections        int64             `json:"corrections,omitempty"`
	ChangedAt          *time.Time        `json:"changedAt,omitempty"`
	RetryAt            *time.Time        `json:"retryAt,omitempty"`
}

// Drift is one field that is not as the chart has it.
type Drift struct {
	Object  string `json:"object"`
	Field   string `json:"field"`
	Manager string `json:"manager,omitempty"`
}
