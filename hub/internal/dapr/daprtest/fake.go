package daprtest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/internal/dapr"
	"github.com/budecosystem/budcluster/internal/secret"
)

// The names of the components that the fake has, and the real sidecars of this
// package too.
const (
	StateStore         = "statestore"
	PubSub             = "pubsub-redis"
	ConfigurationStore = "configstore"
	SecretStore        = "secretstore-local"
	AppID              = "budcluster"
)

// Token is what the sidecars of this package ask for.
const Token = "let-me-in-4711"

// Fake is a sidecar in memory. It keeps what Dapr keeps, checks ETags and the
// token, and remembers what was published.
type Fake struct {
	server *httptest.Server
	subscriptions

	mu        sync.Mutex // guards all below
	down      bool
	published []Published
	state     map[string]entry
	writes    int
	settings  map[string]string
	secrets   map[string]map[string]string
}

// Published is an event that the fake was given.
type Published struct {
	PubSub, Topic string
	// Event is as subscribers get it.
	Event map[string]any
	// ID, Source and Type are those that were given beside the event.
	ID, Source, Type string
}

// NewFake starts a sidecar for the time of the test. It posts changes of
// settings to app, the address of the program beside it; none if empty.
func NewFake(tb testing.TB, app string) *Fake {
	tb.Helper()
	f := &Fake{
		state: map[string]entry{}, settings: map[string]string{}, secrets: map[string]map[string]string{},
		subscriptions: subscriptions{app: app, keys: map[string][]string{}},
	}
	f.server = httptest.NewServer(f.routes())
	tb.Cleanup(f.server.Close)
	return f
}

// Address is where its HTTP API is.
func (f *Fake) Address() string { return f.server.Listener.Addr().String() }

// Client makes a client of it for the time of the test.
func (f *Fake) Client(tb testing.TB) *dapr.Client {
	tb.Helper()
	c, err := dapr.New(dapr.Config{Address: f.Address(), Token: secret.New(Token), Log: slog.New(slog.DiscardHandler)})
	require.NoError(tb, err)
	tb.Cleanup(c.Close)
	return c
}

// SetDown makes it answer that it is not ready, as a sidecar does whose
// components are away.
func (f *Fake) SetDown(down bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down = down
}

// Published lists what was published so far, in order.
func (f *Fake) Published() []Published {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.published)
}

// SetSecret puts a secret into the secret store.
func (f *Fake) SetSecret(name, value string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.secrets[name] = map[string]string{name: value}
}

// SetConfiguration changes a setting, and tells the program beside it if that
// has subscribed.
func (f *Fake) SetConfiguration(ctx context.Context, key, value string) error {
	f.mu.Lock()
	f.settings[key] = value
	f.mu.Unlock()
	return f.tell(ctx, key, value)
}

func (f *Fake) routes() http.Handler {
	mux := http.NewServeMux()
	for pattern, handle := range map[string]http.HandlerFunc{
		"GET /v1.0/healthz/outbound":                       func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) },
		"GET /v1.0/metadata":                               f.metadata,
		"POST /v1.0/publish/{pubsub}/{topic...}":           f.publish,
		"GET /v1.0/state/{store}/{key...}":                 f.read,
		"POST /v1.0/state/{store}":                         f.write,
		"DELETE /v1.0/state/{store}/{key...}":              f.remove,
		"GET /v1.0/configuration/{store}":                  f.configuration,
		"GET /v1.0/configuration/{store}/subscribe":        f.subscribe,
		"GET /v1.0/configuration/{store}/{id}/unsubscribe": f.unsubscribe,
		"GET /v1.0/secrets/{store}/{name}":                 f.readSecrets,
	} {
		mux.HandleFunc(pattern, handle)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		down := f.down
		f.mu.Unlock()
		switch {
		case down:
			refuse(w, http.StatusInternalServerError, "ERR_OUTBOUND_HEALTH_NOT_READY", "dapr outbound is not ready")
		case !strings.HasPrefix(r.URL.Path, "/v1.0/healthz") && r.Header.Get("dapr-api-token") != Token:
			http.Error(w, "invalid api token", http.StatusUnauthorized)
		default:
			mux.ServeHTTP(w, r)
		}
	})
}

// knows answers for a component that is not there.
func knows(w http.ResponseWriter, got, want string, status int, code string) bool {
	if got == want {
		return true
	}
	refuse(w, status, code, got+" is not configured")
	return false
}

func (f *Fake) metadata(w http.ResponseWriter, _ *http.Request) {
	type component struct {
		Name    string `json:"name"`
		Type    string `json:"type"`
		Version string `json:"version"`
	}
	give(w, map[string]any{
		"id": AppID, "runtimeVersion": "fake",
		"components": []component{
			{StateStore, "state.in-memory", "v1"},
			{PubSub, "pubsub.in-memory", "v1"},
			{ConfigurationStore, "configuration.in-memory", "v1"},
			{SecretStore, "secretstores.in-memory", "v1"},
		},
	})
}

func (f *Fake) publish(w http.ResponseWriter, r *http.Request) {
	if !knows(w, r.PathValue("pubsub"), PubSub, http.StatusNotFound, "ERR_PUBSUB_NOT_FOUND") {
		return
	}
	event := map[string]any{}
	if r.Header.Get("Content-Type") != "application/cloudevents+json" {
		refuse(w, http.StatusBadRequest, "ERR_FAKE", "the fake takes whole events only")
		return
	}
	if !take(w, r, &event) {
		return
	}
	for field, value := range map[string]string{"specversion": "1.0", "source": AppID, "type": "com.dapr.event.sent"} {
		if _, ok := event[field]; !ok {
			event[field] = value
		}
	}
	event["topic"], event["pubsubname"] = r.PathValue("topic"), PubSub
	query := r.URL.Query()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.published = append(f.published, Published{
		PubSub: PubSub, Topic: r.PathValue("topic"), Event: event,
		ID: query.Get("metadata.cloudevent.id"), Source: query.Get("metadata.cloudevent.source"), Type: query.Get("metadata.cloudevent.type"),
	})
	w.WriteHeader(http.StatusNoContent)
}

func (f *Fake) configuration(w http.ResponseWriter, r *http.Request) {
	if !knows(w, r.PathValue("store"), ConfigurationStore, http.StatusBadRequest, "ERR_CONFIGURATION_STORE_NOT_FOUND") {
		return
	}
	f.mu.Lock()
	settings := maps.Clone(f.settings)
	f.mu.Unlock()
	items := map[string]map[string]string{}
	for key, value := range settings {
		if keys := r.URL.Query()["key"]; len(keys) == 0 || slices.Contains(keys, key) {
			items[key] = map[string]string{"value": value}
		}
	}
	give(w, items)
}

func (f *Fake) readSecrets(w http.ResponseWriter, r *http.Request) {
	if !knows(w, r.PathValue("store"), SecretStore, http.StatusUnauthorized, "ERR_SECRET_STORE_NOT_FOUND") {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch name := r.PathValue("name"); {
	case name == "bulk":
		give(w, f.secrets)
	case f.secrets[name] != nil:
		give(w, f.secrets[name])
	default: // as the local stores do
		give(w, map[string]string{name: ""})
	}
}

func take(w http.ResponseWriter, r *http.Request, into any) bool {
	body, err := io.ReadAll(r.Body)
	if err == nil {
		err = json.NewDecoder(bytes.NewReader(body)).Decode(into)
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, "ERR_MALFORMED_REQUEST", err.Error())
		return false
	}
	return true
}

func give(w http.ResponseWriter, answer any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer)
}

func refuse(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `{"errorCode":%q,"message":%q}`, code, message)
}
