package platform_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/internal/dapr"
	"github.com/budecosystem/budcluster/hub/internal/dapr/daprtest"
	"github.com/budecosystem/budcluster/hub/internal/platform"
	"github.com/budecosystem/budcluster/hub/internal/workflow"
	"github.com/budecosystem/budcluster/internal/secret"
	"github.com/budecosystem/budcluster/internal/testutil"
)

// taken is what every caller of the platform takes for a success.
func taken(t *testing.T, status int, text string) {
	t.Helper()
	require.Equal(t, http.StatusOK, status, text)
	require.NotEqual(t, "error", read[struct{ Object string }](t, text).Object, text)
}

// metadata is what the main service reads of an answer that began a workflow.
type metadata struct {
	Object       string
	WorkflowID   uuid.UUID `json:"workflow_id"`
	WorkflowName string    `json:"workflow_name"`
	Status       string
	ETA          *int
	Steps        []map[string]any
}

// The calls of the platform's services, each with its payload, and what they
// read of the answers.
func TestContract(t *testing.T) {
	t.Parallel()
	b := setup(t)
	mainServiceCalls(t, b)
	pipelineCalls(t, b)
	kubeconfigIsNotGiven(t, b)
}

// The same through a real sidecar, by the app-id.
func TestContractThroughSidecar(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *platform.Config) { c.Token, c.PubSub = secret.New(daprtest.Token), daprtest.PubSub })
	taken := make(chan string, 100)
	b.sidecar = daprtest.Start(t, daprtest.SidecarConfig{Store: daprtest.Redis, App: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/notifications" {
			answer := httptest.NewRecorder()
			b.face.Handler().ServeHTTP(answer, r)
			taken <- answer.Body.String()
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write(answer.Body.Bytes())
			return
		}
		b.face.Handler().ServeHTTP(w, r)
	})})
	mainServiceCalls(t, b)
	pipelineCalls(t, b)
	kubeconfigIsNotGiven(t, b)

	// What peers send to our topic is taken, once, though the topic is subscribed
	// to by a file and by the route.
	c := b.sidecar.Client(t)
	for _, id := range []string{"one", "two"} {
		require.NoError(t, c.Publish(t.Context(), dapr.Message{
			PubSub: daprtest.PubSub, Topic: "budClusterMessages", ID: id, Source: "budapp", Type: "notification", Event: json.RawMessage(`{"type": "notification", "payload": {}}`),
		}))
	}
	for range 2 {
		require.JSONEq(t, `{"status": "SUCCESS"}`, daprtest.Await(t, taken, "a message"))
	}
	require.Empty(t, taken)
	app := &dapr.App{Client: c}
	names, err := app.Names(t.Context())
	require.NoError(t, err)
	require.Equal(t, "budClusterMessages", names["topic"])
	require.Equal(t, "poisonMessages", names["deadletter"])
	require.Equal(t, daprtest.PubSub, names["pubsub"])
	require.Equal(t, daprtest.StateStore, names["statestore"])
}

