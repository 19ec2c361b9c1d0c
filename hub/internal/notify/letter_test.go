package notify_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/internal/event"
	"github.com/budecosystem/budcluster/hub/internal/invalid"
	"github.com/budecosystem/budcluster/hub/internal/notify"
	"github.com/budecosystem/budcluster/hub/internal/page"
	"github.com/budecosystem/budcluster/hub/internal/workflow"
)

// What the broker refuses for good can be seen, tried again and discarded, and
// each decision is in the record of events.
func TestDeadLettersAreSeenAndDecidedOn(t *testing.T) {
	t.Parallel()
	b, ctx := setup(t), t.Context()
	w := b.begin(t, workflow.RegisterCluster, registration(), asked)
	b.run(t, w, `{}`, "")
	refused := true
	publish := publisher(func(_ context.Context, m notify.Message) error {
		if refused && m.Topic == pipeline {
			return workflow.Permanent(context.DeadlineExceeded)
		}
		return nil
	})
	d, err := notify.NewDeliverer(notify.DelivererConfig{Queue: b.store, Publisher: publish, Logger: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry()})
	require.NoError(t, err)
	_, err = d.Deliver(ctx)
	require.NoError(t, err)

	letters, err := notify.NewLetters(b.store, nil)
	require.NoError(t, err)
	dead, next, err := letters.List(ctx, notify.LetterDead, page.Page{Limit: 2})
	require.NoError(t, err)
	require.Len(t, dead, 2)
	require.NotEmpty(t, next)
	require.Equal(t, pipeline, dead[0].Topic)
	require.Equal(t, w.ID, dead[0].Stream)
	require.Equal(t, "context deadline exceeded", dead[0].Error)
	require.Positive(t, dead[0].Size)
	require.Greater(t, dead[0].Row, dead[1].Row, "the newest first")
	rest, _, err := letters.List(ctx, notify.LetterDead, page.Page{Cursor: next})
	require.NoError(t, err)
	require.NotEmpty(t, rest)
	require.Less(t, rest[0].Row, dead[1].Row)
	sent, _, err := letters.List(ctx, notify.LetterSent, page.Page{})
	require.NoError(t, err)
	require.NotEmpty(t, sent)

	refused = false
	again, err := letters.Retry(ctx, "ann", dead[0].Row)
	require.NoError(t, err)
	require.Equal(t, notify.LetterPending, again.Status)
	require.Zero(t, again.Attempts)
	n, err := d.Deliver(ctx)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	_, err = letters.Retry(ctx, "ann", dead[0].Row)
	require.ErrorIs(t, err, notify.ErrNoLetter, "it was sent")
	require.ErrorIs(t, letters.Discard(ctx, "ann", sent[0].Row), notify.ErrNoLetter, "only what is dead")
	require.NoError(t, letters.Discard(ctx, "bob", dead[1].Row))
	require.ErrorIs(t, letters.Discard(ctx, "bob", dead[1].Row), notify.ErrNoLetter)
	_, _, err = letters.List(ctx, "Lost", page.Page{})
	require.NotEmpty(t, invalid.Of(err))

	events, err := event.New(event.Config{Store: b.store, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	all, err := events.List(ctx, event.Filter{Limit: page.MaxLimit})
	require.NoError(t, err)
	last := all[len(all)-2:]
	require.Equal(t, []event.Type{event.MessageRetried, event.MessageDiscarded}, []event.Type{last[0].Type, last[1].Type})
	require.Equal(t, "bob", last[1].Actor)
	require.WithinDuration(t, time.Now(), last[1].At, time.Minute)
}

// publisher is a notify.Publisher of a function.
type publisher func(ctx context.Context, m notify.Message) error

func (p publisher) Publish(ctx context.Context, m notify.Message) error { return p(ctx, m) }
