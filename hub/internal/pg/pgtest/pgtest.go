// Package pgtest gives tests a Postgres: one private server for each test
// process, made from the installed binaries, and in it a database for each
// test. Nothing is left behind when the process ends, however it ends.
package pgtest

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/internal/pg"
)

// Zone is the time zone of every test database: neither UTC nor a whole hour
// off it, so that a time that is read or written without its zone shows.
const Zone = "Asia/Kathmandu"

const template = "budcluster_template"

// server is shared by the tests of a process: to start one for each test
// would take most of their time.
var server = sync.OnceValues(start) //nolint:gochecknoglobals // one server per test process

// alive is the sweeper's input. A pipe that nobody holds is closed by the
// garbage collector, and then the sweeper removed a server that was in use.
var alive io.Closer //nolint:gochecknoglobals // open until the process ends

var databases atomic.Int64 //nolint:gochecknoglobals // numbers the databases of that server

// Empty returns the URL of a new database without a schema.
func Empty(t testing.TB) string {
	t.Helper()
	return database(t, "template0")
}

// Migrated returns the URL of a new database with the current schema.
func Migrated(t testing.TB) string {
	t.Helper()
	return database(t, template)
}

// Pool opens url for the time of the test.
func Pool(t testing.TB, url string) *pgxpool.Pool {
	t.Helper()
	pool, err := pg.Open(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

func database(t testing.TB, from string) string {
	t.Helper()
	base, err := server()
	require.NoError(t, err)
	name := fmt.Sprintf("test_%d", databases.Add(1))
	admin(t, base, fmt.Sprintf("CREATE DATABASE %s TEMPLATE %s", name, from))
	admin(t, base, fmt.Sprintf("ALTER DATABASE %s SET timezone = '%s'", name, Zone))
	t.Cleanup(func() { admin(t, base, "DROP DATABASE "+name+" WITH (FORCE)") })
	return strings.Replace(base, "/budcluster?", "/"+name+"?", 1)
}

func admin(t testing.TB, base, sql string) {
	t.Helper()
	ctx := context.Background() // also used by cleanups, when the test's own has ended
	conn, err := pgx.Connect(ctx, base)
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(ctx)) }()
	_, err = conn.Exec(ctx, sql)
	require.NoError(t, err, sql)
}

// start runs until the process ends: Postgres is killed with it, and then its
// folder is removed by the sweeper.
func start() (string, error) {
	dir, err := os.MkdirTemp("", "budpg")
	if err != nil {
		return "", err
	}
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // the server runs as another user
		return "", err
	}
	if err := sweep(dir); err != nil {
		return "", err
	}
	dev, err := pg.NewDev(filepath.Join(dir, "pg"), slog.New(slog.DiscardHandler),
		"fsync=off", "synchronous_commit=off", "full_page_writes=off", "shared_buffers=32MB", "max_wal_size=256MB", "autovacuum=off")
	if err != nil {
		return "", err
	}
	ctx := context.Background()
	failed := make(chan error, 1)
	go func() { failed <- dev.Run(ctx) }()
	select {
	case err := <-failed:
		return "", err
	case <-dev.Ready():
	}
	return dev.URL(), makeTemplate(ctx, dev.URL())
}

func makeTemplate(ctx context.Context, base string) error {
	conn, err := pgx.Connect(ctx, base)
	if err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, "CREATE DATABASE "+template); err != nil {
		return err
	}
	if err := conn.Close(ctx); err != nil {
		return err
	}
	pool, err := pg.Open(ctx, strings.Replace(base, "/budcluster?", "/"+template+"?", 1))
	if err != nil {
		return err
	}
	defer pool.Close() // a template must have no connection
	return pg.Migrate(ctx, pool)
}

// sweep starts a process that waits until this one is gone, which it sees by
// the end of its input, and then removes dir.
func sweep(dir string) error {
	const script = `cat >/dev/null; i=0; while [ -e "$0/pg/data/postmaster.pid" ] && [ $i -lt 100 ]; do sleep 0.1; i=$((i+1)); done; rm -rf "$0"`
	cmd := exec.Command("/bin/sh", "-c", script, dir) //nolint:gosec,noctx // outlives us on purpose
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	alive = in
	return cmd.Start()
}

// HostOf is the folder of the socket in a URL of this package.
func HostOf(t testing.TB, raw string) string {
	t.Helper()
	u, err := url.Parse(raw)
	require.NoError(t, err)
	return u.Query().Get("host")
}

// Soon is a deadline for what should take no time, on a loaded machine.
const Soon = 30 * time.Second
