package taskhub

import (
	"context"
	"fmt"

	"github.com/dapr/durabletask-go/api/protos"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// message is what a turn sends to another instance: the start of a child, or
// an event, mostly a child's result to its parent.
type message struct {
	target    string
	execution *string // the one that it answers
	raw       []byte
	start     *createOp // set when it starts a child
	taskID    int32     // of the child, in its parent
}

func newMessage(s *protos.WorkflowRuntimeState, m *protos.WorkflowRuntimeStateMessage) (message, error) {
	e := m.GetHistoryEvent()
	if started := e.GetExecutionStarted(); started != nil {
		op, err := newCreateOp(e)
		return message{target: m.GetTargetInstanceId(), start: op, taskID: started.GetParentInstance().GetTaskScheduledId()}, err
	}
	raw, err := marshal(e)
	msg := message{target: m.GetTargetInstanceId(), raw: raw}
	if e.GetChildWorkflowInstanceCompleted() != nil || e.GetChildWorkflowInstanceFailed() != nil {
		if id := s.GetStartEvent().GetParentInstance().GetWorkflowInstance().GetExecutionId().GetValue(); id != "" {
			msg.execution = &id
		}
	}
	return msg, err
}

// commitWithMessages commits one turn and its messages. It is a transaction of
// its own, which locks the instance before those that it writes to: as
// children write to parents only, no two such wait for each other.
func (h *Hub) commitWithMessages(ctx context.Context, op *turnOp) error {
	return pgx.BeginFunc(ctx, h.pool, func(tx pgx.Tx) error {
		if _, err := h.commit(ctx, tx, []*turnOp{op}); err != nil || !op.done {
			return err
		}
		var mail []*postOp
		for _, m := range op.messages {
			if m.start == nil {
				mail = append(mail, &postOp{instance: m.target, execution: m.execution, raw: m.raw})
				continue
			}
			refused, err := h.startChild(ctx, tx, op, m)
			if err != nil {
				return fmt.Errorf("start child %s: %w", m.target, err)
			}
			if refused != nil {
				mail = append(mail, refused)
			}
		}
		if len(mail) == 0 {
			return nil
		}
		return h.post(ctx, tx, mail)
	})
}

const startChildSQL = `
INSERT INTO wf.instances (id, name, execution_id, parent_id, status, start, created_at, updated_at, claim_at)
VALUES ($1, $2, $3, $4, 'Pending', $5, $6, now(), now())
ON CONFLICT (id) DO UPDATE SET name = excluded.name, execution_id = excluded.execution_id, parent_id = excluded.parent_id,
    status = excluded.status, custom_status = '', start = excluded.start, output = NULL, failure = NULL, turns = 0, attempts = 0,
    created_at = excluded.created_at, started_at = NULL, updated_at = now(), ended_at = NULL, claim_at = now(), due_at = NULL,
    token = NULL, holder = NULL
WHERE instances.ended_at IS NOT NULL
RETURNING id, pg_notify('` + Channel + `', '` + payloadTurn + `')::text`

// startChild makes a child, in place of an instance of the same id that has
// ended, such as the former try of this child. If one is still on, the parent
// hears that its child failed.
func (h *Hub) startChild(ctx context.Context, tx pgx.Tx, parent *turnOp, m message) (refused *postOp, err error) {
	c := m.start
	rows, err := tx.Query(ctx, startChildSQL, m.target, c.name, c.execution, parent.id, c.raw, c.at)
	if err != nil {
		return nil, err
	}
	started, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (id string, err error) {
		return id, row.Scan(&id, nil)
	})
	if err != nil {
		return nil, err
	}
	if len(started) > 0 {
		h.turns.look()
		h.cache.forget(m.target)
		for _, table := range []string{"history", "events"} { // what came for the former after its end
			if _, err := tx.Exec(ctx, "DELETE FROM wf."+table+" WHERE instance_id = $1", m.target); err != nil {
				return nil, err
			}
		}
		return nil, nil
	}
	raw, err := marshal(&protos.HistoryEvent{
		EventId: -1, Timestamp: timestamppb.Now(),
		EventType: &protos.HistoryEvent_ChildWorkflowInstanceFailed{ChildWorkflowInstanceFailed: &protos.ChildWorkflowInstanceFailedEvent{
			TaskScheduledId: m.taskID,
			FailureDetails: &protos.TaskFailureDetails{
				ErrorType:    "InstanceExists",
				ErrorMessage: fmt.Sprintf("start child workflow %s: an instance of this id is on already; give the child another id", m.target),
			},
		}},
	})
	return &postOp{instance: parent.id, execution: &parent.execution, raw: raw}, err
}
