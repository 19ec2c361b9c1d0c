package notify_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/internal/notify"
	"github.com/budecosystem/budcluster/hub/internal/notifytest"
	"github.com/budecosystem/budcluster/hub/internal/workflow"
)

const (
	platformID = "3c0ffee0-0000-4000-8000-000000000001" // of the main service's own workflow
	hubID      = "0193a5b0-0000-7000-8000-000000000001"
)

// platform is the receivers, joined to a broker.
type platform struct {
	*notifytest.Main
	*notifytest.Pipeline
	*notifytest.People
	broken []string
}

func newPlatform() *platform {
	return &platform{Main: notifytest.NewMain(), Pipeline: notifytest.NewPipeline(platformID), People: notifytest.NewPeople()}
}

// hear brings every message to its receiver, with what a sidecar adds, and
// remembers what the receiver could not take.
func (p *platform) hear(tb testing.TB, messages []notify.Message) {
	tb.Helper()
	for _, m := range messages {
		body := strings.Replace(string(m.Body), "{", `{"specversion": "1.0", "topic": "`+m.Topic+`", "pubsubname": "pubsub", "traceid": "", "traceparent": "", "tracestate": "", "time": "2026-11-25T22:00:00Z", `, 1)
		handle := map[string]func([]byte) error{notify.MainTopic: p.Main.Handle, pipeline: p.Pipeline.Handle, people: p.People.Handle}[m.Topic]
		if err := handle([]byte(body)); err != nil {
			p.broken = append(p.broken, m.Topic+": "+err.Error())
		}
	}
}

func asksToRegister(p *platform) {
	p.Asked(notifytest.MainWorkflow{ID: platformID, Type: "register_cluster", Cluster: "edge"},
		"determine_cluster_platform", "check_duplicate_config", "verify_cluster_connection", "configure_cluster", "fetch_cluster_info")
}

func asksToRemove(p *platform) {
	p.Knows(notifytest.MainCluster{Name: "edge", HubID: hubID, Status: "deleting"})
	p.Asked(notifytest.MainWorkflow{ID: platformID, Type: "delete_cluster", Cluster: "edge"}, "delete_namespace")
}

func TestPlatformRegisters(t *testing.T) {
	t.Parallel()
	b, p := setup(t), newPlatform()
	asksToRegister(p)
	w := b.begin(t, workflow.RegisterCluster, registration(), asked)
	b.run(t, w, registered, "")
	p.hear(t, b.deliver(t).took)
	require.Empty(t, p.broken)

	own := p.Workflow(platformID)
	require.Equal(t, "completed", own.Status)
	for step, status := range own.Steps {
		require.Equal(t, "COMPLETED", status, step)
	}
	require.Equal(t, 1, own.ETA)
	require.Equal(t, &notifytest.MainCluster{Name: "edge", HubID: hubID, Status: "available", Nodes: 1, AvailableNodes: 1, CPUWorkers: 64, GPUWorkers: 8}, p.Cluster("edge"))
	require.Equal(t, notifytest.PipelineStep{Status: "COMPLETED", ETA: 1, Ends: 1}, p.Step(platformID))
	require.Len(t, p.Told("7d5e"), 12)
}

func TestPlatformHearsOfFailure(t *testing.T) {
	t.Parallel()
	b, p := setup(t), newPlatform()
	asksToRegister(p)
	w := b.begin(t, workflow.RegisterCluster, registration(), asked)
	b.run(t, w, "", "hami")
	p.hear(t, b.deliver(t).took)
	require.Empty(t, p.broken)
	require.Nil(t, p.Cluster("edge"))
	require.Equal(t, "FAILED", p.Workflow(platformID).Steps["configure_cluster"])
	step := p.Step(platformID)
	require.Equal(t, "FAILED", step.Status)
	require.Equal(t, 1, step.Ends, "the pipeline does not wait for its timeout")
	require.Contains(t, step.Error, "CrashLoopBackOff")
}

func TestPlatformRemoves(t *testing.T) {
	t.Parallel()
	b, p := setup(t), newPlatform()
	asksToRemove(p)
	w := b.begin(t, workflow.RemoveCluster, removal(), asked)
	b.run(t, w, "", "")
	p.hear(t, b.deliver(t).took)
	require.Empty(t, p.broken)
	require.Equal(t, "deleted", p.Cluster("edge").Status)
	require.Equal(t, "COMPLETED", p.Workflow(platformID).Steps["delete_namespace"])
}

