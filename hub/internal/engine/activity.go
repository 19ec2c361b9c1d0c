package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/dapr/durabletask-go/api/protos"
	"github.com/dapr/durabletask-go/backend"
	"github.com/dapr/durabletask-go/workflow"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// ErrLost is the cause with which the context of an activity ends when it is
// no longer this process's: its workflow was terminated, or its lease could
// not be renewed.
var ErrLost = errors.New("the activity is not this replica's any more")

// errRunning says that an activity did not end although it was told to.
var errRunning = errors.New("the activity is still running")

// activities runs activities.
//
//	claimed ─► ProcessWorkItem ── errand ─► function
//	              │  lease lost, hub stops ─► its context ends
//	              ├─ result ────────────► CompleteWorkItem
//	              ├─ gave up ───────────► AbandonWorkItem: another replica, at once
//	              └─ does not return ───► AbandonWorkItem: nobody, until the lease ends
type activities struct {
	hub      TaskHub
	registry *workflow.Registry
	grace    time.Duration
	stopping chan struct{} // closed when the hub stops

	mu      sync.Mutex // guards running
	running map[string]struct{}
}

var _ backend.TaskProcessor[*backend.ActivityWorkItem] = (*activities)(nil)

// Name is for the library's log.
func (a *activities) Name() string { return "activities" }

// NextWorkItem waits for an activity.
func (a *activities) NextWorkItem(ctx context.Context) (*backend.ActivityWorkItem, error) {
	return a.hub.NextActivityWorkItem(ctx)
}

// CompleteWorkItem gives the result to the workflow.
func (a *activities) CompleteWorkItem(ctx context.Context, wi *backend.ActivityWorkItem) error {
	return a.hub.CompleteActivityWorkItem(ctx, wi)
}

// AbandonWorkItem gives the activity to others, unless its function is still
// running here.
func (a *activities) AbandonWorkItem(ctx context.Context, wi *backend.ActivityWorkItem) error {
	a.mu.Lock()
	_, running := a.running[key(wi)]
	a.mu.Unlock()
	if running {
		a.hub.Forget(wi)
		return nil
	}
	return a.hub.AbandonActivityWorkItem(ctx, wi)
}

// ProcessWorkItem runs the activity's function. Its context has nothing to do
// with ctx, which the library ends as soon as the hub stops.
func (a *activities) ProcessWorkItem(ctx context.Context, wi *backend.ActivityWorkItem) error {
	task := wi.NewEvent.GetTaskScheduled()
	if task == nil {
		return fmt.Errorf("%s: the event schedules no activity", wi)
	}
	if !a.begin(wi) {
		return errRunning // and lost by an earlier lease
	}
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	e, err := send(ctx, a.registry, request(wi, task), func() { a.end(wi) })
	if err != nil {
		a.end(wi)
		return err
	}
	response, err := a.await(ctx, cancel, wi, e)
	if err != nil {
		return err
	}
	failure := response.GetFailureDetails()
	switch {
	case failure.GetErrorType() == "TaskActivityNotRegistered":
		return fmt.Errorf("%s: %w", wi, errUnknown)
	case failure != nil && ctx.Err() != nil: // that is why it failed, and it is no result
		return fmt.Errorf("%s: %w", wi, context.Cause(ctx))
	}
	wi.Result = result(wi, task, response)
	return nil
}

// await waits for the function's answer, and tells it to stop when it must.
func (a *activities) await(ctx context.Context, cancel context.CancelCauseFunc, wi *backend.ActivityWorkItem, e *errand) (*protos.ActivityResponse, error) {
	lost, stopping := a.hub.Lost(wi), (<-chan struct{})(a.stopping)
	var enough <-chan time.Time
	for {
		select {
		case answer := <-e.answer:
			response, ok := answer.(*protos.ActivityResponse)
			if !ok {
				return nil, fmt.Errorf("the answer to an activity is a %T", answer)
			}
			return response, nil
		case <-lost:
			cancel(ErrLost)
			lost = nil
		case <-stopping:
			cancel(ErrStopping)
			stopping = nil
			timer := time.NewTimer(a.grace)
			defer timer.Stop() //nolint:revive // once: stopping is nil from now on
			enough = timer.C
		case <-enough:
			return nil, fmt.Errorf("%s, %s after it was told to stop (%w): %w", wi, a.grace, context.Cause(ctx), errRunning)
		}
	}
}

func key(wi *backend.ActivityWorkItem) string {
	return fmt.Sprint(wi.InstanceID, "/", wi.SequenceNumber)
}

func (a *activities) begin(wi *backend.ActivityWorkItem) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, running := a.running[key(wi)]; running {
		return false
	}
	a.running[key(wi)] = struct{}{}
	return true
}

func (a *activities) end(wi *backend.ActivityWorkItem) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.running, key(wi))
}

func request(wi *backend.ActivityWorkItem, task *protos.TaskScheduledEvent) *protos.WorkItem {
	return &protos.WorkItem{Request: &protos.WorkItem_ActivityRequest{ActivityRequest: &protos.ActivityRequest{
		Name: task.GetName(), Version: task.GetVersion(), Input: task.GetInput(),
		WorkflowInstance: &protos.WorkflowInstance{InstanceId: string(wi.InstanceID)},
		TaskId:           wi.NewEvent.GetEventId(), TaskExecutionId: task.GetTaskExecutionId(), ParentTraceContext: task.GetParentTraceContext(),
	}}}
}

func result(wi *backend.ActivityWorkItem, task *protos.TaskScheduledEvent, r *protos.ActivityResponse) *protos.HistoryEvent {
	e := &protos.HistoryEvent{EventId: -1, Timestamp: timestamppb.Now(), Router: wi.NewEvent.GetRouter()}
	if f := r.GetFailureDetails(); f != nil {
		e.EventType = &protos.HistoryEvent_TaskFailed{TaskFailed: &protos.TaskFailedEvent{
			TaskScheduledId: wi.NewEvent.GetEventId(), TaskExecutionId: task.GetTaskExecutionId(), FailureDetails: f,
		}}
		return e
	}
	e.EventType = &protos.HistoryEvent_TaskCompleted{TaskCompleted: &protos.TaskCompletedEvent{
		TaskScheduledId: wi.NewEvent.GetEventId(), TaskExecutionId: task.GetTaskExecutionId(), Result: r.GetResult(),
	}}
	return e
}
