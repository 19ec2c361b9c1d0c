package gpu_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/agent/internal/gpu"
	"github.com/budecosystem/budcluster/agent/internal/gpu/gpufake"
	"github.com/budecosystem/budcluster/agent/internal/gpu/gputest"
)

// A bubble of synctest fails if a goroutine is left when its test returns, so each
// of these also shows that none is.

func fake() *gpufake.Node { return gpufake.New(gputest.Inventory(), gputest.Samples()...) }

func open(t *testing.T, driver func() (gpu.Driver, gpu.Absence, error)) *gpu.Source {
	t.Helper()
	source, absence, err := gpu.NewOpener(driver).Open(t.Context())
	require.NoError(t, err)
	require.Empty(t, absence)
	return source
}

func shut(t *testing.T, source *gpu.Source) {
	t.Helper()
	require.NoError(t, source.Close(t.Context()))
}

// TestHangsDoNotPileUp: three devices hang while a sampler goes on for a day.
func TestHangsDoNotPileUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		node := fake()
		source := open(t, node.Open)
		defer shut(t, source)
		inv, err := source.Enumerate(t.Context())
		require.NoError(t, err)
		releases := []func(){node.Hang(0), node.Hang(3), node.Hang(7)}
		for range 24 * 60 {
			for i, d := range inv.Devices {
				_, err := source.Sample(t.Context(), d.ID)
				require.Equal(t, i == 0 || i == 3 || i == 7, errors.Is(err, gpu.ErrNoAnswer), "GPU %d: %v", i, err)
			}
			time.Sleep(time.Minute)
		}
		require.Equal(t, 3+5*24*60, node.Calls("Sample"), "each of the three was called once, and a call is a goroutine")
		for _, release := range releases {
			release()
		}
		synctest.Wait()
		for _, d := range inv.Devices {
			_, err := source.Sample(t.Context(), d.ID)
			require.NoError(t, err)
		}
	})
}

func TestDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		node := fake()
		source := open(t, node.Open)
		defer shut(t, source)
		inv, err := source.Enumerate(t.Context())
		require.NoError(t, err)
		release := node.Hang(0)
		start := time.Now()
		_, err = source.Sample(t.Context(), inv.Devices[0].ID)
		require.ErrorIs(t, err, gpu.ErrNoAnswer)
		require.Equal(t, gpu.Deadline, time.Since(start))
		_, err = source.Sample(t.Context(), inv.Devices[0].ID)
		require.ErrorContains(t, err, "does not answer since 2000-01-01T00:00:05Z")
		require.Equal(t, gpu.Deadline, time.Since(start), "the second did not wait")
		release()
		synctest.Wait()
	})
}

// TestSlowIsNotHung: who comes while a device is read waits for his turn.
func TestSlowIsNotHung(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		node := fake()
		source := open(t, node.Open)
		defer shut(t, source)
		inv, err := source.Enumerate(t.Context())
		require.NoError(t, err)
		release := node.Hang(0)
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				_, err := source.Sample(t.Context(), inv.Devices[0].ID)
				require.NoError(t, err)
			})
		}
		time.Sleep(gpu.Deadline - time.Second)
		require.Equal(t, 1, node.Calls("Sample"))
		release()
		wg.Wait()
		require.Equal(t, 3, node.Calls("Sample"))
	})
}

// TestACallerWhoLeaves is not told that the driver is at fault.
func TestACallerWhoLeaves(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		node := fake()
		source := open(t, node.Open)
		defer shut(t, source)
		inv, err := source.Enumerate(t.Context())
		require.NoError(t, err)
		release := node.Hang(0)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		_, err = source.Sample(ctx, inv.Devices[0].ID)
		require.ErrorIs(t, err, context.Canceled)
		require.NotErrorIs(t, err, gpu.ErrNoAnswer)
		release()
		synctest.Wait()
	})
}

// TestADeviceThatCannotBeDescribed is in the inventory all the same, and described
// when it answers.
func TestADeviceThatCannotBeDescribed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		node := fake()
		source := open(t, node.Open)
		defer shut(t, source)
		release := node.Hang(4)
		start := time.Now()
		inv, err := source.Enumerate(t.Context())
		require.NoError(t, err)
		require.Equal(t, gpu.Deadline, time.Since(start), "the others are described meanwhile")
		require.Len(t, inv.Devices, 8)
		require.Empty(t, inv.Devices[4].Model)
		require.Contains(t, inv.Devices[4].Problems[0].Reason, "does not answer")
		require.Equal(t, gputest.Device(5), inv.Devices[5])
		release()
		synctest.Wait()
		inv, err = source.Enumerate(t.Context())
		require.NoError(t, err)
		require.Equal(t, gputest.Inventory(), inv)
		require.Equal(t, 9, node.Calls("Describe"))
	})
}