// mainServiceCalls are budapp's.
func mainServiceCalls(t *testing.T, b *bundle) {
	t.Helper()
	c := b.joined("edge")
	id := c.ID.String()

	status, text := b.onboard(asked("Zürich – Main"), goodKubeconfig())
	taken(t, status, text)
	began := read[metadata](t, text)
	require.Equal(t, "workflow_metadata", began.Object)
	require.Equal(t, "register_cluster", began.WorkflowName)
	require.Equal(t, "PENDING", began.Status)
	require.Positive(t, *began.ETA)
	var steps []string
	for _, s := range began.Steps {
		steps = append(steps, s["id"].(string))
		require.NotEmpty(t, s["title"])
		require.NotEmpty(t, s["description"])
	}
	require.Equal(t, []string{"determine_cluster_platform", "check_duplicate_config", "verify_cluster_connection", "configure_cluster", "fetch_cluster_info"}, steps)
	w, err := b.workflows.Get(t.Context(), began.WorkflowID.String())
	require.NoError(t, err)
	require.Regexp(t, `^z-rich-main-[0-9a-f]{8}$`, w.ClusterName)
	require.Equal(t, "Zürich – Main", read[struct{ Name string }](t, string(w.Reply)).Name)
	require.Equal(t, "https://models.example.com", b.get(w.ClusterID).IngressURL)

	status, text = b.call(http.MethodPatch, "/cluster/"+id, `{"ingress_url": "https://new.example.com/models"}`)
	taken(t, status, text)
	require.Equal(t, "cluster.edit", read[struct{ Object string }](t, text).Object)
	require.Equal(t, "https://new.example.com/models", b.get(c.ID).IngressURL)

	status, text = b.call(http.MethodPost, "/cluster/cancel/"+began.WorkflowID.String(), nil)
	taken(t, status, text)
	w, err = b.workflows.Get(t.Context(), began.WorkflowID.String())
	require.NoError(t, err)
	require.NotNil(t, w.CancelledAt)

	status, text = b.call(http.MethodPost, "/cluster/update-node-status", map[string]string{"cluster_id": id})
	taken(t, status, text)
	began = read[metadata](t, text)
	require.Equal(t, "update_cluster_status", began.WorkflowName)
	require.Equal(t, "update_cluster_status", began.Steps[0]["id"])

	status, text = b.call(http.MethodGet, "/cluster/"+id+"/nodes", nil)
	taken(t, status, text)
	testutil.Golden(t, "nodes", normal(t, text))

	status, text = b.call(http.MethodGet, "/cluster/"+id+"/storage-classes", nil)
	taken(t, status, text)
	testutil.Golden(t, "storage-classes", normal(t, text))

	status, text = b.call(http.MethodPost, "/cluster/delete", map[string]any{
		"cluster_id": id, "cluster_type": "ON_PREM", "source_topic": "budAppMessages",
		"notification_metadata": map[string]any{"name": "bud-internal", "subscriber_ids": "7d5e", "workflow_id": "3c0ffee0-0000-4000-8000-000000000002"},
	})
	taken(t, status, text)
	began = read[metadata](t, text)
	require.Equal(t, "delete_cluster", began.WorkflowName)
	require.Len(t, began.Steps, 1)
	require.Equal(t, "delete_namespace", began.Steps[0]["id"])
}

// pipelineCalls are budpipeline's.
func pipelineCalls(t *testing.T, b *bundle) {
	t.Helper()
	c := b.joined("pipeline")
	status, text := b.call(http.MethodGet, "/cluster/"+c.ID.String()+"/health?checks=nodes,api,storage,network,gpu", nil)
	require.Equal(t, http.StatusOK, status)
	testutil.Golden(t, "health", normal(t, text))
	status, text = b.call(http.MethodGet, "/cluster/"+c.ID.String()+"/health?checks=nodes", nil)
	require.Equal(t, http.StatusOK, status)
	require.Len(t, read[struct{ Data map[string]any }](t, text).Data, 1)
	status, text = b.call(http.MethodGet, "/cluster/"+c.ID.String()+"/nodes", nil)
	taken(t, status, text)
	nodes := read[struct {
		Param struct {
			Nodes []struct {
				Name         string
				Type         string
				HardwareInfo []struct {
					Type           string
					AvailableCount int `json:"available_count"`
				} `json:"hardware_info"`
			}
		}
	}](t, text).Param.Nodes
	require.Equal(t, "cuda", nodes[0].Type)
	free := 0
	for _, h := range nodes[0].HardwareInfo {
		if h.Type == "cuda" {
			free += h.AvailableCount
		}
	}
	require.Equal(t, 1, free, "a pod has one of two")
}

// kubeconfigIsNotGiven: ask-bud wants one, and is told what there is instead.
func kubeconfigIsNotGiven(t *testing.T, b *bundle) {
	t.Helper()
	c := b.joined("ask-bud")
	status, text := b.call(http.MethodGet, "/cluster/"+c.ID.String()+"/get-config", nil)
	require.Equal(t, http.StatusGone, status)
	testutil.Golden(t, "get-config", normal(t, text))
}

