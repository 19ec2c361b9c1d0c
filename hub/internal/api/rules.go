package api

import (
	"context"

	"github.com/google/uuid"
	"google.golang.org/grpc"

	"github.com/budecosystem/budcluster/hub/internal/access"
	"github.com/budecosystem/budcluster/hub/internal/chart"
	"github.com/budecosystem/budcluster/hub/internal/cluster"
	"github.com/budecosystem/budcluster/hub/internal/component"
	"github.com/budecosystem/budcluster/hub/internal/enroll"
	"github.com/budecosystem/budcluster/hub/internal/equip"
	"github.com/budecosystem/budcluster/hub/internal/event"
	"github.com/budecosystem/budcluster/hub/internal/inventory"
	"github.com/budecosystem/budcluster/hub/internal/operation"
	"github.com/budecosystem/budcluster/hub/internal/page"
	"github.com/budecosystem/budcluster/hub/internal/release"
	"github.com/budecosystem/budcluster/hub/internal/workflow"
	"github.com/budecosystem/budcluster/internal/secret"
)

// Clusters is the register; cluster.Service.
type Clusters interface {
	Create(ctx context.Context, actor, name string, labels map[string]string) (*cluster.Cluster, error)
	Get(ctx context.Context, ref string) (*cluster.Cluster, error)
	List(ctx context.Context, p page.Page) ([]*cluster.Cluster, string, error)
	Delete(ctx context.Context, actor, ref string, force bool) error
	Revoke(ctx context.Context, actor, ref string) error
	Leaving
}

// Leaving is how clusters leave the fleet, and what was found in them;
// cluster.Service.
type Leaving interface {
	ListRetired(ctx context.Context, p page.Page) ([]*cluster.Cluster, string, error)
	Retire(ctx context.Context, actor, ref string, force bool) (*cluster.Cluster, error)
	Presence(ctx context.Context, id uuid.UUID) (cluster.Presence, error)
}

// Tokens makes join tokens; enroll.Service.
type Tokens interface {
	CreateToken(ctx context.Context, actor string, clusterID uuid.UUID, o enroll.TokenOptions) (enroll.Token, secret.String, error)
	Tokens(ctx context.Context, clusterID uuid.UUID) ([]enroll.Token, error)
	RevokeToken(ctx context.Context, actor string, clusterID uuid.UUID, tokenID string) error
}

// Releases is desired state; release.Service.
type Releases interface {
	Apply(ctx context.Context, actor string, clusterID uuid.UUID, req release.Request) (*release.Release, bool, error)
	Get(ctx context.Context, clusterID uuid.UUID, name string) (*release.Release, error)
	List(ctx context.Context, f release.Filter, p page.Page) ([]*release.Release, string, error)
	Delete(ctx context.Context, actor string, clusterID uuid.UUID, name string, forget bool) (*release.Release, error)
}

// Inventory is what the clusters have; inventory.Service.
type Inventory interface {
	Nodes(ctx context.Context, f inventory.Filter, p page.Page) ([]inventory.Node, string, error)
	Node(ctx context.Context, clusterID uuid.UUID, name string) (*inventory.Node, error)
	Devices(ctx context.Context, f inventory.DeviceFilter, p page.Page) ([]inventory.Device, string, error)
}

// Workflows is the record of long work; workflow.Service.
type Workflows interface {
	Get(ctx context.Context, ref string) (*workflow.Workflow, error)
	List(ctx context.Context, f workflow.Filter, p page.Page) ([]*workflow.Workflow, string, error)
	Cancel(ctx context.Context, actor, ref string) (*workflow.Workflow, error)
}

// Operations begins long work; operation.Service.
type Operations interface {
	Register(ctx context.Context, actor string, req operation.Register) (*workflow.Workflow, *cluster.Cluster, error)
	Remove(ctx context.Context, actor string, req operation.Remove) (*workflow.Workflow, error)
	Install(ctx context.Context, actor string, req operation.Component) (*workflow.Workflow, error)
	Upgrade(ctx context.Context, actor string, req operation.Component) (*workflow.Workflow, error)
	Uninstall(ctx context.Context, actor string, req operation.Component) (*workflow.Workflow, error)
	Rollout(ctx context.Context, actor string, req operation.Rollout) (*workflow.Workflow, error)
	UpgradeAgent(ctx context.Context, actor string, req operation.AgentUpgrade) (*workflow.Workflow, error)
	Retry(ctx context.Context, actor, ref string) (*workflow.Workflow, error)
}

// Equipment is the components of clusters; equip.Service.
type Equipment interface {
	Catalogue() *component.Catalogue
	Overview(ctx context.Context, clusterID uuid.UUID) ([]equip.Status, error)
}

// Charts keeps charts; chart.Service.
type Charts interface {
	Put(ctx context.Context, actor string, tgz []byte) (chart.Meta, error)
	List(ctx context.Context, p page.Page) ([]chart.Meta, string, error)
	Resolve(ctx context.Context, actor string, src chart.Source) (chart.Meta, error)
}

// Access says who may; access.Service.
type Access interface {
	Authenticate(ctx context.Context, presented string) (access.Principal, error)
	CreateKey(ctx context.Context, actor, name string, role access.Role) (access.Key, secret.String, error)
	Keys(ctx context.Context) ([]access.Key, error)
	RevokeKey(ctx context.Context, actor, id string) error
}

// Events is the record of what happened; event.Service.
type Events interface {
	List(ctx context.Context, f event.Filter) ([]event.Event, error)
	Latest(ctx context.Context) (int64, error)
	Follow(ctx context.Context, f event.Filter, after int64, wake <-chan struct{}, fn func(event.Event) error) error
}

// Agents reaches the clusters through their tunnels; the gateway.
type Agents interface {
	// Conn fails when the cluster has no tunnel.
	Conn(id uuid.UUID) (*grpc.ClientConn, error)
}
