package workflow

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/budecosystem/budcluster/hub/internal/event"
)

// actor is who a workflow's own events are by.
const actor = "hub"

// Outcome is what one look at a step came to.
type Outcome struct {
	Status StepStatus
	// Reason is a CamelCase code, Message one sentence.
	Reason, Message string
	// Subjects are what a waiting step waits for, and Deadline when it looks
	// again in any case.
	Subjects []string
	Deadline time.Time
	// Cluster is the cluster that the workflow turned out to be about.
	Cluster *Cluster
	// Result is the workflow's, if this step makes it.
	Result json.RawMessage
}

// Cluster is a cluster by its id and name.
type Cluster struct {
	ID   uuid.UUID
	Name string
}

// Completed is the Outcome of a step that is done.
func Completed(message string) Outcome { return Outcome{Status: StepCompleted, Message: message} }

// Skipped is the Outcome of a step that is not needed here.
func Skipped(message string) Outcome { return Outcome{Status: StepSkipped, Message: message} }

// Failed is the Outcome of a step that cannot succeed.
func Failed(reason, message string) Outcome {
	return Outcome{Status: StepFailed, Reason: reason, Message: message}
}

// Waiting is the Outcome of a step that goes on when one of the subjects
// changes.
func Waiting(message string, deadline time.Time, subjects ...string) Outcome {
	return Outcome{Status: StepWaiting, Message: message, Deadline: deadline, Subjects: subjects}
}

// Turn is one look at a step.
type Turn struct {
	Workflow *Workflow
	Step     *Step
	// Seen is the newest event before the look: what came after it may not be
	// in what was seen.
	Seen int64
	// Cancelled: somebody asked for the workflow's end.
	Cancelled bool

	was StepStatus // before the look
}

// Begin opens a look at a step. A step that is settled already, and one of a
// finished workflow, is returned as it is.
func (s *Service) Begin(ctx context.Context, workflowID uuid.UUID, step string) (t *Turn, err error) {
	err = s.store.InTx(ctx, func(ctx context.Context) error {
		w, err := s.store.WorkflowLook(ctx, workflowID, s.now().UTC())
		if err != nil {
			return err
		}
		t = &Turn{Workflow: w, Step: w.step(step), Cancelled: w.CancelledAt != nil}
		if t.Step == nil {
			return fmt.Errorf("it has no step %q", step)
		}
		if t.Seen, err = s.store.EventLatest(ctx); err != nil {
			return err
		}
		woken, err := s.store.WaitTake(ctx, w.ID)
		if err != nil || w.Status.Terminal() || t.Step.Status.Settled() {
			return err
		}
		now := s.now().UTC()
		if woken != nil {
			until := now
			if woken.At != nil && woken.At.Before(now) {
				until = *woken.At
			}
			t.Step.Waited += max(until.Sub(woken.Since), 0)
		}
		if t.Step.StartedAt == nil {
			t.Step.StartedAt = &now
		}
		t.was = t.Step.Status
		t.Step.Status, t.Step.Evaluations = StepRunning, t.Step.Evaluations+1
		if w.Status == StatusPending {
			w.Status = StatusRunning
			if err := s.store.WorkflowUpdate(ctx, w); err != nil {
				return err
			}
		}
		return s.store.StepUpdate(ctx, w.ID, *t.Step)
	})
	if err != nil {
		return nil, fmt.Errorf("begin step %s of workflow %s: %w", step, workflowID, err)
	}
	return t, nil
}

func (w *Workflow) step(name string) *Step {
	for i := range w.Steps {
		if w.Steps[i].Name == name {
			return &w.Steps[i]
		}
	}
	return nil
}

