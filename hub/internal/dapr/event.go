package dapr

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/budecosystem/budcluster/internal/secret"
)

// Event is what the sidecar posts to the route of a subscription. The platform
// publishes its own envelope, so what it says may stand beside the attributes
// and not in data; Fields has it either way.
type Event struct {
	ID          string
	SpecVersion string
	Type        string
	Source      string
	Subject     string
	Time        time.Time // zero when it has none that can be read
	Topic       string
	PubSub      string
	TraceParent string
	// SourceTopic is where the sender wants to be answered; it sends one or a
	// list.
	SourceTopic []string
	// Fields are the members of data, and those beside the attributes. One beside
	// wins over its namesake in data.
	Fields map[string]json.RawMessage
	// Data is the event's data when that is no JSON object, else nil.
	Data json.RawMessage
}

// attributes are the members of an event that are not part of what it says.
// The same names within data are part of it.
func attributes() []string {
	return []string{
		"id", "specversion", "type", "source", "subject", "time", "datacontenttype", "dataschema", "data", "data_base64",
		"topic", "pubsubname", "traceid", "traceparent", "tracestate", "expiration", "source_topic",
	}
}

// ParseEvent reads an event. Only what makes it unusable is an error; an
// attribute of the wrong type is as none.
func ParseEvent(body []byte) (Event, error) {
	members := map[string]json.RawMessage{}
	if err := json.Unmarshal(body, &members); err != nil {
		return Event{}, fmt.Errorf("event: %w", shapeOf(err))
	}
	if members == nil {
		return Event{}, errors.New("event: it is null and not an object")
	}
	e := Event{Fields: map[string]json.RawMessage{}, SourceTopic: texts(members["source_topic"])}
	for name, into := range map[string]*string{
		"id": &e.ID, "specversion": &e.SpecVersion, "type": &e.Type, "source": &e.Source, "subject": &e.Subject,
		"topic": &e.Topic, "pubsubname": &e.PubSub, "traceparent": &e.TraceParent,
	} {
		_ = json.Unmarshal(members[name], into)
	}
	var at string
	if json.Unmarshal(members["time"], &at) == nil {
		e.Time, _ = time.Parse(time.RFC3339Nano, at)
	}
	e.readData(members)
	known := attributes()
	for name, value := range members {
		if !slices.Contains(known, name) {
			e.Fields[name] = value
		}
	}
	return e, nil
}

func (e *Event) readData(members map[string]json.RawMessage) {
	data := bytes.TrimSpace(members["data"])
	if len(data) == 0 || string(data) == "null" {
		var raw []byte
		if json.Unmarshal(members["data_base64"], &raw) != nil {
			return
		}
		data = bytes.TrimSpace(raw)
	}
	inner := map[string]json.RawMessage{}
	if json.Unmarshal(data, &inner) != nil || inner == nil {
		if json.Valid(data) {
			e.Data = data
		}
		return
	}
	e.Fields = inner
	if len(e.SourceTopic) == 0 {
		e.SourceTopic = texts(inner["source_topic"])
	}
}

// texts reads one text or a list of them.
func texts(value json.RawMessage) []string {
	var one string
	if json.Unmarshal(value, &one) == nil {
		if one == "" {
			return nil
		}
		return []string{one}
	}
	var several []string
	if json.Unmarshal(value, &several) != nil {
		return nil
	}
	return slices.DeleteFunc(several, func(s string) bool { return s == "" })
}

// Outcome is what a subscription's route answers: the sidecar then takes the
// message off the topic, brings it again, or sends it to the dead letters.
type Outcome string

// The outcomes.
const (
	Success Outcome = "SUCCESS" // done
	Retry   Outcome = "RETRY"   // bring it again
	Drop    Outcome = "DROP"    // nobody can do anything with it
)

// Answer writes an outcome.
func (o Outcome) Answer(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = fmt.Fprintf(w, `{"status":%q}`, string(o)) // who does not hear it brings the message again
}

// FromSidecar reports whether a request carries the token that the sidecar
// must present, APP_API_TOKEN on its side. Without a token everybody passes.
func FromSidecar(r *http.Request, token secret.String) bool {
	return token.IsZero() || token.Equal(secret.New(r.Header.Get(tokenHeader)))
}
