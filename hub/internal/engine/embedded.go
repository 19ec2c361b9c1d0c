package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/dapr/durabletask-go/api"
	"github.com/dapr/durabletask-go/api/protos"
	"github.com/dapr/durabletask-go/backend"
	"github.com/dapr/durabletask-go/workflow"
	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/budecosystem/budcluster/internal/run"
)

// TaskHub keeps the embedded engine's workflows; store/taskhub has one.
type TaskHub interface {
	backend.Backend
	// Claim hands out work until ctx ends.
	Claim(ctx context.Context) error
	// Keep renews the leases on what was handed out until ctx ends.
	Keep(ctx context.Context) error
	// Post adds an event, and fails with api.ErrInstanceNotFound when there is
	// no such instance.
	Post(ctx context.Context, instance string, e *backend.HistoryEvent) error
	// Purge deletes an instance that has ended, and its children.
	Purge(ctx context.Context, instance string) error
	// Lost is closed when an activity is no longer this process's.
	Lost(wi *backend.ActivityWorkItem) <-chan struct{}
	// Forget leaves an activity that does not end to the end of its lease.
	Forget(wi *backend.ActivityWorkItem)
}

// EmbeddedConfig is what the embedded engine needs.
type EmbeddedConfig struct {
	Hub      TaskHub
	Registry *workflow.Registry
	Log      *slog.Logger
	// Grace is how long Run waits for activities that were told to stop.
	Grace time.Duration
}

// appID is this app's name in the histories: the embedded engine knows no
// other.
const appID = "budcluster"

// embedded runs workflows in this process, on a task hub.
type embedded struct {
	hub      TaskHub
	registry *workflow.Registry
	log      *slog.Logger
	grace    time.Duration
}

// NewEmbedded makes the engine that needs nothing but the hub's database.
func NewEmbedded(cfg EmbeddedConfig) (*Engine, error) {
	if cfg.Hub == nil || cfg.Registry == nil || cfg.Log == nil {
		return nil, errors.New("embedded workflow engine: it needs a task hub, a registry and a logger")
	}
	return newEngine(&embedded{hub: cfg.Hub, registry: cfg.Registry, log: cfg.Log, grace: cmp.Or(cfg.Grace, DefaultGrace)}), nil
}

// run stops the claims first, then the workers, then the renewal of what the
// workers still hold.
func (e *embedded) run(ctx context.Context, ready func()) error {
	const commits = 5 * time.Second // after the last function has returned
	group := run.Group{Grace: e.grace + commits}
	group.Add("leases", e.hub.Keep)
	group.Add("workers", func(ctx context.Context) error { return e.work(ctx, ready) })
	group.Add("claims", e.hub.Claim)
	return group.Run(ctx)
}

func (e *embedded) work(ctx context.Context, ready func()) error {
	log := newLogger(ctx, e.log)
	acts := &activities{hub: e.hub, registry: e.registry, grace: e.grace, stopping: make(chan struct{}), running: map[string]struct{}{}}
	turnWorker := backend.NewWorkflowWorker(backend.WorkflowWorkerOptions{
		Backend: e.hub, Executor: &turns{registry: e.registry}, Logger: log, AppID: appID,
	})
	activityWorker := backend.NewTaskWorker(acts, log)
	detached := context.WithoutCancel(ctx) // the workers end by StopAndDrain
	turnWorker.Start(detached)
	activityWorker.Start(detached)
	ready()
	<-ctx.Done()
	close(acts.stopping)
	var wg sync.WaitGroup
	wg.Go(turnWorker.StopAndDrain)
	wg.Go(activityWorker.StopAndDrain)
	wg.Wait()
	return nil
}

func (e *embedded) start(ctx context.Context, name, id string, input []byte) error {
	return e.hub.CreateWorkflowInstance(ctx, &protos.HistoryEvent{
		EventId: -1, Timestamp: timestamppb.Now(),
		EventType: &protos.HistoryEvent_ExecutionStarted{ExecutionStarted: &protos.ExecutionStartedEvent{
			Name: name, Input: text(input),
			WorkflowInstance: &protos.WorkflowInstance{InstanceId: id, ExecutionId: wrapperspb.String(uuid.NewString())},
		}},
	})
}

