package api

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/budecosystem/budcluster/hub/internal/access"
	"github.com/budecosystem/budcluster/hub/internal/chart"
	"github.com/budecosystem/budcluster/internal/buildinfo"
	"github.com/budecosystem/budcluster/internal/kubeconfig"
)

// Limits of a request's body.
const (
	maxJSON  = 1 << 20
	maxChart = chart.MaxSize
)

// route is one line of the table of /v1.
type route struct {
	method, path string
	// role is what the key must have at least.
	role access.Role
	id   string
	// about is one sentence for the description.
	about string
	mount func(*Server, huma.Operation)
	// fails are the statuses that it answers with besides those of all.
	fails []int
}

// routes is the whole of /v1.
func routes() []route {
	const (
		get, put, post, del     = http.MethodGet, http.MethodPut, http.MethodPost, http.MethodDelete
		viewer, operator, admin = access.RoleViewer, access.RoleOperator, access.RoleAdmin
		gone, conflict, away    = http.StatusNotFound, http.StatusConflict, http.StatusServiceUnavailable
		stale, upstream         = http.StatusPreconditionFailed, http.StatusBadGateway
	)
	return []route{
		{get, "/v1/whoami", viewer, "whoami", "Say whose key this is", serve((*Server).whoami), nil},

		{get, "/v1/clusters", viewer, "listClusters", "List clusters", serve((*Server).listClusters), nil},
		{post, "/v1/clusters", operator, "createCluster", "Create a cluster and its first join token", serve((*Server).createCluster), []int{conflict}},
		{get, "/v1/clusters/{cluster}", viewer, "getCluster", "Show a cluster", serve((*Server).getCluster), []int{gone}},
		{del, "/v1/clusters/{cluster}", admin, "deleteCluster", "Forget a cluster and refuse its certificates; nothing in it is touched", serve((*Server).deleteCluster), []int{gone, conflict}},
		{post, "/v1/clusters/{cluster}/revoke", admin, "revokeCluster", "Refuse a cluster's certificates and close its tunnel", serve((*Server).revokeCluster), []int{gone}},
		{post, "/v1/clusters/{cluster}/retire", admin, "retireCluster", "Have a cluster's agent remove what the hub put there and then itself, and take the cluster out of the fleet", serve((*Server).retireCluster), []int{gone, conflict}},
		{get, "/v1/clusters/{cluster}/presence", viewer, "getPresence", "Show what was found in a cluster of what components are looked for, whoever put it there", serve((*Server).getPresence), []int{gone}},
		{get, "/v1/clusters/{cluster}/agent", viewer, "inspectAgent", "Ask a cluster's agent about itself, through the tunnel", serve((*Server).inspectAgent), []int{gone, conflict, away, upstream}},

		{get, "/v1/clusters/{cluster}/join-tokens", viewer, "listJoinTokens", "List a cluster's join tokens, without their text", serve((*Server).listTokens), []int{gone}},
		{post, "/v1/clusters/{cluster}/join-tokens", operator, "createJoinToken", "Create a join token", serve((*Server).createToken), []int{gone, conflict}},
		{del, "/v1/clusters/{cluster}/join-tokens/{id}", operator, "revokeJoinToken", "Make a join token useless", serve((*Server).revokeToken), []int{gone}},

		{get, "/v1/nodes", viewer, "listNodes", "List the nodes of the fleet", serve((*Server).listNodes), nil},
		{get, "/v1/devices", viewer, "listDevices", "List the devices of the fleet", serve((*Server).listDevices), nil},
		{get, "/v1/clusters/{cluster}/nodes", viewer, "listClusterNodes", "List a cluster's nodes", serve((*Server).listClusterNodes), []int{gone}},
		{get, "/v1/clusters/{cluster}/nodes/{node}", viewer, "getNode", "Show a node", serve((*Server).getNode), []int{gone}},
		{get, "/v1/clusters/{cluster}/devices", viewer, "listClusterDevices", "List a cluster's devices", serve((*Server).listClusterDevices), []int{gone}},

		{get, "/v1/releases", viewer, "listReleases", "List the releases of the fleet", serve((*Server).listReleases), nil},
		{get, "/v1/clusters/{cluster}/releases", viewer, "listClusterReleases", "List a cluster's releases", serve((*Server).listClusterReleases), []int{gone}},
		{get, "/v1/clusters/{cluster}/releases/{release}", viewer, "getRelease", "Show a release", serve((*Server).getRelease), []int{gone}},
		{put, "/v1/clusters/{cluster}/releases/{release}", operator, "applyRelease", "Want a release to be so; the same again changes nothing", serve((*Server).applyRelease), []int{gone, conflict, stale, upstream}},
		{del, "/v1/clusters/{cluster}/releases/{release}", operator, "deleteRelease", "Have a release removed from its cluster", serve((*Server).deleteRelease), []int{gone, conflict}},

		{post, "/v1/registrations", operator, "register", "Enter a cluster and make it ready for models; answers with the workflow", serve((*Server).register), []int{gone, conflict, upstream}},
		{post, "/v1/clusters/{cluster}/remove", admin, "removeCluster", "Take a cluster out of the fleet with all that the hub put there; answers with the workflow", serve((*Server).removeCluster), []int{gone, conflict}},
		{post, "/v1/clusters/{cluster}/agent/upgrade", operator, "upgradeAgent", "Replace a cluster's agent; the old one comes back when the new one does not connect. Answers with the workflow", serve((*Server).upgradeAgent), []int{gone, conflict}},
		{get, "/v1/workflows", viewer, "listWorkflows", "List workflows, newest first", serve((*Server).listWorkflows), []int{gone}},
		{get, "/v1/workflows/{id}", viewer, "getWorkflow", "Show a workflow with its steps", serve((*Server).getWorkflow), []int{gone}},
		{post, "/v1/workflows/{id}/cancel", operator, "cancelWorkflow", "Ask for a workflow's end; what it made is undone", serve((*Server).cancelWorkflow), []int{gone, conflict}},
		{post, "/v1/workflows/{id}/retry", operator, "retryWorkflow", "Begin the work of a failed or cancelled workflow anew", serve((*Server).retryWorkflow), []int{gone, conflict}},

		{get, "/v1/components", viewer, "listComponents", "List the catalogue of components", serve((*Server).listComponents), nil},
		{post, "/v1/components/{component}/rollout", operator, "rolloutComponent", "Upgrade a component in many clusters, in waves; answers with the workflow", serve((*Server).rollout), []int{gone, conflict}},
		{get, "/v1/clusters/{cluster}/components", viewer, "listClusterComponents", "Show how a cluster stands with each component", serve((*Server).listClusterComponents), []int{gone}},
		{post, "/v1/clusters/{cluster}/components/{component}/install", operator, "installComponent", "Install a component and what it requires; answers with the workflow", serve((*Server).installComponent), []int{gone, conflict}},
		{post, "/v1/clusters/{cluster}/components/{component}/upgrade", operator, "upgradeComponent", "Upgrade a component that the hub installed; answers with the workflow", serve((*Server).upgradeComponent), []int{gone, conflict}},
		{post, "/v1/clusters/{cluster}/components/{component}/remove", operator, "removeComponent", "Remove a component that the hub installed; answers with the workflow", serve((*Server).removeComponent), []int{gone, conflict}},

		{get, "/v1/charts", viewer, "listCharts", "List the charts that the hub holds", serve((*Server).listCharts), nil},
		{post, "/v1/charts", operator, "pushChart", "Give the hub a packed chart (.tgz)", serve((*Server).pushChart), nil},

		{get, "/v1/api-keys", admin, "listApiKeys", "List API keys, without their text", serve((*Server).listKeys), nil},
		{post, "/v1/api-keys", admin, "createApiKey", "Create an API key", serve((*Server).createKey), []int{conflict}},
		{del, "/v1/api-keys/{id}", admin, "revokeApiKey", "Make an API key useless", serve((*Server).revokeKey), []int{gone}},

		{get, "/v1/webhooks", admin, "listWebhooks", "List webhooks, without the keys of their signatures", serve((*Server).listWebhooks), nil},
		{post, "/v1/webhooks", admin, "createWebhook", "Have a program told of events by HTTP, from now on", serve((*Server).createWebhook), []int{gone, conflict}},
		{get, "/v1/webhooks/{webhook}", admin, "getWebhook", "Show a webhook and how far it is", serve((*Server).getWebhook), []int{gone}},
		{del, "/v1/webhooks/{webhook}", admin, "deleteWebhook", "End a webhook and forget what it was sent", serve((*Server).deleteWebhook), []int{gone}},
		{post, "/v1/webhooks/{webhook}/test", admin, "testWebhook", "Send a webhook a message now, and say what came of it", serve((*Server).testWebhook), []int{gone}},
		{get, "/v1/webhooks/{webhook}/deliveries", admin, "listDeliveries", "List what a webhook was sent, what is tried again and what was given up", serve((*Server).listDeliveries), []int{gone}},
		{post, "/v1/webhooks/{webhook}/deliveries/{event}/redeliver", admin, "redeliver", "Send a webhook an event again, and say what came of it", serve((*Server).redeliver), []int{gone}},

		{get, "/v1/messages", admin, "listMessages", "List what topics are told, what is tried again and what was given up", serve((*Server).listMessages), nil},
		{post, "/v1/messages/{message}/retry", admin, "retryMessage", "Have a message tried again that was given up", serve((*Server).retryMessage), []int{gone}},
		{del, "/v1/messages/{message}", admin, "discardMessage", "Delete a message that was given up", serve((*Server).discardMessage), []int{gone}},

		{get, "/v1/events", viewer, "listEvents", "List events, oldest first", serve((*Server).listEvents), []int{gone}},
		{get, "/v1/events/stream", viewer, "streamEvents", "Follow events as they happen (server-sent events)", serve((*Server).streamEvents), []int{gone}},
	}
}

