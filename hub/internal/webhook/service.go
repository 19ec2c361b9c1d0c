package webhook

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/budecosystem/budcluster/hub/internal/event"
	"github.com/budecosystem/budcluster/hub/internal/invalid"
	"github.com/budecosystem/budcluster/hub/internal/page"
	"github.com/budecosystem/budcluster/internal/id"
	"github.com/budecosystem/budcluster/internal/secret"
)

// maxWebhooks bounds what one event may cost.
const maxWebhooks = 100

var namePattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// Config makes a Service.
type Config struct {
	Store  Store
	Feed   Feed
	Sealer Sealer
	Guard  *Guard
	Poster Poster
	Logger *slog.Logger
	// Now is time.Now when nil.
	Now func() time.Time
}

// Service is the rules of webhooks.
type Service struct {
	cfg   Config
	store Store
	now   func() time.Time
	send  sender
}

// New checks cfg and makes the Service.
func New(cfg Config) (*Service, error) {
	if cfg.Store == nil || cfg.Feed == nil || cfg.Sealer == nil || cfg.Guard == nil || cfg.Poster == nil || cfg.Logger == nil {
		return nil, errors.New("webhook: a store, a feed, a sealer, a guard, a poster and a logger are needed")
	}
	s := &Service{cfg: cfg, store: cfg.Store, now: cfg.Now}
	if s.now == nil {
		s.now = time.Now
	}
	s.send = sender{sealer: cfg.Sealer, poster: cfg.Poster, now: s.now}
	return s, nil
}

// Request asks for a webhook.
type Request struct {
	Name, URL string
	Types     []string
	// ClusterID is uuid.Nil for all clusters.
	ClusterID uuid.UUID
}

// Create makes a webhook, which is told of what happens from now on. The key
// of its signatures is returned once.
func (s *Service) Create(ctx context.Context, actor string, r Request) (*Webhook, secret.String, error) {
	if err := s.check(r); err != nil {
		return nil, secret.String{}, err
	}
	key, now := newSecret(), s.now().UTC()
	w := Sealed{Webhook: Webhook{ID: id.New(), Name: r.Name, URL: r.URL, Types: r.Types, ClusterID: r.ClusterID, CreatedAt: now, CreatedBy: actor}}
	w.DueAt = now
	var err error
	if w.Secret, err = s.cfg.Sealer.Seal([]byte(key.Reveal()), associated(w.ID)); err != nil {
		return nil, secret.String{}, fmt.Errorf("seal secret of webhook %s: %w", r.Name, err)
	}
	err = s.store.InTx(ctx, func(ctx context.Context) error {
		others, err := s.store.WebhookList(ctx)
		if err != nil {
			return err
		}
		if len(others) >= maxWebhooks {
			return invalid.New("name", "there are %d webhooks already, the most that there may be; delete one first", len(others))
		}
		if w.After, err = s.cfg.Feed.Latest(ctx); err != nil {
			return err
		}
		if err := s.store.WebhookInsert(ctx, w); err != nil {
			return err
		}
		return s.record(ctx, event.WebhookCreated, actor, w.Name, "was created")
	})
	if err != nil {
		return nil, secret.String{}, fmt.Errorf("create webhook %s: %w", r.Name, err)
	}
	return &w.Webhook, key, nil
}

func associated(webhookID uuid.UUID) []byte { return []byte("webhook/" + webhookID.String()) }

// record writes an event that says nothing of the address, which may hold a
// secret.
func (s *Service) record(ctx context.Context, kind event.Type, actor, name, what string) error {
	e, err := event.Record(s.now(), kind, actor, nil)
	if err != nil {
		return err
	}
	e.Subject, e.Message = name, "webhook "+name+" "+what
	return s.store.AppendEvents(ctx, e)
}

func (s *Service) check(r Request) error {
	var errs []error
	if !namePattern.MatchString(r.Name) {
		errs = append(errs, invalid.New("name", "%q is not a webhook's name; use at most 63 lower-case letters, digits and - with a letter or digit at both ends", invalid.Clip(r.Name)))
	}
	if err := s.cfg.Guard.Check(r.URL); err != nil {
		errs = append(errs, err)
	}
	known := event.Types()
	for _, kind := range r.Types {
		if !slices.Contains(known, event.Type(kind)) {
			errs = append(errs, invalid.New("types", "%q is not an event type; use some of %v, or none for all", invalid.Clip(kind), known))
			break
		}
	}
	return errors.Join(errs...)
}

// List returns all webhooks in the order of their names.
func (s *Service) List(ctx context.Context) ([]Webhook, error) {
	found, err := s.store.WebhookList(ctx)
	if err != nil {
		return nil, fmt.Errorf("list webhooks: %w", err)
	}
	return found, nil
}

