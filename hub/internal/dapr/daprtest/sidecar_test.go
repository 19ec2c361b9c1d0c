package daprtest_test

import (
	"encoding/json"
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
