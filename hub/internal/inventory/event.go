package inventory

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/budecosystem/budcluster/internal/facts"
)

// The bounds of what is kept of Kubernetes's events about nodes.
const (
	// KeepEvents is how many of one cluster, the newest.
	KeepEvents = 500
	// KeepEventsFor is for how long.
	KeepEventsFor = 24 * time.Hour
)

// applyEvents stores what happened to nodes. A clock that is ahead does not keep
// an event longer, and what has no time happened now.
func (s *Service) applyEvents(ctx context.Context, clusterID uuid.UUID, events []facts.NodeEvent, at time.Time) error {
	oldest := at.Add(-KeepEventsFor)
	last := make(map[string]facts.NodeEvent, len(events)) // of a uid that is there twice the last counts
	for _, e := range events {
		if e.LastAt.IsZero() || e.LastAt.After(at) {
			e.LastAt = at
		}
		if e.FirstAt.IsZero() || e.FirstAt.After(e.LastAt) {
			e.FirstAt = e.LastAt
		}
		if e.UID != "" && e.Node != "" && !e.LastAt.Before(oldest) {
			last[e.UID] = e
		}
	}
	if len(last) == 0 {
		return nil
	}
	kept := make([]facts.NodeEvent, 0, len(last))
	for _, e := range last {
		kept = append(kept, e)
	}
	slices.SortFunc(kept, func(a, b facts.NodeEvent) int { return cmp.Or(b.LastAt.Compare(a.LastAt), cmp.Compare(a.UID, b.UID)) })
	return s.store.NodeEventsWrite(ctx, clusterID, kept[:min(len(kept), KeepEvents)], KeepEvents, oldest)
}

// NodeEvents returns what Kubernetes says happened to a node in the last day,
// the newest first.
func (s *Service) NodeEvents(ctx context.Context, clusterID uuid.UUID, node string) ([]facts.NodeEvent, error) {
	if !isName(node) {
		return nil, nil
	}
	events, err := s.store.NodeEventList(ctx, clusterID, node, s.now().UTC().Add(-KeepEventsFor))
	if err != nil {
		return nil, fmt.Errorf("list events of node %s: %w", node, err)
	}
	return events, nil
}

// NodeEventCounts returns how often something happened to each node in the last
// day; nodes to which nothing did are left out.
func (s *Service) NodeEventCounts(ctx context.Context, clusterID uuid.UUID) (map[string]int64, error) {
	counts, err := s.store.NodeEventCounts(ctx, clusterID, s.now().UTC().Add(-KeepEventsFor))
	if err != nil {
		return nil, fmt.Errorf("count events of nodes: %w", err)
	}
	return counts, nil
}
