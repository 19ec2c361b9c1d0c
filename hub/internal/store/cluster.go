package store

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/google/uuid"

	"github.com/budecosystem/budcluster/hub/internal/cluster"
	"github.com/budecosystem/budcluster/hub/internal/store/sqlcgen"
	"github.com/budecosystem/budcluster/internal/facts"
)

// ClusterInsert adds a cluster.
func (s *Store) ClusterInsert(ctx context.Context, c *cluster.Cluster) error {
	labels := c.Labels
	if labels == nil {
		labels = map[string]string{}
	}
	raw, err := encode(labels, "labels")
	if err != nil {
		return err
	}
	n, err := s.q.ClusterInsert(ctx, s.db(ctx), sqlcgen.ClusterInsertParams{ID: c.ID, Name: c.Name, Labels: raw, CreatedAt: c.CreatedAt})
	if err != nil {
		return err
	}
	if n == 0 {
		return &cluster.ExistsError{Name: c.Name}
	}
	return nil
}

// ClusterByID looks a cluster up.
func (s *Store) ClusterByID(ctx context.Context, id uuid.UUID) (*cluster.Cluster, error) {
	return s.clusterFind(ctx, sqlcgen.ClusterFindParams{ID: &id, Lim: 1})
}

// ClusterByName looks a cluster up.
func (s *Store) ClusterByName(ctx context.Context, name string) (*cluster.Cluster, error) {
	retired := false
	return s.clusterFind(ctx, sqlcgen.ClusterFindParams{Name: &name, Retired: &retired, Lim: 1})
}

func (s *Store) clusterFind(ctx context.Context, p sqlcgen.ClusterFindParams) (*cluster.Cluster, error) {
	found, err := s.clusters(ctx, p)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, cluster.ErrNotFound
	}
	return found[0], nil
}

// ClusterList returns clusters in order of name and id.
func (s *Store) ClusterList(ctx context.Context, retired bool, after cluster.Place, limit int) ([]*cluster.Cluster, error) {
	return s.clusters(ctx, sqlcgen.ClusterFindParams{Retired: &retired, After: after.Name, AfterID: after.ID, Lim: int32(limit)}) //nolint:gosec // a page's limit
}

func (s *Store) clusters(ctx context.Context, p sqlcgen.ClusterFindParams) ([]*cluster.Cluster, error) {
	rows, err := s.q.ClusterFind(ctx, s.db(ctx), p)
	if err != nil {
		return nil, err
	}
	clusters := make([]*cluster.Cluster, 0, len(rows))
	for _, r := range rows {
		c, err := clusterOf(r)
		if err != nil {
			return nil, fmt.Errorf("read cluster %s: %w", r.Name, err)
		}
		clusters = append(clusters, c)
	}
	return clusters, nil
}

func clusterOf(r sqlcgen.ClusterFindRow) (*cluster.Cluster, error) {
	c := &cluster.Cluster{
		ID: r.ID, Name: r.Name, IngressURL: r.IngressUrl, UID: deref(r.Uid), AgentVersion: r.AgentVersion, FactsDigest: r.FactsDigest,
		CreatedAt: r.CreatedAt, JoinedAt: r.JoinedAt, RevokedAt: r.RevokedAt, LastSeen: lastSeen(r.LastSeen, r.SeenAt),
		Nodes: int(r.Nodes), ReadyNodes: int(r.ReadyNodes),
		RetireGeneration: r.RetireGeneration, RetiringAt: r.RetiringAt, RetiredAt: r.RetiredAt, GoneAt: r.GoneAt,
		InstallingAt: r.InstallingAt,
	}
	var errLabels, errFacts, errDegraded, errLeft error
	c.Left, errLeft = decode[[]string](r.LeftBehind, "what was left behind")
	if len(c.Left) == 0 {
		c.Left = nil
	}
	c.Labels, errLabels = decode[map[string]string](r.Labels, "labels")
	c.Facts, errFacts = decode[*facts.Cluster](r.Facts, "facts")
	c.Degraded, errDegraded = decode[[]cluster.Degradation](r.Degraded, "degradations")
	if len(c.Labels) == 0 {
		c.Labels = nil
	}
	if len(c.Degraded) == 0 {
		c.Degraded = nil
	}
	if r.Epoch != nil {
		c.Session = &cluster.Session{
			Replica: deref(r.Replica), Epoch: *r.Epoch, Instance: deref(r.Instance), RemoteAddr: deref(r.RemoteAddr),
			ConnectedAt: deref(r.ConnectedAt), LeaseUntil: deref(r.LeaseUntil),
		}
	}
	return c, errors.Join(errLabels, errFacts, errDegraded, errLeft)
}

// ClusterLock is ClusterByID with the row locked.
func (s *Store) ClusterLock(ctx context.Context, id uuid.UUID) (*cluster.Cluster, error) {
	if _, err := s.q.ClusterLock(ctx, s.db(ctx), id); err != nil {
		return nil, notFound(err, cluster.ErrNotFound)
	}
	return s.ClusterByID(ctx, id)
}

// ClusterDelete deletes a cluster and what belongs to it.
func (s *Store) ClusterDelete(ctx context.Context, id uuid.UUID) error {
	return s.q.ClusterDelete(ctx, s.db(ctx), id)
}

