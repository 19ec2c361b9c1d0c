package pg

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/budecosystem/budcluster/internal/secret"
)

// leastConns is how many connections a pool may have, also on a small machine,
// unless the URL says pool_max_conns. Commits wait for a disk, not for a
// processor, and the more that wait together, the fewer writes they need.
const leastConns = 12

// Open connects to the database and checks that it answers. TLS is as the
// URL's sslmode, sslrootcert, sslcert and sslkey say. Its errors never show
// the password.
func Open(ctx context.Context, url string) (*pgxpool.Pool, error) {
	return OpenAs(ctx, url, nil)
}

// OpenAs is Open with a user and a password that may change: login is asked for
// them before each new connection, and what it leaves empty is as the URL says.
func OpenAs(ctx context.Context, url string, login func() (user, password secret.String)) (*pgxpool.Pool, error) {
	if url == "" {
		return nil, errors.New("databaseURL: it is empty; set BUDCLUSTER_DATABASE_URL to a URL such as postgres://user@host/budcluster?sslmode=verify-full, or start with --dev")
	}
	cfg, err := pgxpool.ParseConfig(url)
	if file, ok := errors.AsType[*fs.PathError](err); ok {
		return nil, fmt.Errorf("databaseURL: a file that it names cannot be read: %w", file)
	}
	if err != nil {
		// The cause may quote the URL, and with it the password.
		return nil, errors.New("databaseURL: it is not a Postgres URL; use one such as postgres://user@host/budcluster?sslmode=verify-full")
	}
	if cfg.ConnConfig.RuntimeParams["application_name"] == "" {
		cfg.ConnConfig.RuntimeParams["application_name"] = "budcluster-hub"
	}
	if cfg.ConnConfig.ConnectTimeout == 0 {
		cfg.ConnConfig.ConnectTimeout = 10 * time.Second
	}
	if !strings.Contains(url, "pool_max_conns=") { // the library's default is one for each processor
		cfg.MaxConns = max(cfg.MaxConns, leastConns)
	}
	cfg.AfterConnect = useUTC
	if login != nil {
		cfg.BeforeConnect = func(_ context.Context, c *pgx.ConnConfig) error {
			user, password := login()
			c.User, c.Password = cmp.Or(user.Reveal(), c.User), cmp.Or(password.Reveal(), c.Password)
			return nil
		}
	}
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("open database at %s: %w", place(cfg.ConnConfig), err)
	}
	if err := pool.Ping(ctx); err != nil {
		pool.Close()
		return nil, fmt.Errorf("reach database %q at %s: %w", cfg.ConnConfig.Database, place(cfg.ConnConfig), err)
	}
	return pool, nil
}

// useUTC makes times come out in UTC, whatever the zone of the server, the
// database or this process.
func useUTC(_ context.Context, conn *pgx.Conn) error {
	conn.TypeMap().RegisterType(&pgtype.Type{
		Name: "timestamptz", OID: pgtype.TimestamptzOID, Codec: &pgtype.TimestamptzCodec{ScanLocation: time.UTC},
	})
	return nil
}

func place(cfg *pgx.ConnConfig) string { return fmt.Sprintf("%s:%d", cfg.Host, cfg.Port) }
