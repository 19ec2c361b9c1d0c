package api

import (
	"context"

	"github.com/google/uuid"

	"github.com/budecosystem/budcluster/hub/hubapi"
	"github.com/budecosystem/budcluster/hub/internal/page"
	"github.com/budecosystem/budcluster/hub/internal/webhook"
	"github.com/budecosystem/budcluster/internal/secret"
)

// Webhooks tells other programs of events; webhook.Service.
type Webhooks interface {
	Create(ctx context.Context, actor string, r webhook.Request) (*webhook.Webhook, secret.String, error)
	List(ctx context.Context) ([]webhook.Webhook, error)
	Get(ctx context.Context, ref string) (*webhook.Webhook, error)
	Delete(ctx context.Context, actor, ref string) error
	Deliveries
}

// Deliveries is what webhooks were sent; webhook.Service.
type Deliveries interface {
	Deliveries(ctx context.Context, ref string, status webhook.Status, p page.Page) ([]webhook.Delivery, string, error)
	Test(ctx context.Context, actor, ref string) (webhook.Delivery, error)
	Redeliver(ctx context.Context, ref string, eventID int64) (webhook.Delivery, error)
}

// WebhookInput names a webhook.
type WebhookInput struct {
	Webhook string `path:"webhook" doc:"The webhook's name or id."`
}

func (s *Server) listWebhooks(ctx context.Context, _ *struct{}) (*body[hubapi.List[hubapi.Webhook]], error) {
	found, err := s.cfg.Webhooks.List(ctx)
	if err != nil {
		return nil, err
	}
	return listed(found, "", webhookOut), nil
}

type createWebhookInput struct {
	Body hubapi.CreateWebhookRequest
}

func (s *Server) createWebhook(ctx context.Context, in *createWebhookInput) (*body[hubapi.CreatedWebhook], error) {
	f, err := s.eventFilter(ctx, EventFilterInput{Cluster: in.Body.Cluster, Type: in.Body.Types})
	if err != nil {
		return nil, err
	}
	r := webhook.Request{Name: in.Body.Name, URL: in.Body.URL, Types: in.Body.Types}
	if f.ClusterID != nil {
		r.ClusterID = *f.ClusterID
	}
	w, key, err := s.cfg.Webhooks.Create(ctx, actor(ctx), r)
	if err != nil {
		return nil, err
	}
	return &body[hubapi.CreatedWebhook]{Body: hubapi.CreatedWebhook{Webhook: webhookOut(*w), Secret: key.Reveal()}}, nil
}

func (s *Server) getWebhook(ctx context.Context, in *WebhookInput) (*body[hubapi.Webhook], error) {
	w, err := s.cfg.Webhooks.Get(ctx, in.Webhook)
	if err != nil {
		return nil, err
	}
	return &body[hubapi.Webhook]{Body: webhookOut(*w)}, nil
}

func (s *Server) deleteWebhook(ctx context.Context, in *WebhookInput) (*struct{}, error) {
	return nil, s.cfg.Webhooks.Delete(ctx, actor(ctx), in.Webhook)
}

func (s *Server) testWebhook(ctx context.Context, in *WebhookInput) (*body[hubapi.Delivery], error) {
	d, err := s.cfg.Webhooks.Test(ctx, actor(ctx), in.Webhook)
	if err != nil {
		return nil, err
	}
	return &body[hubapi.Delivery]{Body: deliveryOut(d)}, nil
}

type listDeliveriesInput struct {
	WebhookInput
	PageInput
	Status string `query:"status" enum:"Sent,Failing,Dead" doc:"Only those of this status."`
}

func (s *Server) listDeliveries(ctx context.Context, in *listDeliveriesInput) (*body[hubapi.List[hubapi.Delivery]], error) {
	found, next, err := s.cfg.Webhooks.Deliveries(ctx, in.Webhook, webhook.Status(in.Status), in.page())
	if err != nil {
		return nil, err
	}
	return listed(found, next, deliveryOut), nil
}

type redeliverInput struct {
	WebhookInput
	Event int64 `path:"event" minimum:"1" doc:"The event's id."`
}

func (s *Server) redeliver(ctx context.Context, in *redeliverInput) (*body[hubapi.Delivery], error) {
	d, err := s.cfg.Webhooks.Redeliver(ctx, in.Webhook, in.Event)
	if err != nil {
		return nil, err
	}
	return &body[hubapi.Delivery]{Body: deliveryOut(d)}, nil
}

func webhookOut(w webhook.Webhook) hubapi.Webhook {
	out := hubapi.Webhook{
		ID: w.ID.String(), Name: w.Name, URL: w.URL, Types: append([]string{}, w.Types...), CreatedAt: w.CreatedAt, CreatedBy: w.CreatedBy,
		After: w.After, LastSentAt: w.LastSentAt, Failures: w.Failures, Error: w.Error,
	}
	if w.ClusterID != uuid.Nil {
		out.ClusterID = w.ClusterID.String()
	}
	if w.Failures > 0 {
		out.NextAt = &w.DueAt
	}
	return out
}

func deliveryOut(d webhook.Delivery) hubapi.Delivery {
	return hubapi.Delivery{
		EventID: d.EventID, Type: d.Type, Status: hubapi.DeliveryStatus(d.Status), Attempts: d.Attempts, FirstAt: d.FirstAt, LastAt: d.LastAt,
		Response: d.Response, TookMs: d.Took.Milliseconds(), Error: d.Error,
	}
}
