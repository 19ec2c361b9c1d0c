package cluster_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/internal/cluster"
	"github.com/budecosystem/budcluster/hub/internal/event"
	"github.com/budecosystem/budcluster/hub/internal/invalid"
	"github.com/budecosystem/budcluster/hub/internal/release"
)

func target(n string) cluster.AgentTarget {
	return cluster.AgentTarget{Digest: "sha256:" + strings.Repeat(n, 64), Name: "budcluster-agent", Version: "1." + n + ".0", AppVersion: "1." + n + ".0"}
}

// agentEvents lists what was told of a cluster's agent.
func (b *bundle) agentEvents(t *testing.T, id uuid.UUID) []event.Type {
	t.Helper()
	events, err := b.store.EventList(t.Context(), event.Filter{ClusterID: &id, Limit: 100})
	require.NoError(t, err)
	var types []event.Type
	for _, e := range events {
		if strings.HasPrefix(string(e.Type), "agent.") {
			types = append(types, e.Type)
		}
	}
	return types
}

func TestAgentUpgrade(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	c := b.join(t, "frankfurt")
	u, err := b.AgentUpgrade(ctx, c.ID)
	require.NoError(t, err)
	require.Nil(t, u.Target)
	require.False(t, u.Pending())
	allowed, err := b.releases(t).ChartAllowed(ctx, c.ID, target("1").Digest)
	require.NoError(t, err)
	require.False(t, allowed)

	u, err = b.SetAgentTarget(ctx, "ada", c.Name, target("1"))
	require.NoError(t, err)
	require.Equal(t, int64(1), u.Target.Generation)
	require.Equal(t, cluster.DefaultConnectWithin, u.Target.ConnectWithin)
	require.True(t, u.Pending())
	again, err := b.SetAgentTarget(ctx, "ada", c.Name, target("1"))
	require.NoError(t, err)
	require.Equal(t, u, again, "it is on its way already")
	allowed, err = b.releases(t).ChartAllowed(ctx, c.ID, target("1").Digest)
	require.NoError(t, err)
	require.True(t, allowed, "its agent may fetch the chart")

	observe := func(generation int64, phase cluster.AgentPhase, message string) {
		t.Helper()
		require.NoError(t, b.ObserveAgent(ctx, c.ID, cluster.AgentStatus{ObservedGeneration: generation, Phase: phase, Message: message}))
	}
	observe(7, cluster.AgentCurrent, "of another target")
	observe(1, cluster.AgentUpgrading, "")
	observe(1, cluster.AgentReturned, "it did not reach the hub")
	observe(1, cluster.AgentCurrent, "after the end")
	u, err = b.AgentUpgrade(ctx, c.ID)
	require.NoError(t, err)
	require.Equal(t, cluster.AgentReturned, u.Status.Phase)
	require.False(t, u.Pending(), "it is not told again")

	u, err = b.SetAgentTarget(ctx, "ada", c.Name, target("1"))
	require.NoError(t, err)
	require.Equal(t, int64(2), u.Target.Generation, "after a return it is tried once more")
	require.True(t, u.Pending())
	observe(2, cluster.AgentCurrent, "")
	u, err = b.SetAgentTarget(ctx, "ada", c.Name, target("1"))
	require.NoError(t, err)
	require.Equal(t, int64(2), u.Target.Generation, "it is there")
	u, err = b.SetAgentTarget(ctx, "ada", c.Name, target("2"))
	require.NoError(t, err)
	require.Equal(t, int64(3), u.Target.Generation)
	observe(3, cluster.AgentFailed, "not by helm")
	require.Equal(t, []event.Type{
		event.AgentUpgrading, event.AgentReturned, event.AgentUpgrading, event.AgentUpgraded, event.AgentUpgrading, event.AgentFailed,
	}, b.agentEvents(t, c.ID))
}

func TestAgentUpgradeRefusals(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	c := b.join(t, "frankfurt")
	for name, change := range map[string]func(*cluster.AgentTarget){
		"digest":  func(u *cluster.AgentTarget) { u.Digest = "latest" },
		"version": func(u *cluster.AgentTarget) { u.AppVersion = "" },
		"too long": func(u *cluster.AgentTarget) {
			u.ConnectWithin = 2 * time.Hour
		},
		"too short": func(u *cluster.AgentTarget) { u.ConnectWithin = time.Second },
	} {
		u := target("1")
		change(&u)
		_, err := b.SetAgentTarget(ctx, "ada", c.Name, u)
		require.Len(t, invalid.Of(err), 1, name)
	}
	require.NotEmpty(t, invalid.Of(b.ObserveAgent(ctx, c.ID, cluster.AgentStatus{Phase: "Dancing"})))
	_, err := b.SetAgentTarget(ctx, "ada", "nowhere", target("1"))
	require.ErrorIs(t, err, cluster.ErrNotFound)
	_, err = b.AgentUpgrade(ctx, uuid.New())
	require.ErrorIs(t, err, cluster.ErrNotFound)
	require.NoError(t, b.Revoke(ctx, "ada", c.Name))
	_, err = b.SetAgentTarget(ctx, "ada", c.Name, target("1"))
	require.ErrorIs(t, err, cluster.ErrRevoked)
	require.NotErrorIs(t, err, release.ErrNotFound)
}
