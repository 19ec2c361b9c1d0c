package inventory

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/internal/facts"
)

const grace = 10 * time.Minute

func gpu(id string, change ...func(*facts.Device)) facts.Device {
	memory := int64(80 << 30)
	d := facts.Device{
		ID: id, Vendor: "nvidia", Kind: facts.KindCUDA, Model: "A100", MemoryBytes: &memory,
		Health: facts.HealthHealthy, Source: facts.SourceLabel, DriverVersion: "560.1",
	}
	for _, f := range change {
		f(&d)
	}
	return d
}

// bare is what the extended resource alone tells.
func bare(d *facts.Device) {
	d.Model, d.MemoryBytes, d.DriverVersion, d.Source = "", nil, "", facts.SourceResource
}

func suspect(since time.Time) func(*facts.Device) {
	return func(d *facts.Device) { d.SuspectSince = &since }
}

func unknown(d *facts.Device) { d.Health = facts.HealthUnknown }

func TestSettle(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	before := now.Add(-4 * time.Minute)
	for name, c := range map[string]struct {
		known, fresh []facts.Device
		want         []facts.Device
		again        time.Time
	}{
		"first seen": {
			fresh: []facts.Device{gpu("a")}, want: []facts.Device{gpu("a")},
		},
		"labels gone, resource still counts": {
			known: []facts.Device{gpu("a")}, fresh: []facts.Device{gpu("a", bare)},
			want: []facts.Device{gpu("a", suspect(now))}, again: now.Add(grace),
		},
		"everything gone": {
			known: []facts.Device{gpu("a"), gpu("b")},
			want:  []facts.Device{gpu("a", suspect(now), unknown), gpu("b", suspect(now), unknown)}, again: now.Add(grace),
		},
		"still gone: the first moment counts": {
			known: []facts.Device{gpu("a", suspect(before))}, fresh: []facts.Device{gpu("a", bare)},
			want: []facts.Device{gpu("a", suspect(before))}, again: before.Add(grace),
		},
		"grace over": {
			known: []facts.Device{gpu("a", suspect(now.Add(-grace))), gpu("b", suspect(now.Add(-grace)))},
			fresh: []facts.Device{gpu("a", bare)}, want: []facts.Device{gpu("a", bare)},
		},
		"labels back": {
			known: []facts.Device{gpu("a", suspect(before))}, fresh: []facts.Device{gpu("a")}, want: []facts.Device{gpu("a")},
		},
		"labels there and fewer devices: believed": {
			known: []facts.Device{gpu("a"), gpu("b")}, fresh: []facts.Device{gpu("a")}, want: []facts.Device{gpu("a")},
		},
		"health is taken from now": {
			known: []facts.Device{gpu("a")},
			fresh: []facts.Device{gpu("a", bare, func(d *facts.Device) { d.Health = facts.HealthUnhealthy })},
			want:  []facts.Device{gpu("a", suspect(now), func(d *facts.Device) { d.Health = facts.HealthUnhealthy })}, again: now.Add(grace),
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, again := settle(c.known, c.fresh, now, grace)
			require.Equal(t, c.want, got)
			require.Equal(t, c.again, again)
		})
	}
}
