package event

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/budecosystem/budcluster/hub/internal/invalid"
	"github.com/budecosystem/budcluster/hub/internal/page"
)

// DefaultPoll is how often a follower looks even if nothing woke it: a lost
// wake-up costs this much latency, and nothing else.
const DefaultPoll = 5 * time.Second

// Store keeps events.
type Store interface {
	// EventList returns at most f.Limit events with an ID above f.After, oldest
	// first.
	EventList(ctx context.Context, f Filter) ([]Event, error)
	// EventLatest returns the highest ID handed out, 0 when there is none.
	EventLatest(ctx context.Context) (int64, error)
	// EventPurge deletes at most limit events: those written before old, and
	// transient ones written before oldTransient.
	EventPurge(ctx context.Context, old, oldTransient time.Time, limit int) (int, error)
}

// Filter selects events. Its zero value selects all.
type Filter struct {
	ClusterID *uuid.UUID
	Types     []string
	After     int64
	Limit     int
}

// Config makes a Service.
type Config struct {
	Store  Store
	Logger *slog.Logger
	// Poll is DefaultPoll when zero.
	Poll time.Duration
}

// Service reads the record.
type Service struct {
	store Store
	poll  time.Duration
}

// New checks cfg and makes the Service.
func New(cfg Config) (*Service, error) {
	if cfg.Store == nil {
		return nil, errors.New("event: no store given")
	}
	return &Service{store: cfg.Store, poll: cmp.Or(cfg.Poll, DefaultPoll)}, nil
}

// List returns events after f.After, oldest first, at most one page of them.
func (s *Service) List(ctx context.Context, f Filter) ([]Event, error) {
	if err := f.check(); err != nil {
		return nil, err
	}
	f.Limit = page.Page{Limit: f.Limit}.Size()
	events, err := s.store.EventList(ctx, f)
	if err != nil {
		return nil, fmt.Errorf("list events after %d: %w", f.After, err)
	}
	return events, nil
}

// Latest returns the ID of the newest event: following after it shows only
// what is yet to happen.
func (s *Service) Latest(ctx context.Context) (int64, error) {
	latest, err := s.store.EventLatest(ctx)
	if err != nil {
		return 0, fmt.Errorf("find latest event: %w", err)
	}
	return latest, nil
}

// Follow calls fn with every event after the given ID, in order and without a
// gap, until ctx ends or fn fails. It looks again whenever wake is readable.
func (s *Service) Follow(ctx context.Context, f Filter, after int64, wake <-chan struct{}, fn func(Event) error) error {
	f.After, f.Limit = after, page.MaxLimit
	poll := time.NewTicker(s.poll)
	defer poll.Stop()
	for {
		events, err := s.List(ctx, f)
		if err != nil {
			return err
		}
		for _, e := range events {
			if err := fn(e); err != nil {
				return err
			}
			f.After = e.ID
		}
		if len(events) == f.Limit {
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-wake:
		case <-poll.C:
		}
	}
}

func (f Filter) check() error {
	known := Types()
	for _, t := range f.Types {
		if !slices.Contains(known, Type(t)) {
			return invalid.New("type", "%q is not an event type; use one of %v", invalid.Clip(t), known)
		}
	}
	if f.After < 0 {
		return invalid.New("after", "%d is negative; use the id of the last event seen, or 0", f.After)
	}
	return nil
}
