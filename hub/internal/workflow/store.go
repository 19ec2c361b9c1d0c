package workflow

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/budecosystem/budcluster/hub/internal/event"
)

// Store keeps workflows. InTx runs fn in one transaction, which travels in the
// context that fn is given; events are written as its last act.
type Store interface {
	InTx(ctx context.Context, fn func(ctx context.Context) error) error
	AppendEvents(ctx context.Context, events ...event.Event) error
	// WakeWorkflows tells the dispatchers, once the transaction is done, that
	// there is something for them.
	WakeWorkflows(ctx context.Context)
	Records
	Signs
	Waits
	Effects
}

// Records is the tables of workflows and their steps. Lookups fail with
// ErrNotFound.
type Records interface {
	// WorkflowInsert fails with ErrBusy when the workflow is exclusive and
	// another one is on in its cluster.
	WorkflowInsert(ctx context.Context, w *Workflow) error
	WorkflowByID(ctx context.Context, id uuid.UUID) (*Workflow, error)
	// WorkflowLock is WorkflowByID that also keeps others from changing the
	// workflow until the transaction ends.
	WorkflowLock(ctx context.Context, id uuid.UUID) (*Workflow, error)
	// WorkflowList returns workflows without their steps, newest first.
	WorkflowList(ctx context.Context, f Filter, before Key, limit int) ([]*Workflow, error)
	// WorkflowUpdate writes all of the workflow but its steps, input and reply.
	WorkflowUpdate(ctx context.Context, w *Workflow) error
	StepUpdate(ctx context.Context, id uuid.UUID, s Step) error
	// WorkflowPurge deletes finished workflows, at most limit of them, and
	// returns their ids.
	WorkflowPurge(ctx context.Context, finishedBefore time.Time, limit int) ([]uuid.UUID, error)
}

// Signs is what is known of the engine's part in the workflows.
type Signs interface {
	// WorkflowPending returns workflows that the engine was not given yet.
	WorkflowPending(ctx context.Context, limit int) ([]*Workflow, error)
	WorkflowScheduled(ctx context.Context, id uuid.UUID, at time.Time) error
	// WorkflowLook is WorkflowLock that also writes down that a look begins.
	WorkflowLook(ctx context.Context, id uuid.UUID, at time.Time) (*Workflow, error)
	// WorkflowSilent claims unfinished workflows that the engine was given, but
	// that were not looked at since the given time, nor claimed by this.
	WorkflowSilent(ctx context.Context, now, before time.Time, limit int) ([]Silent, error)
}

// Waits is the table of what workflows wait for, at most one row for each.
type Waits interface {
	// WaitPut replaces the workflow's wait, unless that is of a later look.
	WaitPut(ctx context.Context, w Wait) error
	// WaitTake removes the workflow's wait and returns since when it waited and
	// when it was woken; nil when there is none.
	WaitTake(ctx context.Context, workflowID uuid.UUID) (*Woken, error)
	// WaitWake marks the waits that wait for one of the subjects.
	WaitWake(ctx context.Context, happened []Happened) (woken int, err error)
	// WaitWakeAll marks all waits.
	WaitWakeAll(ctx context.Context, at time.Time) error
	// WaitWakeWorkflow marks the wait of one workflow.
	WaitWakeWorkflow(ctx context.Context, workflowID uuid.UUID, at time.Time) error
	// WaitDue claims waits that were woken or are over their deadline, and were
	// not told to the engine since the given time.
	WaitDue(ctx context.Context, now, toldBefore time.Time, limit int) ([]Due, error)
	// EventsSince reports whether a cluster had an event of one of the subjects
	// after the given one.
	EventsSince(ctx context.Context, clusterID uuid.UUID, after int64, subjects []string) (bool, error)
	EventLatest(ctx context.Context) (int64, error)
}

// Effects is the ledger.
type Effects interface {
	// EffectRecord adds an effect; the same again only replaces its After.
	EffectRecord(ctx context.Context, workflowID uuid.UUID, e Effect) error
	// EffectList returns a workflow's effects, the last first.
	EffectList(ctx context.Context, workflowID uuid.UUID) ([]Effect, error)
	EffectUndone(ctx context.Context, workflowID uuid.UUID, e Effect, at time.Time) error
	// EffectLeft records that an effect stays, and why.
	EffectLeft(ctx context.Context, workflowID uuid.UUID, e Effect, at time.Time, why string) error
}

// Key is where a workflow is in the list.
type Key struct {
	CreatedAt time.Time
	ID        uuid.UUID
}

// Filter selects workflows. Its zero value selects all.
type Filter struct {
	ClusterID *uuid.UUID
	Kind      Kind
	Status    Status
	// Active selects those that are not finished.
	Active bool
}

// Woken says how long a wait was.
type Woken struct {
	Since time.Time
	// At is when what it waited for happened; nil when its deadline ended it.
	At *time.Time
}

// Happened is one change that may wake.
type Happened struct {
	EventID   int64
	ClusterID uuid.UUID
	Subject   string
	At        time.Time
}

// Silent is a workflow that nothing was heard of.
type Silent struct {
	ID uuid.UUID
	// Since is when the last look began, or the engine was given it.
	Since time.Time
}

// Due is a wait that the engine has to hear of.
type Due struct {
	WorkflowID uuid.UUID
	Sequence   int64
}
