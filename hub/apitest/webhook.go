package apitest

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/internal/event"
	"github.com/budecosystem/budcluster/hub/internal/webhook"
	"github.com/budecosystem/budcluster/internal/secret"
)

// WebhookSecret is that of every webhook made here.
const WebhookSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// webhooks is api.Webhooks: the real rules over a store in memory, with one
// secret for all, so that answers are the same each time.
type webhooks struct{ *webhook.Service }

func (h *Hub) hooks(t testing.TB, log *slog.Logger) webhooks {
	t.Helper()
	guard, err := webhook.NewGuard(nil, false)
	require.NoError(t, err)
	s, err := webhook.New(webhook.Config{
		Store: webhookStore{h}, Feed: events{h}, Sealer: open{}, Guard: guard, Poster: post{}, Logger: log, Now: Now,
	})
	require.NoError(t, err)
	return webhooks{s}
}

// Create is the rules', but for the secret.
func (w webhooks) Create(ctx context.Context, actor string, r webhook.Request) (*webhook.Webhook, secret.String, error) {
	made, _, err := w.Service.Create(ctx, actor, r)
	return made, secret.New(WebhookSecret), err
}

// open is a webhook.Sealer that hides nothing.
type open struct{}

func (open) Seal(plaintext, _ []byte) ([]byte, error) { return plaintext, nil }

func (open) Unseal(sealed, _ []byte) ([]byte, error) { return sealed, nil }

// post takes everything but what goes to a host whose name begins with busy.
type post struct{}

func (post) Post(_ context.Context, p webhook.Post) (int, error) {
	if strings.HasPrefix(p.URL, "https://busy") {
		return 503, nil
	}
	return 204, nil
}

// Deliver is that a webhook answered an event with this status, and that the
// hub is done with it.
func (h *Hub) Deliver(name string, eventID int64, response int) {
	defer h.lock()()
	d := webhook.Delivery{
		EventID: eventID, Type: "release.status", Status: webhook.StatusSent, Attempts: 1, Response: response,
		FirstAt: Now().Add(-time.Minute), LastAt: Now(),
	}
	if response >= 300 {
		d.Status, d.Attempts, d.Error = webhook.StatusDead, 5, fmt.Sprintf("the receiver answered %d", response)
	}
	for _, w := range h.webhooks {
		if w.Name == name {
			d.WebhookID = w.ID
			h.sent = append(h.sent, d)
		}
	}
}

// webhookStore is webhook.Store.
type webhookStore struct{ *Hub }

func (h webhookStore) InTx(ctx context.Context, fn func(ctx context.Context) error) error {
	return fn(ctx)
}

func (h webhookStore) AppendEvents(_ context.Context, all ...event.Event) error {
	defer h.lock()()
	for _, e := range all {
		h.emitLocked(e)
	}
	return nil
}

func (h webhookStore) WebhookInsert(_ context.Context, w webhook.Sealed) error {
	defer h.lock()()
	if slices.ContainsFunc(h.webhooks, func(other webhook.Sealed) bool { return other.Name == w.Name }) {
		return &webhook.ExistsError{Name: w.Name}
	}
	h.webhooks = append(h.webhooks, w)
	return nil
}

func (h webhookStore) WebhookList(context.Context) ([]webhook.Webhook, error) {
	unlock, err := h.enter()
	defer unlock()
	var all []webhook.Webhook
	for _, w := range h.webhooks {
		all = append(all, w.Webhook)
	}
	slices.SortFunc(all, func(a, b webhook.Webhook) int { return strings.Compare(a.Name, b.Name) })
	return all, err
}

func (h webhookStore) WebhookByRef(_ context.Context, ref string) (webhook.Sealed, error) {
	unlock, err := h.enter()
	defer unlock()
	if err != nil {
		return webhook.Sealed{}, err
	}
	for _, w := range h.webhooks {
		if ref == w.Name || ref == w.ID.String() {
			return w, nil
		}
	}
	return webhook.Sealed{}, webhook.ErrNotFound
}

func (h webhookStore) WebhookDelete(_ context.Context, id uuid.UUID) error {
	defer h.lock()()
	h.webhooks = slices.DeleteFunc(h.webhooks, func(w webhook.Sealed) bool { return w.ID == id })
	return nil
}

func (h webhookStore) DeliveryPut(_ context.Context, d webhook.Delivery) error {
	defer h.lock()()
	for i, old := range h.sent {
		if old.WebhookID == d.WebhookID && old.EventID == d.EventID {
			h.sent[i] = d
		}
	}
	return nil
}

func (h webhookStore) DeliveryByEvent(_ context.Context, webhookID uuid.UUID, eventID int64) (webhook.Delivery, error) {
	defer h.lock()()
	for _, d := range h.sent {
		if d.WebhookID == webhookID && d.EventID == eventID {
			return d, nil
		}
	}
	return webhook.Delivery{}, webhook.ErrNoDelivery
}

func (h webhookStore) DeliveryList(_ context.Context, webhookID uuid.UUID, status webhook.Status, before int64, limit int) ([]webhook.Delivery, error) {
	defer h.lock()()
	var found []webhook.Delivery
	for _, d := range h.sent {
		if d.WebhookID == webhookID && d.EventID < before && (status == "" || d.Status == status) {
			found = append(found, d)
		}
	}
	slices.SortFunc(found, func(a, b webhook.Delivery) int { return int(b.EventID - a.EventID) })
	return found[:min(len(found), limit)], nil
}

func (h webhookStore) DeliveryPurge(context.Context, time.Time, time.Time, int) (int, error) {
	return 0, nil
}
