package flow

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/budecosystem/budcluster/hub/internal/workflow"
	"github.com/budecosystem/budcluster/internal/logkey"
)

// undo takes back the last effect that is still there; when there is none, the
// workflow is over. One that cannot be taken back is left behind, and the next
// has its turn: each that goes is one less for a person to remove.
func (r *Runner) undo(ctx context.Context, w *workflow.Workflow, sequence int64) (verdict, error) {
	t, err := r.record.BeginUndo(ctx, w.ID)
	if err != nil {
		return verdict{}, err //nolint:wrapcheck // a sentence already
	}
	made, err := r.record.Made(ctx, w.ID)
	if err != nil {
		return verdict{}, err //nolint:wrapcheck // a sentence already
	}
	e, limit := nextToUndo(w, made)
	if e == nil {
		return r.finish(ctx, w)
	}
	o, remedy := r.undoOne(ctx, w, *e)
	if ctx.Err() != nil {
		return verdict{}, context.Cause(ctx)
	}
	switch {
	case o.Status == workflow.StepFailed, o.Status == workflow.StepWaiting && r.now().After(limit):
		return verdict{Next: nextLook}, r.record.Leave(ctx, w.ID, *e, leftWhy(o.Message, remedy)) //nolint:wrapcheck // a sentence already
	case o.Status == workflow.StepWaiting:
		o = r.bound(t, Step{}, o)
		again, err := r.record.Park(ctx, t, sequence, o)
		if err != nil || again {
			return verdict{Next: nextLook}, err //nolint:wrapcheck // a sentence already
		}
		return r.wait(o), nil
	}
	return verdict{Next: nextLook}, r.record.Undone(ctx, w.ID, *e) //nolint:wrapcheck // a sentence already
}

// nextToUndo is the last effect that is neither taken back nor left behind, nil
// when there is none, and until when it may be waited for.
func nextToUndo(w *workflow.Workflow, made []workflow.Effect) (next *workflow.Effect, limit time.Time) {
	since := *w.UndoingSince()
	limit = since.Add(undoLimit)
	for i, e := range made {
		var ended *time.Time
		switch {
		case e.UndoneAt != nil:
			ended = e.UndoneAt
		case e.LeftAt != nil:
			ended = e.LeftAt
		default:
			if next == nil {
				next = &made[i]
			}
			continue
		}
		if least := ended.Add(undoLeast); least.After(limit) {
			limit = least
		}
	}
	return next, limit
}

func (r *Runner) undoOne(ctx context.Context, w *workflow.Workflow, e workflow.Effect) (o workflow.Outcome, remedy string) {
	undo, ok := r.book.Undo(e.Kind)
	if !ok {
		return workflow.Completed(""), ""
	}
	if undo.Remedy != nil {
		remedy = undo.Remedy(w, e)
	}
	o, err := r.guard(ctx, func(ctx context.Context) (workflow.Outcome, error) { return undo.Do(ctx, w, e) })
	if err == nil {
		return o, remedy
	}
	r.log.WarnContext(ctx, "an effect could not be undone; it is tried again", slog.String(logkey.Workflow, w.ID.String()),
		slog.String(logkey.Name, e.Name), slog.Any(logkey.Error, err))
	return workflow.Waiting(err.Error(), r.now().Add(longestPause/3)), remedy
}

// leftWhy says why an effect stays, and what a person does about it.
func leftWhy(why, remedy string) string {
	switch {
	case remedy == "":
		return why
	case why == "":
		return "remove it with " + remedy
	}
	return fmt.Sprintf("%s; remove it with %s", why, remedy)
}
