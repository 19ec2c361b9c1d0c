package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/budecosystem/budcluster/hub/internal/store/sqlcgen"
	"github.com/budecosystem/budcluster/hub/internal/workflow"
)

// ChannelWorkflows announces that there is something for the dispatchers.
const ChannelWorkflows = "bud_workflows"

// WakeWorkflows announces, with the commit of ctx's transaction, that a
// workflow is to be scheduled or told of something. It is of no use outside of
// InTx.
func (s *Store) WakeWorkflows(ctx context.Context) {
	if tx := transactionOf(ctx); tx != nil {
		tx.wakes = append(tx.wakes, wake{channel: ChannelWorkflows})
	}
}

// WorkflowInsert adds a workflow with its steps.
func (s *Store) WorkflowInsert(ctx context.Context, w *workflow.Workflow) error {
	return s.InTx(ctx, func(ctx context.Context) error {
		n, err := s.q.WorkflowInsert(ctx, s.db(ctx), sqlcgen.WorkflowInsertParams{
			ID: w.ID, Kind: string(w.Kind), ClusterID: optional(w.ClusterID), ClusterName: w.ClusterName, Status: string(w.Status),
			Input: w.Input, Reply: w.Reply, Exclusive: w.Exclusive, EtaUs: w.ETA.Microseconds(), CreatedBy: w.CreatedBy,
			RetryOf: optional(w.RetryOf), CreatedAt: w.CreatedAt,
		})
		switch {
		case err != nil:
			return err
		case n == 0: // no error, for the transaction has to be of use to say what is in the way
			return workflow.ErrBusy
		}
		p := sqlcgen.StepInsertParams{WorkflowID: w.ID}
		for i, step := range w.Steps {
			p.Ordinals = append(p.Ordinals, int32(i))
			p.Names, p.Titles = append(p.Names, step.Name), append(p.Titles, step.Title)
			p.Milestones, p.Releases = append(p.Milestones, step.Milestone), append(p.Releases, step.Release)
			p.Statuses, p.TypicalUs = append(p.Statuses, string(step.Status)), append(p.TypicalUs, step.Typical.Microseconds())
		}
		return s.q.StepInsert(ctx, s.db(ctx), p)
	})
}

// WorkflowByID looks a workflow up with its steps.
func (s *Store) WorkflowByID(ctx context.Context, id uuid.UUID) (*workflow.Workflow, error) {
	row, err := s.q.WorkflowByID(ctx, s.db(ctx), id)
	if err != nil {
		return nil, notFound(err, workflow.ErrNotFound)
	}
	return s.withSteps(ctx, row)
}

// WorkflowLock looks a workflow up with its steps and locks it.
func (s *Store) WorkflowLock(ctx context.Context, id uuid.UUID) (*workflow.Workflow, error) {
	row, err := s.q.WorkflowLock(ctx, s.db(ctx), id)
	if err != nil {
		return nil, notFound(err, workflow.ErrNotFound)
	}
	return s.withSteps(ctx, row)
}

// WorkflowLook is WorkflowLock that also writes down that a look begins.
func (s *Store) WorkflowLook(ctx context.Context, id uuid.UUID, at time.Time) (*workflow.Workflow, error) {
	row, err := s.q.WorkflowLook(ctx, s.db(ctx), sqlcgen.WorkflowLookParams{ID: id, At: at})
	if err != nil {
		return nil, notFound(err, workflow.ErrNotFound)
	}
	return s.withSteps(ctx, row)
}

func (s *Store) withSteps(ctx context.Context, row sqlcgen.Workflows) (*workflow.Workflow, error) {
	w := workflowOf(row)
	steps, err := s.q.StepList(ctx, s.db(ctx), row.ID)
	if err != nil {
		return nil, fmt.Errorf("list steps of workflow %s: %w", row.ID, err)
	}
	for _, r := range steps {
		w.Steps = append(w.Steps, workflow.Step{
			Name: r.Name, Title: r.Title, Milestone: r.Milestone, Release: r.Release, Typical: microseconds(r.TypicalUs),
			Status: workflow.StepStatus(r.Status), Reason: r.Reason, Message: r.Message, StartedAt: r.StartedAt, FinishedAt: r.FinishedAt,
			Evaluations: int(r.Evaluations), Waited: microseconds(r.WaitedUs),
		})
	}
	return w, nil
}

func microseconds(n int64) time.Duration { return time.Duration(n) * time.Microsecond }

func workflowOf(r sqlcgen.Workflows) *workflow.Workflow {
	return &workflow.Workflow{
		ID: r.ID, Kind: workflow.Kind(r.Kind), ClusterID: deref(r.ClusterID), ClusterName: r.ClusterName, Status: workflow.Status(r.Status),
		Input: r.Input, Reply: r.Reply, Exclusive: r.Exclusive, Result: r.Result, Reason: r.Reason, Message: r.Message, ETA: microseconds(r.EtaUs),
		CreatedBy: r.CreatedBy, RetryOf: deref(r.RetryOf), CreatedAt: r.CreatedAt, CancelledAt: r.CancelledAt, CancelledBy: r.CancelledBy,
		FinishedAt: r.FinishedAt,
	}
}

