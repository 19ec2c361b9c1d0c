package platform

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/budecosystem/budcluster/hub/internal/cluster"
	"github.com/budecosystem/budcluster/hub/internal/mirror"
	"github.com/budecosystem/budcluster/hub/internal/page"
)

// maxConcurrent is what these answers always said.
const maxConcurrent = 10

// stale is from when on the platform calls what it knows of a cluster stale.
const stale = 5 * time.Minute

// fleet are all clusters.
func (s *Server) fleet(ctx context.Context) (all []*cluster.Cluster, err error) {
	p := page.Page{Limit: page.MaxLimit}
	for {
		some, next, err := s.cfg.Clusters.List(ctx, p)
		if err != nil {
			return nil, err
		}
		if all = append(all, some...); next == "" {
			return all, nil
		}
		p.Cursor = next
	}
}

// counts of a fleet: those that are in contact are up to date by that.
type counts struct {
	Total         int `json:"total"`
	Updated       int `json:"updated"`
	Failed        int `json:"failed"`
	Skipped       int `json:"skipped"`
	MaxConcurrent int `json:"max_concurrent"`
}

// binding tells the sidecar that a binding's route is there.
func (s *Server) binding(*http.Request) answer { return ok("ack", nil) }

// nodeCron answers the cron binding: nodes arrive as they change, so there is
// nothing to collect.
func (s *Server) nodeCron(r *http.Request) answer {
	all, err := s.fleet(r.Context())
	if err != nil {
		return s.problem(r.Context(), nil, err)
	}
	out := counts{Total: len(all), MaxConcurrent: maxConcurrent}
	for _, c := range all {
		switch c.State(s.now()) {
		case cluster.StateConnected:
			out.Updated++
		case cluster.StateUnknown:
			out.Failed++
		default:
			out.Skipped++
		}
	}
	return ok(fmt.Sprintf("Nodes are streamed by the agents: %d of %d clusters are in contact", out.Updated, out.Total), out)
}

// metricsCron answers the cron binding: agents push metrics themselves.
func (s *Server) metricsCron(r *http.Request) answer {
	all, err := s.fleet(r.Context())
	if err != nil {
		return s.problem(r.Context(), nil, err)
	}
	return ok(fmt.Sprintf("Metrics collection completed: 0/%d successful, 0 failed, %d skipped", len(all), len(all)),
		map[string]int{"total_clusters": len(all), "successful": 0, "failed": 0, "skipped": len(all)})
}

// deploymentCron answers the cron binding: deployments are streamed.
func (s *Server) deploymentCron(*http.Request) answer {
	return ok("Deployments are streamed by the agents: there is nothing to collect", counts{MaxConcurrent: maxConcurrent})
}

// syncEntry is one cluster of the history.
type syncEntry struct {
	ClusterID string     `json:"cluster_id"`
	State     string     `json:"status"`
	LastSync  *time.Time `json:"last_sync_time"`
}

// syncHealth is GET /cluster/periodic-node-status-update/health.
func (s *Server) syncHealth(r *http.Request) answer {
	all, err := s.fleet(r.Context())
	if err != nil {
		return s.problem(r.Context(), nil, err)
	}
	const most = 10
	history := []syncEntry{}
	var last *time.Time
	for _, c := range all {
		if c.LastSeen != nil && (last == nil || c.LastSeen.After(*last)) {
			last = c.LastSeen
		}
		if len(history) < most {
			history = append(history, syncEntry{c.ID.String(), string(mirror.StateOf(c, s.now(), s.cfg.Grace)), c.LastSeen})
		}
	}
	status := "healthy"
	switch {
	case last == nil:
		status = "initializing"
	case s.now().Sub(*last) > stale:
		status = "stale"
	}
	return ok("ack", map[string]any{
		"status": status, "schedule": "streamed", "binding_configured": true, "sync_history": history, "last_sync_time": last,
	})
}

// syncState is GET /cluster/periodic-node-status-update/state.
func (s *Server) syncState(r *http.Request) answer {
	all, err := s.fleet(r.Context())
	if err != nil {
		return s.problem(r.Context(), nil, err)
	}
	times, away := map[string]time.Time{}, map[string]any{}
	for _, c := range all {
		if c.LastSeen != nil {
			times[c.ID.String()] = c.LastSeen.UTC()
		}
		if c.State(s.now()) == cluster.StateUnknown {
			away[c.ID.String()] = map[string]any{"error": "the agent is not connected", "failed_at": c.LastSeen}
		}
	}
	return ok("ack", map[string]any{"active_syncs": empty{}, "last_sync_times": times, "failed_clusters": away})
}

// testJob is POST /job/test-job.
func (s *Server) testJob(w http.ResponseWriter, r *http.Request) answer {
	in, bad := s.json(w, r)
	if bad != nil {
		return *bad
	}
	message := in.text("message")
	if len(in.faults) > 0 {
		return unprocessable(in.faults)
	}
	return answer{http.StatusOK, data{map[string]string{"message": message}}}
}
