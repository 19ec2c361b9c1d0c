package taskhub

import (
	"context"
	"fmt"
	"time"

	"github.com/dapr/durabletask-go/api/protos"
	"github.com/dapr/durabletask-go/backend"
	"github.com/jackc/pgx/v5"
)

// maxEvents bounds what one turn of one instance takes.
const maxEvents = 1000

// claimTurnsSQL takes instances whose time has come: what is due, and what a
// lease has run out on. That is one column of the locked row itself, so what
// is judged is what is locked.
const claimTurnsSQL = `
WITH c AS MATERIALIZED (
    SELECT id FROM wf.instances WHERE claim_at <= now() ORDER BY claim_at LIMIT $1 FOR UPDATE SKIP LOCKED
)
UPDATE wf.instances i SET token = $2, holder = $3, claim_at = now() + $4, due_at = NULL
FROM c WHERE i.id = c.id
RETURNING i.id, i.execution_id, i.turns, i.attempts, CASE WHEN i.turns = 0 THEN i.start END`

const nextTurnSQL = `SELECT extract(epoch FROM min(claim_at) - clock_timestamp())::float8 FROM wf.instances WHERE claim_at IS NOT NULL`

// claimTurns claims in two round trips. The events are read in the second: a
// statement sees the tables as they were when it began, and between that and
// the lock of a row somebody may have written an event. After the lock, who
// writes one sets due_at.
func (h *Hub) claimTurns(ctx context.Context, most int) (found[*backend.WorkflowWorkItem], error) {
	ctx, cancel := h.bounded(context.WithoutCancel(ctx)) // what is claimed and not heard of would wait for a lease's end
	defer cancel()
	sent := time.Now()
	token := newToken()
	var claimed []*claimedTurn
	var next *float64
	var batch pgx.Batch
	batch.Queue(claimTurnsSQL, most, token, h.holder, h.cfg.Lease).Query(func(rows pgx.Rows) (err error) {
		claimed, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (*claimedTurn, error) {
			var c claimedTurn
			return &c, row.Scan(&c.id, &c.execution, &c.turns, &c.attempts, &c.start)
		})
		return err
	})
	batch.Queue(nextTurnSQL).QueryRow(func(row pgx.Row) error { return row.Scan(&next) })
	if err := h.pool.SendBatch(ctx, &batch).Close(); err != nil {
		return found[*backend.WorkflowWorkItem]{}, fmt.Errorf("claim turns: %w", err)
	}
	got := found[*backend.WorkflowWorkItem]{more: len(claimed) == most, next: pauseOf(next)}
	if len(claimed) == 0 {
		return got, nil
	}
	for _, c := range claimed {
		c.lease = h.take(c.id, 0, token, sent)
	}
	if err := h.load(ctx, claimed); err != nil {
		var back []putBack
		for _, c := range claimed {
			h.drop(c.lease)
			back = append(back, putBack{lease: c.lease})
		}
		h.warn(ctx, h.abandonTurns(ctx, back))
		return found[*backend.WorkflowWorkItem]{}, err
	}
	got.items = h.items(ctx, claimed)
	return got, nil
}

// pauseOf turns what the database says of the next item into a pause: negative
// if there is none, zero if it is due.
func pauseOf(seconds *float64) time.Duration {
	if seconds == nil {
		return -1
	}
	return max(time.Duration(*seconds*float64(time.Second)), 0)
}

// claimedTurn is an instance on its way to a worker.
type claimedTurn struct {
	id, execution   string
	turns, attempts int
	start           []byte
	lease           *lease
	events          []*backend.HistoryEvent
	consumed        []int64
	rest            *time.Time
	state           *protos.WorkflowRuntimeState
	bytes           int
	broken          error // an event or the history cannot be read
}

