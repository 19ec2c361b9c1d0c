package dapr

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
)

// eventType is the content type by which a sidecar takes the body for the
// whole event and not for the data of one.
const eventType = "application/cloudevents+json"

// Message is one event for a topic.
type Message struct {
	PubSub string
	Topic  string
	// Event is a JSON object, which subscribers get as it is, with these fields
	// set by the sidecar: topic, pubsubname, traceid, traceparent and tracestate;
	// and, where they are missing: specversion, source, type, time. It does not
	// add an id. The platform's receivers refuse fields that they do not know,
	// and id and datacontenttype are among those: leave them out.
	Event json.RawMessage
	// ID, Source and Type go to the broker beside the event, as headers where it
	// has such (Kafka). They change nothing in the event.
	ID, Source, Type string
}

// Publish hands an event to the broker. When it returns nil, the broker has
// it; after ErrUnreachable that is not known, so whoever repeats must live with
// doubles.
func (c *Client) Publish(ctx context.Context, m Message) error {
	doing := fmt.Sprintf("publish to topic %s of pubsub %s", m.Topic, m.PubSub)
	if m.PubSub == "" || m.Topic == "" {
		return errors.New("publish: no pubsub or no topic is named")
	}
	if trimmed := bytes.TrimSpace(m.Event); len(trimmed) == 0 || trimmed[0] != '{' || !json.Valid(trimmed) {
		return fmt.Errorf("%s: the event is not a JSON object", doing)
	}
	query := url.Values{}
	for name, value := range map[string]string{"id": m.ID, "source": m.Source, "type": m.Type} {
		if value != "" {
			query.Set("metadata.cloudevent."+name, value)
		}
	}
	_, err := c.do(ctx, call{
		doing: doing, method: http.MethodPost, path: []string{"publish", m.PubSub, m.Topic}, query: query,
		header: http.Header{"Content-Type": {eventType}}, body: m.Event,
	})
	return err
}
