package platform

import (
	"net/http"
	"strings"
)

// route is one row of the table.
type route struct {
	method, pattern, about string
	// takes is the media type of the body that it reads, empty when it reads none.
	takes string
	serve func(*Server, http.ResponseWriter, *http.Request) answer
}

// The bodies that routes take.
const (
	nothing   = ""
	jsonBody  = "application/json"
	formBody  = "multipart/form-data"
	eventBody = "application/cloudevents+json"
)

// plain is a route that needs nothing of the response but the answer.
func plain(serve func(*Server, *http.Request) answer) func(*Server, http.ResponseWriter, *http.Request) answer {
	return func(s *Server, _ http.ResponseWriter, r *http.Request) answer { return serve(s, r) }
}

// The routes of cron bindings. The sidecar asks by OPTIONS whether there are any.
const (
	pathNodeCron       = "/cluster/periodic-node-status-update"
	pathMetricsCron    = "/metrics/collect-all-cluster-metrics"
	pathDeploymentCron = "/deployment/periodic-deployment-status-update"
)

// The routes that describe the others.
const (
	pathOpenAPI = "/openapi.json"
	pathDocs    = "/docs"
)

// routes is the whole face.
func routes() []route {
	return append([]route{
		{http.MethodPost, "/cluster", "onboard a cluster with its kubeconfig", formBody, (*Server).createCluster},
		{http.MethodPatch, "/cluster/{cluster_id}", "change where a cluster's models are reached", jsonBody, (*Server).editCluster},
		{http.MethodPost, "/cluster/update-node-status", "ask a cluster how it is", jsonBody, (*Server).updateStatus},
		{http.MethodPost, "/cluster/delete", "take a cluster out of the fleet", jsonBody, (*Server).deleteCluster},
		{http.MethodPost, "/cluster/cancel/{workflow_id}", "cancel an onboarding and undo what it made", nothing, plain((*Server).cancelWorkflow)},
		{http.MethodGet, "/cluster/{cluster_id}/events-count-by-node", "count what happened to each node", nothing, plain((*Server).countEvents)},
		{http.MethodGet, "/cluster/{cluster_id}/node-wise-events/{node_hostname}", "list what happened to a node", nothing, plain((*Server).nodeEvents)},
		{http.MethodGet, "/cluster/{cluster_id}/nodes", "list nodes with their hardware", nothing, plain((*Server).listNodes)},
		{http.MethodGet, "/cluster/{cluster_id}/device-info", "list nodes as the planner sees them", nothing, plain((*Server).deviceInfo)},
		{http.MethodGet, "/cluster/{cluster_id}/get-config", "say what replaces the kubeconfig", nothing, plain((*Server).getConfig)},
		{http.MethodGet, "/cluster/{cluster_id}/storage-classes", "list storage classes", nothing, plain((*Server).storageClasses)},
		{http.MethodGet, "/cluster/{cluster_id}/health", "check a cluster", nothing, plain((*Server).clusterHealth)},
		{http.MethodPost, pathNodeCron, "accept the cron binding: nodes are streamed", nothing, plain((*Server).nodeCron)},
		{http.MethodOptions, pathNodeCron, "say that there is this binding", nothing, plain((*Server).binding)},
		{http.MethodPost, pathNodeCron + "/trigger", "answer as the cron binding does", nothing, plain((*Server).nodeCron)},
		{http.MethodGet, pathNodeCron + "/health", "say how fresh the nodes are", nothing, plain((*Server).syncHealth)},
		{http.MethodGet, pathNodeCron + "/state", "say when each cluster was last heard", nothing, plain((*Server).syncState)},
		{http.MethodPost, "/job/test-job", "give a message back", jsonBody, (*Server).testJob},
		{http.MethodPost, pathMetricsCron, "accept the cron binding: agents push metrics", nothing, plain((*Server).metricsCron)},
		{http.MethodOptions, pathMetricsCron, "say that there is this binding", nothing, plain((*Server).binding)},
		{http.MethodPost, pathDeploymentCron, "accept the cron binding: deployments are streamed", nothing, plain((*Server).deploymentCron)},
		{http.MethodOptions, pathDeploymentCron, "say that there is this binding", nothing, plain((*Server).binding)},
		{http.MethodGet, "/{$}", "say what this is", nothing, plain((*Server).info)},
		{http.MethodGet, "/health", "say that the hub lives", nothing, plain((*Server).health)},
		{http.MethodGet, "/sync/configurations", "read the settings again", nothing, plain((*Server).syncSettings)},
		{http.MethodGet, "/sync/secrets", "read the secrets again", nothing, plain((*Server).syncSecrets)},
		{http.MethodGet, "/register", "say to the other services where this one is", nothing, plain((*Server).register)},
		{http.MethodGet, "/workflow/{workflow_id}/status", "say where a workflow stands", nothing, plain((*Server).workflowStatus)},
		{http.MethodDelete, "/workflow/{workflow_id}/stop", "cancel a workflow and undo what it made", nothing, plain((*Server).stopWorkflow)},
		{http.MethodPost, "/workflow/{workflow_id}/pause", "refuse to pause", nothing, plain((*Server).pauseWorkflow)},
		{http.MethodPost, "/workflow/{workflow_id}/resume", "refuse to resume", nothing, plain((*Server).pauseWorkflow)},
		{http.MethodPost, "/workflow/{workflow_id}/restart", "try a failed workflow again", nothing, plain((*Server).restartWorkflow)},
		{http.MethodGet, pathOpenAPI, "describe these routes", nothing, plain((*Server).openapi)},
		{http.MethodGet, pathDocs, "describe these routes to people", nothing, (*Server).docs},
		{http.MethodGet, "/dapr/subscribe", "name the topics to subscribe to", nothing, plain((*Server).subscriptions)},
		{http.MethodGet, "/dapr/config", "say that there are no actors here", nothing, plain((*Server).daprConfig)},
		{http.MethodPost, "/notifications", "take answers of other services off the topic", eventBody, (*Server).notifications},
		{http.MethodPost, "/configuration/{store}/{key}", "hear that a setting changed", nothing, (*Server).settingChanged},
	}, modelRoutes()...)
}

// matches reports whether the path is one of the route's.
func (r route) matches(path string) bool {
	have := strings.Split(strings.TrimSuffix(path, "/"), "/")
	want := strings.Split(strings.TrimSuffix(strings.TrimSuffix(r.pattern, "{$}"), "/"), "/")
	if len(have) != len(want) {
		return false
	}
	for i := range want {
		if want[i] != have[i] && !strings.HasPrefix(want[i], "{") {
			return false
		}
	}
	return true
}

func (s *Server) serve(r route) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		a := r.serve(s, w, req)
		if a.body == nil { // the route has answered by itself
			return
		}
		s.write(req.Context(), w, a)
	}
}
