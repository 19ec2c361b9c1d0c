package platform

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/budecosystem/budcluster/hub/internal/cluster"
	"github.com/budecosystem/budcluster/hub/internal/mirror"
	"github.com/budecosystem/budcluster/internal/facts"
)

// check is the outcome of one check. Healthy is null when it is not known, as
// of a cluster whose agent does not tell yet: callers that want true get it only
// from those that said so.
type check struct {
	Healthy *bool  `json:"healthy"`
	Message string `json:"message"`
	Count   *int   `json:"count"`
	Details any    `json:"details"`
}

// health is the platform's ClusterHealthResponse.
type health struct {
	Data map[string]check `json:"data"`
}

// unknown is a check that cannot be made.
func unknown(message string) check {
	return check{Message: message, Details: map[string]any{"state": "unknown"}}
}

// checks are the checks by their names.
func checks() map[string]func(*look) check {
	return map[string]func(*look) check{
		"nodes": checkNodes, "api": checkAPI, "storage": checkStorage, "network": checkNetwork, "gpu": checkGPU,
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
	found, err := s.cfg.Clusters.Presence(r.Context(), l.cluster.ID)
	if err != nil {
		return s.problem(r.Context(), nil, err)
	}
	l.presence = found.Answers
	for _, name := range names {
		if away, is := s.away(l); is {
			out.Data[name] = away
			continue
		}
		out.Data[name] = known[name](l)
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
	return check{Healthy: new(false), Message: message, Details: map[string]any{"state": l.state}}, true
}

func checkNodes(l *look) check {
	bad := []string{}
	for _, n := range l.nodes {
		if !n.Ready {
			bad = append(bad, n.Name)
		}
	}
	count := len(l.nodes)
	if len(bad) == 0 && count > 0 {
		return check{Healthy: new(true), Message: "All nodes ready", Count: &count, Details: map[string]any{"not_ready_nodes": bad}}
	}
	return check{Healthy: new(false), Message: fmt.Sprintf("%d/%d nodes ready", count-len(bad), count), Count: &count, Details: map[string]any{"not_ready_nodes": bad}}
}

// checkAPI: the agent is connected, and it lives off the API server's watches.
func checkAPI(l *look) check {
	if len(l.cluster.Degraded) == 0 {
		return check{Healthy: new(true), Message: "API server responding"}
	}
	reasons := []string{}
	for _, d := range l.cluster.Degraded {
		reasons = append(reasons, d.Reason+": "+d.Message)
	}
	return check{Healthy: new(true), Message: "API server responding; the agent reports problems", Details: map[string]any{"degraded": reasons}}
}

// notTold is what is said of facts that agents of older versions do not report,
// and those whose chart does not let them look.
const notTold = "Unknown: the agent of the cluster does not report %s; upgrade it together with its chart"

// checkStorage: each volume claim has its volume.
func checkStorage(l *look) check {
	if l.cluster.Facts == nil || l.cluster.Facts.Claims == nil {
		return unknown(fmt.Sprintf(notTold, "volume claims"))
	}
	classes, standard := []string{}, ""
	for _, c := range l.cluster.Facts.StorageClasses {
		if classes = append(classes, c.Name); c.Default {
			standard = c.Name
		}
	}
	claims := l.cluster.Facts.Claims
	count := int(claims.Bound + claims.Pending + claims.Lost)
	out := check{Healthy: new(claims.Pending+claims.Lost == 0), Count: &count, Details: map[string]any{
		"pending_pvcs": list(claims.PendingNames), "failed_pvcs": list(claims.LostNames), "storage_classes": classes, "default": standard,
	}}
	switch {
	case count == 0:
		out.Message = "No PVCs in cluster"
	case *out.Healthy:
		out.Message = "All PVCs bound"
	default:
		out.Message = fmt.Sprintf("%d/%d PVCs bound, %d pending, %d lost", claims.Bound, count, claims.Pending, claims.Lost)
	}
	return out
}

// list is never null.
func list(names []string) []string {
	if names == nil {
		return []string{}
	}
	return names
}

// checkNetwork: pods find each other by name.
func checkNetwork(l *look) check {
	if l.cluster.Facts == nil || l.cluster.Facts.DNS == nil {
		return unknown(fmt.Sprintf(notTold, "the DNS service"))
	}
	dns := l.cluster.Facts.DNS
	if dns.Service == "" {
		return check{Healthy: new(false), Message: "No DNS service in kube-system or openshift-dns", Details: map[string]any{"dns_service": nil}}
	}
	out := check{Healthy: new(true), Message: "Network operational: DNS service " + dns.Service + " is there", Details: map[string]any{"dns_service": dns.Service}}
	if dns.Ready != nil {
		out.Count = new(int(*dns.Ready))
		out.Healthy = new(*dns.Ready > 0)
		out.Message = fmt.Sprintf("Network operational: DNS service %s has %d ready pods", dns.Service, *dns.Ready)
	}
	if !*out.Healthy {
		out.Message = "DNS service " + dns.Service + " has no ready pod"
	}
	return out
}

// checkGPU: what the nodes have can be had by pods, and the device plugin that
// hands it out is there.
func checkGPU(l *look) check {
	capacity, allocatable := map[string]int64{}, map[string]int64{}
	var total, usable int64
	for _, n := range l.nodes {
		for resource, count := range n.Capacity.Extended {
			if accelerator(resource) && count > 0 {
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
	out := check{Healthy: new(false), Count: &count, Details: details}
	if devices := unserved(l); total == 0 && devices > 0 {
		out.Message = fmt.Sprintf("%d accelerators are there and no device plugin serves them", devices)
		return out
	}
	if total == 0 {
		out.Healthy, out.Message = new(true), "No GPUs in cluster"
		return out
	}
	states := map[string]pluginState{}
	for resource := range capacity {
		states[resource] = pluginOf(resource, l.presence)
	}
	details["device_plugins"] = states
	worst, of := worstPlugin(states)
	switch {
	case worst == pluginAbsent:
		out.Message = fmt.Sprintf("%d GPUs in cluster, and no device plugin for %s", total, of)
	case usable < total:
		out.Message = fmt.Sprintf("%d/%d GPUs available", usable, total)
	case worst == pluginNotReady:
		out.Message = "The device plugin for " + of + " is not ready"
	case worst == pluginUnknown:
		out.Healthy, out.Message = nil, "Unknown: the agent of the cluster does not say whether there is a device plugin for "+of
	default:
		out.Healthy, out.Message = new(true), fmt.Sprintf("All %d GPUs available", total)
	}
	return out
}

// pluginState says whether the device plugin of a resource is there.
type pluginState string

// The states of a device plugin, the worst first.
const (
	pluginAbsent   pluginState = "absent"
	pluginNotReady pluginState = "not ready"
	pluginUnknown  pluginState = "unknown"
	pluginReady    pluginState = "ready"
)

func worstPlugin(states map[string]pluginState) (worst pluginState, resource string) {
	for _, worst = range []pluginState{pluginAbsent, pluginNotReady, pluginUnknown} {
		for _, resource = range slices.Sorted(maps.Keys(states)) {
			if states[resource] == worst {
				return worst, resource
			}
		}
	}
	return pluginReady, ""
}

// plugins are the components whose DaemonSets hand out a resource. Any of them
// will do, whoever installed it.
func plugins(resource string) []string {
	switch resource {
	case "nvidia.com/gpu":
		return []string{"nvidia-gpu-operator", "hami"}
	case "amd.com/gpu":
		return []string{"amd-gpu"}
	case "habana.ai/gaudi":
		return []string{"intel-gaudi"}
	default:
		return nil
	}
}

func accelerator(resource string) bool { return plugins(resource) != nil }

// pluginOf looks among the agent's answers for the DaemonSet of a resource's
// device plugin.
func pluginOf(resource string, presence []facts.Presence) pluginState {
	state := pluginUnknown
	asked, silent := false, false
	for _, p := range presence {
		component, _, _ := strings.Cut(p.Probe, "/")
		if !slices.Contains(plugins(resource), component) {
			continue
		}
		asked = true
		switch {
		case p.State == facts.PresenceUnknown:
			silent = true
		case p.State != facts.PresenceFound || p.Kind != "DaemonSet":
		case p.Ready == nil || *p.Ready:
			return pluginReady
		default:
			state = pluginNotReady
		}
	}
	if state == pluginUnknown && asked && !silent {
		return pluginAbsent
	}
	return state
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
