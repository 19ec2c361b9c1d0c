package webhook

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/budecosystem/budcluster/hub/internal/event"
)

// Store keeps webhooks and what they were sent.
type Store interface {
	InTx(ctx context.Context, fn func(ctx context.Context) error) error
	AppendEvents(ctx context.Context, events ...event.Event) error
	Records
	Deliveries
}

// Sealed is a webhook with the sealed key of its signatures.
type Sealed struct {
	Webhook
	Secret []byte
}

// Records is the table of webhooks.
type Records interface {
	// WebhookInsert fails with ErrExists when the name is taken.
	WebhookInsert(ctx context.Context, w Sealed) error
	WebhookList(ctx context.Context) ([]Webhook, error)
	// WebhookByRef finds a webhook by its id or name, or fails with ErrNotFound.
	WebhookByRef(ctx context.Context, ref string) (Sealed, error)
	WebhookDelete(ctx context.Context, id uuid.UUID) error
}

// Deliveries is the table of what was sent.
type Deliveries interface {
	// DeliveryPut writes the outcome of one more attempt.
	DeliveryPut(ctx context.Context, d Delivery) error
	// DeliveryByEvent fails with ErrNoDelivery.
	DeliveryByEvent(ctx context.Context, webhookID uuid.UUID, eventID int64) (Delivery, error)
	// DeliveryList returns those of a status, or all, of events before the given
	// one, the newest first.
	DeliveryList(ctx context.Context, webhookID uuid.UUID, status Status, before int64, limit int) ([]Delivery, error)
	DeliveryPurge(ctx context.Context, before, deadBefore time.Time, limit int) (int, error)
}

// Claim is a webhook that this process may serve for a while.
type Claim struct {
	Sealed
	// Token tells this claim from later ones.
	Token int64
}

// Queue is the webhooks that have something to be told.
type Queue interface {
	// WebhookClaim takes webhooks that are due and not beyond the latest event,
	// for as long as until.
	WebhookClaim(ctx context.Context, now, until time.Time, latest int64, limit int) ([]Claim, error)
	// WebhookAdvance writes where a claimed webhook is, and until when it is still
	// claimed; with the outcome of an attempt, unless that is nil. It reports
	// whether the claim still held: else nothing was written.
	WebhookAdvance(ctx context.Context, c Claim, until time.Time, d *Delivery) (held bool, err error)
	DeliveryPurge(ctx context.Context, before, deadBefore time.Time, limit int) (int, error)
}

// Feed is the record of events.
type Feed interface {
	Latest(ctx context.Context) (int64, error)
	List(ctx context.Context, f event.Filter) ([]event.Event, error)
}

// Sealer keeps secrets; secret.Keyring.
type Sealer interface {
	Seal(plaintext, associatedData []byte) ([]byte, error)
	Unseal(sealed, associatedData []byte) ([]byte, error)
}

// Poster brings a message to its receiver, and returns the status of the
// answer. An error is that there was none.
type Poster interface {
	Post(ctx context.Context, p Post) (status int, err error)
}
