package notifytest

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
)

// App is one or more of the platform's services beside a sidecar, which brings
// them what is published to their topics. What one of them fails at does not
// come again, as it would to the real ones, but is kept for the test to look at.
type App struct {
	pubsub string
	topics map[string]http.Handler
	took   chan string

	mu     sync.Mutex // guards broken
	broken []string
}

// NewApp makes the program beside a sidecar; topics says who gets what.
func NewApp(pubsub string, topics map[string]http.Handler) *App {
	return &App{pubsub: pubsub, topics: topics, took: make(chan string, 1000)}
}

// Took gives a topic for each message that came.
func (a *App) Took() <-chan string { return a.took }

// Broken lists what the services failed at.
func (a *App) Broken() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.broken)
}

const events = "/events/"

// ServeHTTP answers the sidecar.
func (a *App) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	topic, isEvent := strings.CutPrefix(r.URL.Path, events)
	switch receiver := a.topics[topic]; {
	case isEvent && receiver != nil:
		a.give(topic, receiver, w, r)
	case r.URL.Path == "/dapr/subscribe":
		list := []map[string]string{}
		for topic := range a.topics {
			list = append(list, map[string]string{"pubsubname": a.pubsub, "topic": topic, "route": events + topic})
		}
		_ = json.NewEncoder(w).Encode(list) // of texts alone
	default:
		_, _ = io.WriteString(w, "{}")
	}
}

func (a *App) give(topic string, receiver http.Handler, w http.ResponseWriter, r *http.Request) {
	answer := &recorded{ResponseWriter: w, status: http.StatusOK}
	receiver.ServeHTTP(answer, r)
	if answer.status != http.StatusOK {
		a.mu.Lock()
		a.broken = append(a.broken, fmt.Sprintf("%s: %d %s", topic, answer.status, answer.text))
		a.mu.Unlock()
	}
	a.took <- topic
}

// recorded is an answer that shows its status, and hides it from the sidecar.
type recorded struct {
	http.ResponseWriter
	status int
	text   string
}

func (r *recorded) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(http.StatusOK)
}

func (r *recorded) Write(p []byte) (int, error) {
	r.text += string(p)
	return r.ResponseWriter.Write(p)
}
