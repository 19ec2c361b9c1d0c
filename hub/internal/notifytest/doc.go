// Package notifytest plays the platform's services that read what the hub
// publishes. They take what the real ones take, and fail where those fail, so
// that a message that one of them would choke on, or take for something else,
// fails a test.
//
//	broker ──► Main     budapp: keeps clusters, follows its own workflows
//	       ──► Pipeline budpipeline: a step of a pipeline waits for its end
//	       ──► People   budnotify: tells people
//
// Each is an http.Handler too, in the place of the route that a sidecar posts
// to.
package notifytest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
)

// request is all that the receivers take; they refuse every other field. The
// sidecar adds some of these.
type request struct {
	SpecVersion *string         `json:"specversion"`
	Topic       *string         `json:"topic"`
	PubSub      *string         `json:"pubsubname"`
	Source      *string         `json:"source"`
	SourceTopic *string         `json:"source_topic"`
	Data        json.RawMessage `json:"data"`
	TraceID     *string         `json:"traceid"`
	TraceState  *string         `json:"tracestate"`
	TraceParent *string         `json:"traceparent"`
	Type        *string         `json:"type"`
	Time        *string         `json:"time"`
	Debug       *bool           `json:"debug"`

	NotificationType *string  `json:"notification_type"`
	Name             *string  `json:"name"`
	SubscriberIDs    any      `json:"subscriber_ids"`
	Actor            *string  `json:"actor"`
	TopicKeys        any      `json:"topic_keys"`
	Payload          *payload `json:"payload"`
}

type payload struct {
	Category   string   `json:"category"`
	Type       string   `json:"type"`
	Event      string   `json:"event"`
	WorkflowID string   `json:"workflow_id"`
	Source     *string  `json:"source"`
	Content    *content `json:"content"`
}

type content struct {
	Title           *string        `json:"title"`
	Message         *string        `json:"message"`
	Status          *string        `json:"status"`
	Result          map[string]any `json:"result"`
	PrimaryAction   *string        `json:"primary_action"`
	SecondaryAction *string        `json:"secondary_action"`
}

// read validates a message as all receivers do. What they forbid is an error.
func read(body []byte) (*request, error) {
	var r request
	top := map[string]json.RawMessage{}
	if err := json.Unmarshal(body, &top); err != nil {
		return nil, fmt.Errorf("422: %w", err)
	}
	inner := top["payload"]
	delete(top, "payload") // its own unknown fields are ignored
	rest, err := json.Marshal(top)
	if err != nil {
		return nil, fmt.Errorf("422: %w", err)
	}
	strict := json.NewDecoder(bytes.NewReader(rest))
	strict.DisallowUnknownFields()
	if err := strict.Decode(&r); err != nil {
		return nil, fmt.Errorf("422: %w", err)
	}
	if err := json.Unmarshal(inner, &r.Payload); err != nil {
		return nil, fmt.Errorf("422: payload: %w", err)
	}
	return &r, r.check()
}

func (r *request) check() error {
	switch {
	case r.Name == nil:
		return errors.New("422: name: field required")
	case r.Payload == nil || r.Payload.Content == nil:
		return errors.New("422: payload.content: field required")
	case r.Payload.Source == nil:
		return errors.New("422: payload.source: field required")
	case !oneOf(r.Payload.Category, "inapp", "internal", "email"):
		return fmt.Errorf("422: payload.category: %q is not permitted", r.Payload.Category)
	case r.NotificationType != nil && !oneOf(*r.NotificationType, "event", "topic", "broadcast"):
		return fmt.Errorf("422: notification_type: %q is not permitted", *r.NotificationType)
	case !textOrTexts(r.SubscriberIDs) || !textOrTexts(r.TopicKeys):
		return errors.New("422: subscriber_ids, topic_keys: a text or a list of texts is required")
	case r.isType("topic") && r.TopicKeys == nil:
		return errors.New("422: topic_keys is required for topic notifications")
	case r.isType("broadcast") && (r.SubscriberIDs != nil || r.TopicKeys != nil):
		return errors.New("422: subscriber_ids and topic_keys are not allowed for broadcast notifications")
	}
	return nil
}

func (r *request) isType(name string) bool {
	return r.NotificationType != nil && *r.NotificationType == name
}

func textOrTexts(v any) bool {
	switch v := v.(type) {
	case nil, string:
		return true
	case []any:
		for _, one := range v {
			if _, ok := one.(string); !ok {
				return false
			}
		}
		return true
	default:
		return false
	}
}

func oneOf(s string, of ...string) bool { return slices.Contains(of, s) }

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// serve answers a sidecar: what is not taken comes again.
func serve(w http.ResponseWriter, r *http.Request, handle func([]byte) error) {
	body, err := io.ReadAll(r.Body)
	if err == nil {
		err = handle(body)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, `{"object": "notification", "message": "Pubsub notification received"}`) // who does not hear it sends again
}
