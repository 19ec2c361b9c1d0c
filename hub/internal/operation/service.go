package operation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"github.com/budecosystem/budcluster/hub/internal/chart"
	"github.com/budecosystem/budcluster/hub/internal/cluster"
	"github.com/budecosystem/budcluster/hub/internal/component"
	"github.com/budecosystem/budcluster/hub/internal/equip"
	"github.com/budecosystem/budcluster/hub/internal/inventory"
	"github.com/budecosystem/budcluster/hub/internal/page"
	"github.com/budecosystem/budcluster/hub/internal/release"
	"github.com/budecosystem/budcluster/hub/internal/workflow"
)

// Transactor runs fn in one transaction, which the services join.
type Transactor interface {
	InTx(ctx context.Context, fn func(ctx context.Context) error) error
}

// Clusters is the register; cluster.Service.
type Clusters interface {
	Create(ctx context.Context, actor, name string, labels map[string]string) (*cluster.Cluster, error)
	Get(ctx context.Context, ref string) (*cluster.Cluster, error)
	Delete(ctx context.Context, actor, ref string, force bool) error
	SetIngressURL(ctx context.Context, actor, ref, ingressURL string) (*cluster.Cluster, error)
	SetDegraded(ctx context.Context, clusterID uuid.UUID, degraded []cluster.Degradation) error
	SetInstalling(ctx context.Context, clusterID uuid.UUID, atIt bool) error
	Retire(ctx context.Context, actor, ref string, force bool) (*cluster.Cluster, error)
	Presence(ctx context.Context, clusterID uuid.UUID) (cluster.Presence, error)
	SetAgentTarget(ctx context.Context, actor, ref string, t cluster.AgentTarget) (cluster.AgentUpgrade, error)
	AgentUpgrade(ctx context.Context, clusterID uuid.UUID) (cluster.AgentUpgrade, error)
}

// Equipment is the components of clusters; equip.Service.
type Equipment interface {
	Catalogue() *component.Catalogue
	Look(ctx context.Context, clusterID uuid.UUID, name string, wishes map[string]component.Wish) (*equip.Look, error)
	Chart(ctx context.Context, actor string, l *equip.Look) (chart.Meta, error)
	Put(ctx context.Context, actor string, clusterID uuid.UUID, l *equip.Look, meta chart.Meta) (r *release.Release, made bool, err error)
	Plan(ctx context.Context, clusterID uuid.UUID, wishes map[string]component.Wish) ([]component.Item, error)
	Releases(ctx context.Context, clusterID uuid.UUID) (components map[string]*release.Release, others []*release.Release, err error)
	SetWish(ctx context.Context, actor string, clusterID uuid.UUID, name string, w component.Wish) error
	ForgetWish(ctx context.Context, clusterID uuid.UUID, name string) error
	Wishes(ctx context.Context, clusterID uuid.UUID) (map[string]component.Wish, error)
	Limit(name string) time.Duration
}

// Releases is desired state; release.Service.
type Releases interface {
	Apply(ctx context.Context, actor string, clusterID uuid.UUID, req release.Request) (r *release.Release, created bool, err error)
	Get(ctx context.Context, clusterID uuid.UUID, name string) (*release.Release, error)
	Delete(ctx context.Context, actor string, clusterID uuid.UUID, name string, forget bool) (*release.Release, error)
}

// Inventory is what clusters have; inventory.Service.
type Inventory interface {
	Nodes(ctx context.Context, f inventory.Filter, p page.Page) ([]inventory.Node, string, error)
}

// Config makes a Service.
type Config struct {
	Store     Transactor
	Workflows *workflow.Service
	Clusters  Clusters
	Equipment Equipment
	Releases  Releases
	Inventory Inventory
	Logger    *slog.Logger
	// JoinWithin is how long a registration waits for an agent that a person
	// installs: the lifetime of a join token.
	JoinWithin time.Duration
	// AgentChart gives the agent's chart of a digest from the hub's store; of an
	// empty one that of this hub's own version.
	AgentChart func(ctx context.Context, actor, digest string) (chart.Meta, error)
	// Describe gives the result of a registration in the platform's form.
	Describe func(ctx context.Context, c *cluster.Cluster, nodes []inventory.Node) (json.RawMessage, error)
	// DescribeStatus gives the result of a look at a cluster; Describe when nil.
	DescribeStatus func(ctx context.Context, c *cluster.Cluster, nodes []inventory.Node) (json.RawMessage, error)
	// Now is time.Now when nil.
	Now func() time.Time
}

// Service starts operations and carries out their steps.
type Service struct {
	cfg Config
	// began is since when this hub can let agents in.
	began time.Time
}

// New checks cfg and makes the Service.
func New(cfg Config) (*Service, error) {
	if cfg.Store == nil || cfg.Workflows == nil || cfg.Clusters == nil || cfg.Equipment == nil || cfg.Releases == nil || cfg.Inventory == nil || cfg.Logger == nil {
		return nil, errors.New("operation: a store, workflows, the register, equipment, releases, inventory and a logger are needed")
	}
	if cfg.JoinWithin <= 0 || cfg.AgentChart == nil {
		return nil, errors.New("operation: JoinWithin and AgentChart are needed")
	}
	if cfg.Describe == nil {
		cfg.Describe = describe
	}
	if cfg.DescribeStatus == nil {
		cfg.DescribeStatus = cfg.Describe
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Service{cfg: cfg, began: cfg.Now()}, nil
}

// describe is the result of a registration where the platform gives no form.
func describe(_ context.Context, c *cluster.Cluster, nodes []inventory.Node) (json.RawMessage, error) {
	type node struct {
		Name  string `json:"name"`
		Ready bool   `json:"ready"`
	}
	out := struct {
		ID    uuid.UUID `json:"id"`
		Name  string    `json:"name"`
		Nodes []node    `json:"nodes"`
	}{ID: c.ID, Name: c.Name, Nodes: []node{}}
	for _, n := range nodes {
		out.Nodes = append(out.Nodes, node{n.Name, n.Ready})
	}
	return json.Marshal(out)
}

// input decodes a workflow's input.
func input[T any](w *workflow.Workflow) (T, error) {
	var in T
	if err := json.Unmarshal(w.Input, &in); err != nil {
		return in, fmt.Errorf("read input of workflow %s: %w", w.ID, err)
	}
	return in, nil
}

// nodes are all nodes of a cluster.
func (s *Service) nodes(ctx context.Context, clusterID uuid.UUID) (all []inventory.Node, err error) {
	p := page.Page{Limit: page.MaxLimit}
	for {
		some, next, err := s.cfg.Inventory.Nodes(ctx, inventory.Filter{ClusterID: &clusterID}, p)
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
