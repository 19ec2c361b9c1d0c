package workflow

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/budecosystem/budcluster/hub/internal/event"
	"github.com/budecosystem/budcluster/hub/internal/page"
	"github.com/budecosystem/budcluster/internal/logkey"
	"github.com/budecosystem/budcluster/internal/run"
)

// The dispatcher's figures.
const (
	// DefaultSweep is how often a dispatcher looks without being woken.
	DefaultSweep = 5 * time.Second
	// retell is after how long the engine is told again of a wait that nobody
	// has taken since.
	retell = 10 * time.Second
	// DefaultSilence is how long nothing may be heard of a workflow before the
	// engine is asked for it. One that waits is looked at twice in that time.
	DefaultSilence = time.Minute
	dispatchBatch  = 100
	// breath is the least time between two dispatches: what happens meanwhile is
	// dispatched together. A hundred clusters that register make a thousand events
	// a second, and each woke the dispatcher for itself.
	breath = 10 * time.Millisecond
	// atOnce is how many the engine is told at once: it commits together what
	// comes together. One by one, a hundred clusters that come back at the same
	// moment waited for seconds.
	atOnce = 32
)

// Engine runs workflows durably. The same id given twice is one workflow.
type Engine interface {
	// Start begins the workflow with this id.
	Start(ctx context.Context, w *Workflow) error
	// Raise ends the wait of this sequence. It fails with ErrLost when the engine
	// has no such workflow.
	Raise(ctx context.Context, workflowID uuid.UUID, wait string) error
	// Has reports whether the engine has the workflow, and it is on.
	Has(ctx context.Context, workflowID uuid.UUID) (bool, error)
	// Restart begins the workflow anew, whatever the engine has of it. It may
	// fail while that ends; it is called again then.
	Restart(ctx context.Context, w *Workflow) error
}

// Feed is the record of events as it grows.
type Feed interface {
	Latest(ctx context.Context) (int64, error)
	List(ctx context.Context, f event.Filter) ([]event.Event, error)
}

// DispatcherConfig makes a Dispatcher.
type DispatcherConfig struct {
	Store  Store
	Engine Engine
	Feed   Feed
	Logger *slog.Logger
	// Events is readable when the feed may have grown, Wake when there is
	// something to schedule or to tell.
	Events, Wake <-chan struct{}
	// Sweep and Silence have their defaults when zero.
	Sweep, Silence time.Duration
	// GiveUp is after how long a silence a workflow begins anew although the
	// engine has it: for an engine that may lose the work on what it has. It has
	// to be longer than the longest look. Zero is never.
	GiveUp time.Duration
	Now    func() time.Time
}

// Dispatcher joins the record to the engine. Every replica runs one; they
// share the work.
type Dispatcher struct {
	cfg    DispatcherConfig
	after  int64
	placed bool
	asked  time.Time // when silent workflows were last looked for
	steady time.Time // since when all went well: there is no silence before
}

// NewDispatcher checks cfg and makes the Dispatcher.
func NewDispatcher(cfg DispatcherConfig) (*Dispatcher, error) {
	if cfg.Store == nil || cfg.Engine == nil || cfg.Feed == nil || cfg.Logger == nil {
		return nil, errors.New("workflow dispatcher: a store, an engine, a feed and a logger are needed")
	}
	cfg.Sweep, cfg.Silence = cmp.Or(cfg.Sweep, DefaultSweep), cmp.Or(cfg.Silence, DefaultSilence)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Dispatcher{cfg: cfg}, nil
}

// Run dispatches until ctx ends. What fails is tried again at the next sweep.
func (d *Dispatcher) Run(ctx context.Context) error {
	sweep := time.NewTicker(d.cfg.Sweep)
	defer sweep.Stop()
	for {
		if err := d.Dispatch(ctx); err != nil && ctx.Err() == nil {
			d.cfg.Logger.WarnContext(ctx, "workflows were not dispatched; it is tried again", slog.Any(logkey.Error, err))
		}
		if !run.Sleep(ctx, breath) {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-d.cfg.Events:
		case <-d.cfg.Wake:
		case <-sweep.C:
		}
	}
}

// Dispatch does everything that there is to do now.
func (d *Dispatcher) Dispatch(ctx context.Context) error {
	err := errors.Join(d.schedule(ctx), d.follow(ctx), d.tell(ctx), d.reconcile(ctx))
	if err != nil || d.steady.IsZero() {
		d.steady = d.cfg.Now()
	}
	return err
}

// each calls fn for all items. One that fails keeps the others from nothing.
func each[T any](ctx context.Context, items []T, fn func(ctx context.Context, item T) error) error {
	var mu sync.Mutex
	var failed []error
	panicked := run.Each(ctx, atOnce, items, func(ctx context.Context, item T) error {
		if err := fn(ctx, item); err != nil {
			mu.Lock()
			defer mu.Unlock()
			failed = append(failed, err)
		}
		return nil
	})
	return errors.Join(append(failed, panicked)...)
}

// schedule gives new workflows to the engine.
func (d *Dispatcher) schedule(ctx context.Context) error {
	for {
		pending, err := d.cfg.Store.WorkflowPending(ctx, dispatchBatch)
		if err != nil {
			return fmt.Errorf("list workflows to schedule: %w", err)
		}
		err = each(ctx, pending, func(ctx context.Context, w *Workflow) error {
			if err := d.cfg.Engine.Start(ctx, w); err != nil {
				return fmt.Errorf("schedule workflow %s: %w", w.ID, err)
			}
			if err := d.cfg.Store.WorkflowScheduled(ctx, w.ID, d.cfg.Now().UTC()); err != nil {
				return fmt.Errorf("record that workflow %s is scheduled: %w", w.ID, err)
			}
			return nil
		})
		if err != nil || len(pending) < dispatchBatch {
			return err
		}
	}
}

