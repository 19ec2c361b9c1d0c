package notify_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/internal/notify"
	"github.com/budecosystem/budcluster/hub/internal/store"
	"github.com/budecosystem/budcluster/hub/internal/store/storetest"
	"github.com/budecosystem/budcluster/hub/internal/workflow"
)

// What the platform's main service and its pipelines ask for.
const (
	people   = "notificationMessages"
	pipeline = "budpipelineEvents"
	asked    = `{"name": "edge", "source_topic": ["budAppMessages", "budpipelineEvents"], "debug": false, "notification_metadata": {
		"name": "bud-internal", "subscriber_ids": "7d5e", "workflow_id": "3c0ffee0-0000-4000-8000-000000000001"}}`
)

type bundle struct {
	*notify.Service
	store     *store.Store
	pool      *pgxpool.Pool
	workflows *workflow.Service
}

func setup(tb testing.TB) *bundle {
	tb.Helper()
	b := &bundle{}
	b.store, b.pool = storetest.NewWithPool(tb)
	var err error
	b.Service, err = notify.New(notify.Config{Store: b.store, PeopleTopic: people, SuccessOnly: []string{notify.MainTopic}})
	require.NoError(tb, err)
	b.workflows, err = workflow.New(workflow.Config{Store: b.store, Logger: slog.New(slog.DiscardHandler), Notify: b.Notify})
	require.NoError(tb, err)
	return b
}

// registration is the steps of a registration as the hub takes them: some are
// parts of one step of the contract, some are of none.
func registration() []workflow.Step {
	return []workflow.Step{
		{Name: "platform", Title: "Determining cluster platform", Milestone: "determine_cluster_platform", Typical: 30 * time.Second},
		{Name: "duplicate", Title: "Checking for duplicate cluster", Milestone: "check_duplicate_config", Typical: 5 * time.Second},
		{Name: "join", Title: "Verifying cluster connection", Milestone: "verify_cluster_connection", Typical: time.Minute},
		{Name: "audit", Title: "Looking around", Typical: 10 * time.Second},
		{Name: "nfd", Title: "Installing NFD", Milestone: "configure_cluster", Typical: 2 * time.Minute},
		{Name: "hami", Title: "Installing HAMi", Milestone: "configure_cluster", Typical: 3 * time.Minute},
		{Name: "inventory", Title: "Fetching cluster info", Milestone: "fetch_cluster_info", Typical: 20 * time.Second},
	}
}

func removal() []workflow.Step {
	return []workflow.Step{
		{Name: "components", Title: "Removing components", Milestone: "delete_namespace", Typical: 2 * time.Minute},
		{Name: "agent", Title: "Removing the agent", Milestone: "delete_namespace", Typical: time.Minute},
	}
}

// begin starts a workflow as the platform's face does.
func (b *bundle) begin(tb testing.TB, kind workflow.Kind, steps []workflow.Step, reply string) *workflow.Workflow {
	tb.Helper()
	r, err := notify.ParseReply(json.RawMessage(reply))
	require.NoError(tb, err)
	raw, err := json.Marshal(r)
	require.NoError(tb, err)
	var w *workflow.Workflow
	require.NoError(tb, b.store.InTx(tb.Context(), func(ctx context.Context) (err error) {
		if w, err = b.workflows.Start(ctx, "ann", workflow.Request{Kind: kind, ClusterName: "edge", Input: struct{}{}, Reply: raw, Steps: steps}); err != nil {
			return err
		}
		return b.Started(ctx, w)
	}))
	return w
}

// step takes one step, twice, as an engine does that has lost its memory.
func (b *bundle) step(tb testing.TB, w *workflow.Workflow, name string, o workflow.Outcome) {
	tb.Helper()
	turn, err := b.workflows.Begin(tb.Context(), w.ID)
	require.NoError(tb, err)
	require.Equal(tb, name, turn.Step.Name)
	for sequence := range int64(2) {
		_, _, err = b.workflows.Settle(tb.Context(), turn, sequence, o)
		require.NoError(tb, err)
	}
}

func (b *bundle) finish(tb testing.TB, w *workflow.Workflow) {
	tb.Helper()
	for range 2 {
		_, err := b.workflows.Finish(tb.Context(), w.ID)
		require.NoError(tb, err)
	}
}

// run takes all steps and ends the workflow; failing names one that fails.
func (b *bundle) run(tb testing.TB, w *workflow.Workflow, result, failing string) {
	tb.Helper()
	for i, s := range w.Steps {
		if s.Name == failing {
			b.step(tb, w, s.Name, workflow.Failed("PodFailed", "hami-device-plugin-x7k2p: CrashLoopBackOff: no NVIDIA driver"))
			break
		}
		o := workflow.Completed("")
		if i == len(w.Steps)-1 && result != "" {
			o.Result = json.RawMessage(result)
		}
		b.step(tb, w, s.Name, o)
	}
	b.finish(tb, w)
}

// broker is a Publisher that remembers, and fails as it is told.
type broker struct {
	mu   sync.Mutex // guards took, fail
	took []notify.Message
	fail func(notify.Message) error
	// each is told of everything that was taken.
	each func(notify.Message)
}

func (b *broker) Publish(_ context.Context, m notify.Message) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fail != nil {
		if err := b.fail(m); err != nil {
			return err
		}
	}
	b.took = append(b.took, m)
	if b.each != nil {
		b.each(m)
	}
	return nil
}

func (b *broker) failing(fail func(notify.Message) error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fail = fail
}

// on lists what came to a topic.
func (b *broker) on(topic string) []notify.Message {
	b.mu.Lock()
	defer b.mu.Unlock()
	var found []notify.Message
	for _, m := range b.took {
		if m.Topic == topic {
			found = append(found, m)
		}
	}
	return found
}

func deliverer(tb testing.TB, s notify.Queue, p notify.Publisher, change func(*notify.DelivererConfig)) *notify.Deliverer {
	tb.Helper()
	cfg := notify.DelivererConfig{Queue: s, Publisher: p, Logger: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry()}
	if change != nil {
		change(&cfg)
	}
	d, err := notify.NewDeliverer(cfg)
	require.NoError(tb, err)
	return d
}

// deliver delivers everything and returns the broker.
func (b *bundle) deliver(tb testing.TB) *broker {
	tb.Helper()
	to := &broker{}
	_, err := deliverer(tb, b.store, to, nil).Deliver(tb.Context())
	require.NoError(tb, err)
	return to
}

// text writes messages for a golden file, in the order of their coming, with
// the ids that differ from run to run replaced.
func text(tb testing.TB, w *workflow.Workflow, messages []notify.Message) []byte {
	tb.Helper()
	var out bytes.Buffer
	for i, m := range messages {
		var body bytes.Buffer
		require.NoError(tb, json.Indent(&body, m.Body, "", "  "))
		_, _ = out.WriteString(strings.ReplaceAll(body.String(), w.ID.String(), "<workflow>"))
		require.NotEqual(tb, uuid.Nil, m.ID, "message %d", i)
		_, _ = out.WriteString("\n")
	}
	return out.Bytes()
}

// said lists the events of messages with their statuses.
func said(tb testing.TB, messages []notify.Message) (events []string) {
	tb.Helper()
	for _, m := range messages {
		var body struct {
			Payload struct {
				Event   string
				Content struct{ Status, Message string }
			}
		}
		require.NoError(tb, json.Unmarshal(m.Body, &body))
		event := body.Payload.Event + " " + body.Payload.Content.Status
		if body.Payload.Event == "eta" {
			event += " " + body.Payload.Content.Message
		}
		events = append(events, event)
	}
	return events
}
