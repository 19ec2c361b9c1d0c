package inventory_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/internal/inventory"
	"github.com/budecosystem/budcluster/internal/facts"
)

func happened(uid, node string, count int64, last time.Time) facts.NodeEvent {
	return facts.NodeEvent{
		UID: uid, Node: node, Type: "Warning", Reason: "NodeNotReady", Message: "Node " + node + " status is now: NodeNotReady", Count: count,
		FirstAt: last.Add(-time.Hour), LastAt: last, Component: "node-controller",
	}
}

func (b *bundle) happenings(t *testing.T, cluster uuid.UUID, node string) []facts.NodeEvent {
	t.Helper()
	events, err := b.NodeEvents(t.Context(), cluster, node)
	require.NoError(t, err)
	return events
}

// What is sent again is counted, not doubled, and what a clock says that is
// ahead, or none, happened now.
func TestNodeEvents(t *testing.T) {
	t.Parallel()
	b := setup(t)
	at := b.now.Add(-time.Minute)
	b.apply(t, inventory.Delta{Events: []facts.NodeEvent{happened("a", "n1", 1, at.Add(-time.Minute)), happened("b", "n1", 2, at), happened("c", "n2", 1, at)}})
	b.apply(t, inventory.Delta{Events: []facts.NodeEvent{happened("a", "n1", 1, at.Add(-time.Minute)), happened("b", "n1", 3, at), happened("b", "n1", 5, at)}})
	require.Equal(t, []facts.NodeEvent{happened("b", "n1", 5, at), happened("a", "n1", 1, at.Add(-time.Minute))}, b.happenings(t, b.clusterID, "n1"))
	counts, err := b.NodeEventCounts(t.Context(), b.clusterID)
	require.NoError(t, err)
	require.Equal(t, map[string]int64{"n1": 6, "n2": 1}, counts)

	none := happened("d", "n3", 1, time.Time{})
	none.FirstAt = b.now.Add(time.Hour)
	b.apply(t, inventory.Delta{Events: []facts.NodeEvent{
		happened("", "n3", 1, at), happened("x", "", 1, at), happened("e", "n3", 1, b.now.Add(48*time.Hour)), none,
		happened("old", "n3", 1, b.now.Add(-inventory.KeepEventsFor-time.Second)),
	}})
	for _, e := range b.happenings(t, b.clusterID, "n3") {
		require.Contains(t, []string{"d", "e"}, e.UID)
		require.Equal(t, b.now, e.LastAt)
		require.False(t, e.FirstAt.After(e.LastAt))
	}
	require.Len(t, b.happenings(t, b.clusterID, "n3"), 2)
	require.Empty(t, b.happenings(t, b.clusterID, "n\x00"))
	require.Empty(t, b.since(t, 0), "they are not the hub's own events")
}

// The newest stay, for a day: also of a cluster that has fallen silent.
func TestNodeEventsAreBounded(t *testing.T) {
	t.Parallel()
	b := setup(t)
	silent := b.cluster(t, "silent")
	require.NoError(t, b.Apply(t.Context(), silent, inventory.Delta{Events: []facts.NodeEvent{happened("a", "n1", 1, b.now)}}))
	var many []facts.NodeEvent
	for i := range inventory.KeepEvents + 100 {
		many = append(many, happened(fmt.Sprintf("e%03d", i), "n1", 1, b.now.Add(time.Duration(i-1000)*time.Second)))
	}
	b.apply(t, inventory.Delta{Events: many[:400]})
	b.apply(t, inventory.Delta{Events: many[400:]})
	kept := b.happenings(t, b.clusterID, "n1")
	require.Len(t, kept, inventory.KeepEvents)
	require.Equal(t, "e599", kept[0].UID)
	require.Equal(t, "e100", kept[len(kept)-1].UID)

	b.now = b.now.Add(inventory.KeepEventsFor + time.Minute)
	require.Empty(t, b.happenings(t, silent, "n1"), "nobody is told what is older than a day")
	b.apply(t, inventory.Delta{Events: []facts.NodeEvent{happened("new", "n1", 1, b.now)}})
	rows := 0
	require.NoError(t, b.pool.QueryRow(t.Context(), `SELECT count(*) FROM node_events`).Scan(&rows))
	require.Equal(t, 1, rows)

	require.NoError(t, b.store.RetireDrop(t.Context(), b.clusterID, b.now))
	require.NoError(t, b.pool.QueryRow(t.Context(), `SELECT count(*) FROM node_events`).Scan(&rows))
	require.Zero(t, rows)
}
