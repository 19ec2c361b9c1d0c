package taskhub

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dapr/durabletask-go/api"
	"github.com/dapr/durabletask-go/api/protos"
	"github.com/dapr/durabletask-go/backend"
	"github.com/jackc/pgx/v5"
)

// turn is what the Hub knows of a turn that it handed out; it travels in the
// work item.
type turn struct {
	lease     *lease
	execution string
	turns     int        // that the instance has had
	consumed  []int64    // events that this turn takes
	rest      *time.Time // when the earliest event is due that it leaves; zero when not all fitted
	bytes     int        // of the history so far
}

const property = "taskhub"

func turnOf(wi *backend.WorkflowWorkItem) (*turn, error) {
	t, ok := wi.Properties[property].(*turn)
	if !ok {
		return nil, fmt.Errorf("turn of %s was not claimed from this task hub", wi.InstanceID)
	}
	return t, nil
}

func (t *turn) item(events []*backend.HistoryEvent, attempts int, state *protos.WorkflowRuntimeState) *backend.WorkflowWorkItem {
	return &backend.WorkflowWorkItem{
		InstanceID: api.InstanceID(t.lease.instance), NewEvents: events, State: state,
		RetryCount: int32(attempts), Properties: map[string]any{property: t}, //nolint:gosec // a small number
	}
}

// NextWorkflowWorkItem waits for a turn. It fails only when ctx ends.
func (h *Hub) NextWorkflowWorkItem(ctx context.Context) (*backend.WorkflowWorkItem, error) {
	return h.turns.next(ctx)
}

// CompleteWorkflowWorkItem commits what a turn did: its history, and all that
// it began. It fails with ErrWorkItemLockLost when somebody else has claimed
// the instance meanwhile, and has then changed nothing. It does not end with
// ctx: a turn that is done is not thrown away because the hub stops.
func (h *Hub) CompleteWorkflowWorkItem(ctx context.Context, wi *backend.WorkflowWorkItem) error {
	t, err := turnOf(wi)
	if err != nil {
		return err
	}
	if reason, ok := stalled(wi.State); ok {
		return h.stall(ctx, wi, t, reason)
	}
	op, err := newTurnOp(t, wi.State)
	if err != nil {
		return err
	}
	t.lease.settle()
	ctx = context.WithoutCancel(ctx)
	if err := h.commits.do(ctx, op, len(op.messages) > 0, time.Now().Add(h.cfg.Lease)); err != nil {
		return fmt.Errorf("commit turn of %s: %w", wi.InstanceID, err)
	}
	if !op.done {
		return fmt.Errorf("commit turn of %s: %w", wi.InstanceID, backend.ErrWorkItemLockLost)
	}
	if op.ended {
		h.ended.tell(op.id)
		if op.status == string(statusTerminated) {
			h.revokeActivities(op.id)
		}
	} else {
		settleState(wi.State)
		h.cache.put(op.id, op.execution, t.turns+1, wi.State, t.bytes+len(op.history))
	}
	h.drop(t.lease)
	h.turns.done()
	return nil
}

// AbandonWorkflowWorkItem gives a turn back, to be tried again: at once when
// the hub stops, and otherwise the later the more often it failed.
func (h *Hub) AbandonWorkflowWorkItem(ctx context.Context, wi *backend.WorkflowWorkItem) error {
	t, err := turnOf(wi)
	if err != nil {
		return err
	}
	defer h.turns.done()
	h.drop(t.lease)
	h.cache.forget(t.lease.instance)
	back := putBack{lease: t.lease}
	if h.turns.isOpen() {
		back.failed, back.delay = true, delayAfter(int(wi.RetryCount))
	}
	if err := h.abandonTurns(ctx, []putBack{back}); err != nil {
		return fmt.Errorf("give back turn of %s: %w", wi.InstanceID, err)
	}
	h.turns.lookAt(time.Now().Add(back.delay))
	return nil
}

// stall gives back a turn of a workflow whose version this process does not
// know. Another replica may, so nothing of the turn is kept.
func (h *Hub) stall(ctx context.Context, wi *backend.WorkflowWorkItem, t *turn, reason string) error {
	defer h.turns.done()
	h.drop(t.lease)
	delay := delayAfter(int(wi.RetryCount))
	h.log.WarnContext(ctx, "workflow waits for a replica that knows its version", logInstance(t.lease.instance), logReason(reason), logRetryAfter(delay))
	h.warn(ctx, h.abandonTurns(ctx, []putBack{{lease: t.lease, failed: true, delay: delay, status: string(statusStalled)}}))
	h.turns.lookAt(time.Now().Add(delay))
	return nil
}

