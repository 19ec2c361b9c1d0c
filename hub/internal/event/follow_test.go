package event_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/internal/event"
)

// memory is a Store for fake time, with just what these tests need.
type memory struct {
	events []event.Event
	purges int
	fail   error
}

func (m *memory) EventList(_ context.Context, f event.Filter) ([]event.Event, error) {
	var found []event.Event
	for _, e := range m.events {
		if e.ID > f.After && len(found) < f.Limit {
			found = append(found, e)
		}
	}
	return found, m.fail
}

func (m *memory) EventLatest(context.Context) (int64, error) { return int64(len(m.events)), m.fail }

func (m *memory) EventPurge(context.Context, time.Time, time.Time, int) (int, error) {
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
		m.events = append(m.events, event.Event{ID: 1})
		synctest.Wait()
		require.Empty(t, got)
		time.Sleep(event.DefaultPoll)
		synctest.Wait()
		require.Equal(t, int64(1), <-got)

		for i := range int64(2300) { // more than a page at once
			m.events = append(m.events, event.Event{ID: i + 2})
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
