package taskhub_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/dapr/durabletask-go/api"
	"github.com/dapr/durabletask-go/api/protos"
	"github.com/dapr/durabletask-go/backend"
	"github.com/dapr/durabletask-go/backend/runtimestate"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/budecosystem/budcluster/hub/internal/pg"
	"github.com/budecosystem/budcluster/hub/internal/pg/pgtest"
	"github.com/budecosystem/budcluster/hub/internal/store/taskhub"
	"github.com/budecosystem/budcluster/internal/run"
)

// replica is a task hub of its own on a shared database, as each process has
// one.
type replica struct {
	*taskhub.Hub

	stopClaims, stopLeases func()
}

// open makes a hub that claims nothing.
func open(t *testing.T, pool *pgxpool.Pool, cfg taskhub.Config) *taskhub.Hub {
	t.Helper()
	cfg.Pool = pool
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	h, err := taskhub.Open(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(h.Close)
	return h
}

// start makes a hub that claims and renews for the time of the test, and hears
// what others announce.
func start(t *testing.T, pool *pgxpool.Pool, cfg taskhub.Config) *replica {
	t.Helper()
	wakes := pg.NewListener(pool, slog.New(slog.DiscardHandler))
	cfg.Waker = wakes
	r := &replica{Hub: open(t, pool, cfg)}
	background(t, wakes.Run)
	r.stopLeases = background(t, r.Keep)
	r.stopClaims = background(t, r.Claim)
	return r
}

// background runs fn until stop is called, at the latest at the test's end.
func background(t *testing.T, fn func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() {
		var g run.Group
		g.Add("background", fn)
		done <- g.Run(ctx)
	}()
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			cancel()
			require.NoError(t, <-done)
		}
	}
	t.Cleanup(stop)
	return stop
}

func soon(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), pgtest.Soon, fmt.Errorf("nothing in %s", pgtest.Soon))
	t.Cleanup(cancel)
	return ctx
}

func (r *replica) nextTurn(t *testing.T) *backend.WorkflowWorkItem {
	t.Helper()
	wi, err := r.NextWorkflowWorkItem(soon(t))
	require.NoError(t, err)
	return wi
}

func (r *replica) nextActivity(t *testing.T) *backend.ActivityWorkItem {
	t.Helper()
	wi, err := r.NextActivityWorkItem(soon(t))
	require.NoError(t, err)
	return wi
}

// started is the event that begins an instance.
func started(id, execution string) *protos.HistoryEvent {
	return &protos.HistoryEvent{
		EventId: -1, Timestamp: timestamppb.Now(),
		EventType: &protos.HistoryEvent_ExecutionStarted{ExecutionStarted: &protos.ExecutionStartedEvent{
			Name: "test", Input: wrapperspb.String(`"in"`),
			WorkflowInstance: &protos.WorkflowInstance{InstanceId: id, ExecutionId: wrapperspb.String(execution)},
		}},
	}
}

func create(t *testing.T, h *taskhub.Hub, id string) {
	t.Helper()
	require.NoError(t, h.CreateWorkflowInstance(t.Context(), started(id, "execution of "+id)))
}

func raised(name string) *protos.HistoryEvent {
	return &protos.HistoryEvent{
		EventId: -1, Timestamp: timestamppb.Now(),
		EventType: &protos.HistoryEvent_EventRaised{EventRaised: &protos.EventRaisedEvent{Name: name}},
	}
}

// The actions of a turn.
func schedule(task int32) *protos.WorkflowAction {
	return &protos.WorkflowAction{Id: task, WorkflowActionType: &protos.WorkflowAction_ScheduleTask{
		ScheduleTask: &protos.ScheduleTaskAction{Name: "work", TaskExecutionId: fmt.Sprint("try ", task)},
	}}
}

func wake(task int32, after time.Duration) *protos.WorkflowAction {
	return &protos.WorkflowAction{Id: task, WorkflowActionType: &protos.WorkflowAction_CreateTimer{
		CreateTimer: &protos.CreateTimerAction{FireAt: timestamppb.New(time.Now().Add(after))},
	}}
}

func child(task int32, id string) *protos.WorkflowAction {
	return &protos.WorkflowAction{Id: task, WorkflowActionType: &protos.WorkflowAction_CreateChildWorkflow{
		CreateChildWorkflow: &protos.CreateChildWorkflowAction{Name: "test", InstanceId: id},
	}}
}

func end(s protos.OrchestrationStatus) *protos.WorkflowAction {
	return &protos.WorkflowAction{Id: 99, WorkflowActionType: &protos.WorkflowAction_CompleteWorkflow{
		CompleteWorkflow: &protos.CompleteWorkflowAction{WorkflowStatus: s, Result: wrapperspb.String(`"out"`)},
	}}
}

var (
	completed  = protos.OrchestrationStatus_ORCHESTRATION_STATUS_COMPLETED
	terminated = protos.OrchestrationStatus_ORCHESTRATION_STATUS_TERMINATED
	asNew      = protos.OrchestrationStatus_ORCHESTRATION_STATUS_CONTINUED_AS_NEW
)

// apply does with a turn what the library's worker does, up to the commit.
func apply(t *testing.T, wi *backend.WorkflowWorkItem, actions ...*protos.WorkflowAction) {
	t.Helper()
	require.NotNil(t, wi.State)
	require.NoError(t, runtimestate.AddEvent(wi.State, &protos.HistoryEvent{
		EventId: -1, Timestamp: timestamppb.Now(), EventType: &protos.HistoryEvent_WorkflowStarted{WorkflowStarted: &protos.WorkflowStartedEvent{}},
	}))
	runtimestate.AddEvents(wi.State, wi.NewEvents)
	_, err := runtimestate.NewApplier("test", "").Actions(wi.State, nil, actions, nil, nil)
	require.NoError(t, err)
}

// turn takes the next turn and commits it.
func (r *replica) turn(t *testing.T, actions ...*protos.WorkflowAction) *backend.WorkflowWorkItem {
	t.Helper()
	wi := r.nextTurn(t)
	apply(t, wi, actions...)
	require.NoError(t, r.CompleteWorkflowWorkItem(t.Context(), wi))
	return wi
}

// answer is the result of an activity.
func answer(wi *backend.ActivityWorkItem, value string) *backend.ActivityWorkItem {
	wi.Result = &protos.HistoryEvent{
		EventId: -1, Timestamp: timestamppb.Now(),
		EventType: &protos.HistoryEvent_TaskCompleted{TaskCompleted: &protos.TaskCompletedEvent{
			TaskScheduledId: wi.NewEvent.GetEventId(), Result: wrapperspb.String(value),
		}},
	}
	return wi
}

func statusOf(t *testing.T, h *taskhub.Hub, id string) protos.OrchestrationStatus {
	t.Helper()
	m, err := h.GetWorkflowMetadata(t.Context(), api.InstanceID(id))
	require.NoError(t, err)
	return m.GetRuntimeStatus()
}

// count counts the rows of a table of schema wf.
func count(t *testing.T, pool *pgxpool.Pool, table string) (n int) {
	t.Helper()
	require.NoError(t, pool.QueryRow(t.Context(), "SELECT count(*) FROM wf."+table).Scan(&n))
	return n
}

// seen gives the results that a turn brings.
func seen(wi *backend.WorkflowWorkItem) (values []string) {
	for _, e := range wi.NewEvents {
		if c := e.GetTaskCompleted(); c != nil {
			values = append(values, c.GetResult().GetValue())
		}
	}
	return values
}
