package notify_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/internal/invalid"
	"github.com/budecosystem/budcluster/hub/internal/notify"
	"github.com/budecosystem/budcluster/hub/internal/workflow"
	"github.com/budecosystem/budcluster/internal/testutil"
)

const registered = `{"id": "0193a5b0-0000-7000-8000-000000000001", "name": "edge", "nodes": [
	{"name": "gpu-1", "id": "n1", "status": true, "is_master": false, "devices": [
		{"type": "cpu", "available_count": 64}, {"type": "cuda", "available_count": 8}]}]}`

// Every message of a registration, in order and with each step taken twice,
// on each of the topics.
func TestRegistration(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w := b.begin(t, workflow.RegisterCluster, registration(), asked)
	b.run(t, w, registered, "")
	to := b.deliver(t)
	want := []string{
		"cluster_registration_status STARTED", "eta RUNNING 8",
		"determine_cluster_platform COMPLETED", "eta RUNNING 7",
		"check_duplicate_config COMPLETED", "eta RUNNING 7",
		"verify_cluster_connection COMPLETED", "eta RUNNING 6",
		"configure_cluster COMPLETED", "eta RUNNING 1",
		"fetch_cluster_info COMPLETED", "results COMPLETED",
	}
	for _, topic := range []string{people, notify.MainTopic, pipeline} {
		got := to.on(topic)
		require.Equal(t, want, said(t, got), topic)
		for _, m := range got {
			require.Equal(t, "budcluster", m.Source)
			require.Equal(t, map[bool]string{true: "notification", false: "register_cluster"}[topic == people], m.Type)
		}
	}
	testutil.Golden(t, "register.golden", text(t, w, to.on(notify.MainTopic)))
}

func TestRemoval(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w := b.begin(t, workflow.RemoveCluster, removal(), asked)
	b.run(t, w, "", "")
	to := b.deliver(t)
	require.Equal(t, []string{"delete_namespace STARTED", "eta RUNNING 3", "delete_namespace COMPLETED", "results COMPLETED"}, said(t, to.on(notify.MainTopic)))
	testutil.Golden(t, "remove.golden", text(t, w, to.on(notify.MainTopic)))
}

// A failure is told once to those who know what to do with it; the platform's
// main service, which would take it for a success, hears of the step only.
func TestFailure(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		kind    workflow.Kind
		steps   []workflow.Step
		failing string
		step    string // the one that is said to have failed
	}{
		"register":          {workflow.RegisterCluster, registration(), "hami", "configure_cluster"},
		"outside the steps": {workflow.RegisterCluster, registration(), "audit", "configure_cluster"},
		"remove":            {workflow.RemoveCluster, removal(), "agent", "delete_namespace"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			w := b.begin(t, c.kind, c.steps, asked)
			b.run(t, w, "", c.failing)
			to := b.deliver(t)
			failures := func(topic string) (found []string) {
				for _, event := range said(t, to.on(topic)) {
					if strings.HasSuffix(event, " FAILED") {
						found = append(found, event)
					}
				}
				return found
			}
			require.Equal(t, []string{c.step + " FAILED"}, failures(notify.MainTopic))
			require.Equal(t, []string{c.step + " FAILED", "results FAILED"}, failures(pipeline))
			require.Equal(t, []string{c.step + " FAILED", "results FAILED"}, failures(people))
			last := to.on(pipeline)[len(to.on(pipeline))-1]
			require.Contains(t, string(last.Body), "hami-device-plugin-x7k2p: CrashLoopBackOff", "the pod's own reason")
			require.Contains(t, string(last.Body), `"result":null`)
			if name == "register" {
				testutil.Golden(t, "register-failed.golden", text(t, w, to.on(pipeline)))
			}
		})
	}
}

func TestCancel(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w := b.begin(t, workflow.RegisterCluster, registration(), asked)
	b.step(t, w, "platform", workflow.Completed(""))
	_, err := b.workflows.Cancel(t.Context(), "ann", w.ID.String())
	require.NoError(t, err)
	b.step(t, w, "duplicate", workflow.Outcome{Status: workflow.StepCancelled, Reason: "Cancelled", Message: "cancelled by ann"})
	b.finish(t, w)
	got := b.deliver(t).on(pipeline)
	require.Equal(t, []string{"check_duplicate_config FAILED", "results FAILED"}, said(t, got)[len(got)-2:])
	require.Contains(t, string(got[len(got)-1].Body), "cancelled by ann")
}

func TestOthers(t *testing.T) {
	t.Parallel()
	b := setup(t)
	quiet := b.begin(t, workflow.RegisterCluster, registration(), `{}`)
	b.run(t, quiet, registered, "")
	require.Empty(t, b.deliver(t).took, "nobody asked")

	// Nobody is named: the name is the type, the id is ours, and budnotify is not
	// told.
	status := b.begin(t, workflow.UpdateStatus, []workflow.Step{{Name: "look", Title: "Updating cluster status", Milestone: "update_cluster_status"}},
		`{"source_topic": "budAppMessages"}`)
	b.run(t, status, `{"cluster_id": "c", "status": "available", "node_info": {"id": "c", "nodes": []}}`, "")
	to := b.deliver(t)
	require.Empty(t, to.on(people))
	require.Equal(t, []string{"update_cluster_status COMPLETED", "results COMPLETED"}, said(t, to.took))
	testutil.Golden(t, "status.golden", text(t, status, to.took))

	other := b.begin(t, workflow.InstallComponent, []workflow.Step{{Name: "nfd", Title: "Installing NFD"}}, asked)
	b.run(t, other, "", "nfd")
	got := b.deliver(t).on(pipeline)
	require.Equal(t, []string{"results FAILED"}, said(t, got))
	require.Contains(t, string(got[0].Body), `"title":"Install component failed"`)
}

