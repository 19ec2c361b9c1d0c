package gpu_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/agent/internal/gpu"
	"github.com/budecosystem/budcluster/agent/internal/gpu/gputest"
	"github.com/budecosystem/budcluster/internal/testutil"
)

// TestJudge writes every verdict into one file, which is what users read.
func TestJudge(t *testing.T) {
	t.Parallel()
	idle := gputest.Idle
	with := func(change func(*gpu.Sample)) gpu.Sample {
		s := idle()
		change(&s)
		return s
	}
	device := gputest.Device(0)
	xid := func(codes ...uint64) (events []gpu.Event) {
		for _, code := range codes {
			events = append(events, gpu.Event{Kind: gpu.EventXID, Device: device.ID, XID: code})
		}
		return events
	}
	lost := device
	lost.Lost = true
	cases := []struct {
		name   string
		device gpu.Device
		sample gpu.Sample
		err    error
		events []gpu.Event
	}{
		{name: "idle", device: device, sample: idle()},
		{name: "busy, held by its power limit", device: device, sample: gputest.Busy()},
		{name: "cut", device: device, sample: gputest.Cut()},
		{name: "nothing is known but the name", device: device},
		{name: "no name", device: gpu.Device{ID: "index-0", Problems: []gpu.Problem{{Field: "device", Reason: "this process may not ask for it"}}}},
		{name: "no driver", device: device, err: fmt.Errorf("sample: %w", gpu.ErrReplaced)},
		{name: "sick", device: device, sample: gputest.Sick()},
		{name: "lost since the sample", device: lost, sample: gputest.Sick()},
		{name: "lost in the sample", device: device, sample: gpu.Sample{Lost: true}},
		{name: "no answer", device: device, err: fmt.Errorf("sample: %w", gpu.ErrNoAnswer)},
		{name: "no answer after an XID", device: device, err: gpu.ErrNoAnswer, events: xid(79)},
		{name: "XIDs of applications", device: device, sample: idle(), events: xid(13, 31, 43, 45, 68, 109)},
		{name: "XIDs of the device, one of them twice", device: device, sample: idle(), events: xid(48, 95, 48)},
		{name: "an XID of another device", device: gputest.Device(1), sample: idle(), events: xid(79)},
		{name: "no spare row", device: device, sample: with(func(s *gpu.Sample) { s.RemappedRows.Failed = gpu.Known(true) })},
		{name: "a page to be retired", device: device, sample: with(func(s *gpu.Sample) { s.RetiredPages.Pending = gpu.Known(true) })},
		{name: "a link that is not wired", device: gpu.Device{UUID: "GPU-0", Links: []gpu.Link{{Number: 0}}}, sample: gpu.Sample{NVLink: gpu.NVLink{Links: []gpu.LinkState{gpu.LinkInactive}}}},
		{name: "an action that is new", device: device, sample: with(func(s *gpu.Sample) { s.RecoveryAction = gpu.Known(gpu.RecoveryAction(99)) })},
	}
	var out strings.Builder
	for _, c := range cases {
		got := gpu.Judge(c.device, c.sample, c.err, c.events)
		fmt.Fprintf(&out, "%s: %s\n", c.name, got.Health)
		for _, r := range got.Reasons {
			fmt.Fprintf(&out, "  %s: %s\n", r.Code, r.Message)
		}
	}
	testutil.Golden(t, "judge", []byte(out.String()))
}

func TestThrottleNames(t *testing.T) {
	t.Parallel()
	require.Equal(t, "gpu_idle,applications_clocks_setting,sw_power_cap,hw_slowdown,sync_boost,sw_thermal_slowdown,"+
		"hw_thermal_slowdown,hw_power_brake_slowdown,display_clock_setting,board_limit,reliability", gpu.Throttle(1<<64-1).String())
	require.Equal(t, []string{"hw_power_brake_slowdown"}, gpu.Throttle(0x80).Names())
	require.Empty(t, gpu.Throttle(1<<40).Names())
}
