package webhook_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/internal/event"
	"github.com/budecosystem/budcluster/hub/internal/page"
	"github.com/budecosystem/budcluster/hub/internal/pg"
	"github.com/budecosystem/budcluster/hub/internal/store"
	"github.com/budecosystem/budcluster/hub/internal/webhook"
)

// A webhook gets, in order and signed, what it asked for and what happened
// after it was made; and no progress.
func TestTellsWhatWasAskedFor(t *testing.T) {
	t.Parallel()
	b := setup(t)
	here, there := uuid.New(), uuid.New()
	all, some, one := newReceiver(t), newReceiver(t), newReceiver(t)
	b.happen(t, event.NodeAdded, here, "before")
	b.hook(t, "all", all, func(r *webhook.Request) { r.Types = nil })
	b.hook(t, "some", some, nil)
	b.hook(t, "one", one, func(r *webhook.Request) { r.ClusterID = here })
	b.happen(t, event.NodeAdded, here, "a", "transient", "b")
	b.happen(t, event.NodeRemoved, there, "c")
	b.happen(t, event.NodeChanged, here, "d")
	require.NoError(t, b.runner(t, nil).Turn(t.Context()))
	require.Equal(t, []string{"all", "some", "one", "a", "b", "c", "d"}, all.subjects(), "the creations of the webhooks, too")
	require.Equal(t, []string{"a", "b", "c"}, some.subjects())
	require.Equal(t, []string{"a", "b"}, one.subjects())
	require.Zero(t, all.forged+some.forged+one.forged)

	latest, err := b.events.Latest(t.Context())
	require.NoError(t, err)
	for _, name := range []string{"all", "some", "one"} {
		w, err := b.Get(t.Context(), name)
		require.NoError(t, err)
		require.Equal(t, latest, w.After, name)
		require.Empty(t, w.Error)
		require.NotNil(t, w.LastSentAt)
	}
	require.NoError(t, b.runner(t, nil).Turn(t.Context()))
	require.Len(t, some.subjects(), 3, "once")
}

// One that fails waits longer and longer, keeps the order, and delays nobody
// else.
func TestRetries(t *testing.T) {
	t.Parallel()
	b := setup(t)
	bad, good := newReceiver(t), newReceiver(t)
	b.hook(t, "bad", bad, nil)
	b.hook(t, "good", good, nil)
	bad.answering(always(http.StatusServiceUnavailable))
	b.happen(t, event.NodeAdded, uuid.Nil, "a", "b")
	r := b.runner(t, nil)
	for range 8 {
		require.NoError(t, r.Turn(t.Context()))
		require.NoError(t, r.Turn(t.Context()), "not due")
		b.pass(11 * time.Minute)
	}
	require.Equal(t, []string{"a", "b"}, good.subjects())
	require.Len(t, bad.ids, 8)
	require.Len(t, slices.Compact(slices.Clone(bad.ids)), 1, "one id for all attempts")
	w, err := b.Get(t.Context(), "bad")
	require.NoError(t, err)
	require.Equal(t, 8, w.Failures)
	require.Equal(t, "the receiver answered 503", w.Error)
	failing, _, err := b.Deliveries(t.Context(), "bad", webhook.StatusFailing, page.Page{})
	require.NoError(t, err)
	require.Len(t, failing, 1)
	require.Equal(t, 8, failing[0].Attempts)
	require.Equal(t, http.StatusServiceUnavailable, failing[0].Response)

	bad.answering(nil)
	require.NoError(t, r.Turn(t.Context()))
	require.Equal(t, []string{"a", "b"}, bad.subjects())
	w, err = b.Get(t.Context(), "bad")
	require.NoError(t, err)
	require.Zero(t, w.Failures+w.Attempts)
	require.Empty(t, w.Error)
}

