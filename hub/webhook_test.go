package hub_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub"
	"github.com/budecosystem/budcluster/hub/hubapi"
	"github.com/budecosystem/budcluster/hub/hubtest"
)

// A webhook is told by whichever replica is there, once, and soon: a commit
// wakes it, not the sweep.
func TestWebhookIsToldByAnyReplica(t *testing.T) {
	t.Parallel()
	one := hubtest.New(t, hubtest.With(func(c *hub.Config) { c.Dev = true }))
	two := one.Replica("hub-1")
	told := make(chan string, 10)
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var m struct{ Data hubapi.Event }
		_ = json.NewDecoder(r.Body).Decode(&m)
		told <- m.Data.Type + " " + m.Data.Message + " " + r.Header.Get("User-Agent")[:15]
	}))
	t.Cleanup(receiver.Close)
	_, err := one.Client.CreateWebhook(t.Context(), hubapi.CreateWebhookRequest{Name: "pager", URL: receiver.URL, Types: []string{"cluster.created"}})
	require.NoError(t, err)
	create := func(h *hubtest.Hub, name string) {
		began := time.Now()
		h.Create(name)
		require.Equal(t, "cluster.created cluster "+name+" was created budcluster-hub/", <-told)
		t.Logf("told after %s", time.Since(began))
	}
	create(two, "alpha")
	require.NoError(t, two.Stop())
	create(one, "beta")
	// The receiver knows of a delivery before the hub has written that it was made.
	require.EventuallyWithT(t, func(t *assert.CollectT) {
		sent, err := hubapi.Collect(one.Client.AllDeliveries(context.Background(), "pager", hubapi.DeliverySent))
		require.NoError(t, err)
		require.Len(t, sent, 2)
	}, time.Minute, 20*time.Millisecond)
	require.Empty(t, told)
}