// Settle records what a look came to. For a step that waits it returns whether
// something that it waits for has changed since it looked: then it must look
// again at once. So must a look that is over when a later one has begun, such
// as that of a replica that was frozen: nothing is recorded of it.
func (s *Service) Settle(ctx context.Context, t *Turn, sequence int64, o Outcome) (again bool, err error) {
	w, late := t.Workflow, false
	err = s.store.InTx(ctx, func(ctx context.Context) error {
		if w, err = s.store.WorkflowLock(ctx, t.Workflow.ID); err != nil {
			return err
		}
		step := w.step(t.Step.Name)
		if w.Status.Terminal() || step.Status.Settled() {
			return nil
		}
		if late = step.Evaluations != t.Step.Evaluations; late {
			return nil
		}
		changed := t.was != o.Status || step.Message != o.Message
		*step = *t.Step
		now := s.now().UTC()
		step.Status, step.Reason, step.Message = o.Status, o.Reason, o.Message
		if o.Status.Settled() {
			step.FinishedAt = &now
		}
		w.adopt(o)
		w.ETA = w.remaining()
		if err := s.write(ctx, w, step); err != nil {
			return err
		}
		if o.Status == StepWaiting {
			wait := Wait{WorkflowID: w.ID, Sequence: sequence, ClusterID: w.ClusterID, Subjects: o.Subjects, Since: now, Deadline: o.Deadline, Seen: t.Seen}
			if err := s.store.WaitPut(ctx, wait); err != nil {
				return err
			}
		}
		if !changed {
			return nil
		}
		if err := s.record(ctx, w, event.WorkflowStep, actor, stepMessage(w, step), step); err != nil {
			return err
		}
		return s.announce(ctx, w, step)
	})
	if err != nil {
		return false, fmt.Errorf("settle step %s of workflow %s: %w", t.Step.Name, t.Workflow.ID, err)
	}
	if late {
		return true, nil
	}
	t.Workflow, t.Step = w, w.step(t.Step.Name)
	if t.Step.Status != StepWaiting {
		return false, nil
	}
	return s.missed(ctx, t, o)
}

// missed closes the gap between the look and the wait: who changes something
// after the wait is committed finds it, and what changed before is found here.
func (s *Service) missed(ctx context.Context, t *Turn, o Outcome) (bool, error) {
	now, err := s.store.WorkflowByID(ctx, t.Workflow.ID)
	if err != nil {
		return false, fmt.Errorf("look for a cancellation of workflow %s: %w", t.Workflow.ID, err)
	}
	if now.CancelledAt != nil && !t.Cancelled {
		return true, nil
	}
	changed, err := s.store.EventsSince(ctx, now.ClusterID, t.Seen, o.Subjects)
	if err != nil {
		return false, fmt.Errorf("look for changes since event %d: %w", t.Seen, err)
	}
	return changed, nil
}

// adopt takes over what a step found out about the workflow.
func (w *Workflow) adopt(o Outcome) {
	if o.Cluster != nil {
		w.ClusterID, w.ClusterName = o.Cluster.ID, o.Cluster.Name
	}
	if len(o.Result) > 0 {
		w.Result = o.Result
	}
}

func (s *Service) write(ctx context.Context, w *Workflow, step *Step) error {
	if err := s.store.WorkflowUpdate(ctx, w); err != nil {
		return err
	}
	return s.store.StepUpdate(ctx, w.ID, *step)
}

// remaining is how long the steps that are not over take as a rule.
func (w *Workflow) remaining() time.Duration {
	var rest time.Duration
	for _, step := range w.Steps {
		if !step.Status.Settled() {
			rest += step.Typical
		}
	}
	return rest
}

func stepMessage(w *Workflow, step *Step) string {
	message := fmt.Sprintf("%s: %s: %s", w.subject(), step.Title, step.Status)
	if step.Message != "" {
		message += ": " + step.Message
	}
	return message
}

// announce tells of a milestone when the last of its steps is over, or when
// one of them failed, and how long the rest takes.
func (s *Service) announce(ctx context.Context, w *Workflow, step *Step) error {
	if step.Milestone == "" || !step.Status.Settled() {
		return nil
	}
	status := StepCompleted
	if step.Status == StepFailed || step.Status == StepCancelled {
		status = step.Status
	}
	for _, other := range w.Steps {
		if other.Milestone == step.Milestone && !other.Status.Settled() && status == StepCompleted {
			return nil
		}
	}
	if err := s.notify(ctx, w, Notice{Event: step.Milestone, Status: status, Message: step.Message}); err != nil {
		return err
	}
	if status != StepCompleted || w.ETA == 0 {
		return nil
	}
	minutes := strconv.Itoa(int(math.Ceil(w.ETA.Minutes())))
	return s.notify(ctx, w, Notice{Event: NoticeETA, Status: StepRunning, Message: minutes})
}
