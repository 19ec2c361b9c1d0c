package upgrade

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	agentv1 "github.com/budecosystem/budcluster/proto/agent/v1"
)

// Phase is how far an upgrade is.
type Phase string

// The phases. The last three are ends.
const (
	// Upgrading: Helm is to apply, or has applied and the new agent is to prove
	// itself.
	Upgrading Phase = "Upgrading"
	// Returning: Helm is to put back what there was before.
	Returning Phase = "Returning"
	// Current: the new agent reached the hub.
	Current Phase = "Current"
	// RolledBack: what there was before is there again.
	RolledBack Phase = "RolledBack"
	// Failed: nothing was changed.
	Failed Phase = "Failed"
)

// Reason says why it ended, or is to return.
type Reason string

// The reasons.
const (
	// Connected: the new agent reached the hub.
	Connected Reason = "Connected"
	// Unchanged: the new chart starts no other agent.
	Unchanged Reason = "Unchanged"
	// NotConnected: the new agent did not reach the hub in time.
	NotConnected Reason = "NotConnected"
	// NotApplied: Helm or the API server refused the chart.
	NotApplied Reason = "NotApplied"
	// NotByHelm: this agent was not installed by Helm, or is not in a cluster.
	NotByHelm Reason = "NotByHelm"
	// Busy: somebody else is at work on the agent's release.
	Busy Reason = "Busy"
	// NotAllowed: the agent may not change its own installation.
	NotAllowed Reason = "NotAllowed"
	// NoChart: the chart did not come.
	NoChart Reason = "NoChart"
)

// Record is one upgrade. The zero value is none.
type Record struct {
	Generation int64  `json:"generation"`
	Phase      Phase  `json:"phase"`
	Reason     Reason `json:"reason,omitempty"`
	Message    string `json:"message,omitempty"`
	// Digest, ChartVersion and AppVersion are of what is wanted.
	Digest        string        `json:"digest"`
	ChartVersion  string        `json:"chartVersion"`
	AppVersion    string        `json:"appVersion"`
	ConnectWithin time.Duration `json:"connectWithin"`
	// Operation is what Helm's record of the upgrade is labelled with.
	Operation string `json:"operation"`
	// FromRevision and FromHash are of what was there: Helm's revision, and the
	// hash of the pods' template.
	FromRevision int    `json:"fromRevision"`
	FromHash     string `json:"fromHash"`
	FromVersion  string `json:"fromVersion"`
	// Applied: Helm has done its part, and Deadline counts.
	Applied   bool      `json:"applied,omitempty"`
	StartedAt time.Time `json:"startedAt"`
	Deadline  time.Time `json:"deadline,omitzero"`
	// Holder is who returns, and HeldAt when it said so last.
	Holder string    `json:"holder,omitempty"`
	HeldAt time.Time `json:"heldAt,omitzero"`
}

// Active reports whether there is something to do or to wait for.
func (r Record) Active() bool { return r.Phase == Upgrading || r.Phase == Returning }

// ToProto is what the hub is told.
func (r Record) ToProto() *agentv1.AgentStatus {
	s := &agentv1.AgentStatus{
		ObservedGeneration: r.Generation, Phase: string(r.Phase), Reason: string(r.Reason), Message: r.Message,
		ChartVersion: r.ChartVersion, AgentVersion: r.AppVersion,
	}
	if r.Phase == Returning {
		s.Phase = string(Upgrading)
	}
	if r.Phase != Current {
		s.AgentVersion = r.FromVersion
	}
	return s
}

// ErrConflict means that another agent was faster: load and decide again.
var ErrConflict = errors.New("the record of the upgrade was changed by another agent")

// Store keeps the record.
type Store interface {
	// Load returns the record and its version; both are zero when there is none.
	Load(ctx context.Context) (Record, string, error)
	// Save fails with ErrConflict if the version is not the newest.
	Save(ctx context.Context, r Record, version string) error
}

const recordKey = "record.json"

// ConfigMap is a Store in the agent's namespace.
type ConfigMap struct {
	Client          kubernetes.Interface
	Namespace, Name string
}

// Load implements Store. A record that cannot be read is none: it holds nothing
// that the cluster would not show again.
func (c *ConfigMap) Load(ctx context.Context) (Record, string, error) {
	cm, err := c.Client.CoreV1().ConfigMaps(c.Namespace).Get(ctx, c.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return Record{}, "", nil
	}
	if err != nil {
		return Record{}, "", fmt.Errorf("read the record of the upgrade: %w", err)
	}
	var r Record
	if err := json.Unmarshal([]byte(cm.Data[recordKey]), &r); err != nil {
		return Record{}, cm.ResourceVersion, nil //nolint:nilerr // see above
	}
	return r, cm.ResourceVersion, nil
}

// Save implements Store.
func (c *ConfigMap) Save(ctx context.Context, r Record, version string) error {
	data, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode the record of the upgrade: %w", err)
	}
	cm := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{
			Name: c.Name, Namespace: c.Namespace, ResourceVersion: version,
			Labels: map[string]string{"app.kubernetes.io/managed-by": "budcluster-agent"},
		},
		Data: map[string]string{recordKey: string(data)},
	}
	maps := c.Client.CoreV1().ConfigMaps(c.Namespace)
	if version == "" {
		_, err = maps.Create(ctx, cm, metav1.CreateOptions{})
	} else {
		_, err = maps.Update(ctx, cm, metav1.UpdateOptions{})
	}
	if apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) || apierrors.IsNotFound(err) {
		return ErrConflict
	}
	if err != nil {
		return fmt.Errorf("write the record of the upgrade: %w", err)
	}
	return nil
}
