package workflow

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/budecosystem/budcluster/internal/logkey"
)

// The janitor's figures.
const (
	DefaultRetention = 90 * 24 * time.Hour
	// purgeEvery is how often a janitor looks, purgeBatch bounds one DELETE, so
	// that it never holds locks for long.
	purgeEvery = 10 * time.Minute
	purgeBatch = 500
)

// JanitorConfig makes a Janitor.
type JanitorConfig struct {
	Store  Records
	Logger *slog.Logger
	// Retention is for how long a workflow is kept that is over;
	// DefaultRetention when zero.
	Retention time.Duration
	Now       func() time.Time
}

// Janitor deletes workflows that were over long ago, with their steps and
// effects. What is on stays, however old.
type Janitor struct {
	store     Records
	log       *slog.Logger
	retention time.Duration
	now       func() time.Time
}

// NewJanitor checks cfg and makes the Janitor.
func NewJanitor(cfg JanitorConfig) (*Janitor, error) {
	if cfg.Store == nil || cfg.Logger == nil {
		return nil, errors.New("workflow janitor: a store and a logger are needed")
	}
	if cfg.Retention < 0 {
		return nil, fmt.Errorf("workflows.retention: %s is negative; use 2160h or another positive duration", cfg.Retention)
	}
	j := &Janitor{store: cfg.Store, log: cfg.Logger, retention: cmp.Or(cfg.Retention, DefaultRetention), now: cfg.Now}
	if j.now == nil {
		j.now = time.Now
	}
	return j, nil
}

// Run sweeps now and then, until ctx ends. A sweep that fails is tried again at
// the next turn: old workflows do no harm.
func (j *Janitor) Run(ctx context.Context) error {
	turn := time.NewTicker(purgeEvery)
	defer turn.Stop()
	for {
		if _, err := j.Sweep(ctx); err != nil && ctx.Err() == nil {
			j.log.WarnContext(ctx, "sweep of old workflows did not finish", slog.Any(logkey.Error, err))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-turn.C:
		}
	}
}

// Sweep deletes everything that is too old now and returns how much it was.
func (j *Janitor) Sweep(ctx context.Context) (total int, err error) {
	before := j.now().Add(-j.retention)
	for {
		gone, err := j.store.WorkflowPurge(ctx, before, purgeBatch)
		if err != nil {
			return total, fmt.Errorf("purge workflows that were over before %s: %w", before.UTC().Format(time.RFC3339), err)
		}
		if total += len(gone); len(gone) < purgeBatch {
			return total, nil
		}
	}
}
