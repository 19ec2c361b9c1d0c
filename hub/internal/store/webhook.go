package store

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/budecosystem/budcluster/hub/internal/store/sqlcgen"
	"github.com/budecosystem/budcluster/hub/internal/webhook"
)

var (
	_ webhook.Store = (*Store)(nil)
	_ webhook.Queue = (*Store)(nil)
)

// WebhookInsert adds a webhook.
func (s *Store) WebhookInsert(ctx context.Context, w webhook.Sealed) error {
	err := s.q.WebhookInsert(ctx, s.db(ctx), sqlcgen.WebhookInsertParams{
		ID: w.ID, Name: w.Name, Url: w.URL, Types: append([]string{}, w.Types...), ClusterID: optional(w.ClusterID), Secret: w.Secret,
		CreatedAt: w.CreatedAt, CreatedBy: w.CreatedBy, After: w.After,
	})
	if violates(err, uniqueViolation, "webhooks_name_key") {
		return &webhook.ExistsError{Name: w.Name}
	}
	return err
}

// WebhookList returns all webhooks in the order of their names.
func (s *Store) WebhookList(ctx context.Context) ([]webhook.Webhook, error) {
	rows, err := s.q.Webhooks(ctx, s.db(ctx))
	if err != nil {
		return nil, err
	}
	found := make([]webhook.Webhook, 0, len(rows))
	for _, r := range rows {
		found = append(found, webhookOf(r).Webhook)
	}
	return found, nil
}

// WebhookByRef looks a webhook up by its id or name.
func (s *Store) WebhookByRef(ctx context.Context, ref string) (webhook.Sealed, error) {
	r, err := s.q.WebhookByRef(ctx, s.db(ctx), ref)
	if err != nil {
		return webhook.Sealed{}, notFound(err, webhook.ErrNotFound)
	}
	return webhookOf(r), nil
}

func webhookOf(r sqlcgen.Webhooks) webhook.Sealed {
	return webhook.Sealed{Secret: r.Secret, Webhook: webhook.Webhook{
		ID: r.ID, Name: r.Name, URL: r.Url, Types: r.Types, ClusterID: deref(r.ClusterID), CreatedAt: r.CreatedAt, CreatedBy: r.CreatedBy,
		Position: webhook.Position{
			After: r.After, Attempts: int(r.Attempts), Failures: int(r.Failures), DueAt: r.DueAt, LastSentAt: r.LastSentAt, Error: r.Error,
		},
	}}
}

// WebhookDelete removes a webhook and its deliveries.
func (s *Store) WebhookDelete(ctx context.Context, id uuid.UUID) error {
	n, err := s.q.WebhookDelete(ctx, s.db(ctx), id)
	if err == nil && n == 0 {
		return webhook.ErrNotFound
	}
	return err
}

// WebhookClaim takes webhooks that are due.
func (s *Store) WebhookClaim(ctx context.Context, now, until time.Time, latest int64, limit int) ([]webhook.Claim, error) {
	rows, err := s.q.WebhookClaim(ctx, s.db(ctx), sqlcgen.WebhookClaimParams{Now: now, Until: until, Latest: latest, Lim: int32(limit)}) //nolint:gosec // a batch
	if err != nil {
		return nil, err
	}
	claims := make([]webhook.Claim, 0, len(rows))
	for _, r := range rows {
		claims = append(claims, webhook.Claim{Sealed: webhookOf(r), Token: r.Token})
	}
	return claims, nil
}

// WebhookAdvance writes where a claimed webhook is, with the outcome of an
// attempt.
func (s *Store) WebhookAdvance(ctx context.Context, c webhook.Claim, until time.Time, d *webhook.Delivery) (held bool, err error) {
	err = s.InTx(ctx, func(ctx context.Context) error {
		n, err := s.q.WebhookAdvance(ctx, s.db(ctx), sqlcgen.WebhookAdvanceParams{
			ID: c.ID, Token: c.Token, After: c.After, Attempts: bounded(c.Attempts), Failures: bounded(c.Failures), DueAt: c.DueAt, LeaseUntil: until,
			LastSentAt: c.LastSentAt, Error: c.Error,
		})
		if held = n > 0; err != nil || !held || d == nil {
			return err
		}
		return s.DeliveryPut(ctx, *d)
	})
	return held, err
}

func bounded(n int) int32 { return int32(min(n, 1<<30)) } //nolint:gosec // it is

// DeliveryPut writes the outcome of one more attempt.
func (s *Store) DeliveryPut(ctx context.Context, d webhook.Delivery) error {
	return s.q.DeliveryPut(ctx, s.db(ctx), sqlcgen.DeliveryPutParams{
		WebhookID: d.WebhookID, EventID: d.EventID, Type: d.Type, Body: d.Body, Status: string(d.Status), At: d.LastAt,
		Response: bounded(d.Response), TookUs: d.Took.Microseconds(), Error: d.Error,
	})
}

// DeliveryByEvent looks a delivery up.
func (s *Store) DeliveryByEvent(ctx context.Context, webhookID uuid.UUID, eventID int64) (webhook.Delivery, error) {
	r, err := s.q.DeliveryByEvent(ctx, s.db(ctx), sqlcgen.DeliveryByEventParams{WebhookID: webhookID, EventID: eventID})
	if err != nil {
		return webhook.Delivery{}, notFound(err, webhook.ErrNoDelivery)
	}
	return deliveryOf(r), nil
}

// DeliveryList returns deliveries, the newest event first.
func (s *Store) DeliveryList(ctx context.Context, webhookID uuid.UUID, status webhook.Status, before int64, limit int) ([]webhook.Delivery, error) {
	rows, err := s.q.DeliveryList(ctx, s.db(ctx), sqlcgen.DeliveryListParams{
		WebhookID: webhookID, Before: before, Status: optional(string(status)), Lim: int32(limit), //nolint:gosec // a page's limit
	})
	if err != nil {
		return nil, err
	}
	found := make([]webhook.Delivery, 0, len(rows))
	for _, r := range rows {
		found = append(found, deliveryOf(r))
	}
	return found, nil
}

func deliveryOf(r sqlcgen.WebhookDeliveries) webhook.Delivery {
	return webhook.Delivery{
		WebhookID: r.WebhookID, EventID: r.EventID, Type: r.Type, Status: webhook.Status(r.Status), Attempts: int(r.Attempts),
		FirstAt: r.FirstAt, LastAt: r.LastAt, Response: int(r.Response), Took: microseconds(r.TookUs), Error: r.Error, Body: r.Body,
	}
}

// DeliveryPurge deletes old deliveries.
func (s *Store) DeliveryPurge(ctx context.Context, before, deadBefore time.Time, limit int) (int, error) {
	n, err := s.q.DeliveryPurge(ctx, s.db(ctx), sqlcgen.DeliveryPurgeParams{Before: before, DeadBefore: deadBefore, Lim: int32(limit)}) //nolint:gosec // a batch
	return int(n), err
}
