package run_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/budecosystem/budcluster/internal/run"
)

var errBroken = errors.New("broken")

// recorder notes in which order tasks stop.
type recorder struct {
	mu    sync.Mutex // guards order
	order []string
}

func (r *recorder) task(name string, takes time.Duration) (string, func(context.Context) error) {
	return name, func(ctx context.Context) error {
		<-ctx.Done()
		time.Sleep(takes)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.order = append(r.order, name)
		return ctx.Err()
	}
}

func TestGroupStopsInReverseOneAtATime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var r recorder
		var g run.Group
		// The slowest is told first: all at once would give another order.
		g.Add(r.task("store", 0))
		g.Add(r.task("gateway", time.Second))
		g.Add(r.task("api", 2*time.Second))
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Minute, cancel)
		start := time.Now()
		require.NoError(t, g.Run(ctx))
		require.Equal(t, []string{"api", "gateway", "store"}, r.order)
		require.Equal(t, time.Minute+3*time.Second, time.Since(start))
	})
}

func TestGroupEndsOnFirstFailure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var r recorder
		var g run.Group
		g.Add(r.task("one", 0))
		g.Add("two", func(context.Context) error { time.Sleep(time.Second); return errBroken })
		g.Add("three", func(ctx context.Context) error {
			<-ctx.Done()
			return status.FromContextError(ctx.Err()).Err() // as gRPC says it
		})
		g.Add("four", func(ctx context.Context) error { <-ctx.Done(); return errors.New("could not save") })
		g.Add("done at once", func(context.Context) error { return nil })
		err := g.Run(t.Context())
		require.ErrorIs(t, err, errBroken)
		require.EqualError(t, err, "two: broken\nfour: could not save")
		require.Equal(t, []string{"one"}, r.order)
	})
}

// A cancellation that nobody asked for is a failure.
func TestGroupReportsAStrayCancellation(t *testing.T) {
	t.Parallel()
	var g run.Group
	g.Add("stray", func(context.Context) error { return context.Canceled })
	require.ErrorIs(t, g.Run(t.Context()), context.Canceled)
	var other run.Group
	other.Add("call", func(context.Context) error { return status.Error(codes.Canceled, "by the peer") })
	require.ErrorContains(t, other.Run(t.Context()), "call: ")
}

func TestGroupEndsWhenAllAreDone(t *testing.T) {
	t.Parallel()
	var g run.Group
	require.NoError(t, g.Run(t.Context()))
	g.Add("a", func(context.Context) error { return nil })
	g.Add("b", func(context.Context) error { return nil })
	require.NoError(t, g.Run(t.Context()))
}

func TestGroupGrace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var r recorder
		g := run.Group{Grace: 5 * time.Second}
		g.Add(r.task("first", 0))
		g.Add(r.task("second", 0))
		g.Add(r.task("slow", time.Minute))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		start := time.Now()
		require.NoError(t, g.Run(ctx))
		require.Equal(t, time.Minute, time.Since(start))
		require.Equal(t, "slow", r.order[2], "the others were told after the grace, not after the slow one")
	})
}

func TestGroupTurnsPanicsIntoErrors(t *testing.T) {
	t.Parallel()
	var g run.Group
	g.Add("buggy", func(context.Context) error { panic(errBroken) })
	err := g.Run(t.Context())
	var p *run.PanicError
	require.ErrorAs(t, err, &p)
	require.ErrorIs(t, err, errBroken)
	require.Contains(t, string(p.Stack), "run_test.go")
}

type valueKey struct{}

func TestGroupPassesValuesOn(t *testing.T) {
	t.Parallel()
	var g run.Group
	g.Add("reader", func(ctx context.Context) error {
		require.Equal(t, "v", ctx.Value(valueKey{}))
		return nil
	})
	require.NoError(t, g.Run(context.WithValue(t.Context(), valueKey{}, "v")))
}

func TestEach(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		items := make([]int, 100)
		for i := range items {
			items[i] = i
		}
		var now, most, sum atomic.Int64
		require.NoError(t, run.Each(t.Context(), 7, items, func(_ context.Context, i int) error {
			most.Store(max(most.Load(), now.Add(1)))
			defer now.Add(-1)
			time.Sleep(time.Second)
			sum.Add(int64(i))
			return nil
		}))
		require.Equal(t, int64(4950), sum.Load())
		require.Equal(t, int64(7), most.Load())

		var started atomic.Int64
		err := run.Each(t.Context(), 2, items, func(ctx context.Context, i int) error {
			started.Add(1)
			if i == 1 {
				return errBroken
			}
			<-ctx.Done()
			return ctx.Err()
		})
		require.EqualError(t, err, "broken")
		require.Equal(t, int64(2), started.Load())

		err = run.Each(t.Context(), 0, items, func(context.Context, int) error { panic("bug") })
		var p *run.PanicError
		require.ErrorAs(t, err, &p)

		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.ErrorIs(t, run.Each(ctx, 3, items, func(context.Context, int) error { return nil }), context.Canceled)
		require.NoError(t, run.Each(t.Context(), 3, nil, func(context.Context, int) error { return errBroken }))
	})
}

func TestSleep(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		require.True(t, run.Sleep(t.Context(), time.Minute))
		require.Equal(t, time.Minute, time.Since(began))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.False(t, run.Sleep(ctx, time.Hour))
		require.Equal(t, time.Minute+time.Second, time.Since(began))
	})
}