// ClusterSetIngressURL records where the cluster's models are reached.
func (s *Store) ClusterSetIngressURL(ctx context.Context, id uuid.UUID, ingressURL string) error {
	return s.q.ClusterSetIngressURL(ctx, s.db(ctx), sqlcgen.ClusterSetIngressURLParams{ID: id, IngressUrl: ingressURL})
}

// ClusterRevoke marks a cluster, its tokens and its certificates.
func (s *Store) ClusterRevoke(ctx context.Context, id uuid.UUID, at time.Time) error {
	return s.InTx(ctx, func(ctx context.Context) error {
		db := s.db(ctx)
		if err := s.q.ClusterRevoke(ctx, db, sqlcgen.ClusterRevokeParams{ID: id, At: at}); err != nil {
			return err
		}
		if err := s.q.ClusterRevokeTokens(ctx, db, sqlcgen.ClusterRevokeTokensParams{ClusterID: id, At: at}); err != nil {
			return err
		}
		return s.q.ClusterRevokeCertificates(ctx, db, sqlcgen.ClusterRevokeCertificatesParams{ClusterID: id, At: at})
	})
}

// ClusterReleaseCount counts a cluster's releases, tombstones included.
func (s *Store) ClusterReleaseCount(ctx context.Context, id uuid.UUID) (int, error) {
	n, err := s.q.ClusterCountReleases(ctx, s.db(ctx), id)
	return int(min(n, math.MaxInt)), err
}

// ClusterSetDegraded replaces a cluster's degradations.
func (s *Store) ClusterSetDegraded(ctx context.Context, id uuid.UUID, degraded []cluster.Degradation) error {
	raw, err := encode(degraded, "degradations")
	if err != nil {
		return err
	}
	return s.q.ClusterSetDegraded(ctx, s.db(ctx), sqlcgen.ClusterSetDegradedParams{ID: id, Degraded: raw})
}

// ClusterSetInstalling records when a hub was last at installing the agent; nil
// where none is.
func (s *Store) ClusterSetInstalling(ctx context.Context, id uuid.UUID, at *time.Time) error {
	return s.q.ClusterSetInstalling(ctx, s.db(ctx), sqlcgen.ClusterSetInstallingParams{ID: id, InstallingAt: at})
}

// SessionOpen replaces a cluster's session by one with the next epoch.
func (s *Store) SessionOpen(ctx context.Context, id uuid.UUID, session cluster.Session, agentVersion string) (epoch int64, err error) {
	err = s.InTx(ctx, func(ctx context.Context) error {
		epoch, err = s.q.SessionNextEpoch(ctx, s.db(ctx), sqlcgen.SessionNextEpochParams{ID: id, AgentVersion: agentVersion})
		if err != nil {
			return notFound(err, cluster.ErrNotFound)
		}
		return s.q.SessionWrite(ctx, s.db(ctx), sqlcgen.SessionWriteParams{
			ClusterID: id, Replica: session.Replica, Epoch: epoch, Instance: session.Instance, RemoteAddr: session.RemoteAddr,
			ConnectedAt: session.ConnectedAt, LeaseUntil: session.LeaseUntil,
		})
	})
	return epoch, err
}

// SessionRenew extends leases.
func (s *Store) SessionRenew(ctx context.Context, replica string, ids []uuid.UUID, now, leaseUntil time.Time) error {
	return s.q.SessionRenew(ctx, s.db(ctx), sqlcgen.SessionRenewParams{Replica: replica, ClusterIds: ids, SeenAt: now, LeaseUntil: leaseUntil})
}

// SessionClose removes a session if it is of this epoch.
func (s *Store) SessionClose(ctx context.Context, id uuid.UUID, epoch int64, now time.Time) (closed bool, err error) {
	err = s.InTx(ctx, func(ctx context.Context) error {
		n, err := s.q.SessionDelete(ctx, s.db(ctx), sqlcgen.SessionDeleteParams{ClusterID: id, Epoch: epoch})
		if err != nil || n == 0 {
			return err
		}
		closed = true
		return s.q.SessionMarkSeen(ctx, s.db(ctx), sqlcgen.SessionMarkSeenParams{ID: id, LastSeen: now})
	})
	return closed, err
}

// SessionExpire removes sessions whose lease is over.
func (s *Store) SessionExpire(ctx context.Context, now time.Time) ([]cluster.Expired, error) {
	rows, err := s.q.SessionExpire(ctx, s.db(ctx), now)
	if err != nil {
		return nil, err
	}
	expired := make([]cluster.Expired, 0, len(rows))
	for _, r := range rows {
		expired = append(expired, cluster.Expired{ClusterID: r.ID, Name: r.Name, Replica: r.Replica, Epoch: r.Epoch, LastSeen: r.SeenAt})
	}
	return expired, nil
}

// SessionEpochs returns the epochs of open sessions of clusters that are not
// revoked.
func (s *Store) SessionEpochs(ctx context.Context, ids []uuid.UUID) (map[uuid.UUID]int64, error) {
	rows, err := s.q.SessionEpochs(ctx, s.db(ctx), ids)
	if err != nil {
		return nil, err
	}
	epochs := make(map[uuid.UUID]int64, len(rows))
	for _, r := range rows {
		epochs[r.ClusterID] = r.Epoch
	}
	return epochs, nil
}
