package taskhub

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/dapr/durabletask-go/backend"

	"github.com/budecosystem/budcluster/internal/logkey"
)

// The pauses before what failed inside of the engine is tried again.
const (
	delayBase  = time.Second
	delayLimit = 5 * time.Minute
)

// delayAfter doubles with each failure before this one.
func delayAfter(attempts int) time.Duration {
	const doublings = 9 // 512 s are over the limit
	return min(delayBase<<min(max(attempts, 0), doublings), delayLimit)
}

// putBack is work that goes back to the tables.
type putBack struct {
	lease  *lease
	delay  time.Duration // before it may be claimed again
	failed bool          // it counts as an attempt
	status string        // of the instance from now on, unless empty
	rest   *time.Time    // instead of delay: nothing was due, and this is when something is
	idle   bool          // nothing was due
}

const abandonTurnsSQL = `
UPDATE wf.instances i SET token = NULL, holder = NULL, due_at = NULL, attempts = i.attempts + u.failed::int,
    status = coalesce(nullif(u.status, ''), i.status),
    claim_at = CASE WHEN u.idle THEN least(i.due_at, u.rest) ELSE now() + u.delay END
FROM (
    SELECT * FROM unnest($1::text[], $2::bigint[], $3::interval[], $4::bool[], $5::text[], $6::bool[], $7::timestamptz[])
        AS u(id, token, delay, failed, status, idle, rest) ORDER BY id
) u
WHERE i.id = u.id AND i.token = u.token
RETURNING CASE WHEN i.claim_at <= now() THEN pg_notify('` + Channel + `', '` + payloadTurn + `')::text END`

// abandonTurns gives instances back. Those that are another's by now are left
// alone.
func (h *Hub) abandonTurns(ctx context.Context, back []putBack) error {
	ctx, cancel := h.bounded(context.WithoutCancel(ctx)) // also when the hub stops
	defer cancel()
	c := columnsOf(back)
	if _, err := h.pool.Exec(ctx, abandonTurnsSQL, c.instances, c.tokens, c.delays, c.failed, c.statuses, c.idle, c.rests); err != nil {
		return fmt.Errorf("give back %d turns: %w", len(back), err)
	}
	return nil
}

const abandonActivitiesSQL = `
UPDATE wf.activities a SET token = NULL, holder = NULL, claim_at = now() + u.delay, attempts = a.attempts + u.failed::int
FROM (
    SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::interval[], $5::bool[])
        AS u(instance, id, token, delay, failed) ORDER BY instance, id
) u
WHERE a.instance_id = u.instance AND a.id = u.id AND a.token = u.token
RETURNING CASE WHEN a.claim_at <= now() THEN pg_notify('` + Channel + `', '` + payloadActivity + `')::text END`

func (h *Hub) abandonActivities(ctx context.Context, back []putBack) error {
	ctx, cancel := h.bounded(context.WithoutCancel(ctx)) // also when the hub stops
	defer cancel()
	c := columnsOf(back)
	if _, err := h.pool.Exec(ctx, abandonActivitiesSQL, c.instances, c.activities, c.tokens, c.delays, c.failed); err != nil {
		return fmt.Errorf("give back %d activities: %w", len(back), err)
	}
	return nil
}

// columns is putBacks as statements want them.
type columns struct {
	instances, statuses []string
	activities, tokens  []int64
	delays              []time.Duration
	failed, idle        []bool
	rests               []*time.Time
}

func columnsOf(back []putBack) (c columns) {
	for _, b := range back {
		c.instances, c.statuses = append(c.instances, b.lease.instance), append(c.statuses, b.status)
		c.activities, c.tokens = append(c.activities, b.lease.activity), append(c.tokens, b.lease.token)
		c.delays, c.failed = append(c.delays, b.delay), append(c.failed, b.failed)
		c.idle, c.rests = append(c.idle, b.idle), append(c.rests, b.rest)
	}
	return c
}

// putBackTurns gives back what no worker has taken.
func (h *Hub) putBackTurns(ctx context.Context, items []*backend.WorkflowWorkItem) {
	var back []putBack
	for _, wi := range items {
		if t, err := turnOf(wi); err == nil {
			h.drop(t.lease)
			back = append(back, putBack{lease: t.lease})
		}
	}
	h.warn(ctx, h.abandonTurns(ctx, back))
}

// putBackActivities gives back what no worker has taken.
func (h *Hub) putBackActivities(ctx context.Context, items []*backend.ActivityWorkItem) {
	var back []putBack
	for _, wi := range items {
		if a, err := activityOf(wi); err == nil {
			h.drop(a.lease)
			back = append(back, putBack{lease: a.lease})
		}
	}
	h.warn(ctx, h.abandonActivities(ctx, back))
}

// warn logs what costs time but no correctness: what is not given back is free
// when its lease ends.
func (h *Hub) warn(ctx context.Context, err error) {
	if err != nil {
		h.log.WarnContext(ctx, "work waits for the end of its lease", slog.Any(logkey.Error, err))
	}
}
