package taskhub

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/dapr/durabletask-go/api/protos"
	"github.com/dapr/durabletask-go/backend"
	"github.com/dapr/durabletask-go/backend/runtimestate"
	"google.golang.org/protobuf/proto"

	"github.com/budecosystem/budcluster/internal/logkey"
)

func marshal(m proto.Message) ([]byte, error) { return proto.Marshal(m) }

// encodeEvents writes what one turn added to a history, as the message that
// answers a question for a history: it is nothing but a list of events. No
// events are nil.
func encodeEvents(events []*backend.HistoryEvent) ([]byte, error) {
	if len(events) == 0 {
		return nil, nil
	}
	return proto.Marshal(&protos.GetInstanceHistoryResponse{Events: events})
}

func decodeEvents(raw []byte) ([]*backend.HistoryEvent, error) {
	var m protos.GetInstanceHistoryResponse
	if err := proto.Unmarshal(raw, &m); err != nil {
		return nil, fmt.Errorf("decode history: %w", err)
	}
	return m.GetEvents(), nil
}

func decodeEvent(raw []byte) (*backend.HistoryEvent, error) {
	var e backend.HistoryEvent
	if err := proto.Unmarshal(raw, &e); err != nil {
		return nil, fmt.Errorf("decode event: %w", err)
	}
	return &e, nil
}

func newState(id string, history []*backend.HistoryEvent) *protos.WorkflowRuntimeState {
	return runtimestate.NewWorkflowRuntimeState(id, nil, history)
}

// status is how an instance's status is written in the tables.
type status string

// The statuses.
const (
	statusPending    status = "Pending"    // no turn yet
	statusRunning    status = "Running"    //
	statusCompleted  status = "Completed"  //
	statusFailed     status = "Failed"     // its function returned an error
	statusTerminated status = "Terminated" // somebody ended it
	statusCanceled   status = "Canceled"   //
	statusSuspended  status = "Suspended"  // it takes no notice until it is resumed
	statusStalled    status = "Stalled"    // no replica that tried knows its version
)

// statuses pairs the library's with ours.
func statuses() map[protos.OrchestrationStatus]status {
	return map[protos.OrchestrationStatus]status{
		protos.OrchestrationStatus_ORCHESTRATION_STATUS_PENDING:    statusPending,
		protos.OrchestrationStatus_ORCHESTRATION_STATUS_RUNNING:    statusRunning,
		protos.OrchestrationStatus_ORCHESTRATION_STATUS_COMPLETED:  statusCompleted,
		protos.OrchestrationStatus_ORCHESTRATION_STATUS_FAILED:     statusFailed,
		protos.OrchestrationStatus_ORCHESTRATION_STATUS_TERMINATED: statusTerminated,
		protos.OrchestrationStatus_ORCHESTRATION_STATUS_CANCELED:   statusCanceled,
		protos.OrchestrationStatus_ORCHESTRATION_STATUS_SUSPENDED:  statusSuspended,
		protos.OrchestrationStatus_ORCHESTRATION_STATUS_STALLED:    statusStalled,
	}
}

func statusOf(s *protos.WorkflowRuntimeState) status {
	if known, ok := statuses()[runtimestate.RuntimeStatus(s)]; ok {
		return known
	}
	return statusRunning
}

func (s status) library() protos.OrchestrationStatus {
	for theirs, ours := range statuses() {
		if ours == s {
			return theirs
		}
	}
	return protos.OrchestrationStatus_ORCHESTRATION_STATUS_RUNNING
}

func logInstance(id string) slog.Attr         { return slog.String(logkey.Instance, id) }
func logReason(why string) slog.Attr          { return slog.String(logkey.Reason, why) }
func logError(err error) slog.Attr            { return slog.Any(logkey.Error, err) }
func logRetryAfter(d time.Duration) slog.Attr { return slog.Duration(logkey.RetryAfter, d) }
