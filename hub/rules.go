package hub

import (
	"errors"
	"log/slog"

	"github.com/budecosystem/budcluster/hub/internal/access"
	"github.com/budecosystem/budcluster/hub/internal/chart"
	"github.com/budecosystem/budcluster/hub/internal/cluster"
	"github.com/budecosystem/budcluster/hub/internal/enroll"
	"github.com/budecosystem/budcluster/hub/internal/event"
	"github.com/budecosystem/budcluster/hub/internal/inventory"
	"github.com/budecosystem/budcluster/hub/internal/release"
	"github.com/budecosystem/budcluster/hub/internal/store"
	"github.com/budecosystem/budcluster/internal/logkey"
	"github.com/budecosystem/budcluster/internal/secret"
)

// rules are the services over one store.
type rules struct {
	clusters  *cluster.Service
	enroll    *enroll.Service
	releases  *release.Service
	inventory *inventory.Service
	charts    *chart.Service
	access    *access.Service
	events    *event.Service
	janitor   *event.Janitor
}

func newRules(cfg Config, st *store.Store, keys *secret.Keyring, log *slog.Logger) (*rules, error) {
	component := func(name string) *slog.Logger { return log.With(slog.String(logkey.Component, name)) }
	var (
		r    rules
		errs [8]error
	)
	r.clusters, errs[0] = cluster.New(cluster.Config{Store: st, Logger: component("cluster"), SessionLease: cfg.Session.Lease})
	r.enroll, errs[1] = enroll.New(enroll.Config{
		Store: st, Sealer: keys, Logger: component("enroll"), TrustDomain: cfg.TrustDomain,
		CertificateLifetime: cfg.Certificate.Lifetime, RenewalGrace: cfg.Certificate.RenewalGrace, TokenTTL: cfg.Token.TTL,
	})
	r.releases, errs[2] = release.New(release.Config{Store: st, Sealer: keys, Logger: component("release")})
	r.inventory, errs[3] = inventory.New(inventory.Config{Store: st, Logger: component("inventory")})
	r.charts, errs[4] = chart.New(chart.Config{Store: st, Logger: component("chart"), Dir: cfg.ChartsDir})
	r.access, errs[5] = access.New(access.Config{Store: st, Logger: component("access")})
	r.events, errs[6] = event.New(event.Config{Store: st, Logger: component("event")})
	r.janitor, errs[7] = event.NewJanitor(event.JanitorConfig{Store: st, Logger: component("event"), Retention: cfg.Events.Retention})
	return &r, errors.Join(errs[:]...)
}
