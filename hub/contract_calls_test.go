package hub_test

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

const (
	// reply is whom the main service wants to be told.
	reply = `"notification_metadata": {"name": "bud-internal", "subscriber_ids": "7d5e", "workflow_id": "<%s>"}, "source_topic": %s`
	both  = `["budAppMessages", "budpipelineEvents"]`
	alone = `"budAppMessages"`
)

func replied(workflow, topics string) string { return fmt.Sprintf(reply, workflow, topics) }

// workflowMetadata is what is read of an answer that began a workflow.
const workflowMetadata = "steps[] (id, title, description), workflow_id, eta"

// contractCalls are the calls that the hub serves.
func contractCalls() []call {
	onPrem := func(name, workflow, topics string) string {
		return `{"enable_master_node": true, "name": "` + name + `", "ingress_url": "https://models.example.com", "cluster_type": "ON_PREM", ` + replied(workflow, topics) + `}`
	}
	object := func(want string) func(*testing.T, answer) {
		return func(t *testing.T, a answer) {
			t.Helper()
			require.Equal(t, want, a.at(t, "object"))
		}
	}
	return []call{
		{
			number: "1", caller: "budapp", by: "_perform_create_cluster_request", method: http.MethodPost, path: "cluster", payload: onPrem("Lab 7", "first", alone),
			reads: workflowMetadata,
		},
		{
			number: "1 again", caller: "budapp", by: "_perform_create_cluster_request", method: http.MethodPost, path: "cluster", payload: onPrem("Lab 8", "second", both),
			reads: workflowMetadata,
		},
		{
			number: "1 cloud", caller: "budapp", by: "_perform_create_cluster_request", method: http.MethodPost, path: "cluster", file: "name: dummy-cluster",
			payload: `{"enable_master_node": true, "name": "Cloudy", "ingress_url": null, "cluster_type": "CLOUD", "credential_id": "<unknown>", "provider_id": "<unknown>", "region": "eastus",
				"credentials": {"subscription_id": "s", "tenant_id": "t", "client_id": "c", "client_secret": "canary-71c2"}, "cloud_provider_unique_id": "azure", ` + replied("first", alone) + `}`,
			reads: "object, message", status: http.StatusNotImplemented,
		},
		{
			number: "2", caller: "budapp", by: "_perform_bud_cluster_edit_request", method: http.MethodPatch, path: "cluster/<cluster>",
			payload: `{"ingress_url": "https://models.example.com/v2"}`, reads: "object", read: object("cluster.edit"),
		},
		{
			number: "3", caller: "budapp", by: "_perform_bud_cluster_delete_request", method: http.MethodPost, path: "cluster/delete",
			payload: `{"cluster_id": "<cluster>", "cluster_type": "ON_PREM", ` + replied("third", both) + `}`, reads: workflowMetadata,
		},
		{
			number: "3 cloud", caller: "budapp", by: "_perform_bud_cluster_delete_request", method: http.MethodPost, path: "cluster/delete",
			payload: `{"cluster_id": "<unknown>", "cluster_type": "CLOUD", "cloud_payload": "{\"credentail_id\": \"x\", \"credentials\": {\"client_secret\": \"canary-71c2\"}}", ` + replied("third", alone) + `}`,
			reads:   "object, message: a cluster that is none of the fleet's", status: http.StatusNotFound,
		},
		{
			number: "4", caller: "budapp", by: "_perform_cancel_cluster_onboarding_request", method: http.MethodPost, path: "cluster/cancel/<hub>", reads: "object", read: object("info"),
		},
		{
			number: "5", caller: "budapp", by: "_perform_cluster_status_update_request", method: http.MethodPost, path: "cluster/update-node-status",
			payload: `{"cluster_id": "<cluster>"}`, reads: "object", read: object("workflow_metadata"),
		},
		{
			number: "6", caller: "budapp", by: "_perform_get_cluster_nodes_request", method: http.MethodGet, path: "cluster/<cluster>/nodes",
			reads: "param.nodes[]: id, name, hardware_info, status, internal_ip",
			read: func(t *testing.T, a answer) {
				t.Helper()
				a.has(t, []any{"param", "nodes", 0}, "id", "name", "hardware_info", "status", "internal_ip", "kernel_info")
				require.NoError(t, uuid.Validate(a.at(t, "param", "nodes", 0, "id").(string)))
				require.Equal(t, true, a.at(t, "param", "nodes", 0, "status"))
				require.Equal(t, "10.0.0.11", a.at(t, "param", "nodes", 0, "internal_ip"))
			},
		},
		{
			number: "7", caller: "budapp", by: "get_cluster_storage_classes", method: http.MethodGet, path: "cluster/<cluster>/storage-classes",
			reads: "param.storage_classes[]: name, recommended_access_mode, and the rest for the UI",
			read: func(t *testing.T, a answer) {
				t.Helper()
				a.has(t, []any{"param", "storage_classes", 0}, "name", "provisioner", "parameters", "reclaim_policy", "volume_binding_mode", "default")
				require.Equal(t, "ReadWriteMany", a.at(t, "param", "storage_classes", 1, "recommended_access_mode"))
			},
		},
		{
			number: "budpipeline 1", caller: "budpipeline", by: "actions/model/benchmark.py", method: http.MethodGet, path: "cluster/<cluster>/nodes",
			reads: "param.nodes[]: name, type, total_workers, available_workers, hardware_info[]: type, available_count",
			read: func(t *testing.T, a answer) {
				t.Helper()
				a.has(t, []any{"param", "nodes", 0}, "name", "total_workers", "available_workers")
				require.Equal(t, "cuda", a.at(t, "param", "nodes", 0, "type"))
				require.Equal(t, "cuda", a.at(t, "param", "nodes", 0, "hardware_info", 0, "type"))
				require.InDelta(t, 1, a.at(t, "param", "nodes", 0, "hardware_info", 0, "available_count"), 0)
			},
		},
		{
			number: "budpipeline 2", caller: "budpipeline", by: "actions/cluster/health.py", method: http.MethodGet, path: "cluster/<cluster>/health?checks=nodes,api,storage,network,gpu",
			reads: "data.{check}: healthy, message, count, details",
			read: func(t *testing.T, a answer) {
				t.Helper()
				for _, check := range []string{"nodes", "api", "storage", "network", "gpu"} {
					a.has(t, []any{"data", check}, "healthy", "message", "count", "details")
					require.Equal(t, true, a.at(t, "data", check, "healthy"), "%s: %v", check, a.at(t, "data", check, "message"))
				}
			},
		},
		{
			number: "ask-bud", caller: "ask-bud", by: "tools/cluster.py", method: http.MethodGet, path: "cluster/<cluster>/get-config",
			reads: "param.cluster_details.configuration: there is none any more", status: http.StatusGone,
		},
	}
}

