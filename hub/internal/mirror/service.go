package mirror

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"github.com/budecosystem/budcluster/hub/internal/cluster"
	"github.com/budecosystem/budcluster/hub/internal/event"
	"github.com/budecosystem/budcluster/hub/internal/inventory"
	"github.com/budecosystem/budcluster/hub/internal/notify"
	"github.com/budecosystem/budcluster/hub/internal/page"
	"github.com/budecosystem/budcluster/hub/internal/workflow"
)

// The defaults of Config.
const (
	// DefaultKey is where the platform's planner reads clusters.
	DefaultKey    = "cluster_info"
	DefaultSettle = 500 * time.Millisecond
	DefaultSweep  = 30 * time.Second
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

// Feed is the record of events as it grows; event.Service.
type Feed interface {
	Latest(ctx context.Context) (int64, error)
	List(ctx context.Context, f event.Filter) ([]event.Event, error)
}

// SharedState is the store that the platform's services share.
type SharedState interface {
	// Update replaces a value by what change makes of it, whole and unless
	// somebody else was faster; then it begins anew. Returning what it got
	// changes nothing.
	Update(ctx context.Context, key string, change func(old json.RawMessage) (json.RawMessage, error)) error
}

// Config makes a Service.
type Config struct {
	Store     Store
	Clusters  Clusters
	Inventory Inventory
	Workflows Workflows
	Feed      Feed
	Logger    *slog.Logger
	// Tell writes a message to the outbox; notify.Service's. Nil tells nobody.
	Tell func(ctx context.Context, stream uuid.UUID, key string, r notify.Reply, p notify.Payload) error
	// State is nil where there is none.
	State SharedState
	// Wake is readable when the feed may have grown.
	Wake <-chan struct{}
	// Key is DefaultKey when empty; Topic notify.MainTopic.
	Key, Topic string
	// Settle is how long changes are gathered, Sweep how often all is looked at;
	// Grace is how long an agent may be away. Each has its default when zero.
	Settle, Sweep, Grace time.Duration
	// Now is time.Now when nil.
	Now func() time.Time
}

// Service shows clusters.
type Service struct {
	cfg   Config
	log   *slog.Logger
	now   func() time.Time
	after int64 // of the feed; Run's own
}

// New checks cfg and makes the Service. It starts nothing.
func New(cfg Config) (*Service, error) {
	if cfg.Store == nil || cfg.Clusters == nil || cfg.Inventory == nil || cfg.Workflows == nil || cfg.Feed == nil || cfg.Logger == nil {
		return nil, errors.New("mirror: a store, the register, inventory, workflows, a feed and a logger are needed")
	}
	if cfg.Settle < 0 || cfg.Sweep < 0 || cfg.Grace < 0 {
		return nil, errors.New("mirror: Settle, Sweep and Grace must not be negative")
	}
	cfg.Key, cfg.Topic = cmp.Or(cfg.Key, DefaultKey), cmp.Or(cfg.Topic, notify.MainTopic)
	cfg.Settle, cfg.Sweep, cfg.Grace = cmp.Or(cfg.Settle, DefaultSettle), cmp.Or(cfg.Sweep, DefaultSweep), cmp.Or(cfg.Grace, DefaultGrace)
	if cfg.Tell == nil {
		cfg.Tell = func(context.Context, uuid.UUID, string, notify.Reply, notify.Payload) error { return nil }
	}
	s := &Service{cfg: cfg, log: cfg.Logger, now: cfg.Now}
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
	e := EntryOf(c, nodes, StateOf(c, s.now(), s.cfg.Grace))
	return encode("cluster "+c.Name, described{ID: c.ID, Name: name, Nodes: lean(e).Nodes})
}

// DescribeStatus gives the result of a look at a cluster in the platform's
// form. It fits operation.Config.
func (s *Service) DescribeStatus(_ context.Context, c *cluster.Cluster, nodes []inventory.Node) (json.RawMessage, error) {
	state := StateOf(c, s.now(), s.cfg.Grace)
	return encode("cluster "+c.Name, statusResult{ClusterID: c.ID, Status: state, NodeInfo: lean(EntryOf(c, nodes, state))})
}
