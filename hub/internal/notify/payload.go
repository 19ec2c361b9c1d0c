package notify

import (
	"cmp"
	"encoding/json"
	"fmt"

	"github.com/google/uuid"
)

// Status is where a thing stands, in the platform's words.
type Status string

// The statuses.
const (
	StatusStarted   Status = "STARTED"
	StatusRunning   Status = "RUNNING"
	StatusCompleted Status = "COMPLETED"
	StatusFailed    Status = "FAILED"
)

// Payload is what one message says.
type Payload struct {
	// Type is the name of the workflow, or of the status that changed.
	Type string
	// Event is a step's id, "eta", "results", or a status event.
	Event string
	// WorkflowID is ours; a Reply's own goes before it.
	WorkflowID string
	Content    Content
}

// Content is what a Payload shows.
type Content struct {
	Title   string `json:"title"`
	Message string `json:"message"`
	Status  Status `json:"status"`
	// Result is a JSON object or empty.
	Result          json.RawMessage `json:"result"`
	PrimaryAction   *string         `json:"primary_action"`
	SecondaryAction *string         `json:"secondary_action"`
}

// eventType is the type of the CloudEvent for budnotify, and the "type" in the
// body of every copy: budpipeline takes no other.
const eventType = "notification"

// request is the platform's NotificationRequest, as it is published. Fields
// that the receivers do not know are refused by them, an id among others.
type request struct {
	NotificationType string      `json:"notification_type"`
	Name             string      `json:"name"`
	SubscriberIDs    Texts       `json:"subscriber_ids"`
	Payload          wirePayload `json:"payload"`
	Actor            *string     `json:"actor"`
	TopicKeys        Texts       `json:"topic_keys"`
	Source           string      `json:"source"`
	SourceTopic      string      `json:"source_topic"`
	Type             string      `json:"type"`
}

type wirePayload struct {
	Category   string  `json:"category"`
	Type       string  `json:"type"`
	Event      string  `json:"event"`
	WorkflowID string  `json:"workflow_id"`
	Source     string  `json:"source"`
	Content    Content `json:"content"`
}

// encode writes the payload for those whom the reply names.
func (s *Service) encode(r Reply, p Payload) (json.RawMessage, error) {
	meta := Metadata{NotificationType: notificationTypes()[0], Name: p.Type, Category: categories()[0]}
	if r.Metadata != nil {
		meta = *r.Metadata
	}
	if len(p.Content.Result) == 0 {
		p.Content.Result = json.RawMessage("null")
	}
	p.Content.Message = cmp.Or(p.Content.Message, p.Content.Title)
	out := request{
		NotificationType: meta.NotificationType, Name: meta.Name, SubscriberIDs: meta.SubscriberIDs, TopicKeys: meta.TopicKeys,
		Payload: wirePayload{
			Category: meta.Category, Type: p.Type, Event: p.Event, WorkflowID: cmp.Or(meta.WorkflowID, p.WorkflowID), Source: s.cfg.AppID,
			Content: p.Content,
		},
		Source: s.cfg.AppID, SourceTopic: s.cfg.OwnTopic, Type: eventType,
	}
	if meta.Actor != "" {
		out.Actor = &meta.Actor
	}
	body, err := json.Marshal(out)
	if err != nil {
		return nil, fmt.Errorf("encode %s of %s: %w", p.Event, p.Type, err)
	}
	return body, nil
}

// Message is one CloudEvent for one topic.
type Message struct {
	// ID is the same for each copy and each attempt.
	ID    uuid.UUID
	Topic string
	Type  string
	// Source is the app that sends it.
	Source string
	// Body is the whole event.
	Body json.RawMessage
}
