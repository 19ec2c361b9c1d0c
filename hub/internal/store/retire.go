package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/budecosystem/budcluster/hub/internal/cluster"
	"github.com/budecosystem/budcluster/hub/internal/store/sqlcgen"
	"github.com/budecosystem/budcluster/internal/facts"
)

// PresenceRead returns what was last found in a cluster.
func (s *Store) PresenceRead(ctx context.Context, id uuid.UUID) (cluster.Presence, error) {
	r, err := s.q.ClusterPresence(ctx, s.db(ctx), id)
	if err != nil {
		return cluster.Presence{}, notFound(err, cluster.ErrNotFound)
	}
	answers, err := decode[[]facts.Presence](r.Presence, "presence")
	return cluster.Presence{At: r.PresenceAt, Answers: answers}, err
}

// PresenceWrite replaces it.
func (s *Store) PresenceWrite(ctx context.Context, id uuid.UUID, answers []facts.Presence, at time.Time) error {
	raw, err := encode(answers, "presence")
	if err != nil {
		return err
	}
	return s.q.ClusterSetPresence(ctx, s.db(ctx), sqlcgen.ClusterSetPresenceParams{ID: id, Presence: raw, At: at})
}

// RetireLock is ClusterLock behind the inventory's lock: whoever stores nodes
// holds that one first, and then the row by its foreign key.
func (s *Store) RetireLock(ctx context.Context, id uuid.UUID) (*cluster.Cluster, error) {
	if err := s.q.InventoryLock(ctx, s.db(ctx), sqlcgen.InventoryLockParams{Class: lockInventory, ClusterID: id.String()}); err != nil {
		return nil, fmt.Errorf("lock inventory: %w", err)
	}
	return s.ClusterLock(ctx, id)
}

// RetireWrite stores what is about a cluster's retirement.
func (s *Store) RetireWrite(ctx context.Context, c *cluster.Cluster) error {
	left := c.Left
	if left == nil {
		left = []string{}
	}
	raw, err := encode(left, "what was left behind")
	if err != nil {
		return err
	}
	return s.q.ClusterSetRetirement(ctx, s.db(ctx), sqlcgen.ClusterSetRetirementParams{
		ID: c.ID, RetireGeneration: c.RetireGeneration, RetiringAt: c.RetiringAt, RetiredAt: c.RetiredAt, GoneAt: c.GoneAt, LeftBehind: raw,
	})
}

// RetireDrop deletes what is known of a cluster's nodes and releases, and
// revokes its tokens.
func (s *Store) RetireDrop(ctx context.Context, id uuid.UUID, at time.Time) error {
	db := s.db(ctx)
	return errors.Join(
		s.q.ClusterDropNodes(ctx, db, id),
		s.q.ClusterDropReleases(ctx, db, id),
		s.q.ClusterRevokeTokens(ctx, db, sqlcgen.ClusterRevokeTokensParams{ClusterID: id, At: at}),
	)
}

// RetirementOf says what a cluster's agent is to be told.
func (s *Store) RetirementOf(ctx context.Context, id uuid.UUID) (cluster.Retirement, error) {
	r, err := s.q.ClusterRetirement(ctx, s.db(ctx), id)
	if errors.Is(err, pgx.ErrNoRows) {
		return cluster.Retirement{}, nil
	}
	return cluster.Retirement{Generation: r.RetireGeneration, Recorded: r.GoneAt != nil}, err
}