// Get finds a webhook by its id or name.
func (s *Service) Get(ctx context.Context, ref string) (*Webhook, error) {
	w, err := s.find(ctx, ref)
	if err != nil {
		return nil, err
	}
	return &w.Webhook, nil
}

func (s *Service) find(ctx context.Context, ref string) (Sealed, error) {
	if !namePattern.MatchString(ref) { // an id fits it, too
		return Sealed{}, &NotFoundError{Ref: invalid.Clip(ref)}
	}
	w, err := s.store.WebhookByRef(ctx, ref)
	if errors.Is(err, ErrNotFound) {
		return w, &NotFoundError{Ref: ref}
	}
	if err != nil {
		return w, fmt.Errorf("get webhook %s: %w", ref, err)
	}
	return w, nil
}

// Delete ends a webhook, and forgets what it was sent.
func (s *Service) Delete(ctx context.Context, actor, ref string) error {
	w, err := s.find(ctx, ref)
	if err != nil {
		return err
	}
	err = s.store.InTx(ctx, func(ctx context.Context) error {
		if err := s.store.WebhookDelete(ctx, w.ID); err != nil {
			return err
		}
		return s.record(ctx, event.WebhookDeleted, actor, w.Name, "was deleted")
	})
	if errors.Is(err, ErrNotFound) {
		return &NotFoundError{Ref: ref}
	}
	if err != nil {
		return fmt.Errorf("delete webhook %s: %w", ref, err)
	}
	return nil
}

// Deliveries returns one page of what a webhook was sent, the newest event
// first.
func (s *Service) Deliveries(ctx context.Context, ref string, status Status, p page.Page) (found []Delivery, next string, err error) {
	if status != "" && !slices.Contains(Statuses(), status) {
		return nil, "", invalid.New("status", "%q is not a status; use one of %v", invalid.Clip(string(status)), Statuses())
	}
	w, err := s.find(ctx, ref)
	if err != nil {
		return nil, "", err
	}
	before, err := beforeOf(p)
	if err != nil {
		return nil, "", err
	}
	found, err = s.store.DeliveryList(ctx, w.ID, status, before, p.Size()+1)
	if err != nil {
		return nil, "", fmt.Errorf("list deliveries of webhook %s: %w", ref, err)
	}
	found, next = page.Cut(found, p, func(d Delivery) []string { return []string{strconv.FormatInt(d.EventID, 10)} })
	return found, next, nil
}

func beforeOf(p page.Page) (int64, error) {
	parts, err := p.Key(1)
	if err != nil || parts[0] == "" {
		return math.MaxInt64, err
	}
	before, err := strconv.ParseInt(parts[0], 10, 64)
	if err != nil {
		return 0, invalid.New("cursor", "%q is not one that this list gave out; leave it away to start at the first page", invalid.Clip(p.Cursor))
	}
	return before, nil
}

// Test sends a webhook a message of the type webhook.test now, and says what
// came of it. The events that it waits for are not touched.
func (s *Service) Test(ctx context.Context, actor, ref string) (Delivery, error) {
	w, err := s.find(ctx, ref)
	if err != nil {
		return Delivery{}, err
	}
	now := s.now().UTC()
	body, err := encode(event.Event{At: now, Type: typeTest, Subject: w.Name, Actor: actor, Message: "this is a test; nothing happened"})
	if err != nil {
		return Delivery{}, err
	}
	d := Delivery{WebhookID: w.ID, Type: typeTest, Body: body, FirstAt: now, Attempts: 1}
	s.send.attempt(ctx, w, "test_"+id.New().String(), &d)
	if d.Status != StatusSent {
		d.Status = StatusDead // nobody tries a test again
	}
	return d, nil
}

// typeTest is no type of events.
const typeTest = "webhook.test"

// Redeliver sends an event again, under the id that it had, and says what came
// of it.
func (s *Service) Redeliver(ctx context.Context, ref string, eventID int64) (Delivery, error) {
	w, err := s.find(ctx, ref)
	if err != nil {
		return Delivery{}, err
	}
	d, err := s.store.DeliveryByEvent(ctx, w.ID, eventID)
	if errors.Is(err, ErrNoDelivery) {
		return d, &NoDeliveryError{Webhook: w.Name, EventID: eventID}
	}
	if err != nil {
		return d, fmt.Errorf("get delivery of event %d to webhook %s: %w", eventID, ref, err)
	}
	was := d.Status
	s.send.attempt(ctx, w, messageID(eventID), &d)
	if d.Status != StatusSent {
		d.Status = was // what was dead stays so, and what is being tried is tried on
	}
	d.Attempts++
	if err := s.store.DeliveryPut(ctx, d); err != nil {
		return d, fmt.Errorf("record delivery of event %d to webhook %s: %w", eventID, ref, err)
	}
	return d, nil
}