// WorkflowList returns workflows without their steps, newest first.
func (s *Store) WorkflowList(ctx context.Context, f workflow.Filter, before workflow.Key, limit int) ([]*workflow.Workflow, error) {
	if before.ID == uuid.Nil { // the first page
		before = workflow.Key{CreatedAt: time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)}
	}
	rows, err := s.q.WorkflowList(ctx, s.db(ctx), sqlcgen.WorkflowListParams{
		BeforeAt: before.CreatedAt, BeforeID: before.ID, ClusterID: f.ClusterID, Kind: optional(string(f.Kind)),
		Status: optional(string(f.Status)), Active: f.Active, Lim: int32(limit), //nolint:gosec // a page's limit
	})
	return workflowsOf(rows), err
}

func workflowsOf(rows []sqlcgen.Workflows) []*workflow.Workflow {
	found := make([]*workflow.Workflow, 0, len(rows))
	for _, row := range rows {
		found = append(found, workflowOf(row))
	}
	return found
}

// WorkflowUpdate writes what changes of a workflow.
func (s *Store) WorkflowUpdate(ctx context.Context, w *workflow.Workflow) error {
	return s.q.WorkflowUpdate(ctx, s.db(ctx), sqlcgen.WorkflowUpdateParams{
		ID: w.ID, ClusterID: optional(w.ClusterID), ClusterName: w.ClusterName, Status: string(w.Status), Result: w.Result,
		Reason: w.Reason, Message: w.Message, EtaUs: w.ETA.Microseconds(), CancelledAt: w.CancelledAt, CancelledBy: w.CancelledBy,
		FinishedAt: w.FinishedAt,
	})
}

// StepUpdate writes what changes of a step.
func (s *Store) StepUpdate(ctx context.Context, id uuid.UUID, step workflow.Step) error {
	return s.q.StepUpdate(ctx, s.db(ctx), sqlcgen.StepUpdateParams{
		WorkflowID: id, Name: step.Name, Status: string(step.Status), Reason: step.Reason, Message: step.Message, StartedAt: step.StartedAt,
		FinishedAt: step.FinishedAt, Evaluations: int32(min(step.Evaluations, 1<<30)), WaitedUs: step.Waited.Microseconds(), //nolint:gosec // bounded
	})
}

// WorkflowPending returns workflows that the engine was not given yet.
func (s *Store) WorkflowPending(ctx context.Context, limit int) ([]*workflow.Workflow, error) {
	rows, err := s.q.WorkflowPending(ctx, s.db(ctx), int32(limit)) //nolint:gosec // a batch
	if err != nil {
		return nil, err
	}
	found := make([]*workflow.Workflow, 0, len(rows))
	for _, row := range rows {
		w, err := s.withSteps(ctx, row)
		if err != nil {
			return nil, err
		}
		found = append(found, w)
	}
	return found, nil
}

// WorkflowScheduled records that the engine has a workflow.
func (s *Store) WorkflowScheduled(ctx context.Context, id uuid.UUID, at time.Time) error {
	return s.q.WorkflowScheduled(ctx, s.db(ctx), sqlcgen.WorkflowScheduledParams{ID: id, At: at})
}

// WorkflowSilent claims unfinished workflows that nothing was heard of.
func (s *Store) WorkflowSilent(ctx context.Context, now, before time.Time, limit int) ([]workflow.Silent, error) {
	rows, err := s.q.WorkflowSilent(ctx, s.db(ctx), sqlcgen.WorkflowSilentParams{Now: now, Before: before, Lim: int32(limit)}) //nolint:gosec // a batch
	if err != nil {
		return nil, err
	}
	silent := make([]workflow.Silent, 0, len(rows))
	for _, r := range rows {
		silent = append(silent, workflow.Silent{ID: r.ID, Since: r.Since})
	}
	return silent, nil
}

// WorkflowPurge deletes finished workflows and returns their ids.
func (s *Store) WorkflowPurge(ctx context.Context, finishedBefore time.Time, limit int) ([]uuid.UUID, error) {
	return s.q.WorkflowPurge(ctx, s.db(ctx), sqlcgen.WorkflowPurgeParams{Before: finishedBefore, Lim: int32(limit)}) //nolint:gosec // a batch
}

// WaitPut replaces what a workflow waits for.
func (s *Store) WaitPut(ctx context.Context, w workflow.Wait) error {
	return s.q.WaitPut(ctx, s.db(ctx), sqlcgen.WaitPutParams{
		WorkflowID: w.WorkflowID, Sequence: w.Sequence, ClusterID: optional(w.ClusterID), Subjects: append([]string{}, w.Subjects...),
		Since: w.Since, Deadline: w.Deadline, Seen: w.Seen,
	})
}

