package api_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/hubapi"
)

// A webhook from its creation to its end, on the real rules and store: what it
// is sent is the event as /v1/events shows it.
func TestWebhookOnPostgres(t *testing.T) {
	t.Parallel()
	ctx, r := t.Context(), newReal(t)
	c := r.client
	status, got := http.StatusTeapot, make(chan []byte, 10)
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		got <- body
		w.WriteHeader(status)
	}))
	t.Cleanup(receiver.Close)

	made, err := c.CreateWebhook(ctx, hubapi.CreateWebhookRequest{Name: "pager", URL: receiver.URL + "/in", Types: []string{"cluster.created"}})
	require.NoError(t, err)
	require.Regexp(t, `^whsec_[A-Za-z0-9+/]{43}=$`, made.Secret)
	_, err = c.CreateWebhook(ctx, hubapi.CreateWebhookRequest{Name: "pager", URL: "https://example.com/"})
	require.True(t, hubapi.IsConflict(err))
	d, err := c.TestWebhook(ctx, "pager")
	require.NoError(t, err)
	require.Equal(t, hubapi.DeliveryDead, d.Status)
	require.Equal(t, http.StatusTeapot, d.Response)
	<-got

	_, err = c.CreateCluster(ctx, hubapi.CreateClusterRequest{Name: "edge"})
	require.NoError(t, err)
	require.NoError(t, r.webhooks.Turn(ctx))
	var sent struct {
		Type string
		Data json.RawMessage
	}
	require.NoError(t, json.Unmarshal(<-got, &sent))
	require.Equal(t, "cluster.created", sent.Type)
	events, err := c.Events(ctx, hubapi.EventQuery{Types: []string{"cluster.created"}})
	require.NoError(t, err)
	shown, err := json.Marshal(events.Items[0])
	require.NoError(t, err)
	require.JSONEq(t, string(shown), string(sent.Data))

	w, err := c.Webhook(ctx, made.Webhook.ID)
	require.NoError(t, err)
	require.Positive(t, w.Failures, "one, or two when the pause between them was short by chance")
	require.NotNil(t, w.NextAt)
	require.Equal(t, "the receiver answered 418", w.Error)
	failing, err := hubapi.Collect(c.AllDeliveries(ctx, "pager", hubapi.DeliveryFailing))
	require.NoError(t, err)
	require.Len(t, failing, 1)
	status = http.StatusOK
	d, err = c.Redeliver(ctx, "pager", failing[0].EventID)
	require.NoError(t, err)
	require.Equal(t, hubapi.DeliverySent, d.Status)
	require.Equal(t, w.Failures+1, d.Attempts)

	all, err := c.Webhooks(ctx)
	require.NoError(t, err)
	require.Len(t, all.Items, 1)
	require.NoError(t, c.DeleteWebhook(ctx, "pager"))
	_, err = c.Webhook(ctx, "pager")
	require.True(t, hubapi.IsNotFound(err))
}
