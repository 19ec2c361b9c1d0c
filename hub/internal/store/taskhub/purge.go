package taskhub

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dapr/durabletask-go/api"
	"github.com/dapr/durabletask-go/api/protos"
)

// purgeSQL deletes instances that others do not hold locked, with all that
// belongs to them.
const purgeSQL = `
WITH gone AS (
    DELETE FROM wf.instances i USING (%s) g WHERE i.id = g.id RETURNING i.id
), history AS (
    DELETE FROM wf.history h USING gone g WHERE h.instance_id = g.id
), events AS (
    DELETE FROM wf.events e USING gone g WHERE e.instance_id = g.id
), activities AS (
    DELETE FROM wf.activities a USING gone g WHERE a.instance_id = g.id
)
SELECT count(*) FROM gone`

// The instances that purgeSQL deletes.
const (
	purgeOne = "SELECT $1::text AS id"
	purgeOld = "SELECT id FROM wf.instances WHERE ended_at < $1 ORDER BY ended_at LIMIT $2 FOR UPDATE SKIP LOCKED"
)

// PurgeWorkflowState deletes one instance. It fails with
// api.ErrInstanceNotFound when there is none, and with api.ErrNotCompleted
// when it has not ended, unless force is set.
func (h *Hub) PurgeWorkflowState(ctx context.Context, id api.InstanceID, router *protos.TaskRouter, force bool) (int, error) {
	if router.GetTargetAppID() != "" {
		return 0, fmt.Errorf("purge %s: it belongs to app %q, and this task hub knows no other apps", id, router.GetTargetAppID())
	}
	var ended bool
	err := h.pool.QueryRow(ctx, "SELECT ended_at IS NOT NULL FROM wf.instances WHERE id = $1", string(id)).Scan(&ended)
	if err != nil {
		return 0, fmt.Errorf("purge %s: %w", id, notFound(err))
	}
	if !ended && !force {
		return 0, fmt.Errorf("purge %s: %w", id, api.ErrNotCompleted)
	}
	var n int
	if err := h.pool.QueryRow(ctx, fmt.Sprintf(purgeSQL, purgeOne), string(id)).Scan(&n); err != nil {
		return 0, fmt.Errorf("purge %s: %w", id, err)
	}
	h.cache.forget(string(id))
	return n, nil
}

// Purge deletes an instance that has ended, and its children, and theirs. A
// child that has not ended stays. It fails as PurgeWorkflowState does.
func (h *Hub) Purge(ctx context.Context, id string) error {
	if _, err := h.PurgeWorkflowState(ctx, api.InstanceID(id), nil, false); err != nil {
		return err
	}
	rows, err := h.pool.Query(ctx, "SELECT id FROM wf.instances WHERE parent_id = $1", id)
	if err != nil {
		return fmt.Errorf("look for children of %s: %w", id, err)
	}
	children, err := collectStrings(rows)
	if err != nil {
		return fmt.Errorf("look for children of %s: %w", id, err)
	}
	for _, child := range children {
		if err := h.Purge(ctx, child); err != nil && !errors.Is(err, api.ErrInstanceNotFound) && !errors.Is(err, api.ErrNotCompleted) {
			return err
		}
	}
	return nil
}

// How often, and how much at a time: a statement never holds locks for long.
const (
	defaultSweep = 10 * time.Minute
	sweepBatch   = 500
)

// sweep purges what is too old, until ctx ends. What fails is tried again at
// the next turn: old instances do no harm.
func (h *Hub) sweep(ctx context.Context) {
	turn := time.NewTicker(h.cfg.Sweep)
	defer turn.Stop()
	for {
		for n := sweepBatch; n == sweepBatch; {
			purged, err := h.PurgeOld(ctx, time.Now().Add(-h.cfg.Retention), sweepBatch)
			if err != nil && ctx.Err() == nil {
				h.log.WarnContext(ctx, "old workflows were not purged", logError(err))
			}
			n = purged
		}
		select {
		case <-ctx.Done():
			return
		case <-turn.C:
		}
	}
}

// PurgeOld deletes instances that ended before t, at most limit of them, and
// says how many. Replicas may do it together.
func (h *Hub) PurgeOld(ctx context.Context, t time.Time, limit int) (int, error) {
	var n int
	if err := h.pool.QueryRow(ctx, fmt.Sprintf(purgeSQL, purgeOld), t, limit).Scan(&n); err != nil {
		return 0, fmt.Errorf("purge what ended before %s: %w", t.Format(time.RFC3339), err)
	}
	return n, nil
}
