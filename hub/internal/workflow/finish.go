package workflow

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/budecosystem/budcluster/hub/internal/event"
)

// Undo turns a workflow that failed or was cancelled to taking back what it
// made. The reason is that of the step that failed.
func (s *Service) Undo(ctx context.Context, workflowID uuid.UUID) error {
	err := s.store.InTx(ctx, func(ctx context.Context) error {
		w, err := s.store.WorkflowLock(ctx, workflowID)
		if err != nil || w.Status.Terminal() || w.Status == StatusUndoing {
			return err
		}
		w.Status = StatusUndoing
		w.Reason, w.Message = w.why()
		return s.store.WorkflowUpdate(ctx, w)
	})
	if err != nil {
		return fmt.Errorf("undo workflow %s: %w", workflowID, err)
	}
	return nil
}

// UndoingSince is when the first step failed or was cancelled, from which on
// the workflow has but to take back what it made; nil when none did.
func (w *Workflow) UndoingSince() *time.Time {
	var since *time.Time
	for _, step := range w.Steps {
		bad := step.Status == StepFailed || step.Status == StepCancelled
		if bad && step.FinishedAt != nil && (since == nil || step.FinishedAt.Before(*since)) {
			since = step.FinishedAt
		}
	}
	return since
}

// BeginUndo opens a look at what is to be undone.
func (s *Service) BeginUndo(ctx context.Context, workflowID uuid.UUID) (t *Turn, err error) {
	err = s.store.InTx(ctx, func(ctx context.Context) error {
		w, err := s.store.WorkflowLook(ctx, workflowID, s.now().UTC())
		if err != nil {
			return err
		}
		t = &Turn{Workflow: w, Cancelled: w.CancelledAt != nil}
		if t.Seen, err = s.store.EventLatest(ctx); err != nil {
			return err
		}
		_, err = s.store.WaitTake(ctx, w.ID)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("look at what workflow %s has to undo: %w", workflowID, err)
	}
	return t, nil
}

// Park makes an undoing workflow wait, as Settle does for a step.
func (s *Service) Park(ctx context.Context, t *Turn, sequence int64, o Outcome) (again bool, err error) {
	w := t.Workflow
	wait := Wait{WorkflowID: w.ID, Sequence: sequence, ClusterID: w.ClusterID, Subjects: o.Subjects, Since: s.now().UTC(), Deadline: o.Deadline, Seen: t.Seen}
	err = s.store.InTx(ctx, func(ctx context.Context) error {
		if _, err := s.store.WorkflowLock(ctx, w.ID); err != nil {
			return err
		}
		return s.store.WaitPut(ctx, wait)
	})
	if err != nil {
		return false, fmt.Errorf("let workflow %s wait: %w", w.ID, err)
	}
	return s.missed(ctx, t, o)
}

// why is the reason of the first step that did not succeed.
func (w *Workflow) why() (reason, message string) {
	for _, step := range w.Steps {
		switch step.Status {
		case StepFailed:
			return step.Reason, step.Title + ": " + step.Message
		case StepCancelled:
			return "Cancelled", "cancelled by " + w.CancelledBy
		default:
		}
	}
	return "", ""
}

// Finish gives a workflow its terminal status, and says so, once: a second
// call changes nothing. The message names what was left behind.
func (s *Service) Finish(ctx context.Context, workflowID uuid.UUID) (w *Workflow, err error) {
	err = s.store.InTx(ctx, func(ctx context.Context) error {
		if w, err = s.store.WorkflowLock(ctx, workflowID); err != nil || w.Status.Terminal() {
			return err
		}
		now := s.now().UTC()
		if err := s.close(ctx, w, now); err != nil {
			return err
		}
		effects, err := s.store.EffectList(ctx, w.ID)
		if err != nil {
			return err
		}
		for _, e := range effects {
			if e.LeftAt != nil {
				w.Message += fmt.Sprintf("; left behind: %s %s (%s)", e.Kind, e.Name, e.LeftWhy)
			}
		}
		w.FinishedAt, w.ETA = &now, 0
		if _, err := s.store.WaitTake(ctx, w.ID); err != nil {
			return err
		}
		if err := s.store.WorkflowUpdate(ctx, w); err != nil {
			return err
		}
		return s.last(ctx, w)
	})
	if err != nil {
		return nil, fmt.Errorf("finish workflow %s: %w", workflowID, err)
	}
	return w, nil
}

// close settles the steps that were never begun and chooses the status.
func (s *Service) close(ctx context.Context, w *Workflow, now time.Time) error {
	w.Status = StatusCompleted
	for i := range w.Steps {
		step := &w.Steps[i]
		switch step.Status {
		case StepFailed:
			w.Status = StatusFailed
		case StepCancelled:
			if w.Status != StatusFailed {
				w.Status = StatusCancelled
			}
		case StepPending, StepRunning, StepWaiting:
			step.Status, step.FinishedAt = StepSkipped, &now
			step.Message = "not reached"
			if err := s.store.StepUpdate(ctx, w.ID, *step); err != nil {
				return err
			}
		case StepCompleted, StepSkipped:
		}
	}
	if w.Status == StatusCompleted {
		w.Reason, w.Message = "", ""
	} else {
		w.Reason, w.Message = w.why()
		w.Result = nil
	}
	return nil
}

// last is the one terminal event and the one terminal notice.
func (s *Service) last(ctx context.Context, w *Workflow) error {
	message := fmt.Sprintf("%s is over: %s", w.subject(), w.Status)
	if w.Message != "" {
		message += ": " + w.Message
	}
	if err := s.record(ctx, w, event.WorkflowFinished, actor, message, nil); err != nil {
		return err
	}
	status := StepCompleted
	switch w.Status {
	case StatusFailed:
		status = StepFailed
	case StatusCancelled:
		status = StepCancelled
	default:
	}
	return s.notify(ctx, w, Notice{Event: NoticeResults, Status: status, Message: w.Message, Result: w.Result})
}

// RecordEffect writes down what the workflow is about to make or to change. Of
// what it changes several times the first Before and the last After count. It
// fails with ErrFinished once the workflow takes back what it made: nobody would
// undo what is made then.
func (s *Service) RecordEffect(ctx context.Context, workflowID uuid.UUID, e Effect) error {
	e.RecordedAt = s.now().UTC()
	err := s.store.InTx(ctx, func(ctx context.Context) error {
		w, err := s.store.WorkflowLock(ctx, workflowID)
		if err != nil {
			return err
		}
		if w.Status.Terminal() || w.Status == StatusUndoing {
			return &FinishedError{ID: w.ID, Status: w.Status}
		}
		return s.store.EffectRecord(ctx, workflowID, e)
	})
	if err != nil {
		return fmt.Errorf("record %s %s of workflow %s: %w", e.Kind, e.Name, workflowID, err)
	}
	return nil
}

// Made returns what the workflow made, the last first.
func (s *Service) Made(ctx context.Context, workflowID uuid.UUID) ([]Effect, error) {
	made, err := s.store.EffectList(ctx, workflowID)
	if err != nil {
		return nil, fmt.Errorf("list what workflow %s made: %w", workflowID, err)
	}
	return made, nil
}

// Undone writes down that an effect is gone.
func (s *Service) Undone(ctx context.Context, workflowID uuid.UUID, e Effect) error {
	if err := s.store.EffectUndone(ctx, workflowID, e, s.now().UTC()); err != nil {
		return fmt.Errorf("record the end of %s %s: %w", e.Kind, e.Name, err)
	}
	return nil
}

// Leave writes down that an effect stays, why, and how a person removes it.
func (s *Service) Leave(ctx context.Context, workflowID uuid.UUID, e Effect, why string) error {
	if err := s.store.EffectLeft(ctx, workflowID, e, s.now().UTC(), why); err != nil {
		return fmt.Errorf("record that %s %s is left behind: %w", e.Kind, e.Name, err)
	}
	return nil
}
