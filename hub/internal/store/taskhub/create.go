package taskhub

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dapr/durabletask-go/backend"
	"github.com/jackc/pgx/v5"
)

// maxID bounds an instance's id: it is part of every row and index.
const maxID = 256

// createOp is an instance on its way to the tables.
type createOp struct {
	id, name, execution string
	parent              *string
	raw                 []byte
	event               *backend.HistoryEvent
	at                  time.Time
	visible             *time.Time // when it starts; nil: now
	token               *int64     // set when it is handed over in this process
}

func newCreateOp(e *backend.HistoryEvent) (*createOp, error) {
	s := e.GetExecutionStarted()
	id := s.GetWorkflowInstance().GetInstanceId()
	switch {
	case s == nil || e.GetTimestamp() == nil:
		return nil, errors.New("create instance: the event is not the start of a workflow")
	case id == "" || len(id) > maxID || !utf8.ValidString(id) || strings.ContainsRune(id, 0):
		return nil, fmt.Errorf("create instance: id %.40q is empty, too long or no text; give 1 to %d bytes of text", id, maxID)
	case s.GetName() == "" || strings.ContainsRune(s.GetName(), 0):
		return nil, fmt.Errorf("create instance %s: name %.40q names no workflow", id, s.GetName())
	}
	raw, err := marshal(e)
	if err != nil {
		return nil, fmt.Errorf("encode start of %s: %w", id, err)
	}
	op := &createOp{id: id, name: s.GetName(), execution: s.GetWorkflowInstance().GetExecutionId().GetValue(), raw: raw, event: e, at: e.GetTimestamp().AsTime()}
	if p := s.GetParentInstance().GetWorkflowInstance().GetInstanceId(); p != "" {
		op.parent = &p
	}
	if t := s.GetScheduledStartTimestamp(); t != nil {
		at := t.AsTime()
		op.visible = &at
	}
	return op, nil
}

// CreateWorkflowInstance makes an instance. One of the same id that is there
// already, also one that has ended, stays as it is, and that is no error: who
// asks again after a lost answer must not start it again.
func (h *Hub) CreateWorkflowInstance(ctx context.Context, e *backend.HistoryEvent) error {
	op, err := newCreateOp(e)
	if err != nil {
		return err
	}
	if err := h.creates.do(ctx, op, false, time.Now().Add(briefly)); err != nil {
		return fmt.Errorf("create instance %s: %w", op.id, err)
	}
	return nil
}

const createSQL = `
WITH made AS (
    INSERT INTO wf.instances (id, name, execution_id, parent_id, status, start, created_at, updated_at, claim_at, token, holder)
    SELECT id, name, execution, parent, 'Pending', start, at, now(),
        CASE WHEN token IS NULL THEN coalesce(visible, now()) ELSE now() + $9 END, token, CASE WHEN token IS NOT NULL THEN $10 END
    FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bytea[], $6::timestamptz[], $7::timestamptz[], $8::bigint[])
        AS u(id, name, execution, parent, start, at, visible, token)
    ORDER BY id
    ON CONFLICT (id) DO NOTHING
    RETURNING id, token, claim_at
)
SELECT id, coalesce(token, 0),
    CASE WHEN token IS NULL THEN pg_notify('` + Channel + `', '` + payloadTurn + `')::text END
FROM made`

// flushCreates makes instances, and hands their first turns to this process's
// own workers as far as these are free.
func (h *Hub) flushCreates(ctx context.Context, ops []*createOp) error {
	ctx, cancel := h.bounded(ctx)
	defer cancel()
	sent := time.Now()
	n := len(ops)
	ids, names, executions, parents := make([]string, n), make([]string, n), make([]string, n), make([]*string, n)
	raws, ats, visibles, tokens := make([][]byte, n), make([]time.Time, n), make([]*time.Time, n), make([]*int64, n)
	reserved := 0
	byToken := map[int64]*createOp{}
	for i, op := range ops {
		op.token = nil
		if op.visible == nil && h.turns.reserve() {
			token := newToken()
			op.token, byToken[token] = &token, op
			reserved++
		}
		ids[i], names[i], executions[i], parents[i] = op.id, op.name, op.execution, op.parent
		raws[i], ats[i], visibles[i], tokens[i] = op.raw, op.at, op.visible, op.token
	}
	rows, err := h.pool.Query(ctx, createSQL, ids, names, executions, parents, raws, ats, visibles, tokens, h.cfg.Lease, h.holder)
	if err != nil {
		h.turns.cancel(reserved)
		return fmt.Errorf("insert %d instances: %w", n, err)
	}
	var handed []*createOp
	var id string
	var token int64
	if _, err = pgx.ForEachRow(rows, []any{&id, &token, nil}, func() error {
		if op := byToken[token]; op != nil {
			handed = append(handed, op)
		}
		return nil
	}); err != nil {
		h.turns.cancel(reserved)
		return fmt.Errorf("insert %d instances: %w", n, err)
	}
	h.turns.cancel(reserved - len(handed))
	for _, op := range handed {
		t := &turn{lease: h.take(op.id, 0, *op.token, sent), execution: op.execution}
		h.offerTurn(ctx, t.item([]*backend.HistoryEvent{op.event}, 0, newState(op.id, nil)))
	}
	for _, op := range ops {
		switch {
		case op.visible != nil:
			h.turns.lookAt(*op.visible)
		case op.token == nil:
			h.turns.look()
		}
	}
	return nil
}