// Every other route answers in its envelope.
func TestOtherRoutes(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.joined("edge")
	id := c.ID.String()
	w, _, err := b.operations.Register(t.Context(), "ann", operationRegister(c.Name))
	require.NoError(t, err)
	for name, one := range map[string]struct{ method, path, body string }{
		"health-of-hub":      {http.MethodGet, "/health", ""},
		"device-info":        {http.MethodGet, "/cluster/" + id + "/device-info", ""},
		"events-count":       {http.MethodGet, "/cluster/" + id + "/events-count-by-node", ""},
		"node-events":        {http.MethodGet, "/cluster/" + id + "/node-wise-events/gpu-1", ""},
		"cron-nodes":         {http.MethodPost, "/cluster/periodic-node-status-update", ""},
		"cron-nodes-trigger": {http.MethodPost, "/cluster/periodic-node-status-update/trigger", ""},
		"cron-nodes-health":  {http.MethodGet, "/cluster/periodic-node-status-update/health", ""},
		"cron-nodes-state":   {http.MethodGet, "/cluster/periodic-node-status-update/state", ""},
		"cron-metrics":       {http.MethodPost, "/metrics/collect-all-cluster-metrics", ""},
		"cron-deployments":   {http.MethodPost, "/deployment/periodic-deployment-status-update", ""},
		"binding":            {http.MethodOptions, "/cluster/periodic-node-status-update", ""},
		"test-job":           {http.MethodPost, "/job/test-job", `{"message": "hello"}`},
		"workflow-status":    {http.MethodGet, "/workflow/" + w.ID.String() + "/status", ""},
		"notifications":      {http.MethodPost, "/notifications", `{"specversion": "1.0", "type": "notification", "data": {}}`},
		"dapr-subscribe":     {http.MethodGet, "/dapr/subscribe", ""},
		"dapr-config":        {http.MethodGet, "/dapr/config", ""},
		"openapi":            {http.MethodGet, "/openapi.json", ""},
	} {
		status, text := b.call(one.method, one.path, one.body)
		require.Equal(t, http.StatusOK, status, name+": "+text)
		testutil.Golden(t, "route-"+name, normal(t, text))
	}
	w1 := httptest.NewRecorder()
	b.face.Handler().ServeHTTP(w1, httptest.NewRequest(http.MethodGet, "/docs", nil))
	require.Equal(t, http.StatusOK, w1.Code)
	require.Contains(t, w1.Body.String(), "/cluster/{cluster_id}/nodes")
	status, text := b.call(http.MethodGet, "/", nil)
	taken(t, status, text)
}

// A workflow is stopped once: 202 says that it was over already, or is not yet.
// To cancel an onboarding answers 200 for both, as its caller wants; but one that
// succeeded is not undone by that.
func TestStop(t *testing.T) {
	t.Parallel()
	ends := func() {} // what the engine does while the stop is waited for
	b := setup(t, func(c *platform.Config) {
		c.Patience = time.Millisecond
		watch := c.Watch
		c.Watch = func(id string) (<-chan struct{}, func()) {
			ends()
			return watch(id)
		}
	})
	stop := func(id uuid.UUID) (status int, is, message string) {
		code, text := b.call(http.MethodDelete, "/workflow/"+id.String()+"/stop", nil)
		said := read[struct {
			Object, Message string
			Param           struct{ Status string }
		}](t, text)
		require.Equal(t, "info", said.Object, text)
		return code, said.Param.Status, said.Message
	}
	w, _, err := b.operations.Register(t.Context(), "ann", operationRegister(b.joined("edge").Name))
	require.NoError(t, err)
	ends = func() { b.end(w, workflow.Outcome{Status: workflow.StepCancelled}) }
	status, is, _ := stop(w.ID)
	ends = func() {}
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, "TERMINATED", is)
	status, is, message := stop(w.ID)
	require.Equal(t, http.StatusAccepted, status)
	require.Equal(t, "TERMINATED", is)
	require.Equal(t, "The workflow is over already.", message)
	code, text := b.call(http.MethodPost, "/cluster/cancel/"+w.ID.String(), nil)
	taken(t, code, text)

	w, _, err = b.operations.Register(t.Context(), "ann", operationRegister(b.joined("running").Name))
	require.NoError(t, err)
	_, err = b.workflows.Begin(t.Context(), w.ID)
	require.NoError(t, err)
	status, is, _ = stop(w.ID)
	require.Equal(t, http.StatusAccepted, status, "nobody runs it here, so it does not end")
	require.Equal(t, "RUNNING", is)

	w, _, err = b.operations.Register(t.Context(), "ann", operationRegister(b.joined("done").Name))
	require.NoError(t, err)
	b.complete(w)
	status, is, _ = stop(w.ID)
	require.Equal(t, http.StatusAccepted, status)
	require.Equal(t, "COMPLETED", is)
	code, text = b.call(http.MethodPost, "/cluster/cancel/"+w.ID.String(), nil)
	require.Equal(t, http.StatusConflict, code, text)
}