// An event that the receiver refuses is given up after some attempts, and can
// be sent again.
func TestRefusedEventIsDead(t *testing.T) {
	t.Parallel()
	b := setup(t)
	to := newReceiver(t)
	b.hook(t, "h", to, nil)
	to.answering(func(subject string) int {
		if subject == "poison" {
			return http.StatusUnprocessableEntity
		}
		return http.StatusNoContent
	})
	b.happen(t, event.NodeAdded, uuid.Nil, "poison", "next")
	r := b.runner(t, nil)
	for range 5 {
		require.Empty(t, to.subjects())
		require.NoError(t, r.Turn(t.Context()))
		b.pass(11 * time.Minute)
	}
	require.NoError(t, r.Turn(t.Context()))
	require.Equal(t, []string{"next"}, to.subjects())

	dead, _, err := b.Deliveries(t.Context(), "h", webhook.StatusDead, page.Page{})
	require.NoError(t, err)
	require.Len(t, dead, 1)
	require.Equal(t, 5, dead[0].Attempts)
	again, err := b.Redeliver(t.Context(), "h", dead[0].EventID)
	require.NoError(t, err)
	require.Equal(t, webhook.StatusDead, again.Status, "still refused")
	to.answering(nil)
	again, err = b.Redeliver(t.Context(), "h", dead[0].EventID)
	require.NoError(t, err)
	require.Equal(t, webhook.StatusSent, again.Status)
	require.Equal(t, []string{"next", "poison"}, to.subjects())
	require.Equal(t, to.ids[0], to.ids[len(to.ids)-1], "under the same id")
	kept, _, err := b.Deliveries(t.Context(), "h", "", page.Page{})
	require.NoError(t, err)
	require.Equal(t, webhook.StatusSent, kept[1].Status)
	require.Equal(t, 7, kept[1].Attempts)
	_, err = b.Redeliver(t.Context(), "h", 99999)
	require.ErrorIs(t, err, webhook.ErrNoDelivery)
}

// A receiver that is away loses nothing for a day; then the events that are
// older become dead letters, one by one.
func TestHorizon(t *testing.T) {
	t.Parallel()
	b := setup(t)
	to := newReceiver(t)
	b.hook(t, "h", to, nil)
	to.answering(always(http.StatusInternalServerError))
	b.happen(t, event.NodeAdded, uuid.Nil, "early")
	b.pass(6 * time.Hour)
	b.happen(t, event.NodeAdded, uuid.Nil, "late")
	r := b.runner(t, nil)
	dead := func() int {
		found, _, err := b.Deliveries(t.Context(), "h", webhook.StatusDead, page.Page{})
		require.NoError(t, err)
		return len(found)
	}
	for range 17 { // until 23 hours have passed
		require.NoError(t, r.Turn(t.Context()))
		b.pass(time.Hour)
	}
	require.Zero(t, dead())
	b.pass(2 * time.Hour)
	require.NoError(t, r.Turn(t.Context()))
	require.Equal(t, 1, dead())
	to.answering(nil)
	b.pass(time.Hour)
	require.NoError(t, r.Turn(t.Context()))
	require.Equal(t, []string{"late"}, to.subjects())
}

// Three replicas share the webhooks: every event comes once and in order.
func TestReplicasShare(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var receivers []*receiver
	for _, name := range []string{"a", "b", "c", "d"} {
		receivers = append(receivers, newReceiver(t))
		b.hook(t, name, receivers[len(receivers)-1], nil)
	}
	const events = 130 // more than a turn's
	want := numbered(events)
	var all sync.WaitGroup
	all.Go(func() { b.happen(t, event.NodeAdded, uuid.Nil, want...) })
	for range 3 {
		all.Go(func() {
			r := b.runner(t, nil)
			for len(receivers[0].subjects())+len(receivers[1].subjects())+len(receivers[2].subjects())+len(receivers[3].subjects()) < 4*events {
				require.NoError(t, r.Turn(t.Context()))
			}
		})
	}
	all.Wait()
	for _, to := range receivers {
		require.Equal(t, want, to.subjects())
	}
}