func stalled(state *protos.WorkflowRuntimeState) (string, bool) {
	for _, m := range state.GetPendingMessages() {
		if s := m.GetHistoryEvent().GetExecutionStalled(); s != nil {
			return s.GetDescription(), true
		}
	}
	return "", false
}

// settleState makes of the state after a turn the state before the next.
func settleState(s *protos.WorkflowRuntimeState) {
	s.OldEvents = append(s.OldEvents, s.GetNewEvents()...)
	s.NewEvents, s.PendingTasks, s.PendingTimers, s.PendingMessages = nil, nil, nil, nil
	s.ContinuedAsNew = false
}

// turnOp is a turn on its way to the tables.
type turnOp struct {
	id             string
	token          int64
	execution      string
	status, custom string
	output         *string
	failure        []byte
	ended          bool
	fresh          bool // it continued as new: what was before is forgotten
	history        []byte
	consumed       []int64
	next           *time.Time
	activities     []activityRow
	timers         []timerRow
	messages       []message

	done bool // committed; otherwise the lease was lost
}

type activityRow struct {
	id    int64
	token *int64 // set when it is handed over in this process
	raw   []byte
	event *backend.HistoryEvent
}

type timerRow struct {
	at  time.Time
	raw []byte
}

// never is from when on a timer is not meant to fire: waiting for an event
// without a limit is a timer in the year 9999.
var never = time.Date(9000, 1, 1, 0, 0, 0, 0, time.UTC) //nolint:gochecknoglobals // a constant

func newTurnOp(t *turn, s *protos.WorkflowRuntimeState) (*turnOp, error) {
	op := &turnOp{
		id: t.lease.instance, token: t.lease.token, consumed: t.consumed, fresh: s.GetContinuedAsNew(),
		execution: cmp.Or(s.GetStartEvent().GetWorkflowInstance().GetExecutionId().GetValue(), t.execution),
		custom:    clean(s.GetCustomStatus().GetValue()), next: t.rest,
	}
	op.setOutcome(s)
	if op.fresh && t.rest != nil && !t.rest.IsZero() {
		op.next = nil // a timer of what was before; events that did not fit stay
	}
	var err error
	if op.history, err = encodeEvents(s.GetNewEvents()); err != nil {
		return nil, fmt.Errorf("encode history of %s: %w", op.id, err)
	}
	if op.status == string(statusTerminated) {
		// What this very turn wanted to begin does not begin.
		s.PendingTasks, s.PendingTimers = nil, nil
		s.PendingMessages = slices.DeleteFunc(s.GetPendingMessages(), func(m *protos.WorkflowRuntimeStateMessage) bool {
			return m.GetHistoryEvent().GetExecutionStarted() != nil
		})
	}
	return op, op.addBegun(s)
}

func (op *turnOp) setOutcome(s *protos.WorkflowRuntimeState) {
	status := statusOf(s)
	op.status = string(status)
	ended := s.GetCompletedEvent()
	if ended == nil {
		return
	}
	op.ended = true
	if ended.GetResult() != nil {
		text := clean(ended.GetResult().GetValue())
		op.output = &text
	}
	if ended.GetFailureDetails() != nil {
		op.failure, _ = marshal(ended.GetFailureDetails()) // it came from the wire, so it goes there
	}
}

// addBegun adds what the turn began: activities, timers, and messages to other
// instances.
func (op *turnOp) addBegun(s *protos.WorkflowRuntimeState) error {
	for _, e := range s.GetPendingTasks() {
		raw, err := marshal(e)
		if err != nil {
			return fmt.Errorf("encode activity of %s: %w", op.id, err)
		}
		op.activities = append(op.activities, activityRow{id: newToken(), raw: raw, event: e})
	}
	if op.ended {
		s.PendingTimers = nil
	}
	for _, e := range s.GetPendingTimers() {
		at := e.GetTimerFired().GetFireAt().AsTime()
		if at.After(never) {
			continue
		}
		raw, err := marshal(e)
		if err != nil {
			return fmt.Errorf("encode timer of %s: %w", op.id, err)
		}
		op.timers = append(op.timers, timerRow{at: at, raw: raw})
		if op.next == nil || at.Before(*op.next) {
			op.next = &at
		}
	}
	for _, m := range s.GetPendingMessages() {
		msg, err := newMessage(s, m)
		if err != nil {
			return fmt.Errorf("encode message of %s: %w", op.id, err)
		}
		op.messages = append(op.messages, msg)
	}
	return nil
}

