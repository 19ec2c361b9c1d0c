// Package workflow holds the record of long work: what was asked for, the
// steps that it takes with their times, what it made, and its one result.
//
//	Start ── one transaction: workflow, steps, event ── NOTIFY
//	                                                      │
//	Dispatcher ◄──────────────────────────────────────────┘
//	  │ gives new workflows to the engine, and tells it when something that a
//	  │ workflow waits for has changed
//	  ▼
//	engine (durable) ── one activity for each look at a step:
//	  Begin ── the step acts and looks ── Settle: done | waiting for … | failed
//	                                        │
//	  done, last step ── Finish: the terminal status, once
//
// What is authoritative: the rows. The engine only remembers which step is
// next; whatever it forgets or does twice, the rows decide. A finished row
// does not change any more, and every terminal notice is written in the
// transaction that finishes it, so there is exactly one.
//
// A step that waits holds no goroutine and no connection: a row says which
// subjects it waits for. The event feed wakes it; it then looks for itself. A
// needless wake-up costs one look, a lost one costs time until the sweep.
//
// What each crash point does: before Settle the look is repeated (steps are
// idempotent); between Settle and the engine's own commit the same; between
// Start and the dispatcher the sweep finds the workflow; after Finish nothing
// is left to do. An effect is recorded before it is made, or in the transaction
// that makes it, so that what a dead process made is undone too.
//
// What if the engine loses a workflow, with its tables or its state store, or
// is another one since the hub was configured anew: the dispatcher misses the
// looks, asks the engine, and begins the workflow again, which goes on where
// the rows say that it is. Should two engines carry it out for a while, the
// rows take what the later look says, and refuse the other's.
package workflow

import (
	"encoding/json"
	"time"

	"github.com/google/uuid"
)

// Workflow is one piece of long work.
type Workflow struct {
	ID   uuid.UUID
	Kind Kind
	// ClusterID is uuid.Nil when it is about no cluster, or one is yet to be.
	ClusterID   uuid.UUID
	ClusterName string
	Status      Status
	// Input is a JSON object without any secret.
	Input json.RawMessage
	// Reply says whom to tell besides the record, in notify's form; empty when
	// nobody.
	Reply json.RawMessage
	// Exclusive: no other such workflow may run in its cluster.
	Exclusive bool
	// Result is a JSON object, empty until it is Completed.
	Result json.RawMessage
	// Reason and Message say why it is Failed or Cancelled.
	Reason, Message string
	// ETA is how long the rest takes as a rule; zero when it is not known.
	ETA         time.Duration
	CreatedBy   string
	RetryOf     uuid.UUID
	CreatedAt   time.Time
	CancelledAt *time.Time // somebody asked for its end
	CancelledBy string
	FinishedAt  *time.Time
	Steps       []Step
}

// Kind names what a workflow does. They are the names of the platform's
// contract where it has one.
type Kind string

// The kinds.
const (
	RegisterCluster  Kind = "register_cluster"
	RemoveCluster    Kind = "delete_cluster"
	UpdateStatus     Kind = "update_cluster_status"
	InstallComponent Kind = "install_component"
	RemoveComponent  Kind = "remove_component"
	UpgradeComponent Kind = "upgrade_component"
	UpgradeAgent     Kind = "upgrade_agent"
)

// Kinds lists the kinds.
func Kinds() []Kind {
	return []Kind{RegisterCluster, RemoveCluster, UpdateStatus, InstallComponent, RemoveComponent, UpgradeComponent, UpgradeAgent}
}

// Status is where a workflow stands.
type Status string

// The statuses. The last three are terminal.
const (
	// StatusPending: recorded, the engine does not have it yet.
	StatusPending Status = "Pending"
	// StatusRunning: at one of its steps, which may be waiting.
	StatusRunning Status = "Running"
	// StatusUndoing: failed or cancelled, and taking back what it made.
	StatusUndoing   Status = "Undoing"
	StatusCompleted Status = "Completed"
	StatusFailed    Status = "Failed"
	StatusCancelled Status = "Cancelled"
)

// Statuses lists the statuses in the order of a workflow's life.
func Statuses() []Status {
	return []Status{StatusPending, StatusRunning, StatusUndoing, StatusCompleted, StatusFailed, StatusCancelled}
}

