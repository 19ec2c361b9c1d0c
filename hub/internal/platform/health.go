package platform

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/budecosystem/budcluster/hub/internal/cluster"
	"github.com/budecosystem/budcluster/hub/internal/mirror"
)

// check is the outcome of one check.
type check struct {
	Healthy bool   `json:"healthy"`
	Message string `json:"message"`
	Count   *int   `json:"count"`
	Details any    `json:"details"`
}

// health is the platform's ClusterHealthResponse.
type health struct {
	Data map[string]check `json:"data"`
}

// checks are the checks by their names. What the agent does not watch is not
// claimed: the message says what the answer rests on.
func checks() map[string]func(*Server, *look) check {
	return map[string]func(*Server, *look) check{
		"nodes": (*Server).checkNodes, "api": (*Server).checkAPI, "storage": (*Server).checkStorage,
		"network": (*Server).checkNetwork, "gpu": (*Server).checkGPU,
	}
}

// clusterHealth is GET /cluster/{cluster_id}/health.
func (s *Server) clusterHealth(r *http.Request) answer {
	known := checks()
	names := []string{"nodes", "api", "storage", "network", "gpu"}
	var faults []fault
	if asked := r.URL.Query().Get("checks"); asked != "" {
		names = nil
		for name := range strings.SplitSeq(asked, ",") {
			name = strings.TrimSpace(name)
			switch {
			case name == "" || slices.Contains(names, name):
			case known[name] == nil:
				faults = append(faults, fault{Type: "value_error", Loc: []string{"query", "checks"}, Msg: fmt.Sprintf("checks: %q is no check; name some of nodes, api, storage, network and gpu, with commas", clip(name))})
			default:
				names = append(names, name)
			}
		}
	}
	l, bad := s.look(r)
	if bad != nil {
		return *bad
	}
	if len(faults) > 0 {
		return unprocessable(faults)
	}
	out := health{Data: map[string]check{}}
	for _, name := range names {
		out.Data[name] = known[name](s, l)
	}
	return answer{http.StatusOK, out}
}

// away is what every check says of a cluster that is not in contact.
func (s *Server) away(l *look) (check, bool) {
	if l.cluster.State(s.now()) == cluster.StateConnected || l.state == mirror.StateAvailable {
		return check{}, false
	}
	message := "The agent of the cluster has never been connected"
	if l.cluster.LastSeen != nil {
		message = "The agent of the cluster is not connected; it was last seen at " + l.cluster.LastSeen.UTC().Format(time.RFC3339)
	}
	return check{Message: message, Details: map[string]any{"state": l.state}}, true
}

func (s *Server) checkNodes(l *look) check {
	if away, is := s.away(l); is {
		return away
	}
	bad := []string{}
	for _, n := range l.nodes {
		if !n.Ready {
			bad = append(bad, n.Name)
		}
	}
	count := len(l.nodes)
	if len(bad) == 0 && count > 0 {
		return check{Healthy: true, Message: "All nodes ready", Count: &count, Details: map[string]any{"not_ready_nodes": bad}}
	}
	return check{Message: fmt.Sprintf("%d/%d nodes ready", count-len(bad), count), Count: &count, Details: map[string]any{"not_ready_nodes": bad}}
}

// checkAPI: the agent is connected, and it lives off the API server's watches.
func (s *Server) checkAPI(l *look) check {
	if away, is := s.away(l); is {
		return away
	}
	if len(l.cluster.Degraded) == 0 {
		return check{Healthy: true, Message: "API server responding"}
	}
	reasons := []string{}
	for _, d := range l.cluster.Degraded {
		reasons = append(reasons, d.Reason+": "+d.Message)
	}
	return check{Healthy: true, Message: "API server responding; the agent reports problems", Details: map[string]any{"degraded": reasons}}
}

// checkStorage rests on the storage classes: the agent watches no claims.
func (s *Server) checkStorage(l *look) check {
	if away, is := s.away(l); is {
		return away
	}
	if l.cluster.Facts == nil {
		return check{Message: "The agent has not described the cluster yet"}
	}
	classes, standard := []string{}, ""
	for _, c := range l.cluster.Facts.StorageClasses {
		if classes = append(classes, c.Name); c.Default {
			standard = c.Name
		}
	}
	count := len(classes)
	out := check{Healthy: count > 0, Count: &count, Details: map[string]any{"storage_classes": classes, "default": standard}}
	switch {
	case count == 0:
		out.Message = "No storage class in cluster: no volume can be made"
	case standard == "":
		out.Message = "Storage classes are there, none is the default; claims are not watched"
	default:
		out.Message = "Storage class " + standard + " is the default; claims are not watched"
	}
	return out
}

// checkNetwork rests on the agent's own connection, which needs the cluster's
// DNS and its way out.
func (s *Server) checkNetwork(l *look) check {
	if away, is := s.away(l); is {
		return away
	}
	return check{Healthy: true, Message: "Network operational: the agent reaches the hub"}
}

func (s *Server) checkGPU(l *look) check {
	if away, is := s.away(l); is {
		return away
	}
	capacity, allocatable := map[string]int64{}, map[string]int64{}
	var total, usable int64
	for _, n := range l.nodes {
		for resource, count := range n.Capacity.Extended {
			if accelerator(resource) {
				capacity[resource] += count
				total += count
			}
		}
		for resource, count := range n.Allocatable.Extended {
			if accelerator(resource) && n.Ready {
				allocatable[resource] += count
				usable += count
			}
		}
	}
	count := int(usable)
	details := map[string]any{"capacity": capacity, "allocatable": allocatable, "total": total, "available": usable}
	if devices := unserved(l); total == 0 && devices > 0 {
		return check{Message: fmt.Sprintf("%d accelerators are there and no device plugin serves them", devices), Count: &count, Details: details}
	}
	switch {
	case total == 0:
		return check{Healthy: true, Message: "No GPUs in cluster", Count: &count, Details: details}
	case usable < total:
		return check{Message: fmt.Sprintf("%d/%d GPUs available", usable, total), Count: &count, Details: details}
	default:
		return check{Healthy: true, Message: fmt.Sprintf("All %d GPUs available", total), Count: &count, Details: details}
	}
}

func accelerator(resource string) bool {
	return resource == "nvidia.com/gpu" || resource == "amd.com/gpu" || resource == "habana.ai/gaudi"
}

// unserved counts accelerators that only labels tell of.
func unserved(l *look) (n int) {
	for _, node := range l.entry.Nodes {
		for _, d := range node.Devices {
			if !strings.HasPrefix(d.Type, "cpu") {
				n++
			}
		}
	}
	return n
}