// A removal that failed leaves the cluster in the main service's books. Told
// "results" it would strike it out, whatever the status: that is what
// SuccessOnly is for, and what the second half shows.
func TestPlatformKeepsWhatWasNotRemoved(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w := b.begin(t, workflow.RemoveCluster, removal(), asked)
	b.run(t, w, "", "agent")
	messages := b.deliver(t).took

	p := newPlatform()
	asksToRemove(p)
	p.hear(t, messages)
	require.Empty(t, p.broken)
	require.Equal(t, "deleting", p.Cluster("edge").Status)
	require.Equal(t, "FAILED", p.Workflow(platformID).Steps["delete_namespace"])
	require.Equal(t, "FAILED", p.Step(platformID).Status)

	p = newPlatform()
	asksToRemove(p)
	for i := range messages {
		if messages[i].Topic == pipeline {
			messages[i].Topic = notify.MainTopic
		}
	}
	p.hear(t, messages)
	require.Equal(t, "deleted", p.Cluster("edge").Status, "the main service has learnt to read the status: empty SuccessOnly")
}

// What comes twice, because a hub died between the broker's answer and its own
// record, changes nothing for the receivers.
func TestPlatformBearsDoubles(t *testing.T) {
	t.Parallel()
	b, p := setup(t), newPlatform()
	asksToRegister(p)
	w := b.begin(t, workflow.RegisterCluster, registration(), asked)
	b.run(t, w, registered, "")
	for _, m := range b.deliver(t).took {
		p.hear(t, []notify.Message{m, m})
	}
	require.Equal(t, "available", p.Cluster("edge").Status)
	require.Equal(t, 1, p.Step(platformID).Ends)
	require.Contains(t, p.broken, "budAppMessages: cluster edge already exists", "refused, and nothing more")
}

func TestPlatformFollowsTheStatus(t *testing.T) {
	t.Parallel()
	b, p := setup(t), newPlatform()
	p.Knows(notifytest.MainCluster{Name: "edge", HubID: hubID, Status: "available"})
	w := b.begin(t, workflow.UpdateStatus, []workflow.Step{{Name: "look", Title: "Updating cluster status", Milestone: "update_cluster_status"}},
		`{"source_topic": "budAppMessages"}`)
	b.run(t, w, `{"cluster_id": "`+hubID+`", "status": "not_available", "node_info": {"id": "`+hubID+`", "nodes": [{"name": "a", "status": false, "devices": []}]}}`, "")
	p.hear(t, b.deliver(t).took)
	require.Empty(t, p.broken)
	require.Equal(t, &notifytest.MainCluster{Name: "edge", HubID: hubID, Status: "not_available", Nodes: 1}, p.Cluster("edge"))
}

// The receivers fail where the real ones do; else the tests above prove
// nothing.
func TestPlatformFails(t *testing.T) {
	t.Parallel()
	good := `{"name": "n", "type": "notification", "subscriber_ids": "u", "payload": {"category": "internal", "type": "register_cluster", "event": "results",
		"workflow_id": "` + platformID + `", "source": "budcluster", "content": {"title": "t", "message": "m", "status": "COMPLETED", "result": {"id": "` + hubID + `"}}}}`
	change := func(old, replacement string) string {
		require.Contains(t, good, old)
		return strings.Replace(good, old, replacement, 1)
	}
	for name, body := range map[string]string{
		"an id":             change(`{"name"`, `{"id": "1", "name"`),
		"no name":           change(`"name": "n", `, ``),
		"a number of users": change(`"u"`, `5`),
		"no result":         change(`{"id": "`+hubID+`"}`, `null`),
		"result of a list":  change(`{"id": "`+hubID+`"}`, `[]`),
		"result without id": change(`"id": "`, `"name": "`),
		"an id that is not": change(hubID, `1`),
		"another workflow":  change(platformID, "x"),
		"minutes in words":  change(`"results"`, `"eta"`),
		"another category":  change(`"internal"`, `"secret"`),
		"no source":         change(`"source": "budcluster", `, ``),
		"no content":        change(`"content"`, `"contents"`),
		"not JSON":          `{`,
	} {
		p := newPlatform()
		asksToRegister(p)
		require.Error(t, p.Main.Handle([]byte(body)), name)
		require.Nil(t, p.Cluster("edge"), name)
	}
	p := newPlatform()
	asksToRegister(p)
	require.NoError(t, p.Main.Handle([]byte(good)))
	require.NoError(t, p.Pipeline.Handle([]byte(good)))
	require.NoError(t, p.People.Handle([]byte(good)))
	require.Error(t, p.People.Handle([]byte(change(`"u"`, `null`))))
	p = newPlatform()
	require.Error(t, p.Pipeline.Handle([]byte(change(`"type": "notification"`, `"type": "register_cluster"`))))
}
