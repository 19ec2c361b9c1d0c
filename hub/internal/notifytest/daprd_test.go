package notifytest_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/internal/dapr"
	"github.com/budecosystem/budcluster/hub/internal/dapr/daprtest"
	"github.com/budecosystem/budcluster/hub/internal/notify"
	"github.com/budecosystem/budcluster/hub/internal/notifytest"
	"github.com/budecosystem/budcluster/hub/internal/store/storetest"
	"github.com/budecosystem/budcluster/hub/internal/workflow"
)

const (
	people     = "notificationMessages"
	pipeline   = "budpipelineEvents"
	platformID = "3c0ffee0-0000-4000-8000-000000000001"
	hubID      = "0193a5b0-0000-7000-8000-000000000001"
)

// publisher is what the hub makes of a sidecar.
type publisher struct{ *dapr.Client }

func (p publisher) Publish(ctx context.Context, m notify.Message) error {
	return p.Client.Publish(ctx, dapr.Message{PubSub: daprtest.PubSub, Topic: m.Topic, ID: m.ID.String(), Source: m.Source, Type: m.Type, Event: m.Body})
}

// A registration, and a removal that fails, told through a real sidecar and
// Redis to all that listen: what daprd adds to a message, and what it does
// with its fields, is what the receivers take.
func TestThroughARealSidecar(t *testing.T) {
	t.Parallel()
	mainService, pipelines, tellers := notifytest.NewMain(), notifytest.NewPipeline(platformID), notifytest.NewPeople()
	app := notifytest.NewApp(daprtest.PubSub, map[string]http.Handler{notify.MainTopic: mainService, pipeline: pipelines, people: tellers})
	sidecar := daprtest.Start(t, daprtest.SidecarConfig{Store: daprtest.Redis, App: app})
	st := storetest.New(t)
	notices, err := notify.New(notify.Config{Store: st, PeopleTopic: people, SuccessOnly: []string{notify.MainTopic}})
	require.NoError(t, err)
	workflows, err := workflow.New(workflow.Config{Store: st, Logger: slog.New(slog.DiscardHandler), Notify: notices.Notify})
	require.NoError(t, err)
	deliverer, err := notify.NewDeliverer(notify.DelivererConfig{
		Queue: st, Publisher: publisher{sidecar.Client(t)}, Logger: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(),
	})
	require.NoError(t, err)
	// run runs a workflow of one step and waits for its messages.
	run := func(kind workflow.Kind, milestone, reply string, o workflow.Outcome, messages int) {
		w, err := workflows.Start(t.Context(), "ann", workflow.Request{
			Kind: kind, ClusterName: "edge", Input: struct{}{}, Reply: json.RawMessage(reply), Steps: []workflow.Step{{Name: "all", Title: "All", Milestone: milestone}},
		})
		require.NoError(t, err)
		turn, err := workflows.Begin(t.Context(), w.ID)
		require.NoError(t, err)
		_, _, err = workflows.Settle(t.Context(), turn, 1, o)
		require.NoError(t, err)
		_, err = workflows.Finish(t.Context(), w.ID)
		require.NoError(t, err)
		sent, err := deliverer.Deliver(t.Context())
		require.NoError(t, err)
		require.Equal(t, messages, sent)
		for range messages {
			daprtest.Await(t, app.Took(), "a message")
		}
	}
	const asked = `{"source_topic": ["budAppMessages", "budpipelineEvents"], "notification_metadata": {"name": "bud-internal", "subscriber_ids": "7d5e", "workflow_id": "` + platformID + `"}}`

	mainService.Asked(notifytest.MainWorkflow{ID: platformID, Type: "register_cluster", Cluster: "edge"}, "fetch_cluster_info")
	done := workflow.Completed("")
	done.Result = json.RawMessage(`{"id": "` + hubID + `", "name": "edge", "nodes": [{"name": "a", "status": true, "devices": [{"type": "cuda", "available_count": 8}]}]}`)
	run(workflow.RegisterCluster, "fetch_cluster_info", asked, done, 6)
	require.Empty(t, app.Broken())
	require.Equal(t, "available", mainService.Cluster("edge").Status)
	require.Equal(t, 8, mainService.Cluster("edge").GPUWorkers)
	require.Equal(t, "COMPLETED", mainService.Workflow(platformID).Steps["fetch_cluster_info"])
	require.Equal(t, 1, pipelines.Step(platformID).Ends)
	require.Len(t, tellers.Told("7d5e"), 2)

	mainService.Asked(notifytest.MainWorkflow{ID: platformID, Type: "delete_cluster", Cluster: "edge"}, "delete_namespace")
	only := strings.Replace(asked, `["budAppMessages", "budpipelineEvents"]`, `"budAppMessages"`, 1)
	run(workflow.RemoveCluster, "delete_namespace", only, workflow.Failed("NoAnswer", "the cluster does not answer"), 3)
	require.Empty(t, app.Broken())
	require.Equal(t, "FAILED", mainService.Workflow(platformID).Steps["delete_namespace"])
	require.Equal(t, "available", mainService.Cluster("edge").Status, "it is still in the books")
}
