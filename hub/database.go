package hub

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"

	"github.com/budecosystem/budcluster/hub/internal/access"
	"github.com/budecosystem/budcluster/hub/internal/pg"
	"github.com/budecosystem/budcluster/hub/internal/store"
	"github.com/budecosystem/budcluster/internal/logkey"
	"github.com/budecosystem/budcluster/internal/run"
	"github.com/budecosystem/budcluster/internal/secret"
)

// database adds to the group what the database needs, and returns what waits
// for its URL. With --dev and no URL that is a private PostgreSQL.
func database(group *run.Group, cfg Config, log *slog.Logger) (func(context.Context) (string, error), error) {
	url, err := cfg.databaseURL()
	if err != nil {
		return nil, err
	}
	if url != "" {
		return func(context.Context) (string, error) { return url, nil }, nil
	}
	dev, err := newDev(cfg, log)
	if err != nil {
		return nil, err
	}
	group.Add("postgres", dev.Run)
	return func(ctx context.Context) (string, error) {
		select {
		case <-dev.Ready():
			return dev.URL(), nil
		case <-ctx.Done():
			return "", context.Cause(ctx)
		}
	}, nil
}

func newDev(cfg Config, log *slog.Logger) (*pg.DevServer, error) {
	dev, err := pg.NewDev(filepath.Join(cfg.StateDir, "postgres"), log.With(slog.String(logkey.Component, "postgres")))
	if err != nil {
		return nil, fmt.Errorf("prepare private postgres: %w", err)
	}
	return dev, nil
}

// once runs fn on a migrated store, for the commands that end. A private
// PostgreSQL that a hub is running already is used; else it runs for as long
// as fn does.
func once(ctx context.Context, cfg Config, log *slog.Logger, fn func(context.Context, *store.Store) error) error {
	cfg = cfg.Complete()
	url, err := cfg.databaseURL()
	if err != nil {
		return err
	}
	if url == "" {
		dev, err := newDev(cfg, log)
		if err != nil {
			return err
		}
		if pool, err := pg.Open(ctx, dev.URL()); err == nil {
			pool.Close()
			url = dev.URL()
		}
	}
	if url != "" {
		return withStore(ctx, cfg, log, url, fn)
	}
	var group run.Group
	wait, err := database(&group, cfg, log)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	group.Add("command", func(ctx context.Context) error {
		defer cancel() // nobody needs the database any more
		url, err := wait(ctx)
		if err != nil {
			return err
		}
		return withStore(ctx, cfg, log, url, fn)
	})
	return group.Run(ctx)
}

func withStore(ctx context.Context, cfg Config, log *slog.Logger, url string, fn func(context.Context, *store.Store) error) error {
	login, err := firstLogin(ctx, cfg, url, log)
	if err != nil {
		return err
	}
	pool, err := pg.OpenAs(ctx, url, login.current)
	if err != nil {
		return err //nolint:wrapcheck // a sentence already
	}
	defer pool.Close()
	if err := pg.Migrate(ctx, pool); err != nil {
		return err //nolint:wrapcheck // a sentence already
	}
	return fn(ctx, store.New(pool))
}

// Migrate brings the database to this version's schema.
func Migrate(ctx context.Context, cfg Config, log *slog.Logger) error {
	return once(ctx, cfg, log, func(context.Context, *store.Store) error { return nil })
}

// NewKey is an API key to be made.
type NewKey struct{ Name, Role string }

// CreateKey makes an API key without one, straight in the database.
func CreateKey(ctx context.Context, cfg Config, log *slog.Logger, k NewKey) (secret.String, error) {
	var text secret.String
	err := once(ctx, cfg, log, func(ctx context.Context, st *store.Store) error {
		keys, err := access.New(access.Config{Store: st, Logger: log})
		if err != nil {
			return err //nolint:wrapcheck // a sentence already
		}
		_, text, err = keys.CreateKey(ctx, "hub", k.Name, access.Role(k.Role))
		return err //nolint:wrapcheck // a sentence already
	})
	return text, err
}

// firstKey gives whoever tries the hub out the one key that makes the others.
func (h *Hub) firstKey(ctx context.Context, r *rules) error {
	if !h.cfg.Dev {
		return nil
	}
	keys, err := r.access.Keys(ctx)
	if err != nil || len(keys) > 0 {
		return err //nolint:wrapcheck // a sentence already
	}
	_, text, err := r.access.CreateKey(ctx, "hub", "admin", access.RoleAdmin)
	if err != nil {
		return err //nolint:wrapcheck // a sentence already
	}
	if _, err := fmt.Fprintf(h.opts.Out, "admin key (shown only now): %s\n", text.Reveal()); err != nil {
		return fmt.Errorf("print admin key: %w", err)
	}
	return nil
}
