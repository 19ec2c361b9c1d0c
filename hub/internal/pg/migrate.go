package pg

import (
	"context"
	"fmt"
	"io/fs"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"github.com/budecosystem/budcluster/migrations"
)

// Migrate brings the schema up to date. Replicas that start at once take
// turns; all but the first find nothing to do.
func Migrate(ctx context.Context, pool *pgxpool.Pool) error {
	if err := migrate(pool, migrations.FS, func(p *goose.Provider) error {
		_, err := p.Up(ctx)
		return err
	}); err != nil {
		return fmt.Errorf("migrate database: %w", err)
	}
	return nil
}

// MigrateDown takes every migration back, and with it all data. It is for
// tests of the migrations.
func MigrateDown(ctx context.Context, pool *pgxpool.Pool) error {
	if err := migrate(pool, migrations.FS, func(p *goose.Provider) error {
		_, err := p.DownTo(ctx, 0)
		return err
	}); err != nil {
		return fmt.Errorf("take migrations back: %w", err)
	}
	return nil
}

func migrate(pool *pgxpool.Pool, files fs.FS, do func(*goose.Provider) error) (err error) {
	// A second between tries, for as long as another replica's migration lasts.
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 600))
	if err != nil {
		return fmt.Errorf("prepare lock: %w", err)
	}
	db := stdlib.OpenDBFromPool(pool)
	defer func() {
		if closeErr := db.Close(); err == nil && closeErr != nil {
			err = fmt.Errorf("close migration connection: %w", closeErr)
		}
	}()
	provider, err := goose.NewProvider(goose.DialectPostgres, db, files, goose.WithSessionLocker(locker), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	return do(provider)
}
