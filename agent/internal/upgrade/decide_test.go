package upgrade_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/agent/internal/upgrade"
)

func TestDecide(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	deadline := start.Add(time.Minute)
	applying := upgrade.Record{Phase: upgrade.Upgrading, FromHash: "old"}
	proving := upgrade.Record{Phase: upgrade.Upgrading, FromHash: "old", Applied: true, Deadline: deadline}
	returning := upgrade.Record{Phase: upgrade.Returning, FromHash: "old", Holder: "a", HeldAt: start}
	older := func(s upgrade.Sight) upgrade.Sight { s.Hash, s.Pod = "old", "a"; return s }
	newer := func(s upgrade.Sight) upgrade.Sight { s.Hash, s.Pod = "new", "b"; return s }
	for name, c := range map[string]struct {
		r    upgrade.Record
		s    upgrade.Sight
		now  time.Time
		want upgrade.Action
	}{
		"none":                            {upgrade.Record{}, older(upgrade.Sight{Leads: true}), start, upgrade.Rest},
		"done":                            {upgrade.Record{Phase: upgrade.Current}, older(upgrade.Sight{Leads: true}), deadline, upgrade.Rest},
		"to apply":                        {applying, older(upgrade.Sight{Leads: true}), start, upgrade.Apply},
		"to apply, a standby":             {applying, older(upgrade.Sight{}), start, upgrade.Wait},
		"to apply, by a new one":          {applying, newer(upgrade.Sight{Leads: true}), start, upgrade.Apply},
		"old, nothing runs yet":           {proving, older(upgrade.Sight{Leads: true}), start, upgrade.Wait},
		"old, the new one runs":           {proving, older(upgrade.Sight{Leads: true, NewRuns: true}), start, upgrade.StandAside},
		"old, aside":                      {proving, older(upgrade.Sight{NewRuns: true}), deadline.Add(-1), upgrade.Wait},
		"old, in the last moment":         {proving, older(upgrade.Sight{Leads: true}), deadline.Add(-1), upgrade.Wait},
		"old, too late":                   {proving, older(upgrade.Sight{}), deadline, upgrade.Return},
		"old, too late though it runs":    {proving, older(upgrade.Sight{Leads: true, NewRuns: true}), deadline, upgrade.Return},
		"new, stands by":                  {proving, newer(upgrade.Sight{}), start, upgrade.Wait},
		"new, leads":                      {proving, newer(upgrade.Sight{Leads: true}), start, upgrade.Wait},
		"new, leads and linked":           {proving, newer(upgrade.Sight{Leads: true, Linked: true}), start, upgrade.Prove},
		"new, linked a little late":       {proving, newer(upgrade.Sight{Leads: true, Linked: true}), deadline.Add(time.Second), upgrade.Prove},
		"new, too late, leaves it to old": {proving, newer(upgrade.Sight{Leads: true}), deadline, upgrade.Wait},
		"new, too late, alone":            {proving, newer(upgrade.Sight{Leads: true}), deadline.Add(30 * time.Second), upgrade.Return},
		"returning, the holder":           {returning, older(upgrade.Sight{}), start, upgrade.Return},
		"returning, another":              {returning, newer(upgrade.Sight{}), start.Add(59 * time.Second), upgrade.Wait},
		"returning, the holder is silent": {returning, newer(upgrade.Sight{}), start.Add(time.Minute), upgrade.Return},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, c.want, upgrade.Decide(c.r, c.s, c.now))
		})
	}
}

func TestUnproven(t *testing.T) {
	t.Parallel()
	active := upgrade.Record{Phase: upgrade.Upgrading, FromHash: "old"}
	require.False(t, upgrade.Unproven(active, "old"))
	require.True(t, upgrade.Unproven(active, "new"))
	active.Phase = upgrade.Current
	require.False(t, upgrade.Unproven(active, "new"))
	require.False(t, upgrade.Unproven(upgrade.Record{}, "new"))
}