// What is told twice is written once, and what is rolled back never.
func TestTell(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := notify.Reply{Topics: []string{"t"}}
	stream, broken := uuid.New(), errors.New("broken")
	said := notify.Payload{Type: "cluster-status-update", Event: "results", Content: notify.Content{Title: "x", Status: notify.StatusCompleted}}
	require.ErrorIs(t, b.store.InTx(t.Context(), func(ctx context.Context) error {
		require.NoError(t, b.Tell(ctx, stream, "a", r, said))
		return broken
	}), broken)
	require.NoError(t, b.Tell(t.Context(), stream, "b", r, said))
	require.NoError(t, b.Tell(t.Context(), stream, "b", r, said))
	require.NoError(t, b.Tell(t.Context(), uuid.New(), "b", r, said))
	got := b.deliver(t).took
	require.Len(t, got, 2)
	require.NotEqual(t, got[0].ID, got[1].ID)
	require.NoError(t, b.Tell(t.Context(), stream, "b", r, said), "after it was sent, too")
	require.Empty(t, b.deliver(t).took)

	_, err := notify.New(notify.Config{})
	require.ErrorContains(t, err, "store")
	require.Error(t, b.Notify(t.Context(), &workflow.Workflow{Reply: json.RawMessage(`[]`)}, workflow.Notice{}))
}

func TestParseReply(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 300)
	for name, c := range map[string]struct {
		in     string
		topics []string
		fields []string // of the faults
	}{
		"nothing":            {in: ``},
		"empty":              {in: `{}`},
		"nulls":              {in: `{"source_topic": null, "notification_metadata": null, "other": 1}`},
		"one topic":          {in: `{"source_topic": "a"}`, topics: []string{"a"}},
		"topics":             {in: `{"source_topic": ["a", "b", "a", ""]}`, topics: []string{"a", "b"}},
		"empty topic":        {in: `{"source_topic": ""}`},
		"metadata":           {in: `{"notification_metadata": {"name": "n", "subscriber_ids": ["a", "b"], "workflow_id": null, "extra": 1}}`},
		"all of metadata":    {in: `{"notification_metadata": {"name": "n", "notification_type": "topic", "topic_keys": "k", "actor": "a", "category": "inapp"}}`},
		"not an object":      {in: `[]`, fields: []string{"body"}},
		"topic of a number":  {in: `{"source_topic": 5}`, fields: []string{"source_topic"}},
		"topic with null":    {in: `{"source_topic": ["a", null]}`, fields: []string{"source_topic"}},
		"topic with a space": {in: `{"source_topic": "a b"}`, fields: []string{"source_topic"}},
		"a long topic":       {in: `{"source_topic": "` + long + `"}`, fields: []string{"source_topic"}},
		"many topics":        {in: `{"source_topic": ["1","2","3","4","5","6","7","8","9","10","11","12","13","14","15","16","17"]}`, fields: []string{"source_topic"}},
		"debug":              {in: `{"debug": "yes"}`, fields: []string{"debug"}},
		"no name":            {in: `{"notification_metadata": {}}`, fields: []string{"notification_metadata.name"}},
		"metadata is a text": {in: `{"notification_metadata": "n"}`, fields: []string{"notification_metadata"}},
		"name is a number":   {in: `{"notification_metadata": {"name": 1}}`, fields: []string{"notification_metadata.name"}},
		"subscribers":        {in: `{"notification_metadata": {"name": "n", "subscriber_ids": 7}}`, fields: []string{"notification_metadata"}},
		"everything": {
			in: `{"source_topic": {}, "debug": 1, "notification_metadata": {"category": "x", "notification_type": "y", "actor": "` + long + `", "subscriber_ids": "` + long + `"}}`,
			fields: []string{
				"source_topic", "notification_metadata.name", "notification_metadata.notification_type", "notification_metadata.category",
				"notification_metadata.actor", "notification_metadata.subscriber_ids", "debug",
			},
		},
	} {
		r, err := notify.ParseReply(json.RawMessage(c.in))
		var fields []string
		for _, fault := range invalid.Of(err) {
			fields = append(fields, fault.Field)
		}
		require.Equal(t, c.fields, fields, name)
		require.Equal(t, c.topics, r.Topics, name)
		if err != nil {
			continue
		}
		raw, err := json.Marshal(r)
		require.NoError(t, err, name)
		again, err := notify.ParseReply(raw)
		require.NoError(t, err, name)
		require.Equal(t, r.IsZero(), again.IsZero(), name)
		twice, err := json.Marshal(again)
		require.NoError(t, err, name)
		require.JSONEq(t, string(raw), string(twice), name)
	}
}

func FuzzParseReply(f *testing.F) {
	for _, seed := range []string{asked, ``, `{}`, `null`, `{"source_topic": [null]}`, `{"notification_metadata": {"name": "n", "topic_keys": ["a"], "subscriber_ids": ""}}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := notify.ParseReply(raw)
		if err != nil {
			require.NotEmpty(t, invalid.Of(err), "whatever is wrong is the caller's fault")
			return
		}
		first, err := json.Marshal(r)
		require.NoError(t, err)
		again, err := notify.ParseReply(first)
		require.NoError(t, err)
		second, err := json.Marshal(again)
		require.NoError(t, err)
		require.Equal(t, string(first), string(second))
	})
}