// In production the platform is shown no description, as of its other services.
func TestUndescribed(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *platform.Config) { c.Undescribed = true })
	for _, path := range []string{"/docs", "/openapi.json"} {
		status, text := b.call(http.MethodGet, path, nil)
		require.Equal(t, http.StatusNotFound, status)
		require.JSONEq(t, `{"detail": "Not Found"}`, text)
	}
	status, text := b.call(http.MethodGet, "/health", nil)
	taken(t, status, text)
}

// A cluster that the platform calls CLOUD is taken out as any other.
func TestDeleteOfACloud(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.joined("edge")
	status, text := b.call(http.MethodPost, "/cluster/delete", `{"cluster_id": "`+c.ID.String()+`", "cluster_type": "CLOUD", "cloud_payload": "{\"credentials\": \"`+canary.Reveal()+`\"}"}`)
	taken(t, status, text)
	require.Equal(t, "delete_cluster", read[metadata](t, text).WorkflowName)
	require.NotContains(t, b.log.String(), canary.Reveal())
}

// Of a node that is gone, or to which nothing happened, the answer is its events
// or none; of one that never was, 404.
func TestNodeEventsOfEveryNode(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.joined("edge")
	for node, want := range map[string]int{"gpu-1": 2, "gone-1": 1, "master-1": 0} {
		status, text := b.call(http.MethodGet, "/cluster/"+c.ID.String()+"/node-wise-events/"+node, nil)
		require.Equal(t, http.StatusOK, status, text)
		events := read[struct {
			Data struct{ Events []map[string]any }
		}](t, text).Data.Events
		require.NotNil(t, events)
		require.Len(t, events, want, node)
	}
	status, text := b.call(http.MethodGet, "/cluster/"+c.ID.String()+"/node-wise-events/never", nil)
	require.Equal(t, http.StatusNotFound, status, text)
}

// A failed workflow is begun anew, one that runs is not.
func TestRestart(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.joined("edge")
	w, err := b.operations.Status(t.Context(), "ann", c.Name, nil)
	require.NoError(t, err)
	status, text := b.call(http.MethodPost, "/workflow/"+w.ID.String()+"/restart", nil)
	require.Equal(t, http.StatusConflict, status, text)
	status, text = b.call(http.MethodPost, "/workflow/"+w.ID.String()+"/pause", nil)
	require.Equal(t, http.StatusConflict, status, text)

	w, _, err = b.operations.Register(t.Context(), "ann", operationRegister(c.Name))
	require.NoError(t, err)
	b.fail(w)
	status, text = b.call(http.MethodPost, "/workflow/"+w.ID.String()+"/restart", nil)
	taken(t, status, text)
}

// A cluster whose registration failed is registered again under its name; one
// that is being or is registered, or that others registered, is not.
func TestSameNameAgain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	status, text := b.onboard(asked("Lab 7"), goodKubeconfig())
	taken(t, status, text)
	first := read[metadata](t, text)
	status, text = b.onboard(asked("Lab 7"), goodKubeconfig())
	require.Equal(t, http.StatusConflict, status, text)
	require.Contains(t, text, first.WorkflowID.String())

	w, err := b.workflows.Get(t.Context(), first.WorkflowID.String())
	require.NoError(t, err)
	b.fail(w)
	status, text = b.onboard(asked("Lab 7"), goodKubeconfig())
	taken(t, status, text)
	again, err := b.workflows.Get(t.Context(), read[metadata](t, text).WorkflowID.String())
	require.NoError(t, err)
	require.Equal(t, w.ClusterID, again.ClusterID, "the same cluster")
	b.complete(again)
	status, text = b.onboard(asked("Lab 7"), goodKubeconfig())
	require.Equal(t, http.StatusConflict, status, text)
	require.Contains(t, text, "is registered already")

	b.joined("lab")
	status, text = b.onboard(asked("lab"), goodKubeconfig())
	require.Equal(t, http.StatusConflict, status, text)
}