// Terminal reports whether a workflow of this status is over.
func (s Status) Terminal() bool {
	switch s {
	case StatusCompleted, StatusFailed, StatusCancelled:
		return true
	default:
		return false
	}
}

// Step is one step of a workflow.
type Step struct {
	// Name is unique in its workflow.
	Name string
	// Title says to people what is done, in the form of "Installing NFD".
	Title string
	// Milestone is the step of the platform's contract that this one is part
	// of; empty when the platform does not know it.
	Milestone string
	// Release names the release whose progress is this step's; may be empty.
	Release string
	// Typical is how long it takes as a rule.
	Typical    time.Duration `json:"-"`
	Status     StepStatus
	Reason     string
	Message    string
	StartedAt  *time.Time
	FinishedAt *time.Time
	// Evaluations counts how often it was looked at.
	Evaluations int
	// Waited is for how long the cluster had to be waited for.
	Waited time.Duration
}

// Overhead is the time of a finished step that was not spent waiting for the
// cluster; zero for others.
func (s *Step) Overhead() time.Duration {
	if s.StartedAt == nil || s.FinishedAt == nil {
		return 0
	}
	return max(s.FinishedAt.Sub(*s.StartedAt)-s.Waited, 0)
}

// StepStatus is where a step stands.
type StepStatus string

// The statuses of a step.
const (
	StepPending StepStatus = "Pending"
	StepRunning StepStatus = "Running"
	// StepWaiting: it did what it could, and the message says what it waits for.
	StepWaiting   StepStatus = "Waiting"
	StepCompleted StepStatus = "Completed"
	// StepSkipped: not needed here, and the message says why.
	StepSkipped StepStatus = "Skipped"
	StepFailed  StepStatus = "Failed"
	// StepCancelled: the workflow was cancelled before or while it ran.
	StepCancelled StepStatus = "Cancelled"
)

// StepStatuses lists the statuses of a step.
func StepStatuses() []StepStatus {
	return []StepStatus{StepPending, StepRunning, StepWaiting, StepCompleted, StepSkipped, StepFailed, StepCancelled}
}

// Settled reports whether the step is over.
func (s StepStatus) Settled() bool {
	switch s {
	case StepCompleted, StepSkipped, StepFailed, StepCancelled:
		return true
	default:
		return false
	}
}

// Effect is something that a workflow makes or changes, recorded before that or
// with it.
type Effect struct {
	Kind      EffectKind
	Name      string
	ClusterID uuid.UUID
	// Before is what was there, as JSON without any secret; empty when the
	// workflow makes it.
	Before json.RawMessage
	// After is what the workflow changed it to. What somebody else has changed
	// since is not undone.
	After      string
	RecordedAt time.Time
	UndoneAt   *time.Time
	// LeftAt is when taking it back was given up. LeftWhy says why, and how a
	// person removes it.
	LeftAt  *time.Time
	LeftWhy string
}

// EffectKind is what an effect is.
type EffectKind string

// The kinds of effects.
const (
	// EffectCluster: an entry of the register.
	EffectCluster EffectKind = "cluster"
	// EffectAgent: an agent that was installed from an uploaded kubeconfig.
	EffectAgent EffectKind = "agent"
	// EffectRelease: a release that was not wanted before.
	EffectRelease EffectKind = "release"
	// EffectChange: a release that was wanted otherwise before.
	EffectChange EffectKind = "change"
	// EffectSetting: a cluster's own setting for the component of the name.
	EffectSetting EffectKind = "setting"
	// EffectIngress: where a cluster's models are reached.
	EffectIngress EffectKind = "ingress"
)

// Wait is what a waiting step waits for.
type Wait struct {
	WorkflowID uuid.UUID
	// Sequence numbers the looks of the workflow; the engine waits for this one.
	Sequence  int64
	ClusterID uuid.UUID
	// Subjects are nouns of events, alone or with the subject: "session" is any
	// event of that noun, "release/nfd" those of this release.
	Subjects []string
	Since    time.Time
	Deadline time.Time
	// Seen is the newest event before the look that waits: what it tells of was
	// seen, and only later ones wake.
	Seen int64
}
