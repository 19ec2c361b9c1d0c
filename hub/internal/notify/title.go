package notify

import (
	"strings"

	"github.com/budecosystem/budcluster/hub/internal/workflow"
)

// eventETA and eventResults are events that are no step.
const (
	eventETA     = workflow.NoticeETA
	eventResults = workflow.NoticeResults
)

const titleETA = "Estimated time to completion"

// kind is what the platform knows of a kind of workflow.
type kind struct {
	// payloadType is the payload's type; empty is the kind's own name.
	payloadType string
	// started is the event that says it began, and its title; may be empty.
	started, startedTitle string
	// eta is whether the receivers take an estimate for it.
	eta bool
	// done and failed are the titles of the results.
	done, failed string
	// steps are the titles of the events of the steps, as done and failed.
	steps map[string][2]string
}

// kinds is the table of the contract. A kind that it does not list tells in
// general words.
func kinds() map[workflow.Kind]kind {
	return map[workflow.Kind]kind{
		workflow.RegisterCluster: {
			started: "cluster_registration_status", startedTitle: "Cluster registering process is initiated", eta: true,
			done: "Fetching cluster nodes info successful", failed: "Cluster registration failed",
			steps: map[string][2]string{
				"create_cloud_provider_cluster": {"Cluster Provisioned", "Failed to create cluster"},
				"determine_cluster_platform":    {"Cluster platform determined successfully", "Cluster platform determination failed"},
				"check_duplicate_config":        {"Duplicate cluster not found", "Duplicate cluster found"},
				"verify_cluster_connection":     {"Cluster verification successful", "Cluster verification failed"},
				"configure_cluster":             {"Cluster configuration successful", "Cluster configuration failed"},
				"fetch_cluster_info":            {"Cluster info fetching successful", "Cluster info fetching failed"},
			},
		},
		workflow.RemoveCluster: {
			started: "delete_namespace", startedTitle: "Cluster deletion process is initiated", eta: true,
			done: "Cluster deleted successfully", failed: "Cluster deletion failed",
			steps: map[string][2]string{
				"delete_namespace": {"Namespace deleted successfully", "Cluster deletion failed"},
			},
		},
		workflow.UpdateStatus: {
			payloadType: "cluster-status-update", done: "Cluster status updated", failed: "Cluster status update failed",
			steps: map[string][2]string{
				"update_cluster_status": {"Cluster status updated", "Cluster status update failed"},
			},
		},
	}
}

// kindOf is the row of the table for a workflow.
func kindOf(k workflow.Kind) kind {
	known := kinds()[k]
	if known.payloadType == "" {
		known.payloadType = string(k)
	}
	words := strings.ReplaceAll(string(k), "_", " ")
	words = strings.ToUpper(words[:1]) + words[1:]
	if known.done == "" {
		known.done, known.failed = words+" succeeded", words+" failed"
	}
	return known
}

// title is the title of a step's event.
func (k kind) title(w *workflow.Workflow, step string, failed bool) string {
	i, end := 0, " successful"
	if failed {
		i, end = 1, " failed"
	}
	if titles, ok := k.steps[step]; ok {
		return titles[i]
	}
	for _, s := range w.Steps {
		if s.Milestone == step {
			return s.Title + end
		}
	}
	return step + end
}
