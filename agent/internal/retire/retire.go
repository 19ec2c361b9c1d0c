package retire

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/budecosystem/budcluster/agent/internal/newest"
	"github.com/budecosystem/budcluster/internal/logkey"
	agentv1 "github.com/budecosystem/budcluster/proto/agent/v1"
)

// ErrRecorded ends the agent's work: the hub knows that the releases are gone,
// and the agent is to leave.
var ErrRecorded = errors.New("the cluster has left the fleet")

// Releases is what the hub wanted in this cluster; *release.Manager.
type Releases interface {
	// Retire removes every release that we own, and returns once they are gone,
	// or with a sentence for each that would not go.
	Retire(ctx context.Context) (left []string, err error)
}

// Rehearser says in sentences what could not be removed; *Installation.
type Rehearser interface {
	Rehearse(ctx context.Context) []string
}

// Retirer carries out what the hub has decided, as far as it can while it
// still speaks with it.
type Retirer struct {
	releases     Releases
	installation Rehearser
	log          *slog.Logger
	told         newest.Value[*agentv1.Retire]
	said         newest.Value[*agentv1.Retired]
}

// New makes a Retirer. Nothing happens before the hub has decided.
func New(releases Releases, installation Rehearser, log *slog.Logger) *Retirer {
	return &Retirer{releases: releases, installation: installation, log: log}
}

// Retire takes the hub's decision.
func (r *Retirer) Retire(m *agentv1.Retire) { r.told.Set(m) }

// Watch wakes when there is something to tell the hub.
func (r *Retirer) Watch() (wake <-chan struct{}, take func() (*agentv1.Retired, bool), cancel func()) {
	return r.said.Watch()
}

// Run waits for decisions. It returns ErrRecorded when nothing is left to do
// but to leave.
func (r *Retirer) Run(ctx context.Context) error {
	wake, take, cancel := r.told.Watch()
	defer cancel()
	var done int64 // the generation that was carried out
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-wake:
		}
		m, fresh := take()
		if !fresh {
			continue
		}
		if m.GetGeneration() != done {
			if err := r.empty(ctx, m.GetGeneration()); err != nil {
				return err
			}
			done = m.GetGeneration()
		}
		if m.GetRecorded() {
			return ErrRecorded
		}
	}
}

// empty removes the releases and tells the hub.
func (r *Retirer) empty(ctx context.Context, generation int64) error {
	r.log.InfoContext(ctx, "the cluster leaves the fleet; removing what the hub wanted here", slog.Int64(logkey.Generation, generation))
	left, err := r.releases.Retire(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return nil //nolint:nilerr // that is why it ended
		}
		return fmt.Errorf("remove releases: %w", err)
	}
	left = slices.Concat(left, r.installation.Rehearse(ctx))
	if ctx.Err() != nil {
		return nil //nolint:nilerr // the only error is that ctx ended
	}
	for _, text := range left {
		r.log.WarnContext(ctx, "something stays behind", slog.String(logkey.Message, text))
	}
	r.said.Set(&agentv1.Retired{Generation: generation, Left: left})
	return nil
}
