package flow

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/budecosystem/budcluster/hub/internal/engine"
	"github.com/budecosystem/budcluster/hub/internal/workflow"
)

// Door lets a workflow.Dispatcher use an engine.
type Door struct{ Engine *engine.Engine }

var _ workflow.Engine = Door{}

// Start begins the workflow. The same one twice is one.
func (d Door) Start(ctx context.Context, w *workflow.Workflow) error {
	return d.Engine.Start(ctx, orchestrator, w.ID.String(), place{ID: w.ID}) //nolint:wrapcheck // a sentence already
}

// Raise ends a wait.
func (d Door) Raise(ctx context.Context, workflowID uuid.UUID, wait string) error {
	err := d.Engine.Raise(ctx, workflowID.String(), wait, nil)
	if errors.Is(err, engine.ErrNotFound) {
		return fmt.Errorf("%w: %w", workflow.ErrLost, err)
	}
	return err //nolint:wrapcheck // a sentence already
}

// Has reports whether the engine has the workflow, and it is on. One that
// somebody suspended is.
func (d Door) Has(ctx context.Context, workflowID uuid.UUID) (bool, error) {
	s, err := d.Engine.Status(ctx, workflowID.String())
	if errors.Is(err, engine.ErrNotFound) {
		return false, nil
	}
	return err == nil && !s.State.Ended(), err //nolint:wrapcheck // a sentence already
}

// Restart begins the workflow anew, but for one that somebody suspended. An
// engine that has it must forget it first, or the new start would be the old
// one.
func (d Door) Restart(ctx context.Context, w *workflow.Workflow) error {
	s, err := d.Engine.Status(ctx, w.ID.String())
	if err == nil && s.State == engine.Suspended {
		return nil
	}
	if err == nil {
		err = d.Engine.Terminate(ctx, w.ID.String(), "it begins anew")
	}
	if err == nil {
		err = d.Engine.Purge(ctx, w.ID.String())
	}
	if err != nil && !errors.Is(err, engine.ErrNotFound) {
		return err //nolint:wrapcheck // a sentence already
	}
	return d.Start(ctx, w)
}
