package hubapi

import (
	"context"
	"iter"
	"net/http"
	"strconv"
	"time"
)

// MessageStatus is where a message stands.
type MessageStatus string

// The statuses of messages.
const (
	MessagePending MessageStatus = "Pending"
	MessageSent    MessageStatus = "Sent"
	MessageDead    MessageStatus = "Dead"
)

// Message is what a topic of the platform's broker is told of a workflow or a
// cluster, without its body, which is for its receivers.
type Message struct {
	ID        int64         `json:"id"`
	Topic     string        `json:"topic" example:"budAppMessages"`
	Key       string        `json:"key" doc:"What it says, unique in its stream and topic." example:"results/COMPLETED"`
	StreamID  string        `json:"streamId" doc:"The workflow or the cluster that it is about; the messages of a stream to a topic are delivered in order."`
	EventID   string        `json:"eventId" doc:"The id of the CloudEvent, the same with each attempt and on each topic."`
	Type      string        `json:"type" doc:"The type of the CloudEvent."`
	Bytes     int           `json:"bytes" doc:"The size of its body."`
	Status    MessageStatus `json:"status" doc:"Pending, which is delivered or tried again; Sent; or Dead, which was given up."`
	WrittenAt time.Time     `json:"writtenAt"`
	Attempts  int           `json:"attempts" doc:"How often it was attempted since it was written, or retried by hand."`
	NextAt    *time.Time    `json:"nextAt,omitempty" doc:"When one that is pending is attempted at the earliest."`
	EndedAt   *time.Time    `json:"endedAt,omitempty" doc:"When it was sent or given up."`
	Error     string        `json:"error,omitempty" doc:"Why the last attempt failed that did."`
}

// Messages gives one page of what topics are told, the newest first; only those
// of a status, unless that is empty.
func (c *Client) Messages(ctx context.Context, status MessageStatus, p PageOptions) (List[Message], error) {
	var out List[Message]
	q := p.query()
	setString(q, "status", string(status))
	_, err := c.do(ctx, request{method: http.MethodGet, path: []string{"messages"}, query: q}, &out)
	return out, err
}

// AllMessages gives everything that is kept of what topics are told.
func (c *Client) AllMessages(ctx context.Context, status MessageStatus) iter.Seq2[Message, error] {
	return all(ctx, PageOptions{}, func(ctx context.Context, p PageOptions) (List[Message], error) {
		return c.Messages(ctx, status, p)
	})
}

// RetryMessage has a message tried again that was given up.
func (c *Client) RetryMessage(ctx context.Context, id int64) (Message, error) {
	var out Message
	_, err := c.do(ctx, request{method: http.MethodPost, path: []string{"messages", strconv.FormatInt(id, 10), "retry"}}, &out)
	return out, err
}

// DiscardMessage deletes a message that was given up.
func (c *Client) DiscardMessage(ctx context.Context, id int64) error {
	_, err := c.do(ctx, request{method: http.MethodDelete, path: []string{"messages", strconv.FormatInt(id, 10)}}, nil)
	return err
}
