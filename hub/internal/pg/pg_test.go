package pg_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/internal/pg"
	"github.com/budecosystem/budcluster/hub/internal/pg/pgtest"
	"github.com/budecosystem/budcluster/internal/secret"
	"github.com/budecosystem/budcluster/internal/testutil"
)

func TestOpenNeverShowsThePassword(t *testing.T) {
	t.Parallel()
	var seen strings.Builder
	for _, url := range []string{
		"",
		"postgres://user:hunter2@host:port/db",
		"postgres://user:hunter2@127.0.0.1:1/db?sslmode=nonsense",
		"mysql://user:hunter2@host/db",
		"postgres://user:hunter2@127.0.0.1:1/db?sslmode=disable&connect_timeout=2",
		"postgres://user:hunter2@127.0.0.1:1/db?sslmode=verify-full&sslrootcert=/does/not/exist",
	} {
		_, err := pg.Open(t.Context(), url)
		require.Error(t, err)
		require.NotContains(t, err.Error(), "hunter2")
		fmt.Fprintln(&seen, err)
	}
	testutil.Golden(t, "open", []byte(seen.String()))
}

// A server without TLS must not get the password of a client that asks for it.
func TestTLSIsHonoured(t *testing.T) {
	t.Parallel()
	server, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, server.Close()) }()
	asked := make(chan []byte, 1)
	go func() {
		conn, err := server.Accept()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		request := make([]byte, 8)
		_, _ = io.ReadFull(conn, request)
		asked <- request
		_, _ = conn.Write([]byte("N"))
	}()
	_, err = pg.Open(t.Context(), fmt.Sprintf("postgres://user:hunter2@%s/db?sslmode=require", server.Addr()))
	require.ErrorContains(t, err, "server refused TLS connection")
	require.Equal(t, uint32(80877103), binary.BigEndian.Uint32((<-asked)[4:]), "the first thing it says is SSLRequest")
}

// A login that changes is that of the connections that are made from then on;
// those that are open stay.
func TestLoginOfNewConnections(t *testing.T) {
	t.Parallel()
	url := pgtest.Empty(t)
	admin := pgtest.Pool(t, url)
	role := "rotated_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	_, err := admin.Exec(t.Context(), "CREATE ROLE "+role+" LOGIN PASSWORD 'hunter2'")
	require.NoError(t, err)
	t.Cleanup(func() {
		_, err := admin.Exec(context.Background(), "DROP ROLE "+role)
		require.NoError(t, err)
	})
	var user, password secret.String
	pool, err := pg.OpenAs(t.Context(), url, func() (secret.String, secret.String) { return user, password })
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	who := func() (name string) {
		require.NoError(t, pool.QueryRow(t.Context(), "SELECT current_user").Scan(&name))
		return name
	}
	first := who()
	require.NotEqual(t, role, first)
	user, password = secret.New(role), secret.New("hunter2")
	require.Equal(t, first, who())
	pool.Reset()
	require.Equal(t, role, who())
}

func TestTimesAreUTC(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.Empty(t))
	var zone string
	require.NoError(t, pool.QueryRow(t.Context(), "SHOW timezone").Scan(&zone))
	require.Equal(t, pgtest.Zone, zone)
	want := time.Date(2026, 11, 23, 23, 30, 0, 0, time.UTC)
	var got time.Time
	require.NoError(t, pool.QueryRow(t.Context(), "SELECT $1::timestamptz", want.In(time.FixedZone("x", 3600))).Scan(&got))
	require.Equal(t, want, got)
}

func TestMigrateUpDownUp(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.Empty(t))
	require.NoError(t, pg.Migrate(t.Context(), pool))
	first := schema(t, pool)
	require.NoError(t, pg.MigrateDown(t.Context(), pool))
	require.Empty(t, strings.TrimSpace(schema(t, pool)))
	require.NoError(t, pg.Migrate(t.Context(), pool))
	require.Equal(t, first, schema(t, pool))
	testutil.Golden(t, "schema", []byte(first))
}

func TestMigrateTogether(t *testing.T) {
	t.Parallel()
	url := pgtest.Empty(t)
	errs := make(chan error, 3)
	for range cap(errs) {
		pool := pgtest.Pool(t, url)
		go func() { errs <- pg.Migrate(context.WithoutCancel(t.Context()), pool) }()
	}
	for range cap(errs) {
		require.NoError(t, <-errs)
	}
}
