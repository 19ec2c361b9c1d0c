package hub_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub"
	"github.com/budecosystem/budcluster/hub/hubtest"
	"github.com/budecosystem/budcluster/hub/internal/dapr/daprtest"
	"github.com/budecosystem/budcluster/hub/internal/pg/pgtest"
)

// The secret store's user is the one that the hub has in its database, from its
// first connection on, and neither it nor the password is shown.
func TestDatabaseLoginFromTheSecretStore(t *testing.T) {
	t.Parallel()
	fake := daprtest.NewFake(t, "")
	token := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(token, []byte(daprtest.Token), 0o600))
	role := "rotated_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	var url string
	h := hubtest.New(t, hubtest.With(func(c *hub.Config) {
		url = c.DatabaseURL.Reveal()
		admin := pgtest.Pool(t, url)
		_, err := admin.Exec(t.Context(), "CREATE ROLE "+role+" SUPERUSER LOGIN PASSWORD 'canary-9f0b'")
		require.NoError(t, err)
		fake.SetSecret("PSQL_USER", role)
		fake.SetSecret("PSQL_PASSWORD", "canary-9f0b")
		c.Dapr.Enabled, c.Dapr.HTTPAddress, c.Dapr.PubSub, c.Dapr.StateStore = true, fake.Address(), daprtest.PubSub, daprtest.StateStore
		c.Dapr.APITokenFile, c.Dapr.AppTokenFile, c.Dapr.SecretStore = token, token, daprtest.SecretStore
	}))
	var connections int
	require.NoError(t, pgtest.Pool(t, url).QueryRow(t.Context(),
		"SELECT count(*) FROM pg_stat_activity WHERE usename = $1 AND application_name = 'budcluster-hub'", role).Scan(&connections))
	require.Positive(t, connections)
	status, text := platformTry(t, h, http.MethodGet, "/sync/secrets", "", nil)
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, text, "2/2 secret(s) synced.")
	require.NotContains(t, h.Log.String()+text, "canary-9f0b")
}