// place begins to follow the events with what is new, and wakes all waits that
// are there: what came before may be for one of them, and whoever should have
// followed it may be dead. A wait that comes later was made by a look that saw
// what came before it.
func (d *Dispatcher) place(ctx context.Context) error {
	latest, err := d.cfg.Feed.Latest(ctx)
	if err != nil {
		return fmt.Errorf("find the newest event: %w", err)
	}
	if err := d.cfg.Store.WaitWakeAll(ctx, d.cfg.Now().UTC()); err != nil {
		return fmt.Errorf("wake workflows: %w", err)
	}
	d.after, d.placed = latest, true
	return nil
}

// follow wakes the waits that new events are for.
func (d *Dispatcher) follow(ctx context.Context) error {
	if !d.placed {
		return d.place(ctx)
	}
	for {
		events, err := d.cfg.Feed.List(ctx, event.Filter{After: d.after, Limit: page.MaxLimit})
		if err != nil {
			return fmt.Errorf("read events after %d: %w", d.after, err)
		}
		if happened := changes(events); len(happened) > 0 {
			if _, err := d.cfg.Store.WaitWake(ctx, happened); err != nil {
				return fmt.Errorf("wake workflows: %w", err)
			}
		}
		if len(events) > 0 {
			d.after = events[len(events)-1].ID
		}
		if len(events) < page.MaxLimit {
			return nil
		}
	}
}

// changes turns events into the subjects that waits may name.
func changes(events []event.Event) []Happened {
	var happened []Happened
	for _, e := range events {
		if e.Transient || e.ClusterID == uuid.Nil {
			continue
		}
		noun, _, _ := strings.Cut(string(e.Type), ".")
		happened = append(happened, Happened{e.ID, e.ClusterID, noun, e.At}, Happened{e.ID, e.ClusterID, noun + "/" + e.Subject, e.At})
	}
	return happened
}

// tell ends, at the engine, the waits that were woken or are over.
func (d *Dispatcher) tell(ctx context.Context) error {
	for {
		now := d.cfg.Now().UTC()
		due, err := d.cfg.Store.WaitDue(ctx, now, now.Add(-retell), dispatchBatch)
		if err != nil {
			return fmt.Errorf("claim waits that are over: %w", err)
		}
		err = each(ctx, due, func(ctx context.Context, one Due) error { // who fails is told again
			err := d.cfg.Engine.Raise(ctx, one.WorkflowID, WaitName(one.Sequence))
			if errors.Is(err, ErrLost) {
				err = d.restart(ctx, one.WorkflowID, "the engine does not have it")
			}
			if err != nil {
				return fmt.Errorf("wake workflow %s: %w", one.WorkflowID, err)
			}
			return nil
		})
		if err != nil || len(due) < dispatchBatch {
			return err
		}
	}
}

// reconcile looks for workflows that are on in the record and that nothing was
// heard of: the engine may have lost them, with its tables or its state store;
// it may be another engine now, or somebody ended them there. Such a workflow
// begins anew, which is to go on: the looks pass over the steps that are
// settled, and the effects are in the ledger. If the engine has it after all,
// both look, and the record takes from the later look only.
func (d *Dispatcher) reconcile(ctx context.Context) error {
	now := d.cfg.Now().UTC()
	if now.Sub(d.asked) < d.cfg.Sweep {
		return nil
	}
	d.asked = now
	silent, err := d.cfg.Store.WorkflowSilent(ctx, now, now.Add(-d.cfg.Silence), dispatchBatch)
	if err != nil {
		return fmt.Errorf("look for workflows that nothing is heard of: %w", err)
	}
	return each(ctx, silent, func(ctx context.Context, one Silent) error { // who fails is asked for again
		if err := d.revive(ctx, one, now); err != nil {
			return fmt.Errorf("revive workflow %s: %w", one.ID, err)
		}
		return nil
	})
}

// revive begins a silent workflow anew if the engine does not have it, or has
// done nothing for it for long while all else went well.
func (d *Dispatcher) revive(ctx context.Context, one Silent, now time.Time) error {
	has, err := d.cfg.Engine.Has(ctx, one.ID)
	switch {
	case err != nil:
		return err
	case !has:
		return d.restart(ctx, one.ID, "the engine does not have it")
	case d.cfg.GiveUp == 0 || d.steady.IsZero():
		return nil
	}
	since := one.Since
	if d.steady.After(since) {
		since = d.steady
	}
	if now.Sub(since) < d.cfg.GiveUp {
		return nil
	}
	return d.restart(ctx, one.ID, "the engine does nothing for it")
}

// restart begins a workflow anew, unless it is over.
func (d *Dispatcher) restart(ctx context.Context, workflowID uuid.UUID, why string) error {
	w, err := d.cfg.Store.WorkflowByID(ctx, workflowID)
	switch {
	case errors.Is(err, ErrNotFound):
		return nil
	case err != nil:
		return err
	case w.Status.Terminal():
		return nil
	}
	d.cfg.Logger.WarnContext(ctx, "a workflow begins anew, and goes on where it was", slog.String(logkey.Workflow, w.ID.String()), slog.String(logkey.Reason, why))
	return d.cfg.Engine.Restart(ctx, w)
}

// WaitName is the engine's name for the wait of this sequence.
func WaitName(sequence int64) string { return "wait/" + strconv.FormatInt(sequence, 10) }
