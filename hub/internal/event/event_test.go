package event_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/internal/event"
	"github.com/budecosystem/budcluster/hub/internal/invalid"
	"github.com/budecosystem/budcluster/hub/internal/pg"
	"github.com/budecosystem/budcluster/hub/internal/store"
	"github.com/budecosystem/budcluster/hub/internal/store/storetest"
	"github.com/budecosystem/budcluster/internal/id"
)

func service(t *testing.T, s event.Store) *event.Service {
	t.Helper()
	svc, err := event.New(event.Config{Store: s, Poll: time.Hour})
	require.NoError(t, err)
	return svc
}

func happened(kind event.Type, clusterID uuid.UUID, subject string) event.Event {
	return event.Event{At: time.Now(), Type: kind, ClusterID: clusterID, Subject: subject, Actor: "test", Message: "something happened"}
}

func TestList(t *testing.T) {
	t.Parallel()
	s := storetest.New(t)
	svc := service(t, s)
	a, b := id.New(), id.New()
	latest, err := svc.Latest(t.Context())
	require.NoError(t, err)
	require.Zero(t, latest)
	withData, err := event.Record(time.Now(), event.NodeChanged, "agent", map[string]int{"n": 1})
	require.NoError(t, err)
	require.NoError(t, s.AppendEvents(t.Context(), happened(event.ClusterCreated, a, "a"), happened(event.ClusterCreated, b, "b"),
		happened(event.KeyCreated, uuid.Nil, "k"), withData))

	for name, c := range map[string]struct {
		filter event.Filter
		want   []string // subjects
	}{
		"all":        {event.Filter{}, []string{"a", "b", "k", ""}},
		"cluster":    {event.Filter{ClusterID: &b}, []string{"b"}},
		"types":      {event.Filter{Types: []string{"key.created", "node.changed"}}, []string{"k", ""}},
		"after":      {event.Filter{After: 2}, []string{"k", ""}},
		"limit":      {event.Filter{Limit: 1}, []string{"a"}},
		"none after": {event.Filter{After: 99}, []string{}},
	} {
		events, err := svc.List(t.Context(), c.filter)
		require.NoError(t, err, name)
		got := []string{}
		for _, e := range events {
			got = append(got, e.Subject)
		}
		require.Equal(t, c.want, got, name)
	}
	events, err := svc.List(t.Context(), event.Filter{After: 3})
	require.NoError(t, err)
	require.JSONEq(t, `{"n": 1}`, string(events[0].Data))
	require.Equal(t, time.UTC, events[0].At.Location())

	for _, f := range []event.Filter{{Types: []string{"no.such"}}, {After: -1}} {
		_, err := svc.List(t.Context(), f)
		require.Len(t, invalid.Of(err), 1)
	}
}

// A reader that has passed an id never misses a lower one: ids become visible
// in order, though transactions of very different length write them.
func TestFollowMissesNothing(t *testing.T) {
	t.Parallel()
	s, pool := storetest.NewWithPool(t)
	svc := service(t, s)
	listener := pg.NewListener(pool, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	listening := make(chan error, 1)
	go func() { listening <- listener.Run(ctx) }()
	wake, unsubscribe := listener.Subscribe(store.ChannelEvents, "")
	defer unsubscribe()

	const writers, each = 8, 25
	var all sync.WaitGroup
	for range writers {
		all.Go(func() {
			for i := range each {
				err := s.InTx(t.Context(), func(ctx context.Context) error {
					if err := s.AppendEvents(ctx, happened(event.NodeAdded, id.New(), "early")); err != nil {
						return err
					}
					if i%5 == 0 { // work after the event: its id must not be taken yet
						if _, err := s.EventLatest(ctx); err != nil {
							return err
						}
					}
					return s.AppendEvents(ctx, happened(event.NodeChanged, id.New(), "late"))
				})
				require.NoError(t, err)
			}
		})
	}
	enough := errors.New("enough")
	var seen []int64
	err := svc.Follow(ctx, event.Filter{}, 0, wake, func(e event.Event) error {
		seen = append(seen, e.ID)
		if len(seen) == writers*each*2 {
			return enough
		}
		return nil
	})
	require.ErrorIs(t, err, enough)
	all.Wait()
	for i := 1; i < len(seen); i++ {
		require.Greater(t, seen[i], seen[i-1])
	}
	cancel()
	require.NoError(t, <-listening)
}

func TestRollbackWritesNothing(t *testing.T) {
	t.Parallel()
	s := storetest.New(t)
	broken := errors.New("broken")
	require.ErrorIs(t, s.InTx(t.Context(), func(ctx context.Context) error {
		require.NoError(t, s.AppendEvents(ctx, happened(event.NodeAdded, id.New(), "x")))
		return broken
	}), broken)
	latest, err := s.EventLatest(t.Context())
	require.NoError(t, err)
	require.Zero(t, latest)
}

func TestJanitor(t *testing.T) {
	t.Parallel()
	s := storetest.New(t)
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	at := func(ago time.Duration, transient bool) event.Event {
		e := happened(event.NodeChanged, id.New(), ago.String())
		e.At, e.Transient = now.Add(-ago), transient
		return e
	}
	require.NoError(t, s.AppendEvents(t.Context(), at(31*24*time.Hour, false), at(29*24*time.Hour, false), at(2*time.Hour, true),
		at(59*time.Minute, true), at(31*24*time.Hour, true)))
	j, err := event.NewJanitor(event.JanitorConfig{Store: s, Logger: slog.New(slog.DiscardHandler), Now: func() time.Time { return now }})
	require.NoError(t, err)
	n, err := j.Sweep(t.Context())
	require.NoError(t, err)
	require.Equal(t, 3, n)
	left, err := service(t, s).List(t.Context(), event.Filter{})
	require.NoError(t, err)
	require.Len(t, left, 2)
	require.Equal(t, "696h0m0s", left[0].Subject)
	require.Equal(t, "59m0s", left[1].Subject)

	_, err = event.NewJanitor(event.JanitorConfig{Store: s, Logger: slog.New(slog.DiscardHandler), Retention: -1})
	require.ErrorContains(t, err, "events.retention")
}
