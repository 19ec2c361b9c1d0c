// Package gputest is the suite that every driver of package gpu passes: NVML with
// a stand-in of the library, NVML with go-nvml's mocks, and gpufake. It brings the
// machine along that they must show.
package gputest

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/agent/internal/gpu"
)

// impatient is how long the suite waits for a call that hangs. Any time is long
// enough for it not to come back.
const impatient = 10 * time.Millisecond

// bench is one test's machine and the source that reads it.
type bench struct {
	Machine
	source    *gpu.Source
	inventory gpu.Inventory
	samples   []gpu.Sample
}

// Exercise runs the suite. Each test has a machine of its own, made by machine,
// which shows inventory and samples.
func Exercise(t *testing.T, inventory gpu.Inventory, samples []gpu.Sample, machine func(t *testing.T) Machine) {
	t.Helper()
	for name, test := range map[string]func(*testing.T, *bench){
		"everything that there is":            testEverything,
		"what does not change is read once":   testChanges,
		"what a device lacks is no problem":   testLacking,
		"an older GPU":                        testOlder,
		"a failed call costs its field alone": testFailure,
		"a GPU falls off the bus":             testLoss,
		"a GPU is taken out":                  testRemoval,
		"a GPU is cut and made whole":         testMIG,
		"an XID":                              testEvent,
		"a call that hangs":                   testHang,
		"close":                               testClose,
	} {
		t.Run(name, func(t *testing.T) {
			m := machine(t)
			source, absence, err := gpu.NewOpener(m.Open).Open(t.Context())
			require.NoError(t, err)
			require.Empty(t, absence)
			t.Cleanup(func() { require.NoError(t, source.Close(context.Background())) })
			test(t, &bench{Machine: m, source: source, inventory: inventory, samples: samples})
		})
	}
}

func (b *bench) enumerate(t *testing.T) gpu.Inventory {
	t.Helper()
	inv, err := b.source.Enumerate(t.Context())
	require.NoError(t, err)
	return inv
}

func (b *bench) id(index int) string { return b.inventory.Devices[index].ID }

// sample reads a device whose sampler is not new any more.
func (b *bench) sample(t *testing.T, index int) gpu.Sample {
	t.Helper()
	s, err := b.source.Sample(t.Context(), b.id(index))
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), s.At, time.Minute)
	s.At = time.Time{}
	return s
}

func testEverything(t *testing.T, b *bench) {
	require.Equal(t, b.inventory, b.enumerate(t))
	for i, want := range b.samples {
		require.Equal(t, want, b.sample(t, i), "GPU %d", i)
	}
	again := b.sample(t, 2)
	require.False(t, again.Utilization.Peak.Known, "each of the driver's samples of utilization counts once")
}

func testChanges(t *testing.T, b *bench) {
	b.enumerate(t)
	require.Equal(t, b.samples[0], b.sample(t, 0))
	b.Set(0, b.samples[2])
	require.Equal(t, b.samples[2], b.sample(t, 0))
	require.Equal(t, b.inventory, b.enumerate(t))
}

func testLacking(t *testing.T, b *bench) {
	b.enumerate(t)
	b.Set(0, gpu.Sample{})
	got := b.sample(t, 0)
	require.Empty(t, got.Problems)
	got.NVLink.Links = nil // which the device has, in whatever state
	require.Equal(t, gpu.Sample{}, got)
}

// testOlder: what a device of an older generation has instead.
func testOlder(t *testing.T, b *bench) {
	b.enumerate(t)
	older := b.samples[0]
	older.PCIe.SentBytes, older.PCIe.ReceivedBytes = gpu.Value[uint64]{}, gpu.Value[uint64]{}
	older.PCIe.SentPerSecond, older.PCIe.ReceivedPerSecond = gpu.Known[uint64](5_000_000), gpu.Known[uint64](0)
	older.RemappedRows, older.MIG, older.RecoveryAction = gpu.RemappedRows{}, gpu.MIG{}, gpu.Value[gpu.RecoveryAction]{}
	older.RetiredPages = gpu.RetiredPages{SingleBit: gpu.Known[uint64](2), DoubleBit: gpu.Known[uint64](1), Pending: gpu.Known(true)}
	b.Set(0, older)
	require.Equal(t, older, b.sample(t, 0))
}

func testFailure(t *testing.T, b *bench) {
	b.enumerate(t)
	b.Fail(0, "power")
	got := b.sample(t, 0)
	require.Len(t, got.Problems, 1)
	require.Equal(t, "power", got.Problems[0].Field)
	require.Contains(t, got.Problems[0].Reason, "internal error")
	want := b.samples[0]
	want.PowerMilliwatts, want.Problems = gpu.Value[uint32]{}, got.Problems
	require.Equal(t, want, got)
}

