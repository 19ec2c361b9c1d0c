package notify

import (
	"encoding/json"
	"errors"
	"regexp"
	"slices"

	"github.com/budecosystem/budcluster/hub/internal/invalid"
)

// The bounds of what a request may ask for.
const (
	maxTopics = 16
	maxTexts  = 1000
	maxText   = 256
)

// Reply says whom to tell, as the platform's requests say it. A workflow
// keeps it as JSON.
type Reply struct {
	// Topics get every message.
	Topics []string
	// Metadata names the people; nil when nobody is named.
	Metadata *Metadata
}

// Metadata is the platform's notification_metadata.
type Metadata struct {
	NotificationType string `json:"notification_type"`
	Name             string `json:"name"`
	// WorkflowID is the caller's own id for the work, or empty.
	WorkflowID    string `json:"workflow_id,omitempty"`
	SubscriberIDs Texts  `json:"subscriber_ids"`
	Actor         string `json:"actor,omitempty"`
	TopicKeys     Texts  `json:"topic_keys"`
	Category      string `json:"category"`
}

// Types and categories of notifications; the first is the default.
func notificationTypes() []string { return []string{"event", "topic", "broadcast"} }
func categories() []string        { return []string{"internal", "inapp", "email"} }

// replyJSON is a Reply as it is written.
type replyJSON struct {
	SourceTopic Texts     `json:"source_topic"`
	Metadata    *Metadata `json:"notification_metadata,omitempty"`
}

// ParseReply reads a Reply out of the request that asks for the work, or out
// of what MarshalJSON made of one. Members that are not about the reply are
// left alone. Each fault is an invalid.Error.
func ParseReply(raw json.RawMessage) (Reply, error) {
	var r Reply
	if len(raw) == 0 {
		return r, nil
	}
	var members struct {
		SourceTopic json.RawMessage `json:"source_topic"`
		Metadata    json.RawMessage `json:"notification_metadata"`
		Debug       json.RawMessage `json:"debug"`
	}
	if err := json.Unmarshal(raw, &members); err != nil {
		return r, invalid.New("body", "it is not a JSON object; send one")
	}
	topics, errTopics := parseTopics(members.SourceTopic)
	meta, errMeta := parseMetadata(members.Metadata)
	var errDebug error
	if debug := new(bool); len(members.Debug) > 0 && json.Unmarshal(members.Debug, debug) != nil {
		errDebug = invalid.New("debug", "%s is neither true nor false; write one of them", invalid.Clip(string(members.Debug)))
	}
	if err := errors.Join(errTopics, errMeta, errDebug); err != nil {
		return r, err
	}
	return Reply{Topics: topics, Metadata: meta}, nil
}

// MarshalJSON gives what ParseReply reads.
func (r Reply) MarshalJSON() ([]byte, error) {
	return json.Marshal(replyJSON{SourceTopic: Many(r.Topics...), Metadata: r.Metadata})
}

// IsZero reports whether there is nobody to tell.
func (r Reply) IsZero() bool { return len(r.Topics) == 0 && r.Metadata == nil }

// namesPeople reports whether there are people to tell.
func (r Reply) namesPeople() bool {
	return r.Metadata != nil && (!r.Metadata.SubscriberIDs.IsZero() || !r.Metadata.TopicKeys.IsZero())
}

// parseTopics reads one topic or a list, and drops repetitions and empty ones.
func parseTopics(raw json.RawMessage) ([]string, error) {
	var given Texts
	if len(raw) == 0 {
		return nil, nil
	}
	if err := given.UnmarshalJSON(raw); err != nil {
		return nil, invalid.New("source_topic", "%s; name one topic, or a list of topics", err)
	}
	topic := regexp.MustCompile(`^[A-Za-z0-9._/:-]{1,249}$`)
	var topics []string
	for _, name := range given.Values() {
		switch {
		case name == "" || slices.Contains(topics, name):
		case !topic.MatchString(name):
			return nil, invalid.New("source_topic", "%q is not the name of a topic; use letters, digits and . _ - / : only", invalid.Clip(name))
		default:
			topics = append(topics, name)
		}
	}
	if len(topics) > maxTopics {
		return nil, invalid.New("source_topic", "there are %d topics; at most %d are told", len(topics), maxTopics)
	}
	return topics, nil
}

func parseMetadata(raw json.RawMessage) (*Metadata, error) {
	const field = "notification_metadata"
	if len(raw) == 0 || string(raw) == "null" {
		return nil, nil //nolint:nilnil // nobody is named
	}
	m := &Metadata{NotificationType: notificationTypes()[0], Category: categories()[0]}
	if err := json.Unmarshal(raw, m); err != nil {
		if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok && wrong.Field != "" {
			return nil, invalid.New(field+"."+wrong.Field, "it is a %s; give a text", wrong.Value)
		}
		return nil, invalid.New(field, "it cannot be read (%s); give an object with name, workflow_id and subscriber_ids", err)
	}
	return m, m.check(field + ".")
}

func (m *Metadata) check(prefix string) error {
	var errs []error
	refuse := func(field, format string, args ...any) {
		errs = append(errs, invalid.New(prefix+field, format, args...))
	}
	if m.Name == "" {
		refuse("name", "it is missing; give the name of the notification, such as bud-internal")
	}
	if !slices.Contains(notificationTypes(), m.NotificationType) {
		refuse("notification_type", "%q is none of %v; use one of them", invalid.Clip(m.NotificationType), notificationTypes())
	}
	if !slices.Contains(categories(), m.Category) {
		refuse("category", "%q is none of %v; use one of them", invalid.Clip(m.Category), categories())
	}
	for _, f := range []struct{ field, text string }{{"name", m.Name}, {"workflow_id", m.WorkflowID}, {"actor", m.Actor}} {
		if len(f.text) > maxText {
			refuse(f.field, "it has %d bytes; at most %d are taken", len(f.text), maxText)
		}
	}
	for _, f := range []struct {
		field string
		texts []string
	}{{"subscriber_ids", m.SubscriberIDs.Values()}, {"topic_keys", m.TopicKeys.Values()}} {
		if len(f.texts) > maxTexts {
			refuse(f.field, "there are %d of them; at most %d are taken", len(f.texts), maxTexts)
		}
		if slices.ContainsFunc(f.texts, func(s string) bool { return len(s) > maxText }) {
			refuse(f.field, "one of them has more than %d bytes; shorten it", maxText)
		}
	}
	return errors.Join(errs...)
}
