package workflow_test

import (
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/internal/workflow"
)

func TestJanitorDeletesWhatWasOverLongAgo(t *testing.T) {
	t.Parallel()
	b := setup(t)
	over := func() *workflow.Workflow {
		w := b.start(t)
		require.NoError(t, b.RecordEffect(t.Context(), w.ID, workflow.Effect{Kind: workflow.EffectRelease, Name: "nfd", ClusterID: b.cluster}))
		_, err := b.Finish(t.Context(), w.ID)
		require.NoError(t, err)
		return w
	}
	old := []*workflow.Workflow{over(), over()}
	b.mu.Lock()
	b.now = b.now.Add(time.Hour)
	b.mu.Unlock()
	kept := over()
	on := b.start(t)
	j, err := workflow.NewJanitor(workflow.JanitorConfig{Store: b.store, Logger: slog.New(slog.DiscardHandler), Retention: 30 * time.Minute, Now: b.clock})
	require.NoError(t, err)
	n, err := j.Sweep(t.Context())
	require.NoError(t, err)
	require.Equal(t, len(old), n)
	for _, w := range old {
		_, err := b.Get(t.Context(), w.ID.String())
		require.ErrorIs(t, err, workflow.ErrNotFound)
	}
	for _, w := range []*workflow.Workflow{kept, on} {
		_, err := b.Get(t.Context(), w.ID.String())
		require.NoError(t, err)
	}
	n, err = j.Sweep(t.Context())
	require.NoError(t, err)
	require.Zero(t, n)
}

func TestJanitorIsChecked(t *testing.T) {
	t.Parallel()
	_, err := workflow.NewJanitor(workflow.JanitorConfig{})
	require.ErrorContains(t, err, "a store and a logger are needed")
	_, err = workflow.NewJanitor(workflow.JanitorConfig{Store: setup(t).store, Logger: slog.New(slog.DiscardHandler), Retention: -time.Hour})
	require.ErrorContains(t, err, "workflows.retention: -1h0m0s is negative; use 2160h or another positive duration")
}