// clean takes out what Postgres does not hold in a text.
func clean(s string) string { return strings.ReplaceAll(s, "\x00", "\uFFFD") }

// commitSQL commits turns. A turn whose token is no longer in its row is in
// none of the parts but the first, so nothing of it is kept.
const commitSQL = `
WITH t AS (
    SELECT * FROM unnest($1::int[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[], $8::bytea[],
        $9::bool[], $10::bool[], $11::bytea[], $12::text[], $13::timestamptz[])
        AS u(n, id, token, execution, status, custom, output, failure, ended, fresh, events, consumed, next_at)
    ORDER BY id
), done AS (
    UPDATE wf.instances i SET execution_id = t.execution, status = t.status, custom_status = t.custom, output = t.output,
        failure = t.failure, turns = i.turns + 1, attempts = 0, started_at = coalesce(i.started_at, now()), updated_at = now(),
        ended_at = CASE WHEN t.ended THEN now() END, token = NULL, holder = NULL, due_at = NULL,
        claim_at = CASE WHEN t.ended THEN NULL ELSE least(i.due_at, t.next_at) END
    FROM t WHERE i.id = t.id AND i.token = t.token
    RETURNING t.n, i.id, i.turns, i.execution_id, i.status, i.claim_at, t.ended, t.fresh, t.events, t.consumed
), forgotten AS (
    DELETE FROM wf.history h USING (SELECT id FROM done WHERE fresh) d WHERE h.instance_id = d.id
), kept AS (
    INSERT INTO wf.history (instance_id, turn, events) SELECT id, turns, events FROM done WHERE events IS NOT NULL
), consumed AS (
    DELETE FROM wf.events e USING (SELECT d.id, s.seq FROM done d, unnest(d.consumed::bigint[]) s(seq)) c
    WHERE e.instance_id = c.id AND e.seq = c.seq
), swept AS (
    DELETE FROM wf.events e USING (SELECT id, ended FROM done WHERE ended OR fresh) d
    WHERE e.instance_id = d.id AND (d.ended OR e.execution_id IS NOT NULL)
), begun AS (
    INSERT INTO wf.activities (instance_id, id, execution_id, event, claim_at, token, holder)
    SELECT d.id, a.id, d.execution_id, a.event, CASE WHEN a.token IS NULL THEN now() ELSE now() + $21 END,
        a.token, CASE WHEN a.token IS NOT NULL THEN $22 END
    FROM unnest($14::int[], $15::bigint[], $16::bytea[], $17::bigint[]) a(n, id, event, token) JOIN done d ON d.n = a.n
    RETURNING token
), timed AS (
    INSERT INTO wf.events (instance_id, execution_id, visible_at, event)
    SELECT d.id, d.execution_id, c.at, c.event
    FROM unnest($18::int[], $19::timestamptz[], $20::bytea[]) c(n, at, event) JOIN done d ON d.n = c.n
), stopped AS (
    DELETE FROM wf.activities a USING (
        SELECT b.instance_id, b.id FROM done d JOIN wf.activities b ON b.instance_id = d.id
        WHERE d.status = 'Terminated' FOR UPDATE OF b SKIP LOCKED
    ) b WHERE a.instance_id = b.instance_id AND a.id = b.id
)
SELECT n, coalesce(claim_at <= now(), false),
    CASE WHEN claim_at <= now() THEN pg_notify('` + Channel + `', '` + payloadTurn + `')::text END,
    (SELECT pg_notify('` + Channel + `', '` + payloadActivity + `')::text FROM begun WHERE token IS NULL LIMIT 1)
FROM done`

