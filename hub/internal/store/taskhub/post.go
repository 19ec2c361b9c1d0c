package taskhub

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dapr/durabletask-go/api"
	"github.com/dapr/durabletask-go/backend"
	"github.com/jackc/pgx/v5"
)

// briefly is how long a caller from outside waits out the database's absence.
const briefly = 2 * time.Second

// postOp is an event on its way to an instance: the result of an activity,
// which goes with the activity's row, or one from outside.
type postOp struct {
	instance  string
	execution *string // the one that it answers; nil: whichever is on
	raw       []byte
	event     *backend.HistoryEvent // for handing over; nil: it is only written
	activity  *lease                // whose result it is

	done bool // written, or the activity's row is gone with it
	live bool // there was a running instance that takes it
	free bool // which nobody holds
}

// AddNewWorkflowEvent adds an event. One for an instance that does not exist or
// has ended is dropped, as the library's clients expect.
func (h *Hub) AddNewWorkflowEvent(ctx context.Context, iid api.InstanceID, e *backend.HistoryEvent) error {
	_, err := h.add(ctx, string(iid), e)
	return err
}

// Post adds an event. It fails with api.ErrInstanceNotFound when there is no
// such instance; one that has ended drops it.
func (h *Hub) Post(ctx context.Context, instance string, e *backend.HistoryEvent) error {
	live, err := h.add(ctx, instance, e)
	if err != nil || live {
		return err
	}
	var there bool
	if err := h.pool.QueryRow(ctx, "SELECT EXISTS (SELECT FROM wf.instances WHERE id = $1)", instance).Scan(&there); err != nil {
		return fmt.Errorf("look for %s: %w", instance, err)
	}
	if !there {
		return api.ErrInstanceNotFound
	}
	return nil
}

func (h *Hub) add(ctx context.Context, instance string, e *backend.HistoryEvent) (live bool, err error) {
	if e == nil || e.GetTimestamp() == nil {
		return false, errors.New("add event: it needs a timestamp")
	}
	raw, err := marshal(e)
	if err != nil {
		return false, fmt.Errorf("encode event for %s: %w", instance, err)
	}
	op := &postOp{instance: instance, raw: raw, event: e}
	if err := h.posts.do(ctx, op, false, time.Now().Add(briefly)); err != nil {
		return false, fmt.Errorf("add event for %s: %w", instance, err)
	}
	return op.live, nil
}

// postSQL writes events. The result of an activity is written only if the
// activity's row still has the holder's token, and takes the row away. An
// instance that nobody holds and that has nothing else to do is held by the
// caller from then on, if the caller offers a token.
const postSQL = `
WITH p AS (
    SELECT * FROM unnest($1::int[], $2::text[], $3::text[], $4::bytea[], $5::bigint[], $6::bigint[], $7::bigint[])
        AS u(n, instance, execution, event, activity, token, offer)
), gone AS (
    DELETE FROM wf.activities a USING (SELECT * FROM p WHERE activity IS NOT NULL ORDER BY instance, activity) p
    WHERE a.instance_id = p.instance AND a.id = p.activity AND a.token = p.token
    RETURNING p.n
), live AS (
    SELECT p.* FROM p WHERE activity IS NULL OR n IN (SELECT n FROM gone)
), woken AS (
    UPDATE wf.instances i SET
        claim_at = CASE WHEN i.token IS NOT NULL OR i.turns = 0 OR i.attempts > 0 THEN i.claim_at
            WHEN w.offer IS NOT NULL AND (i.claim_at IS NULL OR i.claim_at > now()) THEN now() + $8
            ELSE least(i.claim_at, now()) END,
        due_at = CASE WHEN i.token IS NOT NULL THEN least(i.due_at, now())
            WHEN w.offer IS NOT NULL AND i.turns > 0 AND i.attempts = 0 AND (i.claim_at IS NULL OR i.claim_at > now()) THEN i.claim_at END,
        holder = CASE WHEN w.offer IS NOT NULL AND i.token IS NULL AND i.turns > 0 AND i.attempts = 0
            AND (i.claim_at IS NULL OR i.claim_at > now()) THEN $9 ELSE i.holder END,
        token = CASE WHEN w.offer IS NOT NULL AND i.token IS NULL AND i.turns > 0 AND i.attempts = 0
            AND (i.claim_at IS NULL OR i.claim_at > now()) THEN w.offer ELSE i.token END
    FROM (
        SELECT instance, min(offer) AS offer, bool_or(execution IS NULL) AS any_execution, array_agg(execution) AS executions
        FROM live GROUP BY instance ORDER BY instance
    ) w
    WHERE i.id = w.instance AND i.ended_at IS NULL AND (w.any_execution OR i.execution_id = ANY (w.executions))
    RETURNING i.id, i.execution_id, i.turns, i.token IS NULL AS free, coalesce(i.token = w.offer, false) AS mine
), posted AS (
    INSERT INTO wf.events (instance_id, execution_id, visible_at, event)
    SELECT l.instance, l.execution, now(), l.event FROM live l JOIN woken w ON w.id = l.instance
    WHERE l.execution IS NULL OR l.execution = w.execution_id ORDER BY l.n
    RETURNING instance_id, seq
)
SELECT l.n, w.id IS NOT NULL, coalesce(w.mine, false), coalesce(w.execution_id, ''), coalesce(w.turns, 0),
    coalesce(w.free, false), CASE WHEN w.mine THEN (SELECT array_agg(s.seq) FROM posted s WHERE s.instance_id = l.instance) END,
    CASE WHEN w.free THEN pg_notify('` + Channel + `', '` + payloadTurn + `')::text END
FROM live l LEFT JOIN woken w ON w.id = l.instance`

