package hubapi

import (
	"context"
	"iter"
	"net/http"
	"strconv"
	"time"
)

// Webhook is a program that is told of events by HTTP.
type Webhook struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	URL  string `json:"url"`
	// Types are those that it asked for; none asks for all.
	Types     []string  `json:"types" nullable:"false" doc:"The types of events that it is told of; empty is all."`
	ClusterID string    `json:"clusterId,omitempty" doc:"It is told of this cluster only."`
	CreatedAt time.Time `json:"createdAt"`
	CreatedBy string    `json:"createdBy,omitempty"`
	// After is the last event that it is done with.
	After      int64      `json:"after" doc:"The last event that is done with: taken, given up, or not asked for."`
	LastSentAt *time.Time `json:"lastSentAt,omitempty" doc:"When it last took an event."`
	Failures   int        `json:"failures" doc:"How many attempts in a row failed; 0 when it works."`
	NextAt     *time.Time `json:"nextAt,omitempty" doc:"When a webhook that fails is tried again."`
	Error      string     `json:"error,omitempty" doc:"Why it fails."`
}

// CreateWebhookRequest asks for a webhook.
type CreateWebhookRequest struct {
	Name    string   `json:"name" example:"pager"`
	URL     string   `json:"url" doc:"An https address that takes POST." example:"https://ops.example.com/budcluster"`
	Types   []string `json:"types,omitempty" doc:"The types of events to be told of, such as release.status; none is all."`
	Cluster string   `json:"cluster,omitempty" doc:"Only events of this cluster: its name, or its id."`
}

// CreatedWebhook is a new webhook with the key of its signatures, which is
// shown this once.
type CreatedWebhook struct {
	Webhook Webhook `json:"webhook"`
	Secret  string  `json:"secret" doc:"The key of the signatures (Standard Webhooks, v1); shown this once."`
}

// DeliveryStatus is where a delivery stands.
type DeliveryStatus string

// The statuses of deliveries.
const (
	DeliverySent    DeliveryStatus = "Sent"
	DeliveryFailing DeliveryStatus = "Failing"
	DeliveryDead    DeliveryStatus = "Dead"
)

// Delivery is an event that a webhook was sent, or was to be sent.
type Delivery struct {
	EventID  int64          `json:"eventId" doc:"0 for a test."`
	Type     string         `json:"type"`
	Status   DeliveryStatus `json:"status" doc:"Sent; Failing, which is tried again; or Dead, which was given up."`
	Attempts int            `json:"attempts"`
	FirstAt  time.Time      `json:"firstAt"`
	LastAt   time.Time      `json:"lastAt"`
	Response int            `json:"response,omitempty" doc:"The HTTP status of the last answer; absent when there was none."`
	TookMs   int64          `json:"tookMs" doc:"How long the last attempt took, in milliseconds."`
	Error    string         `json:"error,omitempty"`
}

// Webhooks gives all webhooks, by name.
func (c *Client) Webhooks(ctx context.Context) (List[Webhook], error) {
	var out List[Webhook]
	_, err := c.do(ctx, request{method: http.MethodGet, path: []string{"webhooks"}}, &out)
	return out, err
}

// Webhook gives one, by its name or id.
func (c *Client) Webhook(ctx context.Context, ref string) (Webhook, error) {
	var out Webhook
	_, err := c.do(ctx, request{method: http.MethodGet, path: []string{"webhooks", ref}}, &out)
	return out, err
}

// CreateWebhook makes a webhook, which is told of what happens from now on.
func (c *Client) CreateWebhook(ctx context.Context, r CreateWebhookRequest) (CreatedWebhook, error) {
	var out CreatedWebhook
	_, err := c.do(ctx, request{method: http.MethodPost, path: []string{"webhooks"}, body: r}, &out)
	return out, err
}

// DeleteWebhook ends a webhook.
func (c *Client) DeleteWebhook(ctx context.Context, ref string) error {
	_, err := c.do(ctx, request{method: http.MethodDelete, path: []string{"webhooks", ref}}, nil)
	return err
}

// TestWebhook sends a webhook a message now, and says what came of it.
func (c *Client) TestWebhook(ctx context.Context, ref string) (Delivery, error) {
	var out Delivery
	_, err := c.do(ctx, request{method: http.MethodPost, path: []string{"webhooks", ref, "test"}}, &out)
	return out, err
}

// Deliveries gives one page of what a webhook was sent, the newest event
// first; only those of a status, unless that is empty.
func (c *Client) Deliveries(ctx context.Context, ref string, status DeliveryStatus, p PageOptions) (List[Delivery], error) {
	var out List[Delivery]
	q := p.query()
	setString(q, "status", string(status))
	_, err := c.do(ctx, request{method: http.MethodGet, path: []string{"webhooks", ref, "deliveries"}, query: q}, &out)
	return out, err
}

// AllDeliveries gives everything that is kept of what a webhook was sent.
func (c *Client) AllDeliveries(ctx context.Context, ref string, status DeliveryStatus) iter.Seq2[Delivery, error] {
	return all(ctx, PageOptions{}, func(ctx context.Context, p PageOptions) (List[Delivery], error) {
		return c.Deliveries(ctx, ref, status, p)
	})
}

// Redeliver sends a webhook an event again, and says what came of it.
func (c *Client) Redeliver(ctx context.Context, ref string, eventID int64) (Delivery, error) {
	var out Delivery
	path := []string{"webhooks", ref, "deliveries", strconv.FormatInt(eventID, 10), "redeliver"}
	_, err := c.do(ctx, request{method: http.MethodPost, path: path}, &out)
	return out, err
}
