package taskhub

import (
	"testing"
	"time"

	"github.com/dapr/durabletask-go/api/protos"
	"github.com/dapr/durabletask-go/backend"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

func someEvents() []*backend.HistoryEvent {
	at := timestamppb.New(time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC))
	return []*backend.HistoryEvent{
		{EventId: -1, Timestamp: at, EventType: &protos.HistoryEvent_WorkflowStarted{WorkflowStarted: &protos.WorkflowStartedEvent{}}},
		{EventId: -1, Timestamp: at, EventType: &protos.HistoryEvent_ExecutionStarted{ExecutionStarted: &protos.ExecutionStartedEvent{
			Name: "register_cluster", Input: wrapperspb.String(`{}`), WorkflowInstance: &protos.WorkflowInstance{InstanceId: "x"},
		}}},
		{EventId: 0, Timestamp: at, EventType: &protos.HistoryEvent_TaskScheduled{TaskScheduled: &protos.TaskScheduledEvent{Name: "verify"}}},
		{EventId: -1, Timestamp: at, EventType: &protos.HistoryEvent_TaskCompleted{TaskCompleted: &protos.TaskCompletedEvent{}}},
		{EventId: 9, Timestamp: at, EventType: &protos.HistoryEvent_ExecutionCompleted{ExecutionCompleted: &protos.ExecutionCompletedEvent{
			WorkflowStatus: protos.OrchestrationStatus_ORCHESTRATION_STATUS_COMPLETED,
		}}},
	}
}

func TestHistoryRoundTrips(t *testing.T) {
	t.Parallel()
	raw, err := encodeEvents(someEvents())
	require.NoError(t, err)
	got, err := decodeEvents(raw)
	require.NoError(t, err)
	require.Len(t, got, len(someEvents()))
	for i, want := range someEvents() {
		require.True(t, proto.Equal(want, got[i]))
	}
	raw, err = encodeEvents(nil)
	require.NoError(t, err)
	require.Nil(t, raw, "no row for nothing")
	require.Equal(t, "{}", arrayText(nil))
	require.Equal(t, "{1,-2}", arrayText([]int64{1, -2}))
}

// Each status has a name in the tables, and the name leads back.
func TestStatusesRoundTrip(t *testing.T) {
	t.Parallel()
	for theirs, ours := range statuses() {
		require.Equal(t, theirs, ours.library())
	}
	for number, name := range protos.OrchestrationStatus_name {
		theirs := protos.OrchestrationStatus(number)
		if theirs == protos.OrchestrationStatus_ORCHESTRATION_STATUS_CONTINUED_AS_NEW {
			continue // is on by the time it is written
		}
		require.Contains(t, statuses(), theirs, name)
	}
}

// FuzzDecodeHistory: no bytes in a table make a hub panic, neither when they
// are decoded nor when a state is made of them; what decodes is encoded again.
func FuzzDecodeHistory(f *testing.F) {
	raw, err := encodeEvents(someEvents())
	require.NoError(f, err)
	f.Add(raw)
	f.Add(raw[:len(raw)/2])
	f.Add([]byte{0xff})
	for _, e := range someEvents() {
		one, err := marshal(e)
		require.NoError(f, err)
		f.Add(one)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if e, err := decodeEvent(raw); err == nil {
			_, err := newCreateOp(e)
			_ = err // most are no starts
			newState("x", []*backend.HistoryEvent{e})
		}
		events, err := decodeEvents(raw)
		if err != nil {
			return
		}
		s := newState("x", events)
		_ = statusOf(s)
		settleState(s)
		again, err := encodeEvents(events)
		require.NoError(t, err)
		got, err := decodeEvents(again)
		require.NoError(t, err)
		require.Len(t, got, len(events))
	})
}
