package flow

import (
	"context"

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
	return d.Engine.Raise(ctx, workflowID.String(), wait, nil) //nolint:wrapcheck // a sentence already
}