// commitArgs lays turns out as columns.
func (h *Hub) commitArgs(ops []*turnOp) []any {
	n := len(ops)
	var (
		ns                          = make([]int32, n)
		ids, executions, statuses   = make([]string, n), make([]string, n), make([]string, n)
		customs, consumed           = make([]string, n), make([]string, n)
		tokens                      = make([]int64, n)
		outputs                     = make([]*string, n)
		failures, histories         = make([][]byte, n), make([][]byte, n)
		ended, fresh                = make([]bool, n), make([]bool, n)
		nexts                       = make([]*time.Time, n)
		activityNs, timerNs         = []int32{}, []int32{}
		activityIDs                 = []int64{}
		activityTokens              = []*int64{}
		activityEvents, timerEvents = [][]byte{}, [][]byte{}
		timerAts                    = []time.Time{}
	)
	for i, op := range ops {
		ns[i], ids[i], tokens[i], executions[i] = int32(i), op.id, op.token, op.execution
		statuses[i], customs[i], outputs[i], failures[i] = op.status, op.custom, op.output, op.failure
		ended[i], fresh[i], histories[i], consumed[i], nexts[i] = op.ended, op.fresh, op.history, arrayText(op.consumed), op.next
		for _, a := range op.activities {
			activityNs, activityIDs = append(activityNs, ns[i]), append(activityIDs, a.id)
			activityEvents, activityTokens = append(activityEvents, a.raw), append(activityTokens, a.token)
		}
		for _, t := range op.timers {
			timerNs, timerAts, timerEvents = append(timerNs, ns[i]), append(timerAts, t.at), append(timerEvents, t.raw)
		}
	}
	return []any{
		ns, ids, tokens, executions, statuses, customs, outputs, failures, ended, fresh, histories, consumed, nexts,
		activityNs, activityIDs, activityEvents, activityTokens, timerNs, timerAts, timerEvents, h.cfg.Lease, h.holder,
	}
}

// arrayText writes an array as Postgres reads it: arrays of different lengths
// cannot be elements of one.
func arrayText(values []int64) string {
	text := []byte{'{'}
	for i, v := range values {
		if i > 0 {
			text = append(text, ',')
		}
		text = fmt.Append(text, v)
	}
	return string(append(text, '}'))
}

// queryer is a pool or a transaction.
type queryer interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// commit runs commitSQL. due says that an instance has more to do already.
func (h *Hub) commit(ctx context.Context, db queryer, ops []*turnOp) (due bool, err error) {
	rows, err := db.Query(ctx, commitSQL, h.commitArgs(ops)...)
	if err != nil {
		return false, err
	}
	var n int32
	var more bool
	_, err = pgx.ForEachRow(rows, []any{&n, &more, nil, nil}, func() error {
		ops[n].done = true
		due = due || more
		return nil
	})
	return due, err
}

// flushTurns commits turns, and hands the activities that they began to this
// process's own workers as far as these are free.
func (h *Hub) flushTurns(ctx context.Context, ops []*turnOp) (err error) {
	ctx, cancel := h.bounded(ctx)
	defer cancel()
	sent := time.Now()
	reserved := h.reserveActivities(ops)
	due := false
	if len(ops[0].messages) > 0 { // alone
		err = h.commitWithMessages(ctx, ops[0])
	} else {
		due, err = h.commit(ctx, h.pool, ops)
	}
	if err != nil {
		for _, op := range ops {
			op.done = false
		}
		h.activities.cancel(reserved)
		return fmt.Errorf("commit %d turns: %w", len(ops), err)
	}
	if due {
		h.turns.look()
	}
	h.handOver(ctx, ops, sent)
	return nil
}

// reserveActivities takes slots for what ops begin, and gives the rows their
// tokens.
func (h *Hub) reserveActivities(ops []*turnOp) (reserved int) {
	for _, op := range ops {
		for i := range op.activities {
			op.activities[i].token = nil // of a former try
			if h.activities.reserve() {
				token := newToken()
				op.activities[i].token = &token
				reserved++
			}
		}
	}
	return reserved
}

func (h *Hub) handOver(ctx context.Context, ops []*turnOp, sent time.Time) {
	for _, op := range ops {
		if op.done && op.next != nil {
			h.turns.lookAt(*op.next)
		}
		for _, a := range op.activities {
			switch {
			case a.token == nil:
				h.activities.look()
			case !op.done:
				h.activities.cancel(1)
			default:
				h.offerActivity(ctx, newActivity(h.take(op.id, a.id, *a.token, sent), op.execution, 0, a.event))
			}
		}
	}
}

// bounded gives a statement its time: what takes longer than a lease is of no
// use to anybody.
func (h *Hub) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, h.cfg.Lease, fmt.Errorf("no answer from the database in %s", h.cfg.Lease))
}
