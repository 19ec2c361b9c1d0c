package taskhub

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// source is what a lane claims from.
type source struct {
	mu     sync.Mutex // guards all below
	ready  []int
	next   time.Duration
	fail   error
	claims []time.Time
	asked  []int
	back   []int
}

func (s *source) claim(_ context.Context, most int) (found[int], error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.claims, s.asked = append(s.claims, time.Now()), append(s.asked, most)
	if s.fail != nil {
		return found[int]{}, s.fail
	}
	n := min(most, len(s.ready))
	got := found[int]{items: s.ready[:n], more: n == most, next: s.next}
	s.ready = s.ready[n:]
	return got, nil
}

func (s *source) putBack(_ context.Context, items []int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.back = append(s.back, items...)
}

func (s *source) set(fn func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fn()
}

// looked says how often it was asked since the last time.
func (s *source) looked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.claims)
	s.claims = nil
	return n
}

func runLane(t *testing.T, s *source, size int, others <-chan struct{}) (*lane[int], context.CancelFunc) {
	t.Helper()
	l := newLane("test", size, s.claim, s.putBack)
	ctx, cancel := context.WithCancel(t.Context())
	go l.run(ctx, subscription{wake: others, cancel: func() {}}, time.Minute, slog.New(slog.DiscardHandler))
	synctest.Wait()
	return l, cancel
}

func TestLaneClaimsWhatItHasRoomFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &source{ready: []int{1, 2, 3, 4, 5}, next: -1}
		l, stop := runLane(t, s, 3, nil)
		require.Equal(t, []int{3}, s.asked)
		for want := 1; want <= 3; want++ {
			got, err := l.next(t.Context())
			require.NoError(t, err)
			require.Equal(t, want, got)
		}
		require.False(t, l.reserve(), "full, and the claimer waits")
		l.done()
		synctest.Wait()
		require.Equal(t, []int{3, 1}, s.asked)
		l.done()
		synctest.Wait()
		require.Equal(t, []int{3, 1, 1}, s.asked, "what was left over is claimed before anything is handed over")
		stop()
		synctest.Wait()
		require.Equal(t, []int{4, 5}, s.back)
		require.False(t, l.reserve())
		require.False(t, l.offer(6), "closed")
	})
}

func TestLaneLooksWhenItIsTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		others := make(chan struct{}, 1)
		s := &source{next: -1}
		l, stop := runLane(t, s, 3, others)
		defer stop()
		began := time.Now()
		since := func() []time.Duration {
			s.mu.Lock()
			defer s.mu.Unlock()
			var all []time.Duration
			for _, at := range s.claims {
				all = append(all, at.Sub(began))
			}
			s.claims = nil
			return all
		}
		require.Equal(t, []time.Duration{0}, since())
		time.Sleep(90 * time.Second)
		require.Equal(t, []time.Duration{time.Minute}, since(), "the poll is the net")
		others <- struct{}{}
		synctest.Wait()
		require.Equal(t, []time.Duration{90 * time.Second}, since(), "somebody announced something")
		l.lookAt(time.Now().Add(time.Hour))
		synctest.Wait()
		require.Empty(t, since(), "it looks before that anyway")
		s.set(func() { s.next = 7 * time.Second })
		l.lookAt(time.Now().Add(7 * time.Second))
		time.Sleep(8 * time.Second)
		require.Equal(t, []time.Duration{90 * time.Second, 97 * time.Second}, since(), "something is due then")
	})
}

// Neither an absent database nor work that somebody else is just taking makes
// it spin.
func TestLaneDoesNotSpin(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &source{fail: errors.New("away")}
		_, stop := runLane(t, s, 3, nil)
		time.Sleep(time.Minute)
		require.Less(t, s.looked(), 600)
		s.set(func() { s.fail = nil }) // next is 0: due, but not to be had
		time.Sleep(time.Minute)
		require.Less(t, s.looked(), 600)
		stop()
	})
}

func TestSlots(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSlots(2)
		n, err := s.acquire(t.Context(), 5)
		require.NoError(t, err)
		require.Equal(t, 2, n)
		require.False(t, s.try())
		got := make(chan int)
		go func() {
			n, _ := s.acquire(t.Context(), 5)
			got <- n
		}()
		synctest.Wait()
		s.release(0)
		s.release(1)
		require.Equal(t, 1, <-got)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err = s.acquire(ctx, 1)
		require.ErrorIs(t, err, context.Canceled)
		s.release(1)
		require.True(t, s.try(), "nobody waits any more")
	})
}

func TestCacheIsBounded(t *testing.T) {
	t.Parallel()
	c := newCache(100 * inMemory)
	state := newState("x", nil)
	c.put("a", "e", 1, state, 40)
	c.put("b", "e", 1, state, 40)
	got, bytes := c.take("a", "e", 1)
	require.NotNil(t, got)
	require.Equal(t, 40, bytes)
	got, _ = c.take("a", "e", 1)
	require.Nil(t, got, "it is out")
	c.put("a", "e", 2, state, 40)
	c.put("c", "e", 1, state, 40)
	got, _ = c.take("b", "e", 1)
	require.Nil(t, got, "it was the oldest, and too much")
	got, _ = c.take("a", "e", 1)
	require.Nil(t, got, "another turn")
	c.put("a", "e", 2, state, 40)
	got, _ = c.take("a", "other", 2)
	require.Nil(t, got, "another execution")
	c.put("a", "e", 2, state, 200)
	got, _ = c.take("a", "e", 2)
	require.Nil(t, got, "too large at all")
	c.put("a", "e", 2, state, 10)
	c.put("a", "e", 3, state, 10)
	c.forget("a")
	c.forget("a")
	require.Zero(t, c.bytes)
	require.Empty(t, c.byID)
}
