package hub

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"

	"github.com/google/uuid"

	"github.com/budecosystem/budcluster/charts"
	"github.com/budecosystem/budcluster/hub/internal/access"
	"github.com/budecosystem/budcluster/hub/internal/chart"
	"github.com/budecosystem/budcluster/hub/internal/cluster"
	"github.com/budecosystem/budcluster/hub/internal/component"
	"github.com/budecosystem/budcluster/hub/internal/enroll"
	"github.com/budecosystem/budcluster/hub/internal/equip"
	"github.com/budecosystem/budcluster/hub/internal/event"
	"github.com/budecosystem/budcluster/hub/internal/inventory"
	"github.com/budecosystem/budcluster/hub/internal/mirror"
	"github.com/budecosystem/budcluster/hub/internal/notify"
	"github.com/budecosystem/budcluster/hub/internal/operation"
	"github.com/budecosystem/budcluster/hub/internal/release"
	"github.com/budecosystem/budcluster/hub/internal/store"
	"github.com/budecosystem/budcluster/hub/internal/workflow"
	"github.com/budecosystem/budcluster/internal/facts"
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
	catalogue *component.Catalogue
	notices   *notify.Service
	letters   *notify.Letters
	workflows *workflow.Service
	equipment *equip.Service
	operation *operation.Service
	mirror    *mirror.Service
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
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	return &r, r.addWork(cfg, st, component)
}

// addWork makes the services of long work.
func (r *rules) addWork(cfg Config, st *store.Store, log func(name string) *slog.Logger) (err error) {
	if r.catalogue, err = loadCatalogue(cfg); err != nil {
		return err
	}
	people := ""
	if cfg.Dapr.Enabled {
		people = cfg.Dapr.PeopleTopic
	}
	if r.notices, err = notify.New(notify.Config{Store: st, PeopleTopic: people, SuccessOnly: []string{notify.MainTopic}, AppID: cfg.Dapr.AppID}); err != nil {
		return err //nolint:wrapcheck // a sentence already
	}
	if r.letters, err = notify.NewLetters(st, nil); err != nil {
		return err //nolint:wrapcheck // a sentence already
	}
	if r.workflows, err = workflow.New(workflow.Config{
		Store: st, Logger: log("workflow"), Notify: r.notices.Notify, Started: r.notices.Started,
	}); err != nil {
		return err //nolint:wrapcheck // a sentence already
	}
	if r.equipment, err = equip.New(equip.Config{
		Catalogue: r.catalogue, Store: st, Clusters: r.clusters, Inventory: r.inventory, Releases: r.releases, Charts: r.charts,
		Builtin: charts.Chart, Logger: log("equip"),
		Presence: func(ctx context.Context, id uuid.UUID) ([]facts.Presence, error) {
			p, err := r.clusters.Presence(ctx, id)
			return p.Answers, err
		},
	}); err != nil {
		return err //nolint:wrapcheck // a sentence already
	}
	if r.mirror, err = mirror.New(mirror.Config{
		Store: st, Clusters: r.clusters, Inventory: r.inventory, Workflows: r.workflows, Tell: r.notices.Tell,
	}); err != nil {
		return err //nolint:wrapcheck // names what is missing
	}
	work := operation.Config{
		Store: st, Workflows: r.workflows, Clusters: r.clusters, Equipment: r.equipment, Releases: r.releases, Inventory: r.inventory,
		Logger: log("operation"), JoinWithin: cfg.Token.TTL, AgentChart: r.agentChart,
	}
	if cfg.Dapr.Enabled {
		work.Describe, work.DescribeStatus = r.mirror.Describe, r.mirror.DescribeStatus
	}
	r.operation, err = operation.New(work)
	return err //nolint:wrapcheck // a sentence already
}

func loadCatalogue(cfg Config) (*component.Catalogue, error) {
	var folder fs.FS
	if cfg.ComponentsDir != "" {
		folder = os.DirFS(cfg.ComponentsDir)
	}
	catalogue, err := component.Load(folder)
	if err != nil {
		return nil, fmt.Errorf("componentsDir: %w", err)
	}
	if catalogue, err = catalogue.With(cfg.Components); err != nil {
		return nil, fmt.Errorf("components: %w", err)
	}
	return catalogue, nil
}

// agentChart gives a chart of the agent that the hub holds, or its own.
func (r *rules) agentChart(ctx context.Context, actor, digest string) (chart.Meta, error) {
	if digest != "" {
		return r.charts.Resolve(ctx, actor, chart.Source{Digest: digest}) //nolint:wrapcheck // a sentence already
	}
	dir, err := charts.Agent()
	if err != nil {
		return chart.Meta{}, fmt.Errorf("open agent chart: %w", err)
	}
	tgz, _, err := chart.Pack(dir)
	if err != nil {
		return chart.Meta{}, fmt.Errorf("pack agent chart: %w", err)
	}
	return r.charts.Put(ctx, actor, tgz) //nolint:wrapcheck // a sentence already
}