// loadEventsSQL says of each event whether it is for the execution that is on.
// An answer to a former one is there when it was committed while the turn that
// continued as new waited for the instance's row: what that turn sweeps, it
// saw before it waited.
const loadEventsSQL = `
SELECT e.instance_id, e.seq, e.event, e.execution_id IS NULL OR e.execution_id = i.execution
FROM unnest($1::text[], $2::text[]) i(id, execution)
CROSS JOIN LATERAL (
    SELECT * FROM wf.events WHERE instance_id = i.id AND visible_at <= now() ORDER BY seq LIMIT $3
) e ORDER BY e.instance_id, e.seq`

const loadRestSQL = `
SELECT i.id, e.at FROM unnest($1::text[]) i(id)
CROSS JOIN LATERAL (SELECT min(visible_at) AS at FROM wf.events WHERE instance_id = i.id AND visible_at > now()) e
WHERE e.at IS NOT NULL`

const loadHistorySQL = `
SELECT h.instance_id, h.events FROM unnest($1::text[]) i(id) JOIN wf.history h ON h.instance_id = i.id
ORDER BY h.instance_id, h.turn`

// load reads the events of claimed instances, and the histories of those that
// this process does not remember.
func (h *Hub) load(ctx context.Context, claimed []*claimedTurn) error {
	ids, executions := make([]string, len(claimed)), make([]string, len(claimed))
	unknown, byID := []string{}, make(map[string]*claimedTurn, len(claimed))
	for i, c := range claimed {
		ids[i], executions[i], byID[c.id] = c.id, c.execution, c
		if c.turns == 0 {
			continue
		}
		if c.state, c.bytes = h.cache.take(c.id, c.execution, c.turns); c.state == nil {
			unknown = append(unknown, c.id)
		}
	}
	var batch pgx.Batch
	var id string
	var raw []byte
	batch.Queue(loadEventsSQL, ids, executions, maxEvents).Query(func(rows pgx.Rows) error {
		var seq int64
		var ours bool
		_, err := pgx.ForEachRow(rows, []any{&id, &seq, &raw, &ours}, func() error {
			byID[id].add(seq, raw, ours)
			return nil
		})
		return err
	})
	batch.Queue(loadRestSQL, ids).Query(func(rows pgx.Rows) error {
		var scanned time.Time
		_, err := pgx.ForEachRow(rows, []any{&id, &scanned}, func() error {
			if at, c := scanned, byID[id]; c.rest == nil || at.Before(*c.rest) {
				c.rest = &at
			}
			return nil
		})
		return err
	})
	histories := map[string][]*backend.HistoryEvent{}
	if len(unknown) > 0 {
		batch.Queue(loadHistorySQL, unknown).Query(func(rows pgx.Rows) error {
			_, err := pgx.ForEachRow(rows, []any{&id, &raw}, func() error {
				c := byID[id]
				events, err := decodeEvents(raw)
				histories[id] = append(histories[id], events...)
				c.bytes += len(raw)
				if err != nil {
					c.broken = err
				}
				return nil
			})
			return err
		})
	}
	if err := h.pool.SendBatch(ctx, &batch).Close(); err != nil {
		return fmt.Errorf("load %d instances: %w", len(claimed), err)
	}
	for _, id := range unknown {
		byID[id].state = newState(id, histories[id])
	}
	return nil
}

// add notes an event. One that is not ours goes with the turn, unseen.
func (c *claimedTurn) add(seq int64, raw []byte, ours bool) {
	c.consumed = append(c.consumed, seq)
	if len(c.consumed) == maxEvents { // there may be more
		c.rest = &time.Time{}
	}
	if !ours {
		return
	}
	e, err := decodeEvent(raw)
	if err != nil {
		c.broken = fmt.Errorf("event %d: %w", seq, err)
		return
	}
	c.events = append(c.events, e)
}

