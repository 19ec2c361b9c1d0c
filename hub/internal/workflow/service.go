package workflow

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/budecosystem/budcluster/hub/internal/event"
	"github.com/budecosystem/budcluster/hub/internal/invalid"
	"github.com/budecosystem/budcluster/hub/internal/page"
	"github.com/budecosystem/budcluster/internal/id"
)

// Config makes a Service.
type Config struct {
	Store  Store
	Logger *slog.Logger
	// Notify tells those whom the workflow's Reply names, in the transaction
	// that ctx carries. Nil tells nobody.
	Notify func(ctx context.Context, w *Workflow, n Notice) error
	// Started does the same when a workflow begins.
	Started func(ctx context.Context, w *Workflow) error
	// Now is time.Now when nil.
	Now func() time.Time
}

// Notice is one message about a workflow to those whom its Reply names.
type Notice struct {
	// Event is a milestone, "eta" or "results".
	Event string
	// Status is where that stands.
	Status StepStatus
	// Message is the reason of a failure, or the minutes of an eta.
	Message string
	// Result is a JSON object; only with "results".
	Result json.RawMessage
}

// The events of notices that are no milestones.
const (
	NoticeETA     = "eta"
	NoticeResults = "results"
)

// Service is the rules of the record.
type Service struct {
	store  Store
	log    *slog.Logger
	notify func(ctx context.Context, w *Workflow, n Notice) error
	began  func(ctx context.Context, w *Workflow) error
	now    func() time.Time
}

// New checks cfg and makes the Service.
func New(cfg Config) (*Service, error) {
	if cfg.Store == nil || cfg.Logger == nil {
		return nil, errors.New("workflow: a store and a logger are needed")
	}
	s := &Service{store: cfg.Store, log: cfg.Logger, notify: cfg.Notify, began: cfg.Started, now: cfg.Now}
	if s.now == nil {
		s.now = time.Now
	}
	if s.notify == nil {
		s.notify = func(context.Context, *Workflow, Notice) error { return nil }
	}
	if s.began == nil {
		s.began = func(context.Context, *Workflow) error { return nil }
	}
	return s, nil
}

// Request is work to be done.
type Request struct {
	// ID is a new one if it is uuid.Nil.
	ID          uuid.UUID
	Kind        Kind
	ClusterID   uuid.UUID
	ClusterName string
	// Input is encoded as JSON. It is shown to whoever may read workflows: no
	// secret belongs in it.
	Input any
	// Reply is kept as it is; empty tells nobody.
	Reply     json.RawMessage
	Exclusive bool
	Steps     []Step
	RetryOf   uuid.UUID
}

// Start records the work. The dispatcher gives it to the engine once the
// transaction is done, whatever becomes of this process.
func (s *Service) Start(ctx context.Context, actor string, req Request) (*Workflow, error) {
	if !slices.Contains(Kinds(), req.Kind) {
		return nil, invalid.New("kind", "%q is not a kind of workflow; use one of %v", invalid.Clip(string(req.Kind)), Kinds())
	}
	if len(req.Steps) == 0 {
		return nil, fmt.Errorf("start %s: it has no steps", req.Kind)
	}
	input, err := json.Marshal(req.Input)
	if err != nil {
		return nil, fmt.Errorf("encode input of %s: %w", req.Kind, err)
	}
	w := &Workflow{
		ID: cmp.Or(req.ID, id.New()), Kind: req.Kind, ClusterID: req.ClusterID, ClusterName: req.ClusterName, Status: StatusPending,
		Input: input, Reply: req.Reply, Exclusive: req.Exclusive, CreatedBy: actor, RetryOf: req.RetryOf,
		CreatedAt: s.now().UTC(), Steps: slices.Clone(req.Steps),
	}
	for i := range w.Steps {
		w.Steps[i].Status = StepPending
		w.ETA += w.Steps[i].Typical
	}
	err = s.store.InTx(ctx, func(ctx context.Context) error {
		if err := s.store.WorkflowInsert(ctx, w); err != nil {
			return err
		}
		if err := s.began(ctx, w); err != nil {
			return err
		}
		s.store.WakeWorkflows(ctx)
		return s.record(ctx, w, event.WorkflowStarted, actor, fmt.Sprintf("%s began", w.subject()), nil)
	})
	if errors.Is(err, ErrBusy) {
		return nil, s.busy(ctx, w)
	}
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", req.Kind, err)
	}
	return w, nil
}

// busy says which workflow is in the way. It may have ended just now.
func (s *Service) busy(ctx context.Context, w *Workflow) error {
	busy := &BusyError{Cluster: w.ClusterName, Kind: w.Kind}
	others, err := s.store.WorkflowList(ctx, Filter{ClusterID: &w.ClusterID, Active: true}, Key{}, page.DefaultLimit)
	if err != nil {
		return errors.Join(busy, err)
	}
	for _, other := range others {
		if other.Exclusive {
			busy.Other, busy.Running = other.ID, other.Kind
		}
	}
	return busy
}

