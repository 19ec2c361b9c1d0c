package mirror

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/budecosystem/budcluster/hub/internal/cluster"
	"github.com/budecosystem/budcluster/hub/internal/inventory"
	"github.com/budecosystem/budcluster/hub/internal/notify"
	"github.com/budecosystem/budcluster/hub/internal/page"
	"github.com/budecosystem/budcluster/hub/internal/workflow"
)

// The defaults of Config.
const (
// DefaultKey is where the platform's planner reads clusters.
)

// Told is a cluster that the platform asked for, and what it was told of it.
type Told struct {
	ClusterID uuid.UUID
	// Name is what the platform calls it.
	Name string
	// RegisteredAt is nil until a registration was complete.
	RegisteredAt *time.Time
	// Digest is that of what was last told, and Count how many messages there
	// were.
	Digest string
	Count  int64
}

// Store keeps what was told. InTx runs fn in one transaction, which travels in
// the context that fn is given.
type Store interface {
	InTx(ctx context.Context, fn func(ctx context.Context) error) error
	Tellings
}

// Tellings is the table.
type Tellings interface {
	MirrorInsert(ctx context.Context, clusterID uuid.UUID, name string) error
	// MirrorGet returns nil for a cluster that the platform did not ask for.
	MirrorGet(ctx context.Context, clusterID uuid.UUID) (*Told, error)
	// MirrorLock is MirrorGet that keeps others away until the transaction ends.
	MirrorLock(ctx context.Context, clusterID uuid.UUID) (*Told, error)
	MirrorList(ctx context.Context) ([]*Told, error)
	MirrorUpdate(ctx context.Context, t *Told) error
	MirrorDelete(ctx context.Context, clusterID uuid.UUID) error
}

// Clusters is the register; cluster.Service.
type Clusters interface {
	Get(ctx context.Context, ref string) (*cluster.Cluster, error)
}

// Inventory is what clusters have; inventory.Service.
type Inventory interface {
	Nodes(ctx context.Context, f inventory.Filter, p page.Page) ([]inventory.Node, string, error)
}

// Workflows is the record of long work; workflow.Service.
type Workflows interface {
	List(ctx context.Context, f workflow.Filter, p page.Page) ([]*workflow.Workflow, string, error)
}

// Config makes a Service.
type Config struct {
	Store     Store
	Clusters  Clusters
	Inventory Inventory
	Workflows Workflows
	// Tell writes a message to the outbox; notify.Service's. Nil tells nobody.
	Tell func(ctx context.Context, stream uuid.UUID, key string, r notify.Reply, p notify.Payload) error
	// Topic is notify.MainTopic when empty.
	Topic string
	// Grace is how long an agent may be away unnoticed; DefaultGrace when zero.
	Grace time.Duration
	// Now is time.Now when nil.
	Now func() time.Time
}

// Service shows clusters.
type Service struct {
	cfg Config
	now func() time.Time
}

// New checks cfg and makes the Service.
func New(cfg Config) (*Service, error) {
	if cfg.Store == nil || cfg.Clusters == nil || cfg.Inventory == nil || cfg.Workflows == nil {
		return nil, errors.New("mirror: a store, the register, inventory and workflows are needed")
	}
	if cfg.Grace < 0 {
		return nil, errors.New("mirror: Grace must not be negative")
	}
	cfg.Topic, cfg.Grace = cmp.Or(cfg.Topic, notify.MainTopic), cmp.Or(cfg.Grace, DefaultGrace)
	if cfg.Tell == nil {
		cfg.Tell = func(context.Context, uuid.UUID, string, notify.Reply, notify.Payload) error { return nil }
	}
	s := &Service{cfg: cfg, now: cfg.Now}
	if s.now == nil {
		s.now = time.Now
	}
	return s, nil
}

// adopt finds out whether the platform asked for a cluster: its registration
// says so, in the reply.
func (s *Service) adopt(ctx context.Context, clusterID uuid.UUID) (*Told, error) {
	told, err := s.cfg.Store.MirrorGet(ctx, clusterID)
	if err != nil || told != nil {
		return told, err
	}
	runs, _, err := s.cfg.Workflows.List(ctx, workflow.Filter{ClusterID: &clusterID, Kind: workflow.RegisterCluster}, page.Page{})
	if err != nil {
		return nil, err
	}
	for _, run := range runs {
		if name := asked(run.Reply); name != "" {
			if _, err := s.cfg.Clusters.Get(ctx, clusterID.String()); err != nil {
				if errors.Is(err, cluster.ErrNotFound) {
					err = nil // it came and went
				}
				return nil, err
			}
			if err := s.cfg.Store.MirrorInsert(ctx, clusterID, name); err != nil {
				return nil, err
			}
			return s.cfg.Store.MirrorGet(ctx, clusterID)
		}
	}
	return nil, nil //nolint:nilnil // the platform did not ask for it
}

// asked is the name in a reply of the platform's, empty in any other.
func asked(reply json.RawMessage) string {
	var r struct {
		Name string `json:"name"`
	}
	if len(reply) == 0 || json.Unmarshal(reply, &r) != nil {
		return ""
	}
	return r.Name
}

// Describe gives the result of a registration in the platform's form. It fits
// operation.Config.
func (s *Service) Describe(ctx context.Context, c *cluster.Cluster, nodes []inventory.Node) (json.RawMessage, error) {
	told, err := s.adopt(ctx, c.ID)
	if err != nil {
		return nil, fmt.Errorf("find the platform's name of cluster %s: %w", c.Name, err)
	}
	name := c.Name
	if told != nil {
		name = told.Name
	}
	e := EntryOf(c, nodes, StateOf(With(c, nodes), s.now(), s.cfg.Grace))
	return encode("cluster "+c.Name, described{ID: c.ID, Name: name, Nodes: lean(e).Nodes})
}

// DescribeStatus gives the result of a look at a cluster in the platform's
// form. It fits operation.Config.
func (s *Service) DescribeStatus(_ context.Context, c *cluster.Cluster, nodes []inventory.Node) (json.RawMessage, error) {
	state := StateOf(With(c, nodes), s.now(), s.cfg.Grace)
	return encode("cluster "+c.Name, statusResult{ClusterID: c.ID, Status: state, NodeInfo: lean(EntryOf(c, nodes, state))})
}
