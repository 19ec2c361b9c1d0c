package notifytest

import (
	"errors"
	"net/http"
	"sync"
)

// People is the service that tells people.
type People struct {
	mu   sync.Mutex // guards told
	told map[string][]string
}

// NewPeople makes a service that has told nobody.
func NewPeople() *People { return &People{told: map[string][]string{}} }

// Told lists what a subscriber was told.
func (p *People) Told(subscriber string) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string{}, p.told[subscriber]...)
}

// ServeHTTP is its route for messages.
func (p *People) ServeHTTP(w http.ResponseWriter, r *http.Request) { serve(w, r, p.Handle) }

// Handle takes one message, which must name somebody.
func (p *People) Handle(body []byte) error {
	r, err := read(body)
	if err != nil {
		return err
	}
	if text(r.Type) != "notification" {
		return errors.New("422: type: it is no notification")
	}
	var names []string
	switch ids := r.SubscriberIDs.(type) {
	case string:
		names = []string{ids}
	case []any:
		for _, one := range ids {
			if name, ok := one.(string); ok {
				names = append(names, name)
			}
		}
	}
	if len(names) == 0 && r.TopicKeys == nil && !r.isType("broadcast") {
		return errors.New("422: subscriber_ids is required for event notifications")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, name := range names {
		p.told[name] = append(p.told[name], text(r.Payload.Content.Title))
	}
	return nil
}
