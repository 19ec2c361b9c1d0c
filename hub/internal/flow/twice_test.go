package flow_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	durable "github.com/dapr/durabletask-go/workflow"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/internal/engine"
	"github.com/budecosystem/budcluster/hub/internal/flow"
	"github.com/budecosystem/budcluster/hub/internal/pg/pgtest"
	"github.com/budecosystem/budcluster/hub/internal/store/taskhub"
	"github.com/budecosystem/budcluster/hub/internal/workflow"
	"github.com/budecosystem/budcluster/internal/id"
)

// site is what steps make, by workflow and name; to make or to remove it again
// changes nothing, as with releases.
type site struct {
	record *workflow.Service

	mu   sync.Mutex // guards made
	made map[string]bool
}

func (s *site) set(of uuid.UUID, name string, there bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if there {
		s.made[of.String()+"/"+name] = true
	} else {
		delete(s.made, of.String()+"/"+name)
	}
}

func (s *site) of(w uuid.UUID) (names []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range s.made {
		if strings.HasPrefix(name, w.String()) {
			names = append(names, name)
		}
	}
	return names
}

// Step makes what it is named for, waiting for a moment at first; "fail" fails.
func (s *site) Step(_ workflow.Kind, name string) (flow.Step, bool) {
	return flow.Step{Do: func(ctx context.Context, t *workflow.Turn) (workflow.Outcome, error) {
		if name == "fail" {
			return workflow.Failed("No", "no"), nil
		}
		if err := s.record.RecordEffect(ctx, t.Workflow.ID, workflow.Effect{Kind: workflow.EffectRelease, Name: name, ClusterID: t.Workflow.ClusterID}); err != nil {
			return workflow.Outcome{}, err
		}
		s.set(t.Workflow.ID, name, true)
		if t.Step.Evaluations == 1 {
			return workflow.Waiting("in a moment", time.Now().Add(5*time.Millisecond)), nil
		}
		return workflow.Completed(""), nil
	}}, true
}

// Undo removes it.
func (s *site) Undo(workflow.EffectKind) (flow.Undo, bool) {
	return flow.Undo{Do: func(_ context.Context, w *workflow.Workflow, e workflow.Effect) (workflow.Outcome, error) {
		s.set(w.ID, e.Name, false)
		return workflow.Completed(""), nil
	}}, true
}

// Activities run at least once: Dapr was seen to run one twice without anybody's
// death, and while the hub is switched to another engine both may carry the same
// workflows out. Here two engines do, from the first step to the last and at the
// same time. Each step has one end, each workflow one result, and what is made
// and undone is what one engine would have.
func TestTwoEnginesComeToOneOutcome(t *testing.T) {
	t.Parallel()
	s := &site{made: map[string]bool{}}
	b := setup(t, s)
	s.record = b.Service
	log := slog.New(slog.DiscardHandler)
	runner, err := flow.New(flow.Config{Record: b, Book: s, Logger: log})
	require.NoError(t, err)
	hub, err := taskhub.Open(t.Context(), taskhub.Config{Pool: pgtest.Pool(t, pgtest.Migrated(t)), Log: log, Poll: 20 * time.Millisecond})
	require.NoError(t, err)
	registry := durable.NewRegistry()
	require.NoError(t, runner.Register(registry))
	other, err := engine.NewEmbedded(engine.EmbeddedConfig{Hub: hub, Registry: registry, Log: log})
	require.NoError(t, err)
	var running sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	running.Go(func() { _ = other.Run(ctx) })
	t.Cleanup(func() {
		stop()
		running.Wait()
		hub.Close()
	})

	var all []*workflow.Workflow
	for i := range 20 {
		req := workflow.Request{Kind: workflow.RegisterCluster, ClusterID: id.New(), ClusterName: fmt.Sprint("c", i), Exclusive: true}
		for _, name := range []string{"nfd", "gpu", "hami"} {
			req.Steps = append(req.Steps, workflow.Step{Name: name, Title: name})
		}
		if i%2 == 1 {
			req.Steps = append(req.Steps, workflow.Step{Name: "fail", Title: "fail"})
		}
		w, err := b.Start(t.Context(), "ann", req)
		require.NoError(t, err)
		require.NoError(t, flow.Door{Engine: other}.Start(t.Context(), w))
		all = append(all, w)
	}
	for i, w := range all {
		st, err := other.Wait(t.Context(), w.ID.String())
		require.NoError(t, err)
		require.Equal(t, engine.Completed, st.State, st.Failure)
		done := b.reach(t, w, over)
		if i%2 == 0 {
			require.Equal(t, workflow.StatusCompleted, done.Status, done.Message)
			require.Len(t, s.of(w.ID), 3)
		} else {
			require.Equal(t, workflow.StatusFailed, done.Status)
			require.Equal(t, "fail: no", done.Message)
			require.Empty(t, s.of(w.ID))
		}
	}
	require.Len(t, b.told(), len(all), "one result each")
	ends := map[string]int{}
	for _, message := range b.messages(t) {
		if strings.HasSuffix(message, ": Completed") || strings.HasSuffix(message, ": Failed: no") || strings.Contains(message, " is over: ") {
			ends[message]++
		}
	}
	for message, n := range ends {
		require.Equal(t, 1, n, message)
	}
	require.Len(t, ends, 20*3+10+20, "steps, failed ones, workflows")
}
