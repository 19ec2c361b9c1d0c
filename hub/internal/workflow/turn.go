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
	// Step is nil when there is nothing to look at: all are over, or what was
	// made is to be taken back.
	Step *Step
	// Seen is the newest event before the look: what came after it may not be
	// in what was seen.
	Seen int64
	// Cancelled: somebody asked for the workflow's end.
	Cancelled bool

	was StepStatus // before the look
}

// Begin opens a look at the first step that is not over.
func (s *Service) Begin(ctx context.Context, workflowID uuid.UUID) (t *Turn, err error) {
	err = s.store.InTx(ctx, func(ctx context.Context) error {
		w, err := s.store.WorkflowLook(ctx, workflowID, s.now().UTC())
		if err != nil {
			return err
		}
		woken, err := s.store.WaitTake(ctx, w.ID)
		if err != nil {
			return err
		}
		t, err = s.open(ctx, w, woken)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("begin a look at workflow %s: %w", workflowID, err)
	}
	return t, nil
}

// open writes down that a look begins, after a wait if there was one.
func (s *Service) open(ctx context.Context, w *Workflow, woken *Woken) (t *Turn, err error) {
	t = &Turn{Workflow: w, Cancelled: w.CancelledAt != nil}
	if t.Seen, err = s.store.EventLatest(ctx); err != nil {
		return nil, err
	}
	step := w.current()
	if step == nil {
		return t, nil
	}
	now := s.now().UTC()
	if woken != nil {
		until := now
		if woken.At != nil && woken.At.Before(now) {
			until = *woken.At
		}
		step.Waited += max(until.Sub(woken.Since), 0)
	}
	if step.StartedAt == nil {
		step.StartedAt = &now
	}
	t.Step, t.was = step, step.Status
	step.Status, step.Evaluations = StepRunning, step.Evaluations+1
	if w.Status == StatusPending {
		w.Status = StatusRunning
		if err := s.store.WorkflowUpdate(ctx, w); err != nil {
			return nil, err
		}
	}
	return t, s.store.StepUpdate(ctx, w.ID, *step)
}

// current is the first step that is not over, of a workflow that goes on.
func (w *Workflow) current() *Step {
	if w.Status.Terminal() || w.Status == StatusUndoing || w.UndoingSince() != nil {
		return nil
	}
	for i := range w.Steps {
		if !w.Steps[i].Status.Settled() {
			return &w.Steps[i]
		}
	}
	return nil
}

func (w *Workflow) step(name string) *Step {
	for i := range w.Steps {
		if w.Steps[i].Name == name {
			return &w.Steps[i]
		}
	}
	return nil
}

// Settle records what a look came to. When the step is over it opens the look
// at the next one, in the same transaction: most steps of a workflow need no
// waiting, and a commit each is what they cost. For a step that waits it returns
// whether something that it waits for has changed since it looked: then it must
// look again at once. So must a look that is over when a later one has begun,
// such as that of a replica that was frozen: nothing is recorded of it.
func (s *Service) Settle(ctx context.Context, t *Turn, sequence int64, o Outcome) (next *Turn, again bool, err error) {
	late := false
	err = s.store.InTx(ctx, func(ctx context.Context) error {
		w, err := s.store.WorkflowLock(ctx, t.Workflow.ID)
		if err != nil {
			return err
		}
		step := w.step(t.Step.Name)
		if late = w.Status.Terminal() || step.Status.Settled() || step.Evaluations != t.Step.Evaluations; late {
			return nil
		}
		again = o.Status == StepWaiting && w.CancelledAt != nil && !t.Cancelled
		next, err = s.settle(ctx, w, step, t, sequence, o)
		return err
	})
	switch {
	case err != nil:
		return nil, false, fmt.Errorf("settle step %s of workflow %s: %w", t.Step.Name, t.Workflow.ID, err)
	case late:
		return nil, true, nil
	case o.Status != StepWaiting || again:
		return next, again, nil
	}
	again, err = s.missed(ctx, t, o)
	return nil, again, err
}

// settle writes the outcome into the workflow, which is locked, and opens the
// next look if there is one to be made now.
func (s *Service) settle(ctx context.Context, w *Workflow, step *Step, t *Turn, sequence int64, o Outcome) (next *Turn, err error) {
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
		return nil, err
	}
	t.Workflow, t.Step = w, step
	if o.Status == StepWaiting {
		wait := Wait{WorkflowID: w.ID, Sequence: sequence, ClusterID: w.ClusterID, Subjects: o.Subjects, Since: now, Deadline: o.Deadline, Seen: t.Seen}
		if err := s.store.WaitPut(ctx, wait); err != nil {
			return nil, err
		}
	}
	if changed {
		if err := s.record(ctx, w, event.WorkflowStep, actor, stepMessage(w, step), step); err != nil {
			return nil, err
		}
		if err := s.announce(ctx, w, step); err != nil {
			return nil, err
		}
	}
	if !o.Status.Settled() {
		return nil, nil //nolint:nilnil // the step goes on
	}
	return s.open(ctx, w, nil)
}

// missed closes the gap between the look and the wait: who changes something
// after the wait is committed finds it, and what changed before is found here.
// Who cancels holds the workflow's lock, so that is before or after, too.
func (s *Service) missed(ctx context.Context, t *Turn, o Outcome) (bool, error) {
	changed, err := s.store.EventsSince(ctx, t.Workflow.ClusterID, t.Seen, o.Subjects)
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
