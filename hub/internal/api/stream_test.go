package api_test

import (
	"bufio"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/apitest"
	"github.com/budecosystem/budcluster/hub/hubapi"
	"github.com/budecosystem/budcluster/hub/internal/event"
)

// frames reads a stream, one frame after the other, each as its lines.
func frames(t *testing.T, resp *http.Response) func() []string {
	t.Helper()
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.Equal(t, "text/event-stream", resp.Header.Get("Content-Type"))
	lines := bufio.NewScanner(resp.Body)
	return func() []string {
		var out []string
		for lines.Scan() && lines.Text() != "" {
			out = append(out, lines.Text())
		}
		return out
	}
}

func decode(t *testing.T, frame []string) hubapi.Event {
	t.Helper()
	require.Len(t, frame, 2, "%q", frame)
	var e hubapi.Event
	require.NoError(t, json.Unmarshal([]byte(strings.TrimPrefix(frame[1], "data: ")), &e))
	return e
}

func TestStreamGivesEventsInOrderAndGoesOn(t *testing.T) {
	t.Parallel()
	h := apitest.New(t, apitest.Options{})
	id := h.AddCluster("edge")
	other := h.AddCluster("other")
	emit := func(subject string) {
		h.Emit(event.Event{Type: event.NodeChanged, ClusterID: other, Subject: "not this cluster"})
		h.Emit(event.Event{Type: event.NodeAdded, ClusterID: id, Subject: "not this type"})
		h.Emit(event.Event{Type: event.NodeChanged, ClusterID: id, Subject: subject, Message: "two\nlines"})
	}
	const query = "/v1/events/stream?cluster=edge&type=node.changed"
	emit("a")
	next := frames(t, call(t, h, "GET", query, "", asAdmin()...))
	require.Equal(t, []string{": after 0", "id: 0", "retry: 1000"}, next())
	require.Equal(t, "a", decode(t, next()).Subject)
	emit("b")
	got := decode(t, next())
	require.Equal(t, "b", got.Subject)
	require.Equal(t, "two\nlines", got.Message)

	again := frames(t, call(t, h, "GET", query+"&after=now", "", asAdmin("Last-Event-ID: 3")...))
	again()
	require.Equal(t, "b", decode(t, again()).Subject, "Last-Event-ID stands before after")
	now := frames(t, call(t, h, "GET", query+"&after=now", "", asAdmin()...))
	require.Equal(t, "id: 6", now()[1])
	emit("c")
	require.Equal(t, "c", decode(t, now()).Subject)
}

func TestStreamSaysThatItLives(t *testing.T) {
	t.Parallel()
	h := apitest.New(t, apitest.Options{Heartbeat: time.Millisecond})
	next := frames(t, call(t, h, "GET", "/v1/events/stream", "", asAdmin()...))
	next()
	for range 3 {
		require.Equal(t, []string{": alive"}, next())
	}
}

// A hub that stops must not wait for streams, which never end by themselves;
// requests that are being answered may finish.
func TestServeEndsStreams(t *testing.T) {
	t.Parallel()
	h := apitest.New(t, apitest.Options{})
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- h.Server.Serve(ctx, ln, nil) }()
	h.URL = "http://" + ln.Addr().String()
	next := frames(t, call(t, h, "GET", "/v1/events/stream", "", asAdmin()...))
	next()
	require.Equal(t, 1, h.Streams())
	stop()
	require.Equal(t, []string{": the hub stops; come back"}, next())
	require.Empty(t, next())
	require.NoError(t, <-served)
	require.Zero(t, h.Streams())
}