func (e *embedded) raise(ctx context.Context, id, event string, data []byte) error {
	return e.post(ctx, id, &protos.HistoryEvent{
		EventId: -1, Timestamp: timestamppb.Now(),
		EventType: &protos.HistoryEvent_EventRaised{EventRaised: &protos.EventRaisedEvent{Name: event, Input: text(data)}},
	})
}

func (e *embedded) terminate(ctx context.Context, id string, reason []byte) error {
	return e.post(ctx, id, &protos.HistoryEvent{
		EventId: -1, Timestamp: timestamppb.Now(),
		EventType: &protos.HistoryEvent_ExecutionTerminated{ExecutionTerminated: &protos.ExecutionTerminatedEvent{Input: text(reason), Recurse: true}},
	})
}

func (e *embedded) post(ctx context.Context, id string, event *protos.HistoryEvent) error {
	return ours(e.hub.Post(ctx, id, event))
}

func (e *embedded) status(ctx context.Context, id string) (Status, error) {
	m, err := e.hub.GetWorkflowMetadata(ctx, api.InstanceID(id))
	if err != nil {
		return Status{}, ours(err)
	}
	return statusOf(m), nil
}

func (e *embedded) wait(ctx context.Context, id string) (Status, error) {
	var last *protos.WorkflowMetadata
	if err := e.hub.WatchWorkflowRuntimeStatus(ctx, api.InstanceID(id), func(m *protos.WorkflowMetadata) bool {
		last = m
		return api.WorkflowMetadataIsComplete(m)
	}); err != nil {
		return Status{}, ours(err)
	}
	return statusOf(last), nil
}

func (e *embedded) purge(ctx context.Context, id string) error { return ours(e.hub.Purge(ctx, id)) }

func text(raw []byte) *wrapperspb.StringValue {
	if raw == nil {
		return nil
	}
	return wrapperspb.String(string(raw))
}

// ours puts our words for the library's errors.
func ours(err error) error {
	switch {
	case errors.Is(err, api.ErrInstanceNotFound):
		return fmt.Errorf("%w: %w", ErrNotFound, err)
	case errors.Is(err, api.ErrNotCompleted):
		return fmt.Errorf("%w: %w", ErrNotEnded, err)
	}
	return err
}

func statusOf(m *protos.WorkflowMetadata) Status {
	s := Status{
		ID: m.GetInstanceId(), Name: m.GetName(), State: stateOf(m.GetRuntimeStatus()),
		CreatedAt: m.GetCreatedAt().AsTime(), UpdatedAt: m.GetLastUpdatedAt().AsTime(),
	}
	if v := m.GetOutput().GetValue(); v != "" {
		s.Output = []byte(v)
	}
	s.Failure = m.GetFailureDetails().GetErrorMessage()
	return s
}

func stateOf(s protos.OrchestrationStatus) State {
	switch s {
	case protos.OrchestrationStatus_ORCHESTRATION_STATUS_PENDING:
		return Pending
	case protos.OrchestrationStatus_ORCHESTRATION_STATUS_SUSPENDED:
		return Suspended
	case protos.OrchestrationStatus_ORCHESTRATION_STATUS_STALLED:
		return Stalled
	case protos.OrchestrationStatus_ORCHESTRATION_STATUS_COMPLETED:
		return Completed
	case protos.OrchestrationStatus_ORCHESTRATION_STATUS_FAILED:
		return Failed
	case protos.OrchestrationStatus_ORCHESTRATION_STATUS_TERMINATED, protos.OrchestrationStatus_ORCHESTRATION_STATUS_CANCELED:
		return Terminated
	case protos.OrchestrationStatus_ORCHESTRATION_STATUS_RUNNING, protos.OrchestrationStatus_ORCHESTRATION_STATUS_CONTINUED_AS_NEW:
		return Running
	}
	return Running
}
