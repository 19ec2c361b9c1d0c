package store

import (
	"context"
	"time"

	"github.com/budecosystem/budcluster/hub/internal/access"
	"github.com/budecosystem/budcluster/hub/internal/store/sqlcgen"
)

// KeyInsert adds an API key.
func (s *Store) KeyInsert(ctx context.Context, k access.Key, hash [32]byte) error {
	n, err := s.q.KeyInsert(ctx, s.db(ctx), sqlcgen.KeyInsertParams{
		ID: k.ID, Name: k.Name, Role: string(k.Role), SecretHash: hash[:], CreatedAt: k.CreatedAt, CreatedBy: k.CreatedBy,
	})
	if err == nil && n == 0 {
		return &access.ExistsError{Name: k.Name}
	}
	return err
}

// KeyByID looks a key up, revoked or not.
func (s *Store) KeyByID(ctx context.Context, id string) (access.Key, [32]byte, error) {
	r, err := s.q.KeyByID(ctx, s.db(ctx), id)
	if err != nil {
		return access.Key{}, [32]byte{}, notFound(err, access.ErrNotFound)
	}
	return keyOf(r), hash32(r.SecretHash), nil
}

// KeyList returns all keys in order of creation.
func (s *Store) KeyList(ctx context.Context) ([]access.Key, error) {
	rows, err := s.q.Keys(ctx, s.db(ctx))
	if err != nil {
		return nil, err
	}
	keys := make([]access.Key, 0, len(rows))
	for _, r := range rows {
		keys = append(keys, keyOf(r))
	}
	return keys, nil
}

// KeyRevoke ends a key that is in force.
func (s *Store) KeyRevoke(ctx context.Context, id string, at time.Time) (access.Key, error) {
	r, err := s.q.KeyRevoke(ctx, s.db(ctx), sqlcgen.KeyRevokeParams{ID: id, At: at})
	if err != nil {
		return access.Key{}, notFound(err, access.ErrNotFound)
	}
	return keyOf(r), nil
}

// KeyMarkUsed writes a use down.
func (s *Store) KeyMarkUsed(ctx context.Context, id string, at time.Time) error {
	return s.q.KeyMarkUsed(ctx, s.db(ctx), sqlcgen.KeyMarkUsedParams{ID: id, At: at})
}

func keyOf(r sqlcgen.ApiKeys) access.Key {
	return access.Key{
		ID: r.ID, Name: r.Name, Role: access.Role(r.Role), CreatedAt: r.CreatedAt, CreatedBy: r.CreatedBy,
		LastUsedAt: r.LastUsedAt, RevokedAt: r.RevokedAt,
	}
}
