package inventory

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/budecosystem/budcluster/hub/internal/event"
	"github.com/budecosystem/budcluster/internal/facts"
)

// The errors that callers tell apart.
var (
	ErrNotFound  = errors.New("no such node")
	ErrNoCluster = errors.New("no such cluster")
)

// Store keeps the inventory. InTx runs fn in one transaction, which travels in
// the context that fn is given.
type Store interface {
	InTx(ctx context.Context, fn func(ctx context.Context) error) error
	AppendEvents(ctx context.Context, events ...event.Event) error
	Writer
	Reader
	Happenings
}

// Happenings keeps the events of Kubernetes about nodes.
type Happenings interface {
	// NodeEventsWrite adds events or replaces those of the same uid, inside InTx.
	// It keeps the newest of the cluster, and none of any that are from before
	// before.
	NodeEventsWrite(ctx context.Context, clusterID uuid.UUID, events []facts.NodeEvent, keep int, before time.Time) error
	// NodeEventList returns those of one node since then, the newest first.
	NodeEventList(ctx context.Context, clusterID uuid.UUID, node string, since time.Time) ([]facts.NodeEvent, error)
	// NodeEventCounts returns how often something happened to each node.
	NodeEventCounts(ctx context.Context, clusterID uuid.UUID, since time.Time) (map[string]int64, error)
}

// Writer changes the inventory, inside InTx.
type Writer interface {
	// InventoryLock lets one transaction at a time change the cluster's
	// inventory, and returns what is known of the cluster as a whole. It fails
	// with ErrNoCluster.
	InventoryLock(ctx context.Context, clusterID uuid.UUID) (Known, error)
	ClusterFactsWrite(ctx context.Context, clusterID uuid.UUID, f facts.Cluster, digest string) error
	// NodesByName returns those of the named nodes that are there.
	NodesByName(ctx context.Context, clusterID uuid.UUID, names []string) (map[string]Stored, error)
	// NodesWrite inserts or replaces nodes and the devices that changed.
	NodesWrite(ctx context.Context, clusterID uuid.UUID, at time.Time, changes []NodeChange) error
	// NodesDrop deletes nodes with their devices and returns the names of those
	// that were there.
	NodesDrop(ctx context.Context, clusterID uuid.UUID, names []string) ([]string, error)
}

// Reader looks the inventory up.
type Reader interface {
	// NodeDigests returns the digest of each node of the cluster.
	NodeDigests(ctx context.Context, clusterID uuid.UUID) (map[string]string, error)
	NodeList(ctx context.Context, f Filter, after NodeKey, limit int) ([]Node, error)
	// NodeByName fails with ErrNotFound.
	NodeByName(ctx context.Context, clusterID uuid.UUID, name string) (Node, error)
	DeviceList(ctx context.Context, f DeviceFilter, after DeviceKey, limit int) ([]Device, error)
}

// Known is what the hub has of the cluster as a whole.
type Known struct {
	Name   string
	Facts  *facts.Cluster
	Digest string
	// Retired: it left the fleet, and nothing more is kept of it.
	Retired bool
}

// Stored is a node as it is in the table. Digest is that of the facts as the
// agent sent them.
type Stored struct {
	facts.Node
	Digest string
}

// NodeChange is what one node's rows are to become.
type NodeChange struct {
	Node   facts.Node
	Digest string
	// Devices are those that are new or changed, Gone the ids of those that
	// are not there any more.
	Devices []facts.Device
	Gone    []string
}

// NodeKey is the place of a node in the list.
type NodeKey struct {
	ClusterID uuid.UUID
	Name      string
}

// DeviceKey is the place of a device in the list.
type DeviceKey struct {
	ClusterID uuid.UUID
	Node, ID  string
}