func testLoss(t *testing.T, b *bench) {
	b.enumerate(t)
	b.Lose(7)
	got := b.sample(t, 7)
	require.True(t, got.Lost)
	require.False(t, got.Memory.Total.Known)
	require.Equal(t, b.samples[6], b.sample(t, 6), "the others are as they were")

	inv := b.enumerate(t)
	require.Len(t, inv.Devices, gpus, "a lost GPU is not gone")
	lost := inv.Devices[7]
	require.True(t, lost.Lost)
	require.NotEmpty(t, lost.Problems)
	require.Equal(t, b.inventory.Devices[7].Serial, lost.Serial)
	require.Equal(t, gpu.Unhealthy, gpu.Judge(lost, got, nil, nil).Health)
	require.True(t, b.sample(t, 7).Lost)

	b.Recover(7)
	require.Equal(t, b.inventory, b.enumerate(t))
	require.False(t, b.sample(t, 7).Lost)
}

func testRemoval(t *testing.T, b *bench) {
	b.enumerate(t)
	b.Remove()
	require.Equal(t, b.inventory.Devices[:gpus-1], b.enumerate(t).Devices)
	_, err := b.source.Sample(t.Context(), b.id(gpus-1))
	require.ErrorIs(t, err, gpu.ErrNoDevice)
}

func testMIG(t *testing.T, b *bench) {
	b.enumerate(t)
	b.Set(0, b.samples[1])
	require.Equal(t, b.samples[1], b.sample(t, 0))
	smaller := b.samples[1]
	smaller.MIG.Instances = smaller.MIG.Instances[1:]
	smaller.Processes = nil
	b.Set(0, smaller)
	require.Equal(t, smaller, b.sample(t, 0))
	b.Set(0, b.samples[0])
	require.Equal(t, b.samples[0], b.sample(t, 0))
}

func testEvent(t *testing.T, b *bench) {
	b.enumerate(t)
	for _, want := range []gpu.Event{
		{Kind: gpu.EventXID, Device: b.id(3), XID: 79},
		{Kind: gpu.EventXID, Device: b.id(1), XID: 31, GPUInstance: known(1), ComputeInstance: known(0)},
		{Kind: gpu.EventDoubleBitECC, Device: b.id(3)},
	} {
		b.Emit(want)
		got, err := b.source.Wait(t.Context())
		require.NoError(t, err)
		require.WithinDuration(t, time.Now(), got.At, time.Minute)
		got.At = time.Time{}
		require.Equal(t, want, got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := b.source.Wait(ctx)
	require.ErrorIs(t, err, context.Canceled)
}

func testHang(t *testing.T, b *bench) {
	b.enumerate(t)
	release := b.Hang(5)
	ctx, cancel := context.WithTimeout(t.Context(), impatient)
	defer cancel()
	_, err := b.source.Sample(ctx, b.id(5))
	require.ErrorIs(t, err, gpu.ErrNoAnswer)
	require.Equal(t, gpu.Unknown, gpu.Judge(b.inventory.Devices[5], gpu.Sample{}, err, nil).Health)
	for range 100 { // at once, since that call is not repeated
		_, err = b.source.Sample(t.Context(), b.id(5))
		require.ErrorIs(t, err, gpu.ErrNoAnswer)
	}
	require.Equal(t, b.samples[4], b.sample(t, 4), "the others answer")
	require.Equal(t, b.inventory, b.enumerate(t))
	release()
	e, err := b.source.Wait(t.Context())
	require.NoError(t, err)
	require.Equal(t, gpu.EventAnswers, e.Kind)
	require.Equal(t, b.id(5), e.Device)
	require.Equal(t, b.samples[5].Memory, b.sample(t, 5).Memory)
}

func testClose(t *testing.T, b *bench) {
	b.enumerate(t)
	require.NoError(t, b.source.Close(t.Context()))
	_, err := b.source.Sample(t.Context(), b.id(0))
	require.ErrorIs(t, err, gpu.ErrClosed)
	_, err = b.source.Enumerate(t.Context())
	require.ErrorIs(t, err, gpu.ErrClosed)
	_, err = b.source.Wait(t.Context())
	require.ErrorIs(t, err, gpu.ErrClosed)
	require.NoError(t, b.source.Close(t.Context()), "twice is once")
}
