package hub_test

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub"
	"github.com/budecosystem/budcluster/hub/hubapi"
	"github.com/budecosystem/budcluster/hub/hubtest"
	"github.com/budecosystem/budcluster/hub/internal/dapr/daprtest"
	"github.com/budecosystem/budcluster/hub/internal/notifytest"
	"github.com/budecosystem/budcluster/internal/testutil"
)

// The topics on which the platform's services listen.
const (
	topicMain     = daprtest.TopicPeers
	topicPipeline = "budpipelineEvents"
	topicPeople   = "notificationMessages"
)

// cronBinding is how the platform's installation has the sidecar call a route.
const cronBinding = `apiVersion: dapr.io/v1alpha1
kind: Component
metadata: {name: %s}
spec:
  type: bindings.cron
  version: v1
  metadata:
    - {name: schedule, value: "@every 1s"}
    - {name: route, value: %s}
`

// bindings are the routes of the platform's cron bindings, by their names.
func bindings() map[string]string {
	return map[string]string{
		"periodic-node-status-update":       "/cluster/periodic-node-status-update",
		"periodic-node-metrics-collection":  "/metrics/collect-all-cluster-metrics",
		"periodic-deployment-status-update": "/deployment/periodic-deployment-status-update",
	}
}

// platform is a hub beside a real sidecar, and the platform's other services
// beside theirs. They take what the hub publishes, and fail at what the real
// ones fail at.
type platform struct {
	t *testing.T
	h *hubtest.Hub

	// own is the hub's sidecar, the others those of the services.
	own, budapp, budpipeline, others *daprtest.Sidecar

	main      *notifytest.Main
	pipelines *notifytest.Pipeline
	people    *notifytest.People
	apps      map[string]*notifytest.App // by topic

	mu    sync.Mutex // guards asked
	asked map[string]int
}

// startPlatform starts all of it. workflows are those for whose end a pipeline
// waits.
func startPlatform(t *testing.T, workflows ...string) *platform {
	t.Helper()
	p := &platform{
		t: t, main: notifytest.NewMain(), pipelines: notifytest.NewPipeline(workflows...), people: notifytest.NewPeople(), apps: map[string]*notifytest.App{}, asked: map[string]int{},
	}
	for topic, receiver := range map[string]http.Handler{topicMain: p.main, topicPipeline: p.pipelines, topicPeople: p.people} {
		p.apps[topic] = notifytest.NewApp(daprtest.PubSub, map[string]http.Handler{topic: receiver})
	}
	resources := t.TempDir()
	for name, route := range bindings() {
		require.NoError(t, os.WriteFile(filepath.Join(resources, name+".yaml"), fmt.Appendf(nil, cronBinding, name, route), 0o600))
	}
	app, open := behind(t)
	p.own = daprtest.Start(t, daprtest.SidecarConfig{Store: daprtest.Redis, App: p.noting(app), Resources: resources})
	token := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(token, []byte(daprtest.Token), 0o600))
	p.h = hubtest.New(t, hubtest.With(func(c *hub.Config) {
		c.Dapr.Enabled, c.Dapr.APITokenFile, c.Dapr.AppTokenFile, c.Dapr.PeopleTopic = true, token, token, topicPeople
		c.Dapr.HTTPAddress, c.Dapr.GRPCAddress = p.own.Forward(t)
		c.Dapr.PubSub, c.Dapr.StateStore = daprtest.PubSub, daprtest.StateStore
		c.Dapr.ConfigStore, c.Dapr.SecretStore = daprtest.ConfigurationStore, daprtest.SecretStore
	}))
	open(p.h.PlatformURL)
	p.budapp = daprtest.Start(t, daprtest.SidecarConfig{Store: daprtest.Redis, AppID: "budapp", App: p.apps[topicMain]})
	p.budpipeline = daprtest.Start(t, daprtest.SidecarConfig{Store: daprtest.Redis, AppID: "budpipeline", App: p.apps[topicPipeline]})
	p.others = daprtest.Start(t, daprtest.SidecarConfig{Store: daprtest.Redis, AppID: "notify", App: p.apps[topicPeople]})
	return p
}

// noting keeps what the sidecar asked the hub for, with the answer's status.
func (p *platform) noting(app http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec := &coded{ResponseWriter: w, code: http.StatusOK}
		app.ServeHTTP(rec, r)
		p.mu.Lock()
		defer p.mu.Unlock()
		p.asked[fmt.Sprintf("%s %s %d", r.Method, r.URL.Path, rec.code)]++
	})
}

// coded is an answer that remembers its status.
type coded struct {
	http.ResponseWriter
	code int
}

func (s *coded) WriteHeader(code int) {
	s.code = code
	s.ResponseWriter.WriteHeader(code)
}

// wasAsked waits until the sidecar has asked for something.
func (p *platform) wasAsked(what string) {
	p.t.Helper()
	p.until("the sidecar asks "+what, func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.asked[what] > 0
	})
}

// until waits for what other processes do, which tell nobody.
func (p *platform) until(what string, is func() bool) {
	p.t.Helper()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-deadline.C:
			p.t.Fatalf("waited a minute until %s; the sidecar asked %v, and the services failed at %v", what, slices.Sorted(maps.Keys(p.asked)), p.broken())
		case <-tick.C:
		}
	}
}

