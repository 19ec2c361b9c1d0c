package hub_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub"
	"github.com/budecosystem/budcluster/hub/hubtest"
	"github.com/budecosystem/budcluster/hub/internal/dapr/daprtest"
	"github.com/budecosystem/budcluster/hub/internal/pg/pgtest"
)

// The secret store's user is the one that the hub has in its database, from its
// first connection on, and neither it nor the password is shown. The database
// asks for the password.
func TestDatabaseLoginFromTheSecretStore(t *testing.T) {
	t.Parallel()
	const password = "canary-9f0b"
	for name, keep := range map[string]func(t *testing.T, role string, c *hub.Dapr){
		"each of its own": func(t *testing.T, role string, c *hub.Dapr) {
			t.Helper()
			fake := daprtest.NewFake(t, "")
			fake.SetSecret("PSQL_USER", role)
			fake.SetSecret("PSQL_PASSWORD", password)
			c.HTTPAddress, c.SecretStore = fake.Address(), daprtest.SecretStore
		},
		"one secret of a real sidecar": func(t *testing.T, role string, c *hub.Dapr) {
			t.Helper()
			resources := t.TempDir()
			secrets := filepath.Join(resources, "secrets.json")
			require.NoError(t, os.WriteFile(secrets, fmt.Appendf(nil, `{"hub-database": {"PSQL_USER": %q, "PSQL_PASSWORD": %q}}`, role, password), 0o600))
			require.NoError(t, os.WriteFile(filepath.Join(resources, "login.yaml"), fmt.Appendf(nil, secretsOfMany, secrets), 0o600))
			sidecar := daprtest.Start(t, daprtest.SidecarConfig{Store: daprtest.Redis, AppID: "hub-login", Resources: resources})
			c.HTTPAddress, c.GRPCAddress = sidecar.Forward(t)
			c.AppID, c.SecretStore, c.SecretName = "hub-login", "login", "hub-database"
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			token := filepath.Join(t.TempDir(), "token")
			require.NoError(t, os.WriteFile(token, []byte(daprtest.Token), 0o600))
			role := "rotated_" + strings.ReplaceAll(uuid.NewString(), "-", "")
			var url string
			h := hubtest.New(t, hubtest.With(func(c *hub.Config) {
				url = c.DatabaseURL.Reveal()
				_, err := pgtest.Pool(t, url).Exec(t.Context(), "CREATE ROLE "+role+" SUPERUSER LOGIN PASSWORD '"+password+"' IN ROLE "+pgtest.Asked)
				require.NoError(t, err)
				c.Dapr.Enabled, c.Dapr.PubSub, c.Dapr.StateStore = true, daprtest.PubSub, daprtest.StateStore
				c.Dapr.APITokenFile, c.Dapr.AppTokenFile = token, token
				keep(t, role, &c.Dapr)
			}))
			requireAsked(t, url, role)
			var connections int
			require.NoError(t, pgtest.Pool(t, url).QueryRow(t.Context(),
				"SELECT count(*) FROM pg_stat_activity WHERE usename = $1 AND application_name = 'budcluster-hub'", role).Scan(&connections))
			require.Positive(t, connections)
			status, text := platformTry(t, h, http.MethodGet, "/sync/secrets", "", nil)
			require.Equal(t, http.StatusOK, status)
			require.Contains(t, text, "2/2 secret(s) synced.")
			require.NotContains(t, h.Log.String()+text, password)
		})
	}
}

// secretsOfMany is a store of secrets that have several values each, as those of
// Kubernetes do.
const secretsOfMany = `apiVersion: dapr.io/v1alpha1
kind: Component
metadata:
  name: login
spec:
  type: secretstores.local.file
  version: v1
  metadata:
    - {name: secretsFile, value: %q}
    - {name: multiValued, value: "true"}
`

// requireAsked requires that the database does not take just any password.
func requireAsked(t *testing.T, url, role string) {
	t.Helper()
	cfg, err := pgx.ParseConfig(url)
	require.NoError(t, err)
	cfg.User, cfg.Password = role, "a guess"
	_, err = pgx.ConnectConfig(t.Context(), cfg)
	require.ErrorContains(t, err, "password authentication failed")
}
