package dapr_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/internal/dapr"
	"github.com/budecosystem/budcluster/hub/internal/dapr/daprtest"
	"github.com/budecosystem/budcluster/internal/secret"
)

const token = "s3cr3t-token"

// client is one of a sidecar that answers everything but the first question,
// whether it is ready, by handle.
func client(t *testing.T, handle http.HandlerFunc) *dapr.Client {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1.0/healthz/outbound" {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		handle(w, r)
	}))
	t.Cleanup(server.Close)
	c, err := dapr.New(dapr.Config{Address: server.Listener.Addr().String(), Token: secret.New(token), Log: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	log := slog.New(slog.DiscardHandler)
	for name, cfg := range map[string]dapr.Config{
		"no port":          {Address: "127.0.0.1", Log: log},
		"no host":          {Address: ":3500", Log: log},
		"a URL":            {Address: "http://127.0.0.1:3500/", Log: log},
		"token with space": {Address: "127.0.0.1:3500", Log: log, Token: secret.New("a b")},
		"no logger":        {Address: "127.0.0.1:3500"},
	} {
		_, err := dapr.New(cfg)
		require.Error(t, err, name)
		require.NotContains(t, err.Error(), "a b", name)
	}
}

func TestEveryCallCarriesTheToken(t *testing.T) {
	t.Parallel()
	asked := 0
	c := client(t, func(w http.ResponseWriter, r *http.Request) {
		asked++
		if r.Header.Get("dapr-api-token") != token {
			t.Errorf("%s %s has no token", r.Method, r.URL.Path)
		}
		w.WriteHeader(http.StatusNoContent)
	})
	require.NoError(t, c.Publish(t.Context(), dapr.Message{PubSub: "p", Topic: "t", Event: json.RawMessage("{}")}))
	_, err := c.Get(t.Context(), "s", "k")
	require.NoError(t, err)
	require.NoError(t, c.Put(t.Context(), "s", dapr.Write{Key: "k"}))
	require.NoError(t, c.Put(t.Context(), "s", dapr.Write{Key: "k", Value: json.RawMessage("1")}))
	_, err = c.Configuration(t.Context(), "s")
	require.NoError(t, err)
	_, err = c.Secrets(t.Context(), "s")
	require.NoError(t, err)
	_, err = c.Metadata(t.Context())
	require.NoError(t, err)
	require.Equal(t, 7, asked)
}

// TestRefusals: what the sidecar says reaches the caller, but neither the token
// nor more than a line.
func TestRefusals(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		status   int
		body     string
		code     string
		contains string
	}{
		"Dapr's form":      {400, `{"errorCode":"ERR_X","message":"no such store"}`, "ERR_X", "no such store"},
		"plain text":       {502, "bad\ngateway", "", "bad gateway"},
		"nothing":          {500, "", "", "500 Internal Server Error"},
		"wrong token":      {401, "invalid token " + token, "", "dapr.apiTokenFile must hold the token"},
		"not in scope":     {403, `{"errorCode":"ERR_PUBSUB_FORBIDDEN","message":"topic not allowed"}`, "ERR_PUBSUB_FORBIDDEN", "scopes must name this app"},
		"too large for it": {413, "", "", "--max-body-size"},
		"a redirect":       {302, "", "", "302 Found"},
		"long":             {500, strings.Repeat("ä", 100_000), "", "…"},
		"not UTF-8":        {500, "a\xff\xfe", "", "a�"},
		"JSON of others":   {500, `{"error":"x"}`, "", `{"error":"x"}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := client(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Location", "http://127.0.0.1:1/")
				w.WriteHeader(c.status)
				_, _ = io.WriteString(w, c.body)
			})
			err := client.Publish(t.Context(), dapr.Message{PubSub: "p", Topic: "orders", Event: json.RawMessage("{}")})
			var refused *dapr.Error
			require.ErrorAs(t, err, &refused)
			require.Equal(t, c.status, refused.Status)
			require.Equal(t, c.code, refused.Code)
			require.ErrorContains(t, err, "publish to topic orders of pubsub p: the sidecar answered ")
			require.ErrorContains(t, err, c.contains)
			require.NotContains(t, err.Error(), token)
			require.NotContains(t, err.Error(), "\n")
			require.Less(t, len(err.Error()), 700)
			require.NotErrorIs(t, err, dapr.ErrUnreachable)
		})
	}
}

// TestAnswersThatAreNoAnswer: errors name the place and not what stood there,
// which may be a secret.
func TestAnswersThatAreNoAnswer(t *testing.T) {
	t.Parallel()
	for _, body := range []string{`{"NAME":{"NAME":1234567}}`, `{"NAME":"hunter2"}`, `hunter2`, `["hunter2"]`} {
		c := client(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) })
		_, err := c.Secrets(t.Context(), "s")
		require.ErrorContains(t, err, "read secret store s: read the sidecar's answer: ", body)
		require.NotContains(t, err.Error(), "hunter2")
		require.NotContains(t, err.Error(), "1234567")
	}
}

func TestWhatIsNotSent(t *testing.T) {
	t.Parallel()
	c := client(t, func(http.ResponseWriter, *http.Request) { t.Error("it was sent") })
	for name, m := range map[string]dapr.Message{
		"no pubsub":       {Topic: "t", Event: json.RawMessage("{}")},
		"no topic":        {PubSub: "p", Event: json.RawMessage("{}")},
		"no event":        {PubSub: "p", Topic: "t"},
		"not JSON":        {PubSub: "p", Topic: "t", Event: json.RawMessage("{")},
		"not an object":   {PubSub: "p", Topic: "t", Event: json.RawMessage("[]")},
		"more than taken": {PubSub: "p", Topic: "t", Event: json.RawMessage(`{"a":"` + strings.Repeat("x", dapr.MaxBody) + `"}`)},
	} {
		require.Error(t, c.Publish(t.Context(), m), name)
	}
	for name, w := range map[string]dapr.Write{
		"no key":               {Value: json.RawMessage("1")},
		"an app's separator":   {Key: "a||b", Value: json.RawMessage("1")},
		"not JSON":             {Key: "k", Value: json.RawMessage("{")},
		"create with an ETag":  {Key: "k", Value: json.RawMessage("1"), Create: true, ETag: "1"},
		"a number it rounds":   {Key: "k", Value: json.RawMessage(`{"a":[9007199254740993]}`)},
		"a very large number":  {Key: "k", Value: json.RawMessage("1" + strings.Repeat("1", 400))},
		"remove without a key": {},
	} {
		require.Error(t, c.Put(t.Context(), "s", w), name)
	}
}

func TestWholeNumbersThatAreKept(t *testing.T) {
	t.Parallel()
	c := client(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	for _, value := range []string{"0", "-0", "-9007199254740992", "9007199254740994", "1e400", "0.1", `"9007199254740993"`} {
		require.NoError(t, c.Put(t.Context(), "s", dapr.Write{Key: "k", Value: json.RawMessage(value)}), value)
	}
}

// TestUnreachable: nobody listens, and then somebody hangs up.
func TestUnreachable(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := ln.Addr().String()
	require.NoError(t, ln.Close())
	c, err := dapr.New(dapr.Config{Address: address, StartTimeout: 100 * time.Millisecond, Log: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	_, err = c.Get(t.Context(), "s", "k")
	require.ErrorIs(t, err, dapr.ErrUnreachable)
	require.ErrorContains(t, err, "read k from state store s: the sidecar at "+address+" was not ready in 100ms")
	require.ErrorContains(t, err, "connection refused")

	hangsUp := client(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	_, err = hangsUp.Get(t.Context(), "s", "k")
	require.ErrorIs(t, err, dapr.ErrUnreachable)

	gaveUp, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = hangsUp.Get(gaveUp, "s", "k")
	require.ErrorIs(t, err, context.Canceled)
	require.NotErrorIs(t, err, dapr.ErrUnreachable)
}

// TestStartsTogether: the hub is there before its sidecar, and the sidecar
// before its components. The first call waits for both.
func TestStartsTogether(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		c, err := dapr.New(dapr.Config{
			Address: "sidecar:3500", Log: slog.New(slog.DiscardHandler),
			Dial: func(context.Context, string, string) (net.Conn, error) {
				switch age := time.Since(began); {
				case age < 10*time.Second:
					return nil, errors.New("connection refused")
				default:
					ours, theirs := net.Pipe()
					go serveOnce(theirs, age >= 20*time.Second)
					return ours, nil
				}
			},
		})
		require.NoError(t, err)
		got, err := c.Get(t.Context(), "s", "k")
		require.NoError(t, err)
		require.JSONEq(t, "1", string(got.Value))
		require.InDelta(t, 20, time.Since(began).Seconds(), 1.1)
	})
}

// serveOnce answers one request on a connection.
func serveOnce(conn net.Conn, ready bool) {
	buffer := make([]byte, 4096)
	n, _ := conn.Read(buffer)
	switch {
	case !ready:
		_, _ = io.WriteString(conn, "HTTP/1.1 500 Internal Server Error\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
	case strings.Contains(string(buffer[:n]), "/healthz/outbound"):
		_, _ = io.WriteString(conn, "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
	default:
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\n1")
	}
	_ = conn.Close()
}

func TestTimeoutSaysWhose(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, err := dapr.New(dapr.Config{
			Address: "sidecar:3500", Log: slog.New(slog.DiscardHandler), Timeout: time.Second, StartTimeout: 5 * time.Second,
			Dial: func(context.Context, string, string) (net.Conn, error) {
				ours, theirs := net.Pipe()
				go func() { _, _ = io.Copy(io.Discard, theirs) }() // and never answers
				return ours, nil
			},
		})
		require.NoError(t, err)
		_, err = c.Metadata(t.Context())
		require.ErrorIs(t, err, dapr.ErrUnreachable)
		require.ErrorContains(t, err, "the sidecar did not answer in 1s")
	})
}

// TestFollowKeepsTheLastSettings: a store that is away changes nothing, and
// what was set meanwhile is heard when it is back.
func TestFollowKeepsTheLastSettings(t *testing.T) {
	t.Parallel()
	fake := daprtest.NewFake(t, "")
	require.NoError(t, fake.SetConfiguration(t.Context(), "a", "1"))
	ctx, stop := context.WithCancel(t.Context())
	wake, heard, ended := make(chan struct{}), make(chan map[string]string, 10), make(chan error, 1)
	go func() {
		ended <- fake.Client(t).Follow(ctx, dapr.FollowConfig{
			Store: daprtest.ConfigurationStore, Wake: wake,
			Changed: func(_ context.Context, values map[string]string) { heard <- values },
		})
	}()
	require.Equal(t, map[string]string{"a": "1"}, daprtest.Await(t, heard, "the first look"))
	fake.SetDown(true)
	wake <- struct{}{}
	wake <- struct{}{} // taken when the first was dealt with
	fake.SetDown(false)
	require.NoError(t, fake.SetConfiguration(t.Context(), "a", "2"))
	wake <- struct{}{}
	require.Equal(t, map[string]string{"a": "2"}, daprtest.Await(t, heard, "the change"))
	wake <- struct{}{}
	wake <- struct{}{}
	stop()
	require.NoError(t, daprtest.Await(t, ended, "the end of Follow"))
	require.Empty(t, heard, "what has not changed is not told")
}
