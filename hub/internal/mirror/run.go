package mirror

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"github.com/budecosystem/budcluster/hub/internal/event"
	"github.com/budecosystem/budcluster/hub/internal/page"
	"github.com/budecosystem/budcluster/hub/internal/workflow"
	"github.com/budecosystem/budcluster/internal/logkey"
)

// relevant are the events after which a cluster may look different.
func relevant() []string {
	types := []event.Type{
		event.ClusterJoined, event.ClusterConnected, event.ClusterDisconnected, event.ClusterRevoked, event.ClusterDeleted, event.ClusterRetired,
		event.NodeAdded, event.NodeChanged, event.NodeRemoved, event.WorkflowStarted, event.WorkflowFinished,
	}
	names := make([]string, 0, len(types))
	for _, t := range types {
		names = append(names, string(t))
	}
	return names
}

// The defaults of FollowerConfig.
const (
	// DefaultKey is where the platform's planner reads clusters.
	DefaultKey    = "cluster_info"
	DefaultSettle = 500 * time.Millisecond
	DefaultSweep  = 30 * time.Second
	// lazy is how many times longer what is not urgent is gathered.
	lazy = 10
)

// Feed is the record of events as it grows; event.Service.
type Feed interface {
	Latest(ctx context.Context) (int64, error)
	List(ctx context.Context, f event.Filter) ([]event.Event, error)
}

// SharedState is the store that the platform's services share.
type SharedState interface {
	// Update replaces a value by what change makes of it, whole and unless
	// somebody else was faster; then it begins anew. Returning what it got
	// changes nothing.
	Update(ctx context.Context, key string, change func(old json.RawMessage) (json.RawMessage, error)) error
}

// FollowerConfig makes a Follower.
type FollowerConfig struct {
	Service *Service
	Feed    Feed
	Logger  *slog.Logger
	// State is nil where there is none: then there are messages only.
	State SharedState
	// Wake is readable when the feed may have grown.
	Wake <-chan struct{}
	// Key is DefaultKey when empty.
	Key string
	// Settle is how long changes are gathered, Sweep how often all is looked at.
	// Each has its default when zero.
	Settle, Sweep time.Duration
}

// Follower shows clusters as they change. Every replica runs one.
type Follower struct {
	*Service
	feed          Feed
	log           *slog.Logger
	state         SharedState
	wake          <-chan struct{}
	key           string
	settle, sweep time.Duration
	after         int64 // of the feed; Run's own
}

// NewFollower checks cfg and makes the Follower. It starts nothing.
func NewFollower(cfg FollowerConfig) (*Follower, error) {
	if cfg.Service == nil || cfg.Feed == nil || cfg.Logger == nil {
		return nil, errors.New("mirror: a service, a feed and a logger are needed")
	}
	if cfg.Settle < 0 || cfg.Sweep < 0 {
		return nil, errors.New("mirror: Settle and Sweep must not be negative")
	}
	return &Follower{
		Service: cfg.Service, feed: cfg.Feed, log: cfg.Logger, state: cfg.State, wake: cfg.Wake, key: cmp.Or(cfg.Key, DefaultKey),
		settle: cmp.Or(cfg.Settle, DefaultSettle), sweep: cmp.Or(cfg.Sweep, DefaultSweep),
	}, nil
}