// Receivers that hang keep one hand each busy; the others are told meanwhile,
// and again when there is more.
func TestHangingReceiverDelaysNobodyElse(t *testing.T) {
	t.Parallel()
	b := setup(t)
	to, other := newReceiver(t), newReceiver(t)
	b.hook(t, "hangs", to, nil)
	b.hook(t, "works", other, nil)
	b.happen(t, event.NodeAdded, uuid.Nil, "a")
	released, wake := make(chan struct{}), make(chan struct{}, 1)
	hangs, took := make(chan struct{}, 1), make(chan struct{}, 2)
	r := b.runner(t, func(cfg *webhook.RunnerConfig) {
		cfg.Wake, cfg.Sweep = wake, time.Hour
		cfg.Poster = posterFunc(func(ctx context.Context, p webhook.Post) (int, error) {
			if p.URL == to.URL+"/in" {
				hangs <- struct{}{}
				<-released
			}
			status, err := b.post.Post(ctx, p)
			if p.URL == other.URL+"/in" {
				took <- struct{}{}
			}
			return status, err
		})
	})
	ctx, cancel := context.WithCancel(t.Context())
	var ended sync.WaitGroup
	ended.Go(func() { require.NoError(t, r.Run(ctx)) })
	<-took
	b.happen(t, event.NodeAdded, uuid.Nil, "b")
	wake <- struct{}{}
	<-took
	require.Equal(t, []string{"a", "b"}, other.subjects())
	<-hangs // whose turn may come after the other's two
	cancel()
	close(released)
	ended.Wait()
	require.Equal(t, []string{"a"}, to.subjects(), "brought to its end")
}

// A replica that died delays a webhook by its lease. One that only seemed dead
// changes nothing when it comes back.
func TestLease(t *testing.T) {
	t.Parallel()
	b := setup(t)
	to := newReceiver(t)
	b.hook(t, "h", to, nil)
	b.happen(t, event.NodeAdded, uuid.Nil, "a")
	latest, err := b.events.Latest(t.Context())
	require.NoError(t, err)
	claims, err := b.store.WebhookClaim(t.Context(), b.now(), b.now().Add(time.Minute), latest, 10)
	require.NoError(t, err)
	require.Len(t, claims, 1)
	r := b.runner(t, nil)
	require.NoError(t, r.Turn(t.Context()))
	require.Empty(t, to.subjects())
	b.pass(61 * time.Second)
	require.NoError(t, r.Turn(t.Context()))
	require.Equal(t, []string{"a"}, to.subjects())

	claims[0].After = 0
	held, err := b.store.WebhookAdvance(t.Context(), claims[0], b.now(), &webhook.Delivery{WebhookID: claims[0].ID, EventID: 12345, Body: []byte("{}"), Status: webhook.StatusDead})
	require.NoError(t, err)
	require.False(t, held)
	_, err = b.store.DeliveryByEvent(t.Context(), claims[0].ID, 12345)
	require.ErrorIs(t, err, webhook.ErrNoDelivery)
	require.NoError(t, r.Turn(t.Context()))
	require.Len(t, to.subjects(), 1)
}

// Run is woken by the commit, and brings an attempt to its end.
func TestRun(t *testing.T) {
	t.Parallel()
	b := setup(t)
	listener := pg.NewListener(b.pool, slog.New(slog.DiscardHandler))
	wake, unsubscribe := listener.Subscribe(store.ChannelEvents, "")
	defer unsubscribe()
	began, goOn := make(chan struct{}), make(chan struct{})
	to := newReceiver(t)
	b.hook(t, "h", to, nil)
	r := b.runner(t, func(cfg *webhook.RunnerConfig) {
		cfg.Wake, cfg.Sweep = wake, time.Hour
		cfg.Poster = posterFunc(func(ctx context.Context, p webhook.Post) (int, error) {
			began <- struct{}{}
			<-goOn
			return b.post.Post(ctx, p)
		})
	})
	ctx, cancel := context.WithCancel(t.Context())
	var ended sync.WaitGroup
	ended.Go(func() { require.NoError(t, listener.Run(ctx)) })
	ended.Go(func() { require.NoError(t, r.Run(ctx)) })
	b.happen(t, event.NodeAdded, uuid.Nil, "a", "b")
	<-began
	cancel()
	close(goOn)
	ended.Wait()
	require.Equal(t, []string{"a"}, to.subjects())
	require.NoError(t, b.runner(t, nil).Turn(t.Context()), "at once, without waiting for a lease")
	require.Equal(t, []string{"a", "b"}, to.subjects())
}

