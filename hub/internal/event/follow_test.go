package event_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/internal/event"
)

// memory is a Store for fake time, with just what these tests need.
type memory struct {
	mu     sync.Mutex // guards events, purges
	events []event.Event
	purges int
	fail   error
}

func (m *memory) add(e event.Event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.events = append(m.events, e)
}

func (m *memory) EventList(_ context.Context, f event.Filter) ([]event.Event, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var found []event.Event
	for _, e := range m.events {
		if e.ID > f.After && len(found) < f.Limit {
			found = append(found, e)
		}
	}
	return found, m.fail
}

func (m *memory) EventLatest(context.Context) (int64, error) { return 0, m.fail }

func (m *memory) EventPurge(context.Context, time.Time, time.Time, int) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.purges++
	return 0, m.fail
}

// A lost wake-up costs the time until the next poll, and nothing else.
func TestFollowPolls(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := &memory{}
		svc, err := event.New(event.Config{Store: m})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		got := make(chan int64, 2500)
		done := make(chan error, 1)
		wake := make(chan struct{}, 1)
		go func() {
			done <- svc.Follow(ctx, event.Filter{}, 0, wake, func(e event.Event) error {
				got <- e.ID
				return nil
			})
		}()
		synctest.Wait()
		m.add(event.Event{ID: 1})
		synctest.Wait()
		require.Empty(t, got)
		time.Sleep(event.DefaultPoll)
		synctest.Wait()
		require.Equal(t, int64(1), <-got)

		for i := range int64(2300) { // more than a page at once
			m.add(event.Event{ID: i + 2})
		}
		wake <- struct{}{}
		synctest.Wait()
		require.Len(t, got, 2300)
		cancel()
		require.ErrorIs(t, <-done, context.Canceled)
	})
}

func TestJanitorCarriesOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := &memory{fail: errors.New("database is away")}
		j, err := event.NewJanitor(event.JanitorConfig{Store: m, Logger: slog.New(slog.DiscardHandler)})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- j.Run(ctx) }()
		time.Sleep(25 * time.Minute)
		synctest.Wait()
		require.Equal(t, 3, m.purges)
		cancel()
		require.NoError(t, <-done)
	})
}