// serve mounts a handler. What a handler returns as an error becomes a problem
// here.
func serve[I, O any](fn func(*Server, context.Context, *I) (*O, error)) func(*Server, huma.Operation) {
	return func(s *Server, op huma.Operation) {
		huma.Register(s.huma, op, func(ctx context.Context, in *I) (*O, error) {
			out, err := fn(s, ctx, in)
			if err != nil {
				return nil, s.problem(ctx, err)
			}
			return out, nil
		})
	}
}

// operation describes a route to huma.
func (s *Server) operation(r route) huma.Operation {
	op := huma.Operation{
		OperationID: r.id, Method: r.method, Path: r.path, Summary: r.about,
		Tags:        []string{tagOf(r.path)},
		Description: "Needs the role " + string(r.role) + ".",
		Security:    []map[string][]string{{"apiKey": {}}},
		Extensions:  map[string]any{"x-role": string(r.role)},
		// One byte more, since huma takes a body of exactly the limit for one
		// that is over it.
		MaxBodyBytes:    maxJSON + 1,
		BodyReadTimeout: s.cfg.BodyTimeout,
		Responses:       map[string]*huma.Response{},
		Middlewares:     huma.Middlewares{s.authorise(r.role)},
	}
	switch r.id {
	case "pushChart":
		op.MaxBodyBytes, op.BodyReadTimeout = maxChart+1, 5*time.Minute
	case "register":
		op.MaxBodyBytes += kubeconfig.MaxSize
	}
	fails := append([]int{http.StatusUnauthorized, http.StatusForbidden, http.StatusUnprocessableEntity}, r.fails...)
	if r.method == http.MethodPost || r.method == http.MethodPut {
		fails = append(fails, http.StatusBadRequest, http.StatusRequestEntityTooLarge)
	}
	for _, status := range fails {
		op.Responses[strconv.Itoa(status)] = problemResponse(http.StatusText(status))
	}
	op.Responses["default"] = problemResponse("Any other problem")
	if r.id == "createCluster" || r.id == "createJoinToken" || r.id == "createApiKey" || r.id == "createWebhook" {
		op.DefaultStatus = http.StatusCreated
	}
	return op
}

