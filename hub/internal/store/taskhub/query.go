package taskhub

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/dapr/durabletask-go/api"
	"github.com/dapr/durabletask-go/api/protos"
	"github.com/dapr/durabletask-go/backend"
	"github.com/jackc/pgx/v5"
	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// GetWorkflowRuntimeState reads the history of an instance.
func (h *Hub) GetWorkflowRuntimeState(ctx context.Context, wi *backend.WorkflowWorkItem) (*backend.WorkflowRuntimeState, error) {
	history, err := h.GetInstanceHistory(ctx, &protos.GetInstanceHistoryRequest{InstanceId: string(wi.InstanceID)})
	if err != nil {
		return nil, err
	}
	return newState(string(wi.InstanceID), history.GetEvents()), nil
}

// GetInstanceHistory returns all that an instance's turns added.
func (h *Hub) GetInstanceHistory(ctx context.Context, req *backend.GetInstanceHistoryRequest) (*backend.GetInstanceHistoryResponse, error) {
	rows, err := h.pool.Query(ctx, "SELECT events FROM wf.history WHERE instance_id = $1 ORDER BY turn", req.GetInstanceId())
	if err != nil {
		return nil, fmt.Errorf("read history of %s: %w", req.GetInstanceId(), err)
	}
	var all []*backend.HistoryEvent
	var raw []byte
	if _, err := pgx.ForEachRow(rows, []any{&raw}, func() error {
		events, err := decodeEvents(raw)
		all = append(all, events...)
		return err
	}); err != nil {
		return nil, fmt.Errorf("read history of %s: %w", req.GetInstanceId(), err)
	}
	return &backend.GetInstanceHistoryResponse{Events: all}, nil
}

const metadataSQL = `
SELECT name, status, custom_status, start, output, failure, created_at, started_at, updated_at FROM wf.instances WHERE id = $1`

// GetWorkflowMetadata says how an instance is. It fails with
// api.ErrInstanceNotFound when there is none.
func (h *Hub) GetWorkflowMetadata(ctx context.Context, iid api.InstanceID) (*backend.WorkflowMetadata, error) {
	m := &backend.WorkflowMetadata{InstanceId: string(iid)}
	var status status
	var custom string
	var start, failure []byte
	var output *string
	var created, updated time.Time
	var started *time.Time
	err := h.pool.QueryRow(ctx, metadataSQL, string(iid)).Scan(&m.Name, &status, &custom, &start, &output, &failure, &created, &started, &updated)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, api.ErrInstanceNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("look up %s: %w", iid, err)
	}
	m.RuntimeStatus = status.library()
	m.CreatedAt, m.LastUpdatedAt = timestamppb.New(created), timestamppb.New(updated)
	m.CustomStatus = wrapperspb.String(custom)
	if started != nil {
		m.StartedAt = timestamppb.New(*started)
	}
	if output != nil {
		m.Output = wrapperspb.String(*output)
	}
	if failure != nil {
		var details protos.TaskFailureDetails
		if err := proto.Unmarshal(failure, &details); err != nil {
			return nil, fmt.Errorf("decode failure of %s: %w", iid, err)
		}
		m.FailureDetails = &details
	}
	e, err := decodeEvent(start)
	if err != nil {
		return nil, fmt.Errorf("start of %s: %w", iid, err)
	}
	s := e.GetExecutionStarted()
	m.Input, m.Version = s.GetInput(), s.GetVersion()
	if p := s.GetParentInstance(); p != nil {
		m.ParentInstanceId = p.GetWorkflowInstance().GetInstanceId()
		m.ParentAppId = wrapperspb.String(p.GetAppID())
	}
	return m, nil
}

// Watching looks again soon at first, and then ever more seldom: it is for
// instances that others end. An end in this process is told at once.
const (
	watchFirst = 20 * time.Millisecond
	watchLast  = 250 * time.Millisecond
)

// WatchWorkflowRuntimeStatus returns once condition holds.
func (h *Hub) WatchWorkflowRuntimeStatus(ctx context.Context, id api.InstanceID, condition func(*backend.WorkflowMetadata) bool) error {
	ended, cancel := h.ended.watch(string(id))
	defer cancel()
	for pause := watchFirst; ; pause = min(pause*2, watchLast) {
		m, err := h.GetWorkflowMetadata(ctx, id)
		if err != nil {
			return err
		}
		if condition(m) {
			return nil
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		case <-ended:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// watchers are those in this process who wait for the end of an instance.
type watchers struct {
	mu      sync.Mutex // guards waiting
	waiting map[string]map[chan struct{}]struct{}
}

func (w *watchers) watch(id string) (ended <-chan struct{}, cancel func()) {
	c := make(chan struct{}, 1)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.waiting[id] == nil {
		w.waiting[id] = map[chan struct{}]struct{}{}
	}
	w.waiting[id][c] = struct{}{}
	return c, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.waiting[id], c)
		if len(w.waiting[id]) == 0 {
			delete(w.waiting, id)
		}
	}
}

func (w *watchers) tell(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.waiting[id] {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// defaultPage and maxPage bound a page of ids.
const (
	defaultPage = 100
	maxPage     = 1000
)

// ListInstanceIDs returns a page of ids, in order. The token of the next page
// is the last id of this one.
func (h *Hub) ListInstanceIDs(ctx context.Context, req *backend.ListInstanceIDsRequest) (*backend.ListInstanceIDsResponse, error) {
	size := min(int(req.GetPageSize()), maxPage)
	if size == 0 {
		size = defaultPage
	}
	rows, err := h.pool.Query(ctx, "SELECT id FROM wf.instances WHERE id > $1 ORDER BY id LIMIT $2", req.GetContinuationToken(), size+1)
	if err != nil {
		return nil, fmt.Errorf("list instances: %w", err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("list instances: %w", err)
	}
	page := &backend.ListInstanceIDsResponse{InstanceIds: ids}
	if len(ids) > size {
		page.InstanceIds = ids[:size]
		page.ContinuationToken = &ids[size-1]
	}
	return page, nil
}

// CreateTaskHub does nothing: the tables are made by migrations.
func (h *Hub) CreateTaskHub(context.Context) error { return nil }

// DeleteTaskHub is refused: the tables go with the migrations.
func (h *Hub) DeleteTaskHub(context.Context) error {
	return errors.New("the task hub's tables belong to the schema; take the migration back instead")
}

// Start does nothing: Claim and Keep are what runs.
func (h *Hub) Start(context.Context) error { return nil }

// Stop does nothing: Claim and Keep end with their contexts.
func (h *Hub) Stop(context.Context) error { return nil }

// RerunWorkflowFromEvent is not offered; a workflow is started anew instead.
func (h *Hub) RerunWorkflowFromEvent(context.Context, *backend.RerunWorkflowFromEventRequest) (api.InstanceID, error) {
	return "", grpcstatus.Error(codes.Unimplemented, "a workflow is not run again from its middle; start a new one")
}
