package platform

import (
	"net/http"
)

// The remedies for what this hub does not do.
const (
	elsewhere = "it looks after clusters, nodes and components, so send this to the service that runs the platform's models"
	byCharts  = "it looks after clusters, nodes and components, so send this to the service that runs the platform's models, or want the model's chart as a release at /v1"
)

// modelRoutes are the platform's calls about models. The hub carries none of them
// out, and says so in the contract's envelope: a caller that looks at the status
// or at the object takes it for a refusal and shows the sentence, where a bare
// 404 would read like a model that is gone.
func modelRoutes() []route {
	not := func(method, pattern, what, remedy string) route {
		return route{method, pattern, "refuse to " + what, nothing, notServed(what, remedy)}
	}
	return []route{
		not(http.MethodPost, "/deployment", "deploy models", byCharts),
		not(http.MethodPost, "/deployment/cancel/{workflow_id}", "deploy models, so there is no deployment to cancel", elsewhere),
		not(http.MethodPost, "/deployment/delete", "remove deployments of models", byCharts),
		not(http.MethodGet, "/deployment/worker-info", "follow the workers of models", elsewhere),
		not(http.MethodDelete, "/deployment/worker-info", "remove workers of models", elsewhere),
		not(http.MethodGet, "/deployment/worker-info/{worker_id}", "follow the workers of models", elsewhere),
		not(http.MethodGet, "/deployment/worker-info/{worker_id}/logs", "read the logs of models", elsewhere),
		not(http.MethodGet, "/deployment/worker-info/{worker_id}/metrics", "keep the metrics of workers", elsewhere),
		not(http.MethodPost, "/deployment/deploy-quantization", "quantize models", elsewhere),
		not(http.MethodPost, "/deployment/deploy-adapter", "change the adapters of models", elsewhere),
		not(http.MethodPut, "/deployment/autoscale", "scale models", elsewhere),
		not(http.MethodPost, "/benchmark/run", "run benchmarks", elsewhere),
		not(http.MethodGet, "/benchmark/result", "keep results of benchmarks", elsewhere),
	}
}

// notServed answers 501. The body is dropped unread: tokens for downloads of
// models are in some.
func notServed(what, remedy string) func(*Server, http.ResponseWriter, *http.Request) answer {
	return func(_ *Server, w http.ResponseWriter, r *http.Request) answer {
		drain(w, r)
		return failed(http.StatusNotImplemented, "This hub does not %s: %s.", what, remedy)
	}
}
