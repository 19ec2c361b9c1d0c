package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/budecosystem/budcluster/hub/internal/component"
	"github.com/budecosystem/budcluster/hub/internal/store/sqlcgen"
)

// WishList returns a cluster's wishes by component.
func (s *Store) WishList(ctx context.Context, clusterID uuid.UUID) (map[string]component.Wish, error) {
	rows, err := s.q.WishList(ctx, s.db(ctx), clusterID)
	if err != nil {
		return nil, err
	}
	wishes := make(map[string]component.Wish, len(rows))
	for _, row := range rows {
		w := component.Wish{Wanted: component.Wanted(row.Wanted), Version: row.Version, Digest: row.Digest}
		if len(row.Values) > 0 {
			if err := json.Unmarshal(row.Values, &w.Values); err != nil {
				return nil, fmt.Errorf("decode values of component %s: %w", row.Name, err)
			}
		}
		wishes[row.Name] = w
	}
	return wishes, nil
}

// WishPut keeps a wish.
func (s *Store) WishPut(ctx context.Context, clusterID uuid.UUID, name string, w component.Wish, actor string, at time.Time) error {
	var values json.RawMessage
	if w.Values != nil {
		raw, err := json.Marshal(w.Values)
		if err != nil {
			return fmt.Errorf("encode values of component %s: %w", name, err)
		}
		values = raw
	}
	if w.Wanted == "" {
		w.Wanted = component.WantAuto
	}
	return s.q.WishPut(ctx, s.db(ctx), sqlcgen.WishPutParams{
		ClusterID: clusterID, Name: name, Wanted: string(w.Wanted), Version: w.Version, Digest: w.Digest, Values: values, UpdatedBy: actor, UpdatedAt: at,
	})
}

// WishDelete forgets a wish.
func (s *Store) WishDelete(ctx context.Context, clusterID uuid.UUID, name string) error {
	return s.q.WishDelete(ctx, s.db(ctx), sqlcgen.WishDeleteParams{ClusterID: clusterID, Name: name})
}

// ChartPin is the digest of a chart's first download; empty before that.
func (s *Store) ChartPin(ctx context.Context, c component.Chart) (string, error) {
	digest, err := s.q.ChartPin(ctx, s.db(ctx), sqlcgen.ChartPinParams{Source: source(c), Name: c.Name, Version: c.Version})
	if errors.Is(err, pgx.ErrNoRows) {
		return "", nil
	}
	return digest, err
}

// ChartPinPut keeps the digest of a chart's first download and returns it.
func (s *Store) ChartPinPut(ctx context.Context, c component.Chart, digest string, at time.Time) (string, error) {
	return s.q.ChartPinPut(ctx, s.db(ctx), sqlcgen.ChartPinPutParams{Source: source(c), Name: c.Name, Version: c.Version, Digest: digest, PinnedAt: at})
}

func source(c component.Chart) string { return c.Repository + c.OCI } // it has one of them
