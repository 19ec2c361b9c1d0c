package platform

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/budecosystem/budcluster/hub/internal/event"
	"github.com/budecosystem/budcluster/hub/internal/page"
)

// maxEvents bounds what is read of the record for one answer.
const maxEvents = 5000

// nodeEvent is what happened to a node, in the form of Kubernetes's events.
type nodeEvent struct {
	Type           string      `json:"type"`
	Reason         string      `json:"reason"`
	Message        string      `json:"message"`
	Count          int         `json:"count"`
	FirstTimestamp time.Time   `json:"first_timestamp"`
	LastTimestamp  time.Time   `json:"last_timestamp"`
	Source         eventSource `json:"source"`
}

type eventSource struct {
	Component string `json:"component"`
	Host      string `json:"host"`
}

// data is the envelope of these routes.
type data struct {
	Data any `json:"data"`
}

// nodeRecord reads what the hub's record has of the nodes of a cluster: they
// were added, changed, removed. What Kubernetes's own events say is not streamed.
func (s *Server) nodeRecord(ctx context.Context, id uuid.UUID) (all []event.Event, err error) {
	f := event.Filter{ClusterID: &id, Types: []string{string(event.NodeAdded), string(event.NodeChanged), string(event.NodeRemoved)}, Limit: page.MaxLimit}
	for len(all) < maxEvents {
		some, err := s.cfg.Events.List(ctx, f)
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
		if len(some) < f.Limit {
			return all, nil
		}
		f.After = some[len(some)-1].ID
	}
	return all, nil
}

// countEvents is GET /cluster/{cluster_id}/events-count-by-node.
func (s *Server) countEvents(r *http.Request) answer {
	record, bad := s.clusterRecord(r)
	if bad != nil {
		return *bad
	}
	counts := map[string]int{}
	for _, e := range record {
		if !e.Transient {
			counts[e.Subject]++
		}
	}
	return answer{http.StatusOK, data{counts}}
}

// nodeEvents is GET /cluster/{cluster_id}/node-wise-events/{node_hostname}.
func (s *Server) nodeEvents(r *http.Request) answer {
	record, bad := s.clusterRecord(r)
	if bad != nil {
		return *bad
	}
	out := []nodeEvent{}
	name := r.PathValue("node_hostname")
	for _, e := range slices.Backward(record) { // the newest first
		if e.Transient || e.Subject != name {
			continue
		}
		if last := len(out) - 1; last >= 0 && out[last].Message == e.Message {
			out[last].Count++
			out[last].FirstTimestamp = e.At.UTC()
			continue
		}
		out = append(out, nodeEvent{
			Type: "Normal", Reason: reasonOf(e.Type), Message: e.Message, Count: 1, FirstTimestamp: e.At.UTC(), LastTimestamp: e.At.UTC(),
			Source: eventSource{Component: "budcluster", Host: name},
		})
	}
	if len(out) == 0 {
		id, _ := pathID(r, "cluster_id")
		if _, err := s.cfg.Inventory.Node(r.Context(), id, name); err != nil {
			return s.problem(r.Context(), nil, err)
		}
	}
	return answer{http.StatusOK, data{map[string]any{"events": out}}}
}

func reasonOf(t event.Type) string {
	switch t {
	case event.NodeAdded:
		return "NodeAdded"
	case event.NodeRemoved:
		return "NodeRemoved"
	default:
		return "NodeChanged"
	}
}

func (s *Server) clusterRecord(r *http.Request) ([]event.Event, *answer) {
	id, bad := pathID(r, "cluster_id")
	if bad != nil {
		return nil, bad
	}
	if _, bad := s.find(r.Context(), id); bad != nil {
		return nil, bad
	}
	record, err := s.nodeRecord(r.Context(), id)
	if err != nil {
		a := s.problem(r.Context(), nil, err)
		return nil, &a
	}
	return record, nil
}