// TestAHungDeviceThatIsTakenOut and put in again is the same to the driver, whose
// call has not come back.
func TestAHungDeviceThatIsTakenOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		node := fake()
		source := open(t, node.Open)
		inv, err := source.Enumerate(t.Context())
		require.NoError(t, err)
		release := node.Hang(7)
		_, err = source.Sample(t.Context(), inv.Devices[7].ID)
		require.ErrorIs(t, err, gpu.ErrNoAnswer)
		node.Remove()
		gone, err := source.Enumerate(t.Context())
		require.NoError(t, err)
		require.Len(t, gone.Devices, 7)
		node.Add(gputest.Device(7), gputest.Idle())
		back, err := source.Enumerate(t.Context())
		require.NoError(t, err)
		require.Contains(t, back.Devices[7].Problems[0].Reason, "does not answer")
		require.Equal(t, 8, node.Calls("Describe"))
		release()
		synctest.Wait()
		back, err = source.Enumerate(t.Context())
		require.NoError(t, err)
		require.Equal(t, inv, back)
		require.NoError(t, source.Close(t.Context()))
	})
}

func TestADeviceThatIsPluggedIn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		node := gpufake.New(gpu.Inventory{})
		source := open(t, node.Open)
		defer shut(t, source)
		inv, err := source.Enumerate(t.Context())
		require.NoError(t, err)
		require.Empty(t, inv.Devices)
		node.Add(gputest.Device(0), gputest.Idle())
		inv, err = source.Enumerate(t.Context())
		require.NoError(t, err)
		require.Equal(t, []gpu.Device{gputest.Device(0)}, inv.Devices)
	})
}

// stuck is a driver whose list hangs until it is closed.
type stuck struct {
	gpu.Driver
	list chan struct{}
}

func (s stuck) List() (gpu.Listing, error) {
	<-s.list
	return s.Driver.List()
}

func TestAListThatHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		node := fake()
		list := make(chan struct{}, 1)
		list <- struct{}{}
		source := open(t, func() (gpu.Driver, gpu.Absence, error) {
			d, absence, err := node.Open()
			return stuck{d, list}, absence, err
		})
		inv, err := source.Enumerate(t.Context())
		require.NoError(t, err)
		again, err := source.Enumerate(t.Context())
		require.ErrorIs(t, err, gpu.ErrNoAnswer)
		require.Equal(t, inv.Devices, again.Devices, "unknown is not gone")
		_, err = source.Sample(t.Context(), inv.Devices[0].ID)
		require.NoError(t, err)

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, source.Close(ctx), gpu.ErrNoAnswer)
		require.Zero(t, node.Calls("Close"), "no library is closed under a call")
		close(list)
	})
}

// clinging is a driver that does not close until it is told to.
type clinging struct {
	gpu.Driver
	release chan struct{}
}

func (c clinging) Close() error {
	<-c.release
	return errors.New("at last")
}

func TestACloseThatHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		node, release := fake(), make(chan struct{})
		source := open(t, func() (gpu.Driver, gpu.Absence, error) {
			d, absence, err := node.Open()
			return clinging{d, release}, absence, err
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, source.Close(ctx), gpu.ErrNoAnswer)
		close(release)
	})
}

// deaf is a driver that cannot wait for events.
type deaf struct{ gpu.Driver }

func (deaf) Wait(time.Duration) (gpu.Event, bool, error) {
	return gpu.Event{}, false, errors.New("no ears")
}

func TestADriverWithoutEventsIsNotAskedAllTheTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		node := fake()
		source := open(t, func() (gpu.Driver, gpu.Absence, error) {
			d, absence, err := node.Open()
			return deaf{d}, absence, err
		})
		defer shut(t, source)
		start := time.Now()
		for range 10 {
			_, err := source.Wait(t.Context())
			require.ErrorContains(t, err, "no ears")
		}
		require.Equal(t, 10*time.Second, time.Since(start))
	})
}

// TestAnOpenThatHangs is not repeated, and what it brings in the end is used.
func TestAnOpenThatHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		node, opens, release := fake(), 0, make(chan struct{})
		opener := gpu.NewOpener(func() (gpu.Driver, gpu.Absence, error) {
			opens++
			<-release
			return node.Open()
		})
		for range 3 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			_, _, err := opener.Open(ctx)
			cancel()
			require.ErrorIs(t, err, gpu.ErrNoAnswer)
		}
		close(release)
		synctest.Wait()
		source, absence, err := opener.Open(t.Context())
		require.NoError(t, err)
		require.Empty(t, absence)
		defer shut(t, source)
		require.Equal(t, 1, opens)
	})
}

func TestAbsence(t *testing.T) {
	t.Parallel()
	node := fake()
	opener := gpu.NewOpener(node.Open)
	node.Absent(gpu.NoDriver)
	source, absence, err := opener.Open(t.Context())
	require.NoError(t, err)
	require.Equal(t, gpu.NoDriver, absence)
	require.Nil(t, source)
	node.Absent("")
	source, absence, err = opener.Open(t.Context())
	require.NoError(t, err)
	require.Empty(t, absence)
	shut(t, source)
}
