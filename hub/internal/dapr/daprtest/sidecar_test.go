package daprtest_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/internal/dapr"
	"github.com/budecosystem/budcluster/hub/internal/dapr/daprtest"
	"github.com/budecosystem/budcluster/hub/internal/pg/pgtest"
)

// TestSidecar: the client and the components of deploy/dapr, on a real daprd.
//
//nolint:paralleltest,tparallel // one store after the other: they share topics and settings
func TestSidecar(t *testing.T) {
	t.Parallel()
	for _, store := range []daprtest.Store{daprtest.Redis, daprtest.Postgres} {
		t.Run(string(store), func(t *testing.T) {
			app := daprtest.NewApp(daprtest.TopicPeers)
			sidecar := daprtest.Start(t, daprtest.SidecarConfig{Store: store, Database: pgtest.Empty(t), App: app})
			t.Run("Exercise", func(t *testing.T) {
				daprtest.Exercise(t, &daprtest.Harness{
					Client: sidecar.Client(t),
					SetConfiguration: func(t *testing.T, key, value string) {
						t.Helper()
						daprtest.SetConfiguration(t, key, value)
					},
					Updates: app.Updates(), Delivered: app.Delivered,
				})
			})
			require.Empty(t, app.Unexpected())
			differences(t, store, sidecar.Client(t))
			invoked(t, sidecar, app)
		})
	}
}

// differences are those of the stores that package dapr tells of.
func differences(t *testing.T, store daprtest.Store, c *dapr.Client) {
	t.Helper()
	put := func(w dapr.Write) error {
		w.Key = "differences"
		return c.Put(t.Context(), daprtest.StateStore, w)
	}
	require.NoError(t, put(dapr.Write{Value: json.RawMessage("1")}))
	got, err := c.Get(t.Context(), daprtest.StateStore, "differences")
	require.NoError(t, err)
	require.NoError(t, put(dapr.Write{}))
	late := put(dapr.Write{Value: json.RawMessage("2"), ETag: got.ETag})
	require.NoError(t, put(dapr.Write{}))
	require.NoError(t, put(dapr.Write{Value: json.RawMessage("3"), Create: true}))
	blind := put(dapr.Write{Value: json.RawMessage("4")})
	switch store {
	case daprtest.Redis:
		require.NoError(t, late)
		require.Error(t, blind)
	case daprtest.Postgres:
		require.ErrorIs(t, late, dapr.ErrConflict)
		require.NoError(t, blind)
	}
}

// invoked: callers by app-id, from the own sidecar and from another service's,
// reach the program with the sidecar's token, and get its status and words.
func invoked(t *testing.T, own *daprtest.Sidecar, app *daprtest.App) {
	t.Helper()
	peer := daprtest.Start(t, daprtest.SidecarConfig{Store: daprtest.Redis, AppID: "budapp"})
	for _, s := range []*daprtest.Sidecar{own, peer} {
		status, body := s.Invoke(t, daprtest.AppID, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/healthz", http.NoBody))
		require.Equal(t, http.StatusOK, status)
		require.JSONEq(t, "{}", string(body))
		status, _ = s.Invoke(t, daprtest.AppID, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/cluster/nowhere?x=1", strings.NewReader("{}")))
		require.Equal(t, http.StatusNotFound, status)
	}
	require.Equal(t, []string{"POST /cluster/nowhere?x=1", "POST /cluster/nowhere?x=1"}, app.Unexpected())
}
