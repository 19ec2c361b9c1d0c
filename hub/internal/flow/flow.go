package flow

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"time"

	durable "github.com/dapr/durabletask-go/workflow"
	"github.com/google/uuid"

	"github.com/budecosystem/budcluster/hub/internal/workflow"
)

// The names under which the engine knows what is here. Histories hold them.
const (
	orchestrator = "budcluster.workflow"
	activity     = "budcluster.look"
)

// The runner's figures.
const (
	// net is after how long a waiting step looks again although nothing woke it.
	net = 30 * time.Second
	// longestPause is the most between two tries of a step that could not do its
	// work.
	longestPause = 30 * time.Second
	// burst bounds what one activity does, so that the hub need not wait for it
	// when it stops.
	burst = 20
	// history is after how many looks the engine's history begins anew.
	history = 100
	// atOnce is how many looks run at a time, and patience how long each counts.
	atOnce   = 8
	patience = 250 * time.Millisecond
	// LookLimit is how long one look may take; then it is tried again.
	LookLimit = 5 * time.Minute
	// undoLimit is how long taking back may take in all. Each effect has
	// undoLeast, whatever the others took.
	undoLimit = 15 * time.Minute
	undoLeast = time.Minute
)

// Step is how a step is carried out.
type Step struct {
	// Do acts and looks; it is called again until its outcome is settled, by any
	// replica, and it may be called twice for one look. An error means that it
	// could not do its work and should be tried again.
	Do func(ctx context.Context, t *workflow.Turn) (workflow.Outcome, error)
	// Limit is the longest that the step may take from its begin.
	Limit time.Duration
}

// Undo is how effects of one kind are taken back.
type Undo struct {
	// Do is called until its outcome is settled; Failed leaves the effect behind,
	// with the message.
	Do func(ctx context.Context, w *workflow.Workflow, e workflow.Effect) (workflow.Outcome, error)
	// Remedy says how a person removes what is left behind, in words that follow
	// "remove it with".
	Remedy func(w *workflow.Workflow, e workflow.Effect) string
}

// Book says how each kind is carried out.
type Book interface {
	// Step is false for a step that this hub does not know.
	Step(kind workflow.Kind, name string) (Step, bool)
	// Undo is false for an effect that needs nothing.
	Undo(kind workflow.EffectKind) (Undo, bool)
}

// Record is the part of workflow.Service that a Runner needs.
type Record interface {
	Begin(ctx context.Context, workflowID uuid.UUID) (*workflow.Turn, error)
	Settle(ctx context.Context, t *workflow.Turn, sequence int64, o workflow.Outcome) (next *workflow.Turn, again bool, err error)
	Undo(ctx context.Context, workflowID uuid.UUID) error
	BeginUndo(ctx context.Context, workflowID uuid.UUID) (*workflow.Turn, error)
	Park(ctx context.Context, t *workflow.Turn, sequence int64, o workflow.Outcome) (again bool, err error)
	Made(ctx context.Context, workflowID uuid.UUID) ([]workflow.Effect, error)
	Undone(ctx context.Context, workflowID uuid.UUID, e workflow.Effect) error
	Leave(ctx context.Context, workflowID uuid.UUID, e workflow.Effect, why string) error
	Finish(ctx context.Context, workflowID uuid.UUID) (*workflow.Workflow, error)
}

// Config makes a Runner.
type Config struct {
	Record Record
	Book   Book
	Logger *slog.Logger
	// Now is time.Now when nil.
	Now func() time.Time
}

// Runner carries out looks.
type Runner struct {
	record Record
	book   Book
	log    *slog.Logger
	now    func() time.Time
	hands  hands
}

// New checks cfg and makes the Runner.
func New(cfg Config) (*Runner, error) {
	if cfg.Record == nil || cfg.Book == nil || cfg.Logger == nil {
		return nil, errors.New("flow: a record, a book and a logger are needed")
	}
	r := &Runner{record: cfg.Record, book: cfg.Book, log: cfg.Logger, now: cfg.Now, hands: make(hands, atOnce)}
	if r.now == nil {
		r.now = time.Now
	}
	return r, nil
}

// place is where a workflow is: the input of the orchestrator and of a look.
type place struct {
	ID       uuid.UUID `json:"id"`
	Sequence int64     `json:"sequence"`
}

// verdict is what a look came to.
type verdict struct {
	Next next `json:"next"`
	// Wait is for how long the next look may wait for its event.
	Wait time.Duration `json:"wait,omitempty"`
}

// next says what the orchestrator does.
type next string

const (
	nextLook next = "look"
	nextWait next = "wait"
	nextDone next = "done"
)

// Register gives the engine what it runs.
func (r *Runner) Register(registry *durable.Registry) error {
	return errors.Join(
		registry.AddWorkflowN(orchestrator, orchestrate),
		registry.AddActivityN(activity, func(ac durable.ActivityContext) (any, error) {
			var p place
			if err := ac.GetInput(&p); err != nil {
				return nil, fmt.Errorf("read input of a look: %w", err)
			}
			return r.look(ac.Context(), p)
		}),
	)
}

// orchestrate is the one orchestrator. It is replayed: it decides by what the
// looks say and nothing else.
func orchestrate(ctx *durable.WorkflowContext) (any, error) {
	var p place
	if err := ctx.GetInput(&p); err != nil {
		return nil, fmt.Errorf("read input: %w", err)
	}
	for range history {
		var v verdict
		look := ctx.CallActivity(activity, durable.WithActivityInput(p), durable.WithActivityRetryPolicy(&durable.RetryPolicy{
			MaxAttempts: math.MaxInt32, InitialRetryInterval: time.Second, BackoffCoefficient: 2, MaxRetryInterval: longestPause,
		}))
		if err := look.Await(&v); err != nil {
			return nil, fmt.Errorf("look %d: %w", p.Sequence, err)
		}
		switch v.Next {
		case nextDone:
			return nil, nil
		case nextWait:
			// What comes of the wait does not matter: the look sees for itself.
			_ = ctx.WaitForExternalEvent(workflow.WaitName(p.Sequence), v.Wait).Await(nil)
		case nextLook:
		}
		p.Sequence++
	}
	ctx.ContinueAsNew(p)
	return nil, nil
}