func TestFailures(t *testing.T) {
	t.Parallel()
	b := setup(t)
	to := newReceiver(t)
	b.hook(t, "h", to, nil)
	b.happen(t, event.NodeAdded, uuid.Nil, "a")
	broken := errors.New("no route to host\x00 \xff")
	registry := prometheus.NewRegistry()
	r := b.runner(t, func(cfg *webhook.RunnerConfig) {
		cfg.Metrics = registry
		cfg.Poster = posterFunc(func(context.Context, webhook.Post) (int, error) { return 0, broken })
	})
	require.NoError(t, r.Turn(t.Context()))
	w, err := b.Get(t.Context(), "h")
	require.NoError(t, err)
	require.Equal(t, "no route to host ", w.Error, "what a column cannot hold is left out")
	problems, err := testutil.GatherAndLint(registry)
	require.NoError(t, err)
	require.Empty(t, problems)

	to.answering(always(http.StatusFound))
	b.pass(time.Hour)
	require.NoError(t, b.runner(t, nil).Turn(t.Context()))
	w, err = b.Get(t.Context(), "h")
	require.NoError(t, err)
	require.Contains(t, w.Error, "redirects are not followed")
	_, err = webhook.NewRunner(webhook.RunnerConfig{})
	require.Error(t, err)
}

func TestPurge(t *testing.T) {
	t.Parallel()
	b := setup(t)
	to := newReceiver(t)
	w := b.hook(t, "h", to, nil)
	for i, status := range webhook.Statuses() {
		require.NoError(t, b.store.DeliveryPut(t.Context(), webhook.Delivery{
			WebhookID: w.ID, EventID: int64(i), Type: "x", Body: []byte("{}"), Status: status, LastAt: b.now(),
		}))
	}
	purge := func(age time.Duration) int {
		now := b.now().Add(age)
		n, err := b.store.DeliveryPurge(t.Context(), now.Add(-webhook.SentFor), now.Add(-webhook.DeadFor), 10)
		require.NoError(t, err)
		return n
	}
	require.Zero(t, purge(webhook.SentFor))
	require.Equal(t, 1, purge(webhook.SentFor+time.Hour), "what was sent")
	require.Zero(t, purge(webhook.DeadFor))
	require.Equal(t, 2, purge(webhook.DeadFor+time.Hour))
}

// How many events a second one webhook is told, in order; the baseline is the
// same number of POSTs to the same receiver with nothing kept.
func BenchmarkTurn(bench *testing.B) {
	b := setup(bench)
	to := newReceiver(bench)
	b.hook(bench, "h", to, nil)
	bench.Run("told", func(bench *testing.B) {
		subjects := numbered(bench.N)
		events := make([]event.Event, 0, bench.N)
		for _, subject := range subjects {
			events = append(events, event.Event{At: b.now(), Type: event.NodeAdded, Subject: subject, Actor: "test", Message: "it happened"})
		}
		require.NoError(bench, b.store.AppendEvents(bench.Context(), events...))
		before := len(to.subjects())
		bench.ResetTimer()
		require.NoError(bench, b.runner(bench, nil).Turn(bench.Context()))
		require.Len(bench, to.subjects(), before+bench.N)
	})
	bench.Run("baseline=post", func(bench *testing.B) {
		for range bench.N {
			_, err := b.post.Post(bench.Context(), webhook.Post{URL: to.URL, Body: []byte(`{"type":"node.added","data":{"type":"node.added"}}`)})
			require.NoError(bench, err)
		}
	})
}
