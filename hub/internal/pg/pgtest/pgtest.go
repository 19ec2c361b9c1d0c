// Package pgtest gives tests a Postgres: one private server for each test
// process, made from the installed binaries, and in it a database for each
// test. Nothing is left behind when the process ends, however it ends.
package pgtest

import (
	"context"
	"fmt"
	"io"
	"log/slog"
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

// Asked is a role whose members the server asks for their password, as it asks
// nobody else.
const Asked = "asked"

const template = "budcluster_template"

// server is shared by the tests of a process: to start one for each test
// would take most of their time.
var server = sync.OnceValues(start) //nolint:gochecknoglobals // one server per test process

var databases atomic.Int64 //nolint:gochecknoglobals // numbers the databases of that server

// Empty returns the URL of a new database without a schema.
func Empty(tb testing.TB) string {
	tb.Helper()
	return database(tb, "template0")
}

// Migrated returns the URL of a new database with the current schema.
func Migrated(tb testing.TB) string {
	tb.Helper()
	return database(tb, template)
}

// Pool opens url for the time of the test.
func Pool(tb testing.TB, url string) *pgxpool.Pool {
	tb.Helper()
	pool, err := pg.Open(tb.Context(), url)
	require.NoError(tb, err)
	tb.Cleanup(pool.Close)
	return pool
}

func database(tb testing.TB, from string) string {
	tb.Helper()
	shared, err := server()
	require.NoError(tb, err)
	base := shared.url
	name := fmt.Sprintf("test_%d", databases.Add(1))
	admin(tb, base, fmt.Sprintf("CREATE DATABASE %s TEMPLATE %s", name, from))
	admin(tb, base, fmt.Sprintf("ALTER DATABASE %s SET timezone = '%s'", name, Zone))
	tb.Cleanup(func() { admin(tb, base, "DROP DATABASE "+name+" WITH (FORCE)") })
	return strings.Replace(base, "/budcluster?", "/"+name+"?", 1)
}

func admin(tb testing.TB, base, sql string) {
	tb.Helper()
	ctx := context.WithoutCancel(tb.Context()) // also used by cleanups, when the test's own has ended
	conn, err := pgx.Connect(ctx, base)
	require.NoError(tb, err)
	defer func() { require.NoError(tb, conn.Close(ctx)) }()
	_, err = conn.Exec(ctx, sql)
	require.NoError(tb, err, sql)
}

// running is the server of this process.
type running struct {
	url string
	// alive is the sweeper's input. A pipe that nobody holds is closed by the
	// garbage collector, and then the sweeper removed a server that was in use.
	alive io.Closer
}

// start runs until the process ends: Postgres is killed with it, and then its
// folder is removed by the sweeper.
func start() (*running, error) {
	dir, err := os.MkdirTemp("", "budpg")
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, 0o755); err != nil { // the server runs as another user
		return nil, err
	}
	alive, err := sweep(dir)
	if err != nil {
		return nil, err
	}
	rules := filepath.Join(dir, "pg_hba.conf")
	if err := os.WriteFile(rules, []byte("local all +"+Asked+" scram-sha-256\nlocal all all trust\n"), 0o644); err != nil {
		return nil, err
	}
	dev, err := pg.NewDev(filepath.Join(dir, "pg"), slog.New(slog.DiscardHandler), "hba_file="+rules,
		"fsync=off", "synchronous_commit=off", "full_page_writes=off", "shared_buffers=32MB", "max_wal_size=256MB", "autovacuum=off")
	if err != nil {
		return nil, err
	}
	ctx := context.Background() // the server outlives the test that happens to be first
	failed := make(chan error, 1)
	go func() { failed <- dev.Run(ctx) }()
	select {
	case err := <-failed:
		return nil, err
	case <-dev.Ready():
	}
	return &running{url: dev.URL(), alive: alive}, makeTemplate(ctx, dev.URL())
}

func makeTemplate(ctx context.Context, base string) error {
	conn, err := pgx.Connect(ctx, base)
	if err != nil {
		return err
	}
	for _, sql := range []string{"CREATE ROLE " + Asked, "CREATE DATABASE " + template} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return err
		}
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
func sweep(dir string) (alive io.Closer, err error) {
	const script = `cat >/dev/null; i=0; while [ -e "$0/pg/data/postmaster.pid" ] && [ $i -lt 100 ]; do sleep 0.1; i=$((i+1)); done; rm -rf "$0"`
	cmd := exec.Command("/bin/sh", "-c", script, dir) // outlives us on purpose
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	return in, cmd.Start()
}

// Soon is a deadline for what should take no time, on a loaded machine.
const Soon = 30 * time.Second