// broken is what the services failed at.
func (p *platform) broken() (all []string) {
	for _, a := range p.apps {
		all = append(all, a.Broken()...)
	}
	return all
}

// send makes a call through the sidecar of a service, as it makes it.
func (p *platform) send(c call) (status int, answer []byte) {
	p.t.Helper()
	r := httptest.NewRequestWithContext(p.t.Context(), c.method, "/"+c.path, strings.NewReader(c.payload))
	if c.payload != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if c.file != "" {
		r = c.form(p.t)
	}
	from := map[string]*daprtest.Sidecar{"budapp": p.budapp, "budpipeline": p.budpipeline}[c.caller]
	if from == nil {
		from = p.others
	}
	return from.Invoke(p.t, daprtest.AppID, r)
}

// TestContractThroughDapr makes every call that the platform's services make of
// the hub, with its payload, through their sidecars and the hub's, and reads of
// each answer what its caller reads. The golden file is the contract as a table.
// It runs alone: app-ids, topics and keys are the contract's, which other tests
// use too.
func TestContractThroughDapr(t *testing.T) {
	t.Cleanup(func() { daprtest.Flush(t) })
	first, second, third := uuid.NewString(), uuid.NewString(), uuid.NewString()
	t.Setenv("SECRETS_PSQL_PASSWORD", "canary-71c2") // the sidecars' store; the test's database asks for none
	p := startPlatform(t, second, third)
	p.sidecarSide(t)
	lab := script{Dir: t.TempDir(), UID: "uid-of-lab-7"}
	made := p.calls(names{"first": first, "second": second, "third": third, "unknown": uuid.NewString()})

	// A cluster is onboarded, to the end.
	steps := []string{"determine_cluster_platform", "check_duplicate_config", "verify_cluster_connection", "configure_cluster", "fetch_cluster_info"}
	p.main.Asked(notifytest.MainWorkflow{ID: first, Type: "register_cluster", Cluster: "Lab 7"}, steps...)
	began := made.began(t, "1", scripted(t, lab))
	require.Equal(t, steps, began.ids())
	agent := p.h.Agent(lab.UID)
	require.NoError(t, agent.Enroll(t.Context(), lab.appears(t, "token")))
	play(t, lab.UID, agent.MustConnect())
	require.NoError(t, os.WriteFile(filepath.Join(lab.Dir, "connected"), nil, 0o600))
	p.until("the main service has the cluster", func() bool { return p.main.Workflow(first).Status == "completed" })
	list, err := p.h.Client.Clusters(t.Context(), hubapi.PageOptions{})
	require.NoError(t, err)
	have := p.main.Cluster("Lab 7")
	require.Equal(t, list.Items[0].ID, have.HubID, "the id of all later calls")
	require.Equal(t, notifytest.MainCluster{Name: "Lab 7", HubID: have.HubID, Status: "available", Nodes: 1, AvailableNodes: 1, CPUWorkers: 1, GPUWorkers: 2}, *have)
	for _, s := range steps {
		require.Equal(t, "COMPLETED", p.main.Workflow(first).Steps[s], s)
	}
	p.until("people are told", func() bool { return len(p.people.Told("7d5e")) > 0 })
	made.names["cluster"] = have.HubID
	p.until("the planner sees the cluster", func() bool { return len(p.planned(have.HubID)) == 1 })
	require.Equal(t, 2, free(p.planned(have.HubID)[0], "cuda"))

	made.each(t, "2", "5", "6", "7", "budpipeline 1", "budpipeline 2", "ask-bud")
	p.until("the main service hears how the cluster is", func() bool { return p.main.Said("cluster-status-update results COMPLETED") })

	// Another one is cancelled: its step fails, the pipeline hears of the end.
	stuck := script{Dir: t.TempDir(), UID: "uid-stuck"}
	p.main.Asked(notifytest.MainWorkflow{ID: second, Type: "register_cluster", Cluster: "Lab 8"}, steps...)
	made.names["hub"] = made.began(t, "1 again", scripted(t, stuck)).WorkflowID
	stuck.appears(t, "token")
	made.each(t, "4")
	stuck.appears(t, "undone")
	p.until("the pipeline hears of it", func() bool { return p.pipelines.Step(second).Status == "FAILED" })
	require.Nil(t, p.main.Cluster("Lab 8"))

	// The cluster is removed, by its agent.
	p.main.Asked(notifytest.MainWorkflow{ID: third, Type: "delete_cluster", Cluster: "Lab 7"}, "delete_namespace")
	require.Equal(t, []string{"delete_namespace"}, made.began(t, "3", "").ids())
	p.until("the main service has taken the cluster out", func() bool { return p.main.Workflow(third).Status == "completed" })
	p.until("the planner sees it no more", func() bool { return len(p.planned(have.HubID)) == 0 })
	p.until("the pipeline goes on", func() bool { return p.pipelines.Step(third).Status == "COMPLETED" })

	made.rest(t)
	require.Empty(t, p.broken(), "no service failed at a message")
	require.Equal(t, 1, p.pipelines.Step(second).Ends)
	require.Equal(t, 1, p.pipelines.Step(third).Ends)
	require.NotContains(t, p.h.Log.String(), "canary-71c2")
	testutil.Golden(t, "contract", made.report())
}