// handed is an instance that a post made this process's.
type handed struct {
	execution string
	turns     int
	seqs      []int64
	events    []*backend.HistoryEvent
}

// post runs postSQL without offering to take the instances.
func (h *Hub) post(ctx context.Context, db queryer, ops []*postOp) error {
	_, err := h.postOffering(ctx, db, ops, make([]*int64, len(ops)))
	return err
}

func (h *Hub) postOffering(ctx context.Context, db queryer, ops []*postOp, offers []*int64) (map[string]*handed, error) {
	n := len(ops)
	ns, instances, raws := make([]int32, n), make([]string, n), make([][]byte, n)
	executions, activities, tokens := make([]*string, n), make([]*int64, n), make([]*int64, n)
	for i, op := range ops {
		ns[i], instances[i], executions[i], raws[i] = int32(i), op.instance, op.execution, op.raw
		if op.activity != nil {
			activities[i], tokens[i] = &op.activity.activity, &op.activity.token
		}
	}
	rows, err := db.Query(ctx, postSQL, ns, instances, executions, raws, activities, tokens, offers, h.cfg.Lease, h.holder)
	if err != nil {
		return nil, err
	}
	taken := map[string]*handed{}
	var row struct {
		n                int32
		live, mine, free bool
		execution        string
		turns            int
		seqs             []int64
	}
	_, err = pgx.ForEachRow(rows, []any{&row.n, &row.live, &row.mine, &row.execution, &row.turns, &row.free, &row.seqs, nil}, func() error {
		op := ops[row.n]
		op.done, op.live, op.free = true, row.live, row.free
		if row.mine && taken[op.instance] == nil {
			taken[op.instance] = &handed{execution: row.execution, turns: row.turns, seqs: row.seqs}
		}
		return nil
	})
	return taken, err
}

// flushPosts writes events, and hands the turns that they cause to this
// process's own workers as far as these are free.
func (h *Hub) flushPosts(ctx context.Context, ops []*postOp) error {
	ctx, cancel := h.bounded(ctx)
	defer cancel()
	sent := time.Now()
	offers, tokens := h.reserveTurns(ops)
	taken, err := h.postOffering(ctx, h.pool, ops, offers)
	if err != nil {
		for _, op := range ops {
			op.done, op.live, op.free = false, false, false
		}
		h.turns.cancel(len(tokens))
		return fmt.Errorf("write %d events: %w", len(ops), err)
	}
	h.turns.cancel(len(tokens) - len(taken))
	for _, op := range ops { // in order
		if t := taken[op.instance]; t != nil && op.done && op.live && (op.execution == nil || *op.execution == t.execution) {
			t.events = append(t.events, op.event)
		}
		if op.free {
			h.turns.look()
		}
	}
	for instance, t := range taken {
		next := &turn{
			lease: h.take(instance, 0, tokens[instance], sent), execution: t.execution, turns: t.turns, consumed: t.seqs,
		}
		state, bytes := h.cache.take(instance, t.execution, t.turns)
		next.bytes = bytes
		h.offerTurn(ctx, next.item(t.events, 0, state))
	}
	return nil
}

// reserveTurns takes a slot for each instance that ops are for, as far as there
// are any, and makes the tokens.
func (h *Hub) reserveTurns(ops []*postOp) (offers []*int64, tokens map[string]int64) {
	offers, tokens = make([]*int64, len(ops)), map[string]int64{}
	for i, op := range ops {
		token, ok := tokens[op.instance]
		if !ok {
			if !h.turns.reserve() {
				continue
			}
			token = newToken()
			tokens[op.instance] = token
		}
		offers[i] = &token
	}
	return offers, tokens
}

// offerTurn hands a turn over, or gives it back if this process stops.
func (h *Hub) offerTurn(ctx context.Context, wi *backend.WorkflowWorkItem) {
	if !h.turns.offer(wi) {
		h.putBackTurns(ctx, []*backend.WorkflowWorkItem{wi})
		h.turns.cancel(1)
	}
}

func (h *Hub) offerActivity(ctx context.Context, wi *backend.ActivityWorkItem) {
	if !h.activities.offer(wi) {
		h.putBackActivities(ctx, []*backend.ActivityWorkItem{wi})
		h.activities.cancel(1)
	}
}
