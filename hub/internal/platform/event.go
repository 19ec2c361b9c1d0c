package platform

import (
	"net/http"
	"time"
)

// nodeEvent is what Kubernetes says happened to a node, in the form of its
// events.
type nodeEvent struct {
	Type           string      `json:"type"`
	Reason         string      `json:"reason"`
	Message        string      `json:"message"`
	Count          int64       `json:"count"`
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

// countEvents is GET /cluster/{cluster_id}/events-count-by-node.
func (s *Server) countEvents(r *http.Request) answer {
	id, bad := pathID(r, "cluster_id")
	if bad != nil {
		return *bad
	}
	if _, bad := s.find(r.Context(), id); bad != nil {
		return *bad
	}
	counts, err := s.cfg.Inventory.NodeEventCounts(r.Context(), id)
	if err != nil {
		return s.problem(r.Context(), nil, err)
	}
	return answer{http.StatusOK, data{counts}}
}

// nodeEvents is GET /cluster/{cluster_id}/node-wise-events/{node_hostname}. A node
// that is gone has its events for as long as they are kept.
func (s *Server) nodeEvents(r *http.Request) answer {
	id, bad := pathID(r, "cluster_id")
	if bad != nil {
		return *bad
	}
	if _, bad := s.find(r.Context(), id); bad != nil {
		return *bad
	}
	name := r.PathValue("node_hostname")
	events, err := s.cfg.Inventory.NodeEvents(r.Context(), id, name)
	if err == nil && len(events) == 0 {
		_, err = s.cfg.Inventory.Node(r.Context(), id, name)
	}
	if err != nil {
		return s.problem(r.Context(), nil, err)
	}
	out := make([]nodeEvent, 0, len(events))
	for _, e := range events {
		out = append(out, nodeEvent{
			Type: e.Type, Reason: e.Reason, Message: e.Message, Count: e.Count, FirstTimestamp: e.FirstAt.UTC(), LastTimestamp: e.LastAt.UTC(),
			Source: eventSource{Component: e.Component, Host: e.Host},
		})
	}
	return answer{http.StatusOK, data{map[string]any{"events": out}}}
}