// items makes work items of claimed instances. One that nothing is due for,
// because its former holder took the event already, goes back; and so does one
// that cannot be read, later.
func (h *Hub) items(ctx context.Context, claimed []*claimedTurn) (items []*backend.WorkflowWorkItem) {
	var back []putBack
	for _, c := range claimed {
		if c.turns == 0 {
			start, err := decodeEvent(c.start)
			if err != nil {
				c.broken = fmt.Errorf("start: %w", err)
			}
			c.events = append([]*backend.HistoryEvent{start}, c.events...)
			c.state = newState(c.id, nil)
		}
		switch {
		case c.broken != nil:
			h.drop(c.lease)
			delay := delayAfter(c.attempts)
			back = append(back, putBack{lease: c.lease, failed: true, delay: delay})
			h.log.ErrorContext(ctx, "workflow cannot be read", logInstance(c.id), logError(c.broken), logRetryAfter(delay))
		case len(c.events) == 0:
			h.drop(c.lease)
			h.cache.put(c.id, c.execution, c.turns, c.state, c.bytes)
			back = append(back, putBack{lease: c.lease, idle: true, rest: c.rest})
		default:
			t := &turn{lease: c.lease, execution: c.execution, turns: c.turns, consumed: c.consumed, rest: c.rest, bytes: c.bytes}
			items = append(items, t.item(c.events, c.attempts, c.state))
		}
	}
	if len(back) > 0 {
		h.warn(ctx, h.abandonTurns(ctx, back))
	}
	return items
}

const claimActivitiesSQL = `
WITH c AS MATERIALIZED (
    SELECT instance_id, id FROM wf.activities WHERE claim_at <= now() ORDER BY claim_at LIMIT $1 FOR UPDATE SKIP LOCKED
)
UPDATE wf.activities a SET token = $2, holder = $3, claim_at = now() + $4
FROM c WHERE a.instance_id = c.instance_id AND a.id = c.id
RETURNING a.instance_id, a.id, a.execution_id, a.attempts, a.event`

const nextActivitySQL = `SELECT extract(epoch FROM min(claim_at) - clock_timestamp())::float8 FROM wf.activities`

func (h *Hub) claimActivities(ctx context.Context, most int) (found[*backend.ActivityWorkItem], error) {
	ctx, cancel := h.bounded(context.WithoutCancel(ctx)) // as in claimTurns
	defer cancel()
	sent := time.Now()
	token := newToken()
	var got found[*backend.ActivityWorkItem]
	var back []putBack
	var next *float64
	claimed := 0
	var batch pgx.Batch
	batch.Queue(claimActivitiesSQL, most, token, h.holder, h.cfg.Lease).Query(func(rows pgx.Rows) error {
		var instance, execution string
		var id int64
		var attempts int
		var raw []byte
		_, err := pgx.ForEachRow(rows, []any{&instance, &id, &execution, &attempts, &raw}, func() error {
			claimed++
			l := h.take(instance, id, token, sent)
			e, err := decodeEvent(raw)
			if err != nil {
				h.drop(l)
				delay := delayAfter(attempts)
				back = append(back, putBack{lease: l, failed: true, delay: delay})
				h.log.ErrorContext(ctx, "activity cannot be read", logInstance(instance), logError(err), logRetryAfter(delay))
				return nil
			}
			got.items = append(got.items, newActivity(l, execution, attempts, e))
			return nil
		})
		return err
	})
	batch.Queue(nextActivitySQL).QueryRow(func(row pgx.Row) error { return row.Scan(&next) })
	if err := h.pool.SendBatch(ctx, &batch).Close(); err != nil {
		for _, wi := range got.items {
			h.drop(wi.Properties[property].(*activity).lease) //nolint:forcetypeassert // made above
		}
		return found[*backend.ActivityWorkItem]{}, fmt.Errorf("claim activities: %w", err)
	}
	if len(back) > 0 {
		h.warn(ctx, h.abandonActivities(ctx, back))
	}
	got.more, got.next = claimed == most, pauseOf(next)
	return got, nil
}
