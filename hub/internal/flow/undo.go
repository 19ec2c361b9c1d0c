package flow

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/budecosystem/budcluster/hub/internal/workflow"
	"github.com/budecosystem/budcluster/internal/logkey"
)

// undo takes back the last effect that is still there; when there is none, the
// workflow is over.
func (r *Runner) undo(ctx context.Context, w *workflow.Workflow, sequence int64) (verdict, error) {
	t, err := r.record.BeginUndo(ctx, w.ID)
	if err != nil {
		return verdict{}, err //nolint:wrapcheck // a sentence already
	}
	made, err := r.record.Made(ctx, w.ID)
	if err != nil {
		return verdict{}, err //nolint:wrapcheck // a sentence already
	}
	if len(made) == 0 {
		return r.finish(ctx, w, nil)
	}
	o := r.undoOne(ctx, w, made[0])
	if ctx.Err() != nil {
		return verdict{}, context.Cause(ctx)
	}
	switch {
	case o.Status == workflow.StepFailed, o.Status == workflow.StepWaiting && r.now().After(w.UndoingSince().Add(undoLimit)):
		return r.finish(ctx, w, leftBehind(made, o.Message))
	case o.Status == workflow.StepWaiting:
		o = r.bound(t, Step{}, o)
		again, err := r.record.Park(ctx, t, sequence, o)
		if err != nil || again {
			return verdict{Next: nextLook}, err //nolint:wrapcheck // a sentence already
		}
		return r.wait(o), nil
	}
	if err := r.record.Undone(ctx, w.ID, made[0]); err != nil {
		return verdict{}, err //nolint:wrapcheck // a sentence already
	}
	return verdict{Next: nextLook}, nil
}

func (r *Runner) undoOne(ctx context.Context, w *workflow.Workflow, e workflow.Effect) workflow.Outcome {
	undo, ok := r.book.Undo(e.Kind)
	if !ok {
		return workflow.Completed("")
	}
	o, err := r.guard(ctx, func() (workflow.Outcome, error) { return undo(ctx, w, e) })
	if err == nil {
		return o
	}
	r.log.WarnContext(ctx, "an effect could not be undone; it is tried again", slog.String(logkey.Workflow, w.ID.String()),
		slog.String(logkey.Name, e.Name), slog.Any(logkey.Error, err))
	return workflow.Waiting(err.Error(), r.now().Add(longestPause/3))
}

// leftBehind names the effects that stay. What the first of them waits for is
// why.
func leftBehind(made []workflow.Effect, why string) []string {
	left := make([]string, 0, len(made))
	for i, e := range made {
		what := fmt.Sprintf("%s %s", e.Kind, e.Name)
		if i == 0 && why != "" {
			what += " (" + why + ")"
		}
		left = append(left, what)
	}
	return left
}