// modelCalls are those about models, which the hub refuses.
func modelCalls() []call {
	deployment := func(more string) string {
		return `{"cluster_id": "<cluster>", "simulator_id": "<unknown>", "endpoint_name": "chat", "model": "registry/llama", "concurrency": 10, "input_tokens": 512, "output_tokens": 128, ` +
			more + replied("first", both) + `}`
	}
	all := []call{
		{
			number: "8", by: "_perform_bud_cluster_delete_endpoint_request", method: http.MethodPost, path: "deployment/delete",
			payload: `{"cluster_id": "<cluster>", "namespace": "bud-chat-1", ` + replied("first", both) + `}`, reads: "steps, workflow_id",
		},
		{
			number: "9", by: "get_endpoint_workers", method: http.MethodGet, path: "deployment/worker-info?cluster_id=<cluster>&namespace=bud-chat-1&page=1&limit=10&order_by=-created_datetime&search=false&refresh=false",
			reads: "workers[], page, limit, total_record, total_pages",
		},
		{number: "10", by: "get_endpoint_worker_logs", method: http.MethodGet, path: "deployment/worker-info/<unknown>/logs", reads: "logs"},
		{number: "11", by: "get_worker_metrics_history", method: http.MethodGet, path: "deployment/worker-info/<unknown>/metrics", reads: "data"},
		{number: "12", by: "get_endpoint_worker_detail", method: http.MethodGet, path: "deployment/worker-info/<unknown>?reload=true", reads: "worker"},
		{
			number: "13", by: "_perform_endpoint_worker_delete_request", method: http.MethodDelete, path: "deployment/worker-info",
			payload: `{"worker_id": "<unknown>", ` + replied("first", alone) + `}`, reads: "steps, workflow_id",
		},
		{
			number: "14", by: "_perform_add_worker_to_deployment_request", method: http.MethodPost, path: "deployment",
			payload: deployment(`"existing_deployment_namespace": "bud-chat-1", "target_ttft": 100, "model_max_context_length": 8192, `), reads: "steps[], workflow_id",
		},
		{
			number: "15", by: "_perform_adapter_deployment_request", method: http.MethodPost, path: "deployment/deploy-adapter",
			payload: `{"endpoint_name": "chat", "ingress_url": "https://models.example.com", "adapter_path": "a", "adapter_name": "chat-a", "adapters": [{"name": "a", "artifactURL": "registry/a"}],
				"namespace": "bud-chat-1", "cluster_id": "<cluster>", "action": "add", "input_tokens": 512, "output_tokens": 128, ` + replied("first", alone) + `}`,
			reads: "steps[]",
		},
		{
			number: "16", by: "update_autoscale_config", method: http.MethodPut, path: "deployment/autoscale",
			payload: `{"cluster_id": "<cluster>", "namespace": "bud-chat-1", "release_name": "bud-runtime-container", "budaiscaler": {"enabled": true}, "engine_type": "vllm"}`,
			reads:   "object, message",
		},
		{
			number: "17", by: "_initiate_model_deployment", method: http.MethodPost, path: "deployment",
			payload: deployment(`"hf_token": "canary-71c2", "model_size": 8, "storage_size_gb": 35.7, "default_storage_class": "nfs", "default_access_mode": "ReadWriteMany", `), reads: "steps[], workflow_id",
		},
		{number: "18", by: "model_ops: cancel a deployment", method: http.MethodPost, path: "deployment/cancel/<unknown>", reads: "object"},
		{
			number: "19", by: "quantization_services", method: http.MethodPost, path: "deployment/deploy-quantization",
			payload: `{"model": "registry/llama", "model_size": 8, "device_type": "cuda", "simulator_id": "<unknown>", "cluster_id": "<cluster>", "quantization_name": "q", "quantization_config": {"method": "RTN"},
				"hf_token": "canary-71c2", ` + replied("first", alone) + `}`,
			reads: "steps[]",
		},
		{
			number: "20", by: "benchmark_ops: run", method: http.MethodPost, path: "benchmark/run",
			payload: `{"benchmark_id": "<unknown>", "name": "b", "concurrent_requests": 10, "eval_with": "configuration", "user_id": "<unknown>", "cluster_id": "<unknown>", "bud_cluster_id": "<cluster>",
				"nodes": null, "model_id": "<unknown>", "model": "registry/llama", "user_confirmation": true, "run_as_simulation": false, ` + replied("first", alone) + `}`,
			reads: "steps[]",
		},
		{number: "20 result", by: "benchmark_ops: result", method: http.MethodGet, path: "benchmark/result?benchmark_id=<unknown>", reads: "param"},
	}
	for i := range all {
		all[i].caller, all[i].status = "budapp", http.StatusNotImplemented
	}
	return all
}
