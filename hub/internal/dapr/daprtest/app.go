package daprtest

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/budecosystem/budcluster/hub/internal/dapr"
	"github.com/budecosystem/budcluster/internal/secret"
)

// App is the program beside a sidecar: it subscribes to topics, and keeps what
// is posted to it and what deploy/dapr subscribes the hub to.
type App struct {
	topics  []string
	updates chan []byte

	mu     sync.Mutex // guards events, others
	events map[string]chan []byte
	others []string // requests that it did not expect
}

// NewApp makes one that subscribes to topics.
func NewApp(topics ...string) *App {
	a := &App{topics: topics, updates: make(chan []byte, 100), events: map[string]chan []byte{}}
	for _, topic := range append([]string{TopicOwn}, topics...) {
		a.events[topic] = make(chan []byte, 1000)
	}
	return a
}

// Updates are the changes of settings that were posted.
func (a *App) Updates() <-chan []byte { return a.updates }

// Delivered waits for the next event of a topic.
func (a *App) Delivered(t *testing.T, topic string) []byte {
	t.Helper()
	return Await(t, a.events[topic], "an event of topic "+topic)
}

// Unexpected lists requests without the token, or for which there is no route.
func (a *App) Unexpected() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]string(nil), a.others...)
}

// ServeHTTP answers the sidecar.
func (a *App) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	switch topic, isEvent := strings.CutPrefix(r.URL.Path, "/events/"); {
	case !dapr.FromSidecar(r, secret.New(Token)):
		a.unexpected("without the token: " + r.Method + " " + r.URL.Path)
		http.Error(w, "no", http.StatusForbidden)
	case r.URL.Path == "/dapr/subscribe":
		give(w, a.subscriptions())
	case r.URL.Path == "/notifications": // deploy/dapr subscribes it to this topic
		a.take(w, TopicOwn, body)
	case r.URL.Path == "/dapr/config", r.URL.Path == "/healthz":
		give(w, map[string]string{})
	case strings.HasPrefix(r.URL.Path, "/configuration/"):
		a.updates <- body
		give(w, map[string]string{})
	case isEvent:
		a.take(w, topic, body)
	default:
		a.unexpected(r.Method + " " + r.URL.RequestURI())
		http.NotFound(w, r)
	}
}

// take keeps an event.
func (a *App) take(w http.ResponseWriter, topic string, body []byte) {
	events, ok := a.events[topic]
	if !ok {
		a.unexpected("an event of topic " + topic)
		dapr.Drop.Answer(w)
		return
	}
	events <- body
	dapr.Success.Answer(w)
}

func (a *App) subscriptions() json.RawMessage {
	type subscription struct {
		PubSub string `json:"pubsubname"`
		Topic  string `json:"topic"`
		Route  string `json:"route"`
	}
	list := make([]subscription, 0, len(a.topics))
	for _, topic := range a.topics {
		list = append(list, subscription{PubSub, topic, "/events/" + topic})
	}
	raw, _ := json.Marshal(list) // of texts alone: cannot fail
	return raw
}

func (a *App) unexpected(what string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.others = append(a.others, what)
}
