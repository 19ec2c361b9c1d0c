package cluster

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/budecosystem/budcluster/hub/internal/event"
	"github.com/budecosystem/budcluster/internal/facts"
)

// Store keeps the register. InTx runs fn in one transaction, which travels in
// the context that fn is given; events are written as its last act.
type Store interface {
	InTx(ctx context.Context, fn func(ctx context.Context) error) error
	AppendEvents(ctx context.Context, events ...event.Event) error
	// WakeReleases tells the replica that holds the cluster's tunnel that what
	// is wanted there changed, once the transaction is done.
	WakeReleases(ctx context.Context, clusterID uuid.UUID)
	Register
	Sessions
	Presences
	Retirements
	Upgrades
}

// Register is the table of clusters. Lookups fail with ErrNotFound.
type Register interface {
	// ClusterInsert fails with ErrExists when the name is taken.
	ClusterInsert(ctx context.Context, c *Cluster) error
	ClusterByID(ctx context.Context, id uuid.UUID) (*Cluster, error)
	// ClusterByName finds those of the fleet; a retired one has only its id.
	ClusterByName(ctx context.Context, name string) (*Cluster, error)
	// ClusterList returns the clusters of the fleet, or the retired ones, in
	// order of name and id, beginning after the given place.
	ClusterList(ctx context.Context, retired bool, after Place, limit int) ([]*Cluster, error)
	// ClusterLock is ClusterByID that also keeps others from changing the
	// cluster, or adding to it, until the transaction ends.
	ClusterLock(ctx context.Context, id uuid.UUID) (*Cluster, error)
	// ClusterDelete deletes the cluster and all that belongs to it.
	ClusterDelete(ctx context.Context, id uuid.UUID) error
	ClusterSetIngressURL(ctx context.Context, id uuid.UUID, ingressURL string) error
	// ClusterSetInstalling stores Cluster.InstallingAt.
	ClusterSetInstalling(ctx context.Context, id uuid.UUID, at *time.Time) error
	// ClusterRevoke marks the cluster, its certificates and its join tokens.
	ClusterRevoke(ctx context.Context, id uuid.UUID, at time.Time) error
	ClusterReleaseCount(ctx context.Context, id uuid.UUID) (int, error)
	ClusterSetDegraded(ctx context.Context, id uuid.UUID, degraded []Degradation) error
}

// Sessions is the table of open tunnels, at most one for each cluster.
type Sessions interface {
	// SessionOpen replaces the cluster's session by one with the next epoch.
	SessionOpen(ctx context.Context, id uuid.UUID, s Session, agentVersion string) (epoch int64, err error)
	// SessionRenew extends the leases that replica still holds.
	SessionRenew(ctx context.Context, replica string, ids []uuid.UUID, now, leaseUntil time.Time) error
	// SessionClose removes the session if it is of this epoch.
	SessionClose(ctx context.Context, id uuid.UUID, epoch int64, now time.Time) (closed bool, err error)
	// SessionExpire removes sessions whose lease ended before now.
	SessionExpire(ctx context.Context, now time.Time) ([]Expired, error)
	// SessionEpochs returns the current epoch of those of ids that have a
	// session and are not revoked.
	SessionEpochs(ctx context.Context, ids []uuid.UUID) (map[uuid.UUID]int64, error)
}

// Presences is what was found in clusters.
type Presences interface {
	PresenceRead(ctx context.Context, id uuid.UUID) (Presence, error)
	PresenceWrite(ctx context.Context, id uuid.UUID, answers []facts.Presence, at time.Time) error
}

// Upgrades is which agents are wanted.
type Upgrades interface {
	AgentRead(ctx context.Context, id uuid.UUID) (AgentUpgrade, error)
	// AgentWrite stores u, whose Target is not nil.
	AgentWrite(ctx context.Context, id uuid.UUID, u AgentUpgrade) error
}

// Retirements is the end of clusters.
type Retirements interface {
	// RetireLock is ClusterLock that also keeps the inventory from changing.
	RetireLock(ctx context.Context, id uuid.UUID) (*Cluster, error)
	// RetireWrite stores the fields of c that are about its retirement.
	RetireWrite(ctx context.Context, c *Cluster) error
	// RetireDrop deletes the cluster's nodes, devices and releases, and makes
	// its join tokens useless.
	RetireDrop(ctx context.Context, id uuid.UUID, at time.Time) error
	// RetirementOf says what the agent is to be told.
	RetirementOf(ctx context.Context, id uuid.UUID) (Retirement, error)
}

// Place is where a cluster is in the list.
type Place struct {
	Name string
	ID   uuid.UUID
}

// Expired is a session whose replica went away without closing it.
type Expired struct {
	ClusterID uuid.UUID
	Name      string
	Replica   string
	Epoch     int64
	LastSeen  time.Time
}
