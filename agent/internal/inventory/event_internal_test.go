package inventory

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func happened(uid string, count int32, last time.Time) *corev1.Event {
	return &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{Namespace: "default", Name: "n1." + uid, UID: types.UID(uid), Annotations: map[string]string{"big": "text"}},
		InvolvedObject: corev1.ObjectReference{Kind: "Node", Name: "n1"},
		Type:           "Warning", Reason: "DiskPressure", Message: "low", Count: count, Source: corev1.EventSource{Component: "kubelet", Host: "n1"},
		FirstTimestamp: metav1.NewTime(last.Add(-time.Hour)), LastTimestamp: metav1.NewTime(last),
	}
}

// TestEventsAboutNodes: all at first, then what is new or was counted again;
// the same again is nothing, and the oldest give way.
func TestEventsAboutNodes(t *testing.T) {
	t.Parallel()
	b := setup(t)
	s := b.eventStore()
	now := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	require.NoError(t, s.Replace([]any{happened("b", 1, now.Add(time.Minute)), happened("a", 1, now)}, ""))
	wake, take, stop := b.Watch()
	defer stop()
	uids := func() (uids []string) {
		t.Helper()
		nodes, cluster, events := take()
		require.Empty(t, nodes)
		require.False(t, cluster)
		for _, e := range events {
			uids = append(uids, e.GetUid())
		}
		return uids
	}
	<-wake
	require.Equal(t, []string{"a", "b"}, uids())
	require.NoError(t, s.Update(happened("a", 1, now)))
	require.Empty(t, uids(), "the same again")
	require.NoError(t, s.Update(happened("a", 7, now.Add(2*time.Minute))))
	<-wake
	_, _, events := take()
	require.Len(t, events, 1)
	require.Equal(t, int64(7), events[0].GetCount())
	require.Equal(t, []string{"Warning", "DiskPressure", "low", "kubelet", "n1", "n1"}, []string{
		events[0].GetType(), events[0].GetReason(), events[0].GetMessage(), events[0].GetComponent(), events[0].GetHost(), events[0].GetNode(),
	})

	for i := range maxEvents + 100 {
		require.NoError(t, s.Add(happened(fmt.Sprintf("x%03d", i), 1, now.Add(time.Hour+time.Duration(i)*time.Second))))
	}
	got := uids()
	require.Len(t, got, maxEvents)
	require.Equal(t, "x100", got[0], "the oldest gave way")
	require.NoError(t, s.Add(happened("late", 1, now)))
	require.Empty(t, uids(), "older than all that are kept")
	require.NoError(t, s.Delete(happened("x399", 1, now)))
	require.NoError(t, s.Add(happened("", 1, now)))
	require.Len(t, b.events, maxEvents-1)

	slim, err := slimEvent(happened("a", 1, now))
	require.NoError(t, err)
	require.Empty(t, slim.(*corev1.Event).Annotations)
}

// Events of the newer form have a series and a controller that reports them.
func TestReadEventWithSeries(t *testing.T) {
	t.Parallel()
	at := metav1.NewMicroTime(time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC))
	last := metav1.NewMicroTime(at.Add(time.Hour))
	e := readEvent(&corev1.Event{
		ObjectMeta: metav1.ObjectMeta{UID: "u"}, InvolvedObject: corev1.ObjectReference{Name: "n1"}, EventTime: at,
		Series:  &corev1.EventSeries{Count: 9, LastObservedTime: last},
		Message: strings.Repeat("é", 5000), ReportingController: "node-controller", ReportingInstance: "cp-1",
	})
	require.Equal(t, int64(9), e.Count)
	require.Equal(t, at.UTC(), e.FirstAt)
	require.Equal(t, last.UTC(), e.LastAt)
	require.Equal(t, []string{"node-controller", "cp-1"}, []string{e.Component, e.Host})
	require.LessOrEqual(t, len(e.Message), 1024)
	require.Equal(t, int64(1), readEvent(&corev1.Event{}).Count)
}