// Run follows what happens, until ctx ends.
func (f *Follower) Run(ctx context.Context) error {
	sweep := time.NewTicker(f.sweep)
	defer sweep.Stop()
	settle := time.NewTimer(f.settle)
	defer settle.Stop()
	dirty, all := map[uuid.UUID]bool{}, true // what happened while nobody ran is found by looking at all
	latest, err := f.feed.Latest(ctx)
	for ; err != nil && ctx.Err() == nil; latest, err = f.feed.Latest(ctx) {
		f.log.WarnContext(ctx, "the feed cannot be followed yet", slog.Any(logkey.Error, err))
		if !pause(ctx, time.Second) {
			return nil
		}
	}
	f.after = latest
	due := f.now()                     // when the timer ends; in the past when it is not armed
	arm := func(after time.Duration) { // never put off: a busy fleet changes all the time
		if at := f.now().Add(after); !due.After(f.now()) || at.Before(due) {
			settle.Reset(after)
			due = at
		}
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-f.wake:
			switch urgent, more := f.gather(ctx, dirty); {
			case urgent:
				arm(f.settle)
			case more:
				arm(lazy * f.settle)
			}
		case <-sweep.C:
			all = true
			f.gather(ctx, dirty)
			arm(f.settle)
		case <-settle.C:
			due = time.Time{}
			if err := f.flush(ctx, dirty, all); err != nil && ctx.Err() == nil {
				f.log.WarnContext(ctx, "the platform's services could not be shown all that changed; it is tried again", slog.Any(logkey.Error, err))
				arm(min(lazy*f.settle, f.sweep))
			}
			all = false
		}
	}
}

func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// gather reads the feed to its end, and reports whether there is something to
// do, and whether that is urgent: what pods ask for changes all day and is not.
// Of each dirty cluster it says whether the platform may have begun to ask for
// it. A feed that cannot be read is read at the next wake-up or sweep.
func (f *Follower) gather(ctx context.Context, dirty map[uuid.UUID]bool) (urgent, more bool) {
	filter := event.Filter{Types: relevant(), Limit: page.MaxLimit}
	for {
		filter.After = f.after
		events, err := f.feed.List(ctx, filter)
		if err != nil {
			if ctx.Err() == nil {
				f.log.WarnContext(ctx, "the feed cannot be read; it is tried again", slog.Any(logkey.Error, err))
			}
			return urgent, more
		}
		for _, e := range events {
			f.after = e.ID
			if e.ClusterID != uuid.Nil {
				began := e.Type == event.WorkflowStarted || e.Type == event.WorkflowFinished
				dirty[e.ClusterID], more, urgent = dirty[e.ClusterID] || began, true, urgent || !e.Transient
			}
		}
		if len(events) < filter.Limit {
			return urgent, more
		}
	}
}

// flush shows what changed: of those that are dirty, or of all. What could not be
// shown stays dirty, and does not keep the others from being shown.
func (f *Follower) flush(ctx context.Context, dirty map[uuid.UUID]bool, all bool) error {
	var errs []error
	if all {
		errs = append(errs, f.everything(ctx, dirty))
	}
	var ours []uuid.UUID
	for id, began := range dirty {
		is, err := f.refresh(ctx, id, began)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("show cluster %s: %w", id, err))
		case is:
			ours = append(ours, id)
		default:
			delete(dirty, id)
		}
	}
	if len(ours) > 0 {
		if err := f.share(ctx, ours); err != nil {
			return errors.Join(append(errs, err)...)
		}
	}
	for _, id := range ours {
		delete(dirty, id)
	}
	return errors.Join(errs...)
}

// everything makes all clusters dirty for which the platform asked, those too
// whose registration began unseen.
func (f *Follower) everything(ctx context.Context, dirty map[uuid.UUID]bool) error {
	known, err := f.cfg.Store.MirrorList(ctx)
	if err != nil {
		return fmt.Errorf("list the platform's clusters: %w", err)
	}
	for _, t := range known {
		dirty[t.ClusterID] = true
	}
	for p, more := (page.Page{Limit: page.MaxLimit}), true; more; more = p.Cursor != "" {
		runs, next, err := f.cfg.Workflows.List(ctx, workflow.Filter{Kind: workflow.RegisterCluster}, p)
		if err != nil {
			return fmt.Errorf("list registrations: %w", err)
		}
		for _, run := range runs {
			if asked(run.Reply) != "" {
				dirty[run.ClusterID] = true
			}
		}
		p.Cursor = next
	}
	return nil
}