// humaConfig leaves out what huma serves by itself: its page loads from a CDN,
// and its links name hosts.
func (s *Server) humaConfig() huma.Config {
	cfg := huma.DefaultConfig("BudCluster", buildinfo.Version())
	cfg.CreateHooks = nil
	cfg.OpenAPIPath, cfg.DocsPath, cfg.SchemasPath = "", "", ""
	cfg.RejectUnknownQueryParameters = true
	cfg.Formats = maps.Clone(cfg.Formats)
	cfg.Transformers = []huma.Transformer{s.shapeProblem}
	cfg.Components.Schemas = huma.NewMapRegistry("#/components/schemas/", schemaName)
	cfg.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"apiKey": {Type: "http", Scheme: "bearer", Description: "An API key, as `budcluster api-key create` or `budcluster-hub admin create-key` prints it."},
	}
	cfg.Info.Description = "One place that knows every cluster, node and device, and what is wanted where. " +
		"Errors are application/problem+json (RFC 9457) with a code for programs and a sentence for people. " +
		"Lists come in pages: ask again with cursor=next. Whatever was observed carries its age."
	cfg.Info.License = &huma.License{Name: "Apache-2.0", Identifier: "Apache-2.0"}
	return cfg
}

// tagOf groups a route by what it is about.
func tagOf(path string) string {
	groups := []string{"join-tokens", "nodes", "devices", "releases", "components", "workflows", "registrations", "charts", "api-keys", "webhooks", "messages", "events", "clusters"}
	for _, part := range slices.Backward(splitPath(path)) {
		if slices.Contains(groups, part) {
			return part
		}
	}
	return "session"
}
