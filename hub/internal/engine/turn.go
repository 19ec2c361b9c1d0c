package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/dapr/durabletask-go/api"
	"github.com/dapr/durabletask-go/api/protos"
	"github.com/dapr/durabletask-go/backend"
	"github.com/dapr/durabletask-go/workflow"
)

// errUnknown says that this process does not know a workflow or an activity.
// Another replica may: while hubs are upgraded, old ones and new ones share
// the work.
var errUnknown = errors.New("this replica does not know it; another may")

// turnLimit is how long a turn may take. A workflow's function computes and
// awaits; one that sleeps or calls out would hold up the end of the hub.
const turnLimit = time.Minute

// turns runs turns of workflows.
type turns struct{ registry *workflow.Registry }

var _ backend.WorkflowExecutor = (*turns)(nil)

// ExecuteWorkflow runs one turn. It does not end with ctx: turns are short,
// and one that is done is kept also when the hub stops.
func (t *turns) ExecuteWorkflow(ctx context.Context, iid api.InstanceID, past, fresh []*protos.HistoryEvent, opts backend.ExecuteOptions) (*protos.WorkflowResponse, error) {
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), turnLimit, fmt.Errorf("a turn took over %s; its function must not wait but by Await", turnLimit))
	defer cancel()
	e, err := send(ctx, t.registry, &protos.WorkItem{Request: &protos.WorkItem_WorkflowRequest{WorkflowRequest: &protos.WorkflowRequest{
		InstanceId: string(iid), PastEvents: past, NewEvents: fresh, PropagatedHistory: opts.PropagatedHistory,
	}}}, func() {})
	if err != nil {
		return nil, err
	}
	select {
	case answer := <-e.answer:
		response, ok := answer.(*protos.WorkflowResponse)
		if !ok {
			return nil, fmt.Errorf("the answer to a turn is a %T", answer)
		}
		if unknownWorkflow(response) && !terminates(fresh) {
			return nil, errUnknown
		}
		return response, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// unknownWorkflow reports whether the library failed a workflow because it is
// not registered here.
func unknownWorkflow(r *protos.WorkflowResponse) bool {
	for _, a := range r.GetActions() {
		if text := a.GetCompleteWorkflow().GetFailureDetails().GetErrorMessage(); strings.HasPrefix(text, "workflow named '") && strings.HasSuffix(text, "' is not registered") {
			return true
		}
	}
	return false
}

// terminates reports whether somebody wants the end of the instance: then it
// may fail, or there would be no end of it.
func terminates(events []*protos.HistoryEvent) bool {
	for _, e := range events {
		if e.GetExecutionTerminated() != nil {
			return true
		}
	}
	return false
}
