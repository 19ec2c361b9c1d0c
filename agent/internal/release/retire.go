package release

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/budecosystem/budcluster/agent/api/v1alpha1"
	"github.com/budecosystem/budcluster/internal/logkey"
	agentv1 "github.com/budecosystem/budcluster/proto/agent/v1"
)

// How long a retirement looks on.
const (
	// retirePoll is the net below the statuses.
	retirePoll = 5 * time.Second
	// DefaultRetirePatience is how long it waits since the last release went.
	DefaultRetirePatience = 30 * time.Minute
)

// Retire puts a tombstone on every release and returns once none is left, or
// with a sentence for each that would not go. From then on nothing new is taken
// in. What we do not own is left alone, as ever.
func (m *Manager) Retire(ctx context.Context) (left []string, err error) {
	m.retiring.Store(true)
	subscription, cancel := context.WithCancel(ctx)
	defer cancel()
	statuses := m.board.subscribe(subscription)
	poll := time.NewTicker(retirePoll)
	defer poll.Stop()
	last, since := -1, m.now()
	for {
		remain, err := m.bury(ctx)
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case err != nil:
			m.log.WarnContext(ctx, "releases are not removed yet", slog.Any(logkey.Error, err))
		case len(remain) == 0:
			return nil, nil
		case len(remain) != last:
			last, since = len(remain), m.now()
		case m.now().Sub(since) >= m.patience:
			return sentences(remain), nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case _, ok := <-statuses:
			if !ok {
				statuses = m.board.subscribe(subscription)
			}
		case <-poll.C:
		}
	}
}

// bury gives every release its tombstone, forgets those that are gone, and
// returns the others.
func (m *Manager) bury(ctx context.Context) (remain []*v1alpha1.Release, err error) {
	all, err := m.store.list(ctx)
	if err != nil {
		return nil, err
	}
	for _, cr := range all {
		switch {
		case !cr.Spec.Removed:
			err = errors.Join(err, m.tombstone(ctx, cr))
		case cr.Status.Phase == agentv1.PhaseRemoved && cr.Status.ObservedGeneration == cr.Spec.Generation:
			// The hub has been told, or will be by the board.
			m.forgotten(cr.Name)
			failed := m.store.forget(ctx, cr)
			if failed == nil {
				continue
			}
			err = errors.Join(err, failed)
		}
		remain = append(remain, cr)
	}
	return remain, err
}

// tombstone writes what the hub would: the next generation, removed.
func (m *Manager) tombstone(ctx context.Context, cr *v1alpha1.Release) error {
	spec := cr.Spec
	spec.Removed = true
	spec.Generation++
	spec.Digest = ""
	if _, err := m.store.put(ctx, cr.Name, spec, values{}); err != nil {
		return err
	}
	m.supersede(cr.Name)
	return nil
}

func sentences(remain []*v1alpha1.Release) []string {
	left := make([]string, 0, len(remain))
	for _, cr := range remain {
		text := fmt.Sprintf("release %s in namespace %s is %s", cr.Name, cr.Spec.Namespace, cr.Status.Phase)
		if cr.Status.Message != "" {
			text += ": " + cr.Status.Message
		}
		left = append(left, text)
	}
	return left
}
