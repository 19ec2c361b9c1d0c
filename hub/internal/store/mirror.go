package store

import (
	"context"

	"github.com/google/uuid"

	"github.com/budecosystem/budcluster/hub/internal/mirror"
	"github.com/budecosystem/budcluster/hub/internal/store/sqlcgen"
)

var _ mirror.Store = (*Store)(nil)

// MirrorInsert remembers that the platform asked for a cluster; again it
// changes nothing.
func (s *Store) MirrorInsert(ctx context.Context, clusterID uuid.UUID, name string) error {
	return s.q.MirrorInsert(ctx, s.db(ctx), sqlcgen.MirrorInsertParams{ClusterID: clusterID, Name: name})
}

// MirrorGet returns what the platform knows of a cluster, nil if it did not ask
// for it.
func (s *Store) MirrorGet(ctx context.Context, clusterID uuid.UUID) (*mirror.Told, error) {
	rows, err := s.q.MirrorByID(ctx, s.db(ctx), clusterID)
	return firstTold(rows, err)
}

// MirrorLock is MirrorGet that keeps others away until the transaction ends.
func (s *Store) MirrorLock(ctx context.Context, clusterID uuid.UUID) (*mirror.Told, error) {
	rows, err := s.q.MirrorLock(ctx, s.db(ctx), clusterID)
	return firstTold(rows, err)
}

func firstTold(rows []sqlcgen.PlatformClusters, err error) (*mirror.Told, error) {
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	return toldOf(rows[0]), nil
}

func toldOf(r sqlcgen.PlatformClusters) *mirror.Told {
	return &mirror.Told{ClusterID: r.ClusterID, Name: r.Name, RegisteredAt: r.RegisteredAt, Digest: r.ToldDigest, Count: r.Told}
}

// MirrorList returns all that the platform asked for.
func (s *Store) MirrorList(ctx context.Context) ([]*mirror.Told, error) {
	rows, err := s.q.MirrorList(ctx, s.db(ctx))
	all := make([]*mirror.Told, 0, len(rows))
	for _, r := range rows {
		all = append(all, toldOf(r))
	}
	return all, err
}

// MirrorUpdate writes what was told.
func (s *Store) MirrorUpdate(ctx context.Context, t *mirror.Told) error {
	return s.q.MirrorUpdate(ctx, s.db(ctx), sqlcgen.MirrorUpdateParams{
		ClusterID: t.ClusterID, RegisteredAt: t.RegisteredAt, ToldDigest: t.Digest, Told: t.Count,
	})
}

// MirrorDelete forgets a cluster that is gone.
func (s *Store) MirrorDelete(ctx context.Context, clusterID uuid.UUID) error {
	return s.q.MirrorDelete(ctx, s.db(ctx), clusterID)
}