// WaitTake removes a workflow's wait and returns it; nil when there is none.
func (s *Store) WaitTake(ctx context.Context, workflowID uuid.UUID) (*workflow.Woken, error) {
	row, err := s.q.WaitTake(ctx, s.db(ctx), workflowID)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil //nolint:nilnil // there is none
	}
	if err != nil {
		return nil, err
	}
	return &workflow.Woken{Since: row.Since, At: row.WokenAt}, nil
}

// WaitWake marks the waits that one of the changes is for.
func (s *Store) WaitWake(ctx context.Context, happened []workflow.Happened) (int, error) {
	var p sqlcgen.WaitWakeParams
	for _, h := range happened {
		p.EventIds, p.ClusterIds = append(p.EventIds, h.EventID), append(p.ClusterIds, h.ClusterID)
		p.Subjects, p.Ats = append(p.Subjects, h.Subject), append(p.Ats, h.At)
	}
	n, err := s.q.WaitWake(ctx, s.db(ctx), p)
	return int(n), err
}

// WaitWakeAll marks all waits.
func (s *Store) WaitWakeAll(ctx context.Context, at time.Time) error {
	return s.q.WaitWakeAll(ctx, s.db(ctx), at)
}

// WaitWakeWorkflow marks the wait of one workflow.
func (s *Store) WaitWakeWorkflow(ctx context.Context, workflowID uuid.UUID, at time.Time) error {
	return s.q.WaitWakeWorkflow(ctx, s.db(ctx), sqlcgen.WaitWakeWorkflowParams{WorkflowID: workflowID, At: at})
}

// WaitDue claims waits of which the engine has to hear.
func (s *Store) WaitDue(ctx context.Context, now, toldBefore time.Time, limit int) ([]workflow.Due, error) {
	rows, err := s.q.WaitDue(ctx, s.db(ctx), sqlcgen.WaitDueParams{Now: now, ToldBefore: toldBefore, Lim: int32(limit)}) //nolint:gosec // a batch
	if err != nil {
		return nil, err
	}
	due := make([]workflow.Due, 0, len(rows))
	for _, r := range rows {
		due = append(due, workflow.Due{WorkflowID: r.WorkflowID, Sequence: r.Sequence})
	}
	return due, nil
}

// EventsSince reports whether a cluster had an event of one of the subjects.
func (s *Store) EventsSince(ctx context.Context, clusterID uuid.UUID, after int64, subjects []string) (bool, error) {
	if len(subjects) == 0 {
		return false, nil
	}
	return s.q.EventsSince(ctx, s.db(ctx), sqlcgen.EventsSinceParams{ClusterID: &clusterID, After: after, Subjects: subjects})
}

// EffectRecord adds an effect to the ledger.
func (s *Store) EffectRecord(ctx context.Context, workflowID uuid.UUID, e workflow.Effect) error {
	return s.q.EffectRecord(ctx, s.db(ctx), sqlcgen.EffectRecordParams{
		WorkflowID: workflowID, Kind: string(e.Kind), Name: e.Name, ClusterID: optional(e.ClusterID), RecordedAt: e.RecordedAt,
		Before: e.Before, After: e.After,
	})
}

// EffectList returns a workflow's effects, the last first.
func (s *Store) EffectList(ctx context.Context, workflowID uuid.UUID) ([]workflow.Effect, error) {
	rows, err := s.q.EffectList(ctx, s.db(ctx), workflowID)
	if err != nil {
		return nil, err
	}
	effects := make([]workflow.Effect, 0, len(rows))
	for _, r := range rows {
		effects = append(effects, workflow.Effect{
			Kind: workflow.EffectKind(r.Kind), Name: r.Name, ClusterID: deref(r.ClusterID), RecordedAt: r.RecordedAt, UndoneAt: r.UndoneAt,
			LeftAt: r.LeftAt, LeftWhy: r.LeftWhy, Before: r.Before, After: r.After,
		})
	}
	return effects, nil
}

// EffectUndone records that an effect is gone.
func (s *Store) EffectUndone(ctx context.Context, workflowID uuid.UUID, e workflow.Effect, at time.Time) error {
	return s.q.EffectUndone(ctx, s.db(ctx), sqlcgen.EffectUndoneParams{WorkflowID: workflowID, Kind: string(e.Kind), Name: e.Name, At: at})
}

// EffectLeft records that an effect stays.
func (s *Store) EffectLeft(ctx context.Context, workflowID uuid.UUID, e workflow.Effect, at time.Time, why string) error {
	return s.q.EffectLeft(ctx, s.db(ctx), sqlcgen.EffectLeftParams{WorkflowID: workflowID, Kind: string(e.Kind), Name: e.Name, At: at, Why: why})
}