// Get finds a workflow with its steps.
func (s *Service) Get(ctx context.Context, ref string) (*Workflow, error) {
	parsed, err := uuid.Parse(ref)
	if err != nil {
		return nil, &NotFoundError{ID: invalid.Clip(ref)}
	}
	w, err := s.store.WorkflowByID(ctx, parsed)
	if errors.Is(err, ErrNotFound) {
		return nil, &NotFoundError{ID: ref}
	}
	if err != nil {
		return nil, fmt.Errorf("get workflow %s: %w", ref, err)
	}
	return w, nil
}

// List returns one page of workflows without their steps, newest first.
func (s *Service) List(ctx context.Context, f Filter, p page.Page) (found []*Workflow, next string, err error) {
	if f.Kind != "" && !slices.Contains(Kinds(), f.Kind) {
		return nil, "", invalid.New("kind", "%q is not a kind of workflow; use one of %v", invalid.Clip(string(f.Kind)), Kinds())
	}
	if f.Status != "" && !slices.Contains(Statuses(), f.Status) {
		return nil, "", invalid.New("status", "%q is not a status; use one of %v", invalid.Clip(string(f.Status)), Statuses())
	}
	before, err := keyOf(p)
	if err != nil {
		return nil, "", err
	}
	found, err = s.store.WorkflowList(ctx, f, before, p.Size()+1)
	if err != nil {
		return nil, "", fmt.Errorf("list workflows: %w", err)
	}
	found, next = page.Cut(found, p, func(w *Workflow) []string {
		return []string{w.CreatedAt.UTC().Format(time.RFC3339Nano), w.ID.String()}
	})
	return found, next, nil
}

func keyOf(p page.Page) (Key, error) {
	parts, err := p.Key(2)
	if err != nil || parts[1] == "" {
		return Key{}, err
	}
	at, errTime := time.Parse(time.RFC3339Nano, parts[0])
	parsed, errID := uuid.Parse(parts[1])
	if errTime != nil || errID != nil {
		return Key{}, invalid.New("cursor", "%q is not one that this list gave out; leave it away to start at the first page", invalid.Clip(p.Cursor))
	}
	return Key{CreatedAt: at, ID: parsed}, nil
}

// Cancel asks a workflow to end. It ends when what it made is undone. Asking
// again changes nothing.
func (s *Service) Cancel(ctx context.Context, actor, ref string) (w *Workflow, err error) {
	found, err := s.Get(ctx, ref)
	if err != nil {
		return nil, err
	}
	err = s.store.InTx(ctx, func(ctx context.Context) error {
		if w, err = s.store.WorkflowLock(ctx, found.ID); err != nil {
			return err
		}
		if w.Status.Terminal() {
			return &FinishedError{ID: w.ID, Status: w.Status}
		}
		if w.CancelledAt != nil {
			return nil
		}
		now := s.now().UTC()
		w.CancelledAt, w.CancelledBy = &now, actor
		if err := s.store.WorkflowUpdate(ctx, w); err != nil {
			return err
		}
		if err := s.store.WaitWakeWorkflow(ctx, w.ID, now); err != nil {
			return err
		}
		s.store.WakeWorkflows(ctx)
		return s.record(ctx, w, event.WorkflowCancelled, actor, fmt.Sprintf("%s is to end: cancelled by %s", w.subject(), actor), nil)
	})
	if err != nil {
		return nil, fmt.Errorf("cancel workflow %s: %w", ref, err)
	}
	return w, nil
}

// subject names the workflow in a sentence.
func (w *Workflow) subject() string {
	if w.ClusterName == "" {
		return string(w.Kind)
	}
	return string(w.Kind) + " of cluster " + w.ClusterName
}

// eventData is the Data of a workflow's events.
type eventData struct {
	Kind    Kind       `json:"kind"`
	Status  Status     `json:"status"`
	Step    string     `json:"step,omitempty"`
	State   StepStatus `json:"state,omitempty"`
	Reason  string     `json:"reason,omitempty"`
	Message string     `json:"message,omitempty"`
}

func (s *Service) record(ctx context.Context, w *Workflow, kind event.Type, actor, message string, step *Step) error {
	data := eventData{Kind: w.Kind, Status: w.Status, Reason: w.Reason, Message: w.Message}
	if step != nil {
		data.Step, data.State, data.Reason, data.Message = step.Name, step.Status, step.Reason, step.Message
	}
	e, err := event.Record(s.now(), kind, actor, data)
	if err != nil {
		return err
	}
	e.ClusterID, e.Subject, e.Message = w.ClusterID, w.ID.String(), message
	return s.store.AppendEvents(ctx, e)
}
