package flow

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/budecosystem/budcluster/hub/internal/workflow"
	"github.com/budecosystem/budcluster/internal/logkey"
)

// look does what a workflow needs until it waits or is over. The steps that
// need no waiting are one activity together: each for itself would cost the
// engine two commits, and in a registration most are of that kind.
func (r *Runner) look(ctx context.Context, p place) (verdict, error) {
	done, err := r.hands.take(ctx)
	if err != nil {
		return verdict{}, err
	}
	defer done()
	for range burst {
		v, err := r.once(ctx, p)
		if err != nil || v.Next != nextLook {
			return v, err
		}
	}
	return verdict{Next: nextLook}, nil
}

// once does the next thing that a workflow needs, or the next steps.
func (r *Runner) once(ctx context.Context, p place) (verdict, error) {
	t, err := r.record.Begin(ctx, p.ID)
	if errors.Is(err, workflow.ErrNotFound) { // over for so long that its record is gone
		return verdict{Next: nextDone}, nil
	}
	if err != nil {
		return verdict{}, err //nolint:wrapcheck // a sentence already
	}
	for t.Step != nil {
		next, v, err := r.step(ctx, t, p.Sequence)
		if err != nil || next == nil {
			return v, err
		}
		t = next
	}
	switch w := t.Workflow; {
	case w.Status.Terminal():
		return verdict{Next: nextDone}, nil
	case w.Status == workflow.StatusUndoing:
		return r.undo(ctx, w, p.Sequence)
	case w.UndoingSince() != nil:
		return verdict{Next: nextLook}, r.record.Undo(ctx, w.ID) //nolint:wrapcheck // a sentence already
	default:
		return r.finish(ctx, w)
	}
}

func (r *Runner) finish(ctx context.Context, w *workflow.Workflow) (verdict, error) {
	if _, err := r.record.Finish(ctx, w.ID); err != nil {
		return verdict{}, err //nolint:wrapcheck // a sentence already
	}
	return verdict{Next: nextDone}, nil
}

// step carries a step out and records what came of it. It returns the look at
// the next step, or what to do when there is none now.
func (r *Runner) step(ctx context.Context, t *workflow.Turn, sequence int64) (next *workflow.Turn, v verdict, err error) {
	def, known := r.book.Step(t.Workflow.Kind, t.Step.Name)
	o := r.outcome(ctx, t, def, known)
	if ctx.Err() != nil { // the hub stops; another replica looks
		return nil, verdict{}, context.Cause(ctx)
	}
	o = r.bound(t, def, o)
	next, again, err := r.record.Settle(ctx, t, sequence, o)
	switch {
	case err != nil:
		return nil, verdict{}, err //nolint:wrapcheck // a sentence already
	case again || o.Status != workflow.StepWaiting:
		return next, verdict{Next: nextLook}, nil
	default:
		return nil, r.wait(o), nil
	}
}

func (r *Runner) outcome(ctx context.Context, t *workflow.Turn, def Step, known bool) workflow.Outcome {
	switch {
	case t.Cancelled:
		return workflow.Outcome{Status: workflow.StepCancelled, Reason: "Cancelled", Message: "cancelled by " + t.Workflow.CancelledBy}
	case !known:
		return workflow.Failed("UnknownStep", fmt.Sprintf("this hub knows no step %q of %s; start the workflow again", t.Step.Name, t.Workflow.Kind))
	}
	o, err := r.guard(ctx, func(ctx context.Context) (workflow.Outcome, error) { return def.Do(ctx, t) })
	if err == nil {
		return o
	}
	r.log.WarnContext(ctx, "a step could not do its work; it is tried again", slog.String(logkey.Workflow, t.Workflow.ID.String()),
		slog.String(logkey.Step, t.Step.Name), slog.Any(logkey.Error, err))
	pause := min(time.Second<<min(t.Step.Evaluations, 10), longestPause)
	retry := workflow.Waiting(fmt.Sprintf("%s; it is tried again in %s", err, pause), r.now().Add(pause))
	retry.Reason = "Retrying"
	return retry
}

// guard bounds a look, and makes an error of a panic: one step must not take
// the hub with it. The error is shown to people; where it was is for the log.
func (r *Runner) guard(ctx context.Context, do func(ctx context.Context) (workflow.Outcome, error)) (o workflow.Outcome, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, LookLimit, fmt.Errorf("it took over %s", LookLimit))
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the hub met a bug, please report it with its log: %v", p)
			r.log.ErrorContext(ctx, "a step panicked", slog.Any(logkey.Error, p), slog.String(logkey.Stack, string(debug.Stack())))
		}
	}()
	if o, err = do(ctx); err != nil && ctx.Err() != nil {
		err = fmt.Errorf("%w: %w", context.Cause(ctx), err)
	}
	return o, err
}

// bound ends a step that waits beyond its limit, and keeps the next look
// within the net.
func (r *Runner) bound(t *workflow.Turn, def Step, o workflow.Outcome) workflow.Outcome {
	if o.Status != workflow.StepWaiting {
		return o
	}
	now := r.now()
	deadline := now.Add(net)
	if !o.Deadline.IsZero() && o.Deadline.Before(deadline) {
		deadline = o.Deadline
	}
	if def.Limit > 0 && t.Step.StartedAt != nil {
		end := t.Step.StartedAt.Add(def.Limit)
		if !now.Before(end) {
			return workflow.Failed("Timeout", fmt.Sprintf("not done after %s: %s", def.Limit, o.Message))
		}
		if end.Before(deadline) {
			deadline = end
		}
	}
	o.Deadline = deadline
	return o
}

func (r *Runner) wait(o workflow.Outcome) verdict {
	pause := max(o.Deadline.Sub(r.now()), time.Millisecond)
	return verdict{Next: nextWait, Wait: pause}
}