// Of many that ask for one name at once, one gets it.
func TestSameNameAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const many = 6
	statuses := make(chan int, many)
	requests := make([]*http.Request, many)
	for i := range requests {
		requests[i] = form(t, asked("Lab 7"), goodKubeconfig())
	}
	for _, r := range requests {
		go func() {
			w := httptest.NewRecorder()
			b.face.Handler().ServeHTTP(w, r)
			statuses <- w.Code
		}()
	}
	got := map[int]int{}
	for range many {
		got[<-statuses]++
	}
	require.Equal(t, map[int]int{http.StatusOK: 1, http.StatusConflict: many - 1}, got)
	require.Equal(t, 1, b.count("clusters"))
	require.Equal(t, 1, b.count("workflows"))
}

// A fault of the hub is the contract's envelope too, is counted, and its cause
// is in the log alone.
func TestFaultOfTheHub(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	fault := errors.New("disk on fire")
	b := setup(t, func(c *platform.Config) {
		c.Metrics = registry
		c.Register = func(_ context.Context, _ string, r platform.Registration) (*workflow.Workflow, error) {
			switch r.Name {
			case "panics":
				panic(fault)
			case "no-database":
				return nil, fmt.Errorf("save: %w", &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("10.1.2.3: refused")})
			}
			return nil, fault
		}
	})
	for _, name := range []string{"panics", "fails"} {
		status, text := b.onboard(asked(name), goodKubeconfig())
		require.Equal(t, http.StatusInternalServerError, status)
		requireEnvelope(t, name, status, text)
		require.NotContains(t, text, fault.Error())
	}
	require.Equal(t, 2, strings.Count(b.log.String(), fault.Error()))
	status, text := b.onboard(asked("no-database"), goodKubeconfig())
	require.Equal(t, http.StatusServiceUnavailable, status)
	requireEnvelope(t, "no-database", status, text)
	require.Contains(t, text, "The hub has lost its database for the moment; ask again.")
	require.NotContains(t, text, "10.1.2.3")
	status, text = b.call(http.MethodGet, "/health", nil)
	taken(t, status, text)
	_, _ = b.call("BREW", "/coffee", nil)
	families, err := registry.Gather()
	require.NoError(t, err)
	var lines []string
	for _, f := range families {
		for _, m := range f.GetMetric() {
			line := f.GetName()
			for _, l := range m.GetLabel() {
				line += " " + l.GetName() + "=" + l.GetValue()
			}
			lines = append(lines, line)
		}
	}
	testutil.Golden(t, "metrics", []byte(strings.Join(lines, "\n")+"\n"))
}

// fail and complete end a workflow as the engine does.
func (b *bundle) fail(w *workflow.Workflow) {
	b.end(w, workflow.Failed("PodFailed", "hami-x7k2p: CrashLoopBackOff"))
}
func (b *bundle) complete(w *workflow.Workflow) { b.end(w, workflow.Completed("done")) }

func (b *bundle) end(w *workflow.Workflow, o workflow.Outcome) {
	b.t.Helper()
	for i := range w.Steps {
		turn, err := b.workflows.Begin(b.t.Context(), w.ID)
		require.NoError(b.t, err)
		last := o
		if i == len(w.Steps)-1 && o.Status == workflow.StepCompleted && last.Result == nil {
			last.Result = json.RawMessage(`{}`)
		}
		_, _, err = b.workflows.Settle(b.t.Context(), turn, int64(i), last)
		require.NoError(b.t, err)
		if o.Status == workflow.StepFailed || o.Status == workflow.StepCancelled {
			break
		}
	}
	_, err := b.workflows.Finish(b.t.Context(), w.ID)
	require.NoError(b.t, err)
}

// normal makes an answer the same in each run, and readable.
func normal(t *testing.T, text string) []byte {
	t.Helper()
	raw, err := json.MarshalIndent(read[any](t, text), "", "  ")
	require.NoError(t, err)
	return testutil.Normalise(append(raw, '\n'))
}
