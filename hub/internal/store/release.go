package store

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"github.com/budecosystem/budcluster/hub/internal/release"
	"github.com/budecosystem/budcluster/hub/internal/store/sqlcgen"
)

// ReleaseCluster locks the cluster against deletion, joining and retirement.
func (s *Store) ReleaseCluster(ctx context.Context, clusterID uuid.UUID) (release.Home, error) {
	r, err := s.q.ReleaseClusterForShare(ctx, s.db(ctx), clusterID)
	return release.Home{Joined: r.Joined, Retiring: r.Retiring}, notFound(err, release.ErrNoCluster)
}

// ReleaseByName looks a release up, without secret values.
func (s *Store) ReleaseByName(ctx context.Context, clusterID uuid.UUID, name string) (*release.Release, error) {
	found, err := s.releases(ctx, sqlcgen.ReleaseListParams{ClusterID: &clusterID, Name: &name, Lim: 1})
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, release.ErrNotFound
	}
	return found[0], nil
}

// ReleaseList returns releases in order of cluster and name.
func (s *Store) ReleaseList(ctx context.Context, f release.Filter, after release.Place, limit int) ([]*release.Release, error) {
	return s.releases(ctx, sqlcgen.ReleaseListParams{
		AfterCluster: after.ClusterID, AfterName: after.Name, ClusterID: f.ClusterID, Phase: optional(string(f.Phase)), Lim: int32(limit), //nolint:gosec // a page's limit
	})
}

func (s *Store) releases(ctx context.Context, p sqlcgen.ReleaseListParams) ([]*release.Release, error) {
	rows, err := s.q.ReleaseList(ctx, s.db(ctx), p)
	if err != nil {
		return nil, err
	}
	releases := make([]*release.Release, 0, len(rows))
	for _, r := range rows {
		one, err := releaseOf(sqlcgen.Releases{
			ID: r.ID, ClusterID: r.ClusterID, Name: r.Name, Namespace: r.Namespace, Generation: r.Generation, Digest: r.Digest,
			Spec: r.Spec, RemovedAt: r.RemovedAt, CreatedAt: r.CreatedAt, UpdatedAt: r.UpdatedAt, Status: r.Status,
		})
		if err != nil {
			return nil, err
		}
		releases = append(releases, one.Release)
	}
	return releases, nil
}

func releaseOf(r sqlcgen.Releases) (*release.Sealed, error) {
	spec, err := decode[release.Spec](r.Spec, "spec of release "+r.Name)
	if err != nil {
		return nil, err
	}
	status, err := decode[release.Status](r.Status, "status of release "+r.Name)
	if err != nil {
		return nil, err
	}
	return &release.Sealed{Secret: r.SecretValues, Release: &release.Release{
		ID: r.ID, ClusterID: r.ClusterID, Name: r.Name, Namespace: r.Namespace, Generation: r.Generation, Digest: r.Digest,
		Spec: spec, RemovedAt: r.RemovedAt, CreatedAt: r.CreatedAt, UpdatedAt: r.UpdatedAt, Status: status,
	}}, nil
}

// ReleaseRefs names all releases of a cluster.
func (s *Store) ReleaseRefs(ctx context.Context, clusterID uuid.UUID) ([]release.Desired, error) {
	rows, err := s.q.ReleaseRefs(ctx, s.db(ctx), clusterID)
	if err != nil {
		return nil, err
	}
	refs := make([]release.Desired, 0, len(rows))
	for _, r := range rows {
		refs = append(refs, release.Desired{ID: r.ID, Generation: r.Generation, Digest: r.Digest})
	}
	return refs, nil
}

// ReleasesByID returns releases with their sealed secret values.
func (s *Store) ReleasesByID(ctx context.Context, clusterID uuid.UUID, ids []uuid.UUID) ([]release.Sealed, error) {
	rows, err := s.q.ReleasesByID(ctx, s.db(ctx), sqlcgen.ReleasesByIDParams{ClusterID: clusterID, Ids: ids})
	if err != nil {
		return nil, err
	}
	releases := make([]release.Sealed, 0, len(rows))
	for _, r := range rows {
		one, err := releaseOf(r)
		if err != nil {
			return nil, err
		}
		releases = append(releases, *one)
	}
	return releases, nil
}

