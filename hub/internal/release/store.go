package release

import (
	"context"

	"github.com/google/uuid"

	"github.com/budecosystem/budcluster/hub/internal/event"
)

// Store keeps releases. InTx runs fn in one transaction, which travels in the
// context that fn is given. Events and wake-ups are its last act.
type Store interface {
	InTx(ctx context.Context, fn func(ctx context.Context) error) error
	AppendEvents(ctx context.Context, events ...event.Event) error
	// WakeReleases tells the replica that holds the cluster's tunnel that its
	// desired state changed, once the transaction is done.
	WakeReleases(ctx context.Context, clusterID uuid.UUID)
	// ChartNamed returns name and version of a stored chart, or ErrNoChart.
	ChartNamed(ctx context.Context, digest string) (Chart, error)
	Reader
	Writer
}

// Reader looks releases up. Lookups fail with ErrNotFound. None but
// ReleasesByID and ReleaseLock return secret values, and those sealed.
type Reader interface {
	ReleaseByName(ctx context.Context, clusterID uuid.UUID, name string) (*Release, error)
	ReleaseList(ctx context.Context, f Filter, after Place, limit int) ([]*Release, error)
	ReleaseRefs(ctx context.Context, clusterID uuid.UUID) ([]Desired, error)
	ReleasesByID(ctx context.Context, clusterID uuid.UUID, ids []uuid.UUID) ([]Sealed, error)
	ReleaseNamesChart(ctx context.Context, clusterID uuid.UUID, digest string) (bool, error)
}

// Writer changes releases, inside InTx.
type Writer interface {
	// ReleaseCluster keeps the cluster from being deleted, joining or retiring
	// until the transaction ends; it fails with ErrNoCluster, also for one that
	// is retired.
	ReleaseCluster(ctx context.Context, clusterID uuid.UUID) (Home, error)
	// ReleaseLock keeps others from changing the release until the transaction
	// ends.
	ReleaseLock(ctx context.Context, clusterID uuid.UUID, name string) (*Sealed, error)
	// ReleaseLockID is ReleaseLock by id.
	ReleaseLockID(ctx context.Context, clusterID, id uuid.UUID) (*Sealed, error)
	// ReleaseWrite inserts or replaces all of the release but its status.
	ReleaseWrite(ctx context.Context, r Sealed) error
	ReleaseWriteStatus(ctx context.Context, id uuid.UUID, s Status) error
	ReleaseDrop(ctx context.Context, id uuid.UUID) error
}

// Sealed is a release as it is stored: Release.Spec.SecretValues is empty, and
// Secret holds what opens to the salt and the values; empty when there are none.
type Sealed struct {
	*Release
	Secret []byte
}

// Home is what matters of a release's cluster.
type Home struct {
	// Joined: it has an agent.
	Joined bool
	// Retiring: it is leaving the fleet.
	Retiring bool
}

// Place is where a release is: the key of the list.
type Place struct {
	ClusterID uuid.UUID
	Name      string
}

// Desired names what is wanted without saying it.
type Desired struct {
	ID         uuid.UUID
	Generation int64
	Digest     string
}

// Sealer encrypts at rest.
type Sealer interface {
	Seal(plaintext, associatedData []byte) ([]byte, error)
	Unseal(sealed, associatedData []byte) ([]byte, error)
}
