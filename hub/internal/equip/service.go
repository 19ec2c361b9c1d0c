package equip

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/budecosystem/budcluster/hub/internal/chart"
	"github.com/budecosystem/budcluster/hub/internal/cluster"
	"github.com/budecosystem/budcluster/hub/internal/component"
	"github.com/budecosystem/budcluster/hub/internal/inventory"
	"github.com/budecosystem/budcluster/hub/internal/page"
	"github.com/budecosystem/budcluster/hub/internal/release"
	"github.com/budecosystem/budcluster/internal/facts"
)

// Store keeps the wishes.
type Store interface {
	// WishList returns a cluster's wishes by component.
	WishList(ctx context.Context, clusterID uuid.UUID) (map[string]component.Wish, error)
	WishPut(ctx context.Context, clusterID uuid.UUID, name string, w component.Wish, actor string, at time.Time) error
	WishDelete(ctx context.Context, clusterID uuid.UUID, name string) error
	// ChartPin is the digest that a published chart had at its first download;
	// empty before that.
	ChartPin(ctx context.Context, c component.Chart) (string, error)
	// ChartPinPut keeps digest, unless there is one already, and returns the one
	// that is kept.
	ChartPinPut(ctx context.Context, c component.Chart, digest string, at time.Time) (string, error)
}

// Clusters is the register; cluster.Service.
type Clusters interface {
	Get(ctx context.Context, ref string) (*cluster.Cluster, error)
}

// Inventory is what clusters have; inventory.Service.
type Inventory interface {
	Nodes(ctx context.Context, f inventory.Filter, p page.Page) ([]inventory.Node, string, error)
}

// Releases is desired state; release.Service.
type Releases interface {
	Apply(ctx context.Context, actor string, clusterID uuid.UUID, req release.Request) (*release.Release, bool, error)
	Get(ctx context.Context, clusterID uuid.UUID, name string) (*release.Release, error)
	List(ctx context.Context, f release.Filter, p page.Page) ([]*release.Release, string, error)
	Delete(ctx context.Context, actor string, clusterID uuid.UUID, name string, forget bool) (*release.Release, error)
}

// Charts gets charts; chart.Service.
type Charts interface {
	Put(ctx context.Context, actor string, tgz []byte) (chart.Meta, error)
	Meta(ctx context.Context, digest string) (chart.Meta, error)
	Resolve(ctx context.Context, actor string, src chart.Source) (chart.Meta, error)
}

// Config makes a Service.
type Config struct {
	Catalogue *component.Catalogue
	Store     Store
	Clusters  Clusters
	Inventory Inventory
	Releases  Releases
	Charts    Charts
	// Presence is what the agent found in a cluster.
	Presence func(ctx context.Context, clusterID uuid.UUID) ([]facts.Presence, error)
	// Builtin opens a chart that this program carries.
	Builtin func(name string) (fs.FS, error)
	Logger  *slog.Logger
	// Now is time.Now when nil.
	Now func() time.Time
}

// Service equips clusters.
type Service struct {
	cfg    Config
	packed sync.Map // built-in chart → its digest, a string
}

// New checks cfg and makes the Service.
func New(cfg Config) (*Service, error) {
	if cfg.Catalogue == nil || cfg.Store == nil || cfg.Clusters == nil || cfg.Inventory == nil || cfg.Releases == nil ||
		cfg.Charts == nil || cfg.Presence == nil || cfg.Builtin == nil || cfg.Logger == nil {
		return nil, errors.New("equip: a catalogue, a store, the register, inventory, releases, charts and a logger are needed")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Service{cfg: cfg}, nil
}

// Catalogue is what there is to equip with.
func (s *Service) Catalogue() *component.Catalogue { return s.cfg.Catalogue }

// state is all that is known of a cluster's components at one moment.
type state struct {
	cluster  *cluster.Cluster
	input    component.Input
	releases map[string]*release.Release // by component
	items    []component.Item
}

// read plans a cluster. The wishes given replace those that are stored.
func (s *Service) read(ctx context.Context, clusterID uuid.UUID, wishes map[string]component.Wish) (*state, error) {
	c, err := s.cfg.Clusters.Get(ctx, clusterID.String())
	if err != nil {
		return nil, err //nolint:wrapcheck // a sentence already
	}
	st := &state{cluster: c, releases: map[string]*release.Release{}, input: component.Input{
		ClusterID: c.ID.String(), ClusterName: c.Name, Installed: map[string]component.Installed{},
	}}
	if c.Facts != nil {
		st.input.Cluster = *c.Facts
	}
	if st.input.Presence, err = s.cfg.Presence(ctx, c.ID); err != nil {
		return nil, err
	}
	if st.input.Wishes, err = s.cfg.Store.WishList(ctx, c.ID); err != nil {
		return nil, fmt.Errorf("read component settings of cluster %s: %w", c.Name, err)
	}
	maps.Copy(st.input.Wishes, wishes)
	if err := s.readNodes(ctx, st); err != nil {
		return nil, err
	}
	if err := s.readReleases(ctx, st); err != nil {
		return nil, err
	}
	st.items, err = s.cfg.Catalogue.Plan(st.input)
	return st, err //nolint:wrapcheck // names the component
}

func (s *Service) readNodes(ctx context.Context, st *state) error {
	p := page.Page{Limit: page.MaxLimit}
	for {
		nodes, next, err := s.cfg.Inventory.Nodes(ctx, inventory.Filter{ClusterID: &st.cluster.ID}, p)
		if err != nil {
			return err //nolint:wrapcheck // a sentence already
		}
		for _, n := range nodes {
			st.input.Nodes = append(st.input.Nodes, n.Node)
		}
		if next == "" {
			return nil
		}
		p.Cursor = next
	}
}

func (s *Service) readReleases(ctx context.Context, st *state) error {
	all, err := s.all(ctx, st.cluster.ID)
	if err != nil {
		return err
	}
	for _, r := range all {
		if r.Spec.Component == "" {
			continue
		}
		st.releases[r.Spec.Component] = r
		if r.RemovedAt != nil {
			continue
		}
		st.input.Installed[r.Spec.Component] = component.Installed{
			Version: r.Spec.Chart.Version, Digest: r.Spec.Chart.Digest, Release: r.Name, Namespace: r.Namespace,
			ValuesDigest: component.ValuesDigest(r.Spec.Values),
		}
	}
	return nil
}

func (s *Service) all(ctx context.Context, clusterID uuid.UUID) (all []*release.Release, err error) {
	p := page.Page{Limit: page.MaxLimit}
	for {
		some, next, err := s.cfg.Releases.List(ctx, release.Filter{ClusterID: &clusterID}, p)
		if err != nil {
			return nil, err //nolint:wrapcheck // a sentence already
		}
		all = append(all, some...)
		if next == "" {
			return all, nil
		}
		p.Cursor = next
	}
}

func (st *state) item(name string) (component.Item, bool) {
	for _, item := range st.items {
		if item.Component == name {
			return item, true
		}
	}
	return component.Item{}, false
}