// ReleaseNamesChart reports whether a release of the cluster uses a chart.
func (s *Store) ReleaseNamesChart(ctx context.Context, clusterID uuid.UUID, digest string) (bool, error) {
	return s.q.ReleaseNamesChart(ctx, s.db(ctx), sqlcgen.ReleaseNamesChartParams{ClusterID: clusterID, Digest: digest})
}

// ReleaseLock looks a release up by name and locks it.
func (s *Store) ReleaseLock(ctx context.Context, clusterID uuid.UUID, name string) (*release.Sealed, error) {
	r, err := s.q.ReleaseByNameForUpdate(ctx, s.db(ctx), sqlcgen.ReleaseByNameForUpdateParams{ClusterID: clusterID, Name: name})
	if err != nil {
		return nil, notFound(err, release.ErrNotFound)
	}
	return releaseOf(r)
}

// ReleaseLockID looks a release up by id and locks it.
func (s *Store) ReleaseLockID(ctx context.Context, clusterID, id uuid.UUID) (*release.Sealed, error) {
	r, err := s.q.ReleaseByIDForUpdate(ctx, s.db(ctx), sqlcgen.ReleaseByIDForUpdateParams{ClusterID: clusterID, ID: id})
	if err != nil {
		return nil, notFound(err, release.ErrNotFound)
	}
	return releaseOf(r)
}

// ReleaseWrite inserts or replaces all of a release but its status.
func (s *Store) ReleaseWrite(ctx context.Context, r release.Sealed) error {
	spec, err := encode(r.Spec, "spec of release "+r.Name)
	if err != nil {
		return err
	}
	err = s.q.ReleaseUpsert(ctx, s.db(ctx), sqlcgen.ReleaseUpsertParams{
		ID: r.ID, ClusterID: r.ClusterID, Name: r.Name, Namespace: r.Namespace, Generation: r.Generation, Digest: r.Digest,
		ChartDigest: r.Spec.Chart.Digest, Spec: spec, SecretValues: r.Secret, RemovedAt: r.RemovedAt,
		CreatedAt: r.CreatedAt, UpdatedAt: r.UpdatedAt,
	})
	switch {
	case violates(err, foreignKeyViolation, "releases_chart_digest_fkey"):
		return release.ErrNoChart
	case violates(err, uniqueViolation, "releases_cluster_name_key"):
		return release.ErrRace
	}
	return err
}

// ReleaseWriteStatus replaces a release's status.
func (s *Store) ReleaseWriteStatus(ctx context.Context, id uuid.UUID, status release.Status) error {
	raw, err := encode(status, "status of release "+id.String())
	if err != nil {
		return err
	}
	return s.q.ReleaseSetStatus(ctx, s.db(ctx), sqlcgen.ReleaseSetStatusParams{
		ID: id, Phase: string(status.Phase), ObservedGeneration: status.ObservedGeneration, Status: raw,
	})
}

// ReleaseDrop deletes a release.
func (s *Store) ReleaseDrop(ctx context.Context, id uuid.UUID) error {
	if err := s.q.ReleaseDelete(ctx, s.db(ctx), id); err != nil {
		return fmt.Errorf("delete release %s: %w", id, err)
	}
	return nil
}

// ChartNamed returns name and version of a stored chart.
func (s *Store) ChartNamed(ctx context.Context, digest string) (release.Chart, error) {
	r, err := s.q.ChartMeta(ctx, s.db(ctx), digest)
	if err != nil {
		return release.Chart{}, notFound(err, release.ErrNoChart)
	}
	return release.Chart{Digest: r.Digest, Name: r.Name, Version: r.Version}, nil
}
