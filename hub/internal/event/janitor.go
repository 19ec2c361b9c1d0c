package event

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/budecosystem/budcluster/internal/logkey"
)

// The janitor's defaults.
const (
	DefaultRetention = 30 * 24 * time.Hour
	TransientFor     = time.Hour
	DefaultSweep     = 10 * time.Minute
	// purgeBatch bounds one DELETE, so that it never holds locks for long.
	purgeBatch = 5000
)

// JanitorConfig makes a Janitor.
type JanitorConfig struct {
	Store  Store
	Logger *slog.Logger
	// Retention is DefaultRetention when zero.
	Retention time.Duration
	// Sweep is DefaultSweep when zero.
	Sweep time.Duration
	Now   func() time.Time
}

// Janitor deletes events whose time is over.
type Janitor struct {
	store            Store
	log              *slog.Logger
	retention, sweep time.Duration
	now              func() time.Time
}

// NewJanitor checks cfg and makes the Janitor.
func NewJanitor(cfg JanitorConfig) (*Janitor, error) {
	if cfg.Store == nil || cfg.Logger == nil {
		return nil, errors.New("event janitor: a store and a logger are needed")
	}
	if cfg.Retention < 0 {
		return nil, fmt.Errorf("events.retention: %s is negative; use 720h or another positive duration", cfg.Retention)
	}
	j := &Janitor{
		store: cfg.Store, log: cfg.Logger, now: cfg.Now,
		retention: cmp.Or(cfg.Retention, DefaultRetention), sweep: cmp.Or(cfg.Sweep, DefaultSweep),
	}
	if j.now == nil {
		j.now = time.Now
	}
	return j, nil
}

// Run sweeps now and then, until ctx ends. A sweep that fails is tried again
// at the next turn: old events do no harm.
func (j *Janitor) Run(ctx context.Context) error {
	turn := time.NewTicker(j.sweep)
	defer turn.Stop()
	for {
		if _, err := j.Sweep(ctx); err != nil && ctx.Err() == nil {
			j.log.WarnContext(ctx, "sweep of old events did not finish", slog.Any(logkey.Error, err))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-turn.C:
		}
	}
}

// Sweep deletes everything that is too old now and returns how much it was.
func (j *Janitor) Sweep(ctx context.Context) (int, error) {
	now, total := j.now(), 0
	oldTransient := now.Add(-min(TransientFor, j.retention))
	for {
		n, err := j.store.EventPurge(ctx, now.Add(-j.retention), oldTransient, purgeBatch)
		if err != nil {
			return total, fmt.Errorf("purge events before %s: %w", now.Add(-j.retention).UTC().Format(time.RFC3339), err)
		}
		if total += n; n < purgeBatch {
			return total, nil
		}
	}
}
