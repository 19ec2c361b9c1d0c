package hub_test

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/internal/dapr"
	"github.com/budecosystem/budcluster/hub/internal/dapr/daprtest"
)

// sidecarSide is what the platform's services and the sidecar have of the hub
// besides calls: what it subscribes to, its bindings, where it says that it is,
// its settings, and the token at the door.
func (p *platform) sidecarSide(t *testing.T) {
	t.Helper()
	p.wasAsked("GET /dapr/subscribe 200")
	p.wasAsked("GET /dapr/config 200")
	for _, route := range bindings() {
		p.wasAsked("OPTIONS " + route + " 200")
		p.wasAsked("POST " + route + " 200")
	}
	require.NoError(t, p.budapp.Client(t).Publish(t.Context(), dapr.Message{
		PubSub: daprtest.PubSub, Topic: daprtest.TopicOwn, ID: "1", Source: "budapp", Type: "notification", Event: json.RawMessage(`{"type": "notification", "payload": {}}`),
	}))
	p.wasAsked("POST /notifications 200")

	for path, want := range map[string]string{
		"health": "ack", "register": "Service registration successful.", "sync/configurations": "0/1 configuration(s) synced.", "sync/secrets": "1/2 secret(s) synced.",
	} {
		p.succeeds(path, want)
	}
	state, err := p.others.Client(t).Get(t.Context(), daprtest.StateStore, "__metadata__budcluster")
	require.NoError(t, err)
	require.JSONEq(t, `{"app_name": "budcluster", "configstore": "configstore", "secretstore": "secretstore-local", "statestore": "statestore", "pubsub": "pubsub-redis",
		"topic": "budClusterMessages", "deadletter": "poisonMessages", "crypto": null}`, string(state.Value))

	// A setting comes true without anybody asking. The sidecar may miss a change
	// right after it was asked to say so, hence again and again.
	follows := func(value string, want slog.Level) {
		p.until("the log's level follows "+value, func() bool {
			daprtest.SetConfiguration(t, "budcluster_DEBUG", value)
			return p.h.Level.Level() == want
		})
	}
	follows("true", slog.LevelDebug)
	follows("false", slog.LevelInfo)
	p.succeeds("sync/configurations", "1/1 configuration(s) synced.")
	p.door(t)
}

func (p *platform) succeeds(path, message string) {
	p.t.Helper()
	status, raw := p.send(call{method: http.MethodGet, path: path})
	var a answer
	require.NoError(p.t, json.Unmarshal(raw, &a), "%s", raw)
	require.Equal(p.t, http.StatusOK, status, "%s: %s", path, raw)
	require.Equal(p.t, "info", a.at(p.t, "object"))
	require.Equal(p.t, message, a.at(p.t, "message"))
}

// door: who does not come through the sidecar is not let in.
func (p *platform) door(t *testing.T) {
	t.Helper()
	for _, token := range []string{"", "let-me-out", daprtest.Token + "1"} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.h.PlatformURL+"/health", nil)
		require.NoError(t, err)
		r.Header.Set("dapr-api-token", token)
		response, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		var a answer
		require.NoError(t, json.NewDecoder(response.Body).Decode(&a))
		require.NoError(t, response.Body.Close())
		require.Equal(t, http.StatusUnauthorized, response.StatusCode)
		require.Equal(t, "error", a.at(t, "object"))
		require.NotContains(t, a.at(t, "message"), daprtest.Token)
	}
}
