package cluster

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/budecosystem/budcluster/hub/internal/event"
)

// Store keeps the register. InTx runs fn in one transaction, which travels in
// the context that fn is given; events are written as its last act.
type Store interface {
	InTx(ctx context.Context, fn func(ctx context.Context) error) error
	AppendEvents(ctx context.Context, events ...event.Event) error
	Register
	Sessions
}

// Register is the table of clusters. Lookups fail with ErrNotFound.
type Register interface {
	// ClusterInsert fails with ErrExists when the name is taken.
	ClusterInsert(ctx context.Context, c *Cluster) error
	ClusterByID(ctx context.Context, id uuid.UUID) (*Cluster, error)
	ClusterByName(ctx context.Context, name string) (*Cluster, error)
	// ClusterList returns clusters in order of name, beginning after the given.
	ClusterList(ctx context.Context, after string, limit int) ([]*Cluster, error)
	// ClusterLock is ClusterByID that also keeps others from changing the
	// cluster, or adding to it, until the transaction ends.
	ClusterLock(ctx context.Context, id uuid.UUID) (*Cluster, error)
	// ClusterDelete deletes the cluster and all that belongs to it.
	ClusterDelete(ctx context.Context, id uuid.UUID) error
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

// Expired is a session whose replica went away without closing it.
type Expired struct {
	ClusterID uuid.UUID
	Name      string
	Replica   string
	Epoch     int64
	LastSeen  time.Time
}
