package release

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/budecosystem/budcluster/hub/internal/event"
	"github.com/budecosystem/budcluster/hub/internal/invalid"
	"github.com/budecosystem/budcluster/hub/internal/page"
	"github.com/budecosystem/budcluster/internal/id"
	agentv1 "github.com/budecosystem/budcluster/proto/agent/v1"
)

// Config makes a Service.
type Config struct {
	Store  Store
	Sealer Sealer
	Logger *slog.Logger
	// Now is time.Now when nil.
	Now func() time.Time
}

// Service is the rules of desired state.
type Service struct {
	store Store
	seal  sealing
	log   *slog.Logger
	now   func() time.Time
}

// New checks cfg and makes the Service.
func New(cfg Config) (*Service, error) {
	if cfg.Store == nil || cfg.Sealer == nil || cfg.Logger == nil {
		return nil, errors.New("release: a store, a sealer and a logger are needed")
	}
	s := &Service{store: cfg.Store, seal: sealing{cfg.Sealer}, log: cfg.Logger, now: cfg.Now}
	if s.now == nil {
		s.now = time.Now
	}
	return s, nil
}

// Request is what a caller wants. SecretValues that are nil keep those that
// the release has; an empty object takes them away.
type Request struct {
	Name, Namespace string
	Spec            Spec
	// IfGeneration, if set, must be the current generation; 0 means that there
	// must be no such release.
	IfGeneration *int64
	// Again gives the same request a new generation, so that the agent tries
	// anew what it has given up.
	Again bool
}

// Filter selects releases. Its zero value selects all.
type Filter struct {
	ClusterID *uuid.UUID
	Phase     agentv1.Phase
}

// Apply makes the release be as the request says. The same request again
// changes nothing; created says that the release was not there before. A
// release that is being removed is wanted again.
func (s *Service) Apply(ctx context.Context, actor string, clusterID uuid.UUID, req Request) (r *Release, created bool, err error) {
	if req.Spec, err = s.complete(ctx, req); err != nil {
		return nil, false, err
	}
	apply := func(ctx context.Context) error {
		home, err := s.store.ReleaseCluster(ctx, clusterID)
		if err != nil {
			return err
		}
		if home.Retiring {
			return &RetiringError{Name: req.Name}
		}
		r, created, err = s.apply(ctx, actor, clusterID, req)
		return err
	}
	if err = s.store.InTx(ctx, apply); errors.Is(err, ErrRace) { // now it is there
		err = s.store.InTx(ctx, apply)
	}
	if err != nil {
		return nil, false, fmt.Errorf("apply release %s: %w", req.Name, err)
	}
	r.Spec.SecretValues = nil
	return r, created, nil
}

// complete fills in defaults and the chart's name, and checks the request.
func (s *Service) complete(ctx context.Context, req Request) (Spec, error) {
	spec := req.Spec.WithDefaults()
	if digestPattern.MatchString(spec.Chart.Digest) {
		chart, err := s.store.ChartNamed(ctx, spec.Chart.Digest)
		if errors.Is(err, ErrNoChart) {
			return spec, invalid.New("chart.digest", "the hub has no chart %s; push it first with `budcluster chart push`", spec.Chart.Digest)
		}
		if err != nil {
			return spec, fmt.Errorf("look up chart %s: %w", spec.Chart.Digest, err)
		}
		if (spec.Chart.Name != "" && spec.Chart.Name != chart.Name) || (spec.Chart.Version != "" && spec.Chart.Version != chart.Version) {
			return spec, invalid.New("chart.digest", "it is that of %s %s, not of %s; correct the digest, or leave name and version away",
				chart.Name, chart.Version, invalid.Clip(strings.TrimSpace(spec.Chart.Name+" "+spec.Chart.Version)))
		}
		spec.Chart.Name, spec.Chart.Version = chart.Name, chart.Version
	}
	if err := errors.Join(slices.Concat(validatePlace(req.Name, req.Namespace), spec.validateLeftovers(req.Namespace), []error{spec.Validate()})...); err != nil {
		return spec, err
	}
	return spec.normalise()
}

func (s *Service) apply(ctx context.Context, actor string, clusterID uuid.UUID, req Request) (*Release, bool, error) {
	now := s.now().UTC()
	have, err := s.store.ReleaseLock(ctx, clusterID, req.Name)
	switch {
	case errors.Is(err, ErrNotFound):
		if req.IfGeneration != nil && *req.IfGeneration != 0 {
			return nil, false, &ConflictError{Name: req.Name, Want: *req.IfGeneration}
		}
		r := &Release{ID: id.New(), ClusterID: clusterID, Name: req.Name, Namespace: req.Namespace, Generation: 1, Spec: req.Spec, CreatedAt: now, UpdatedAt: now}
		return r, true, s.write(ctx, actor, r, newSalt())
	case err != nil:
		return nil, false, err
	}
	if req.IfGeneration != nil && *req.IfGeneration != have.Generation {
		return nil, false, &ConflictError{Name: req.Name, Want: *req.IfGeneration, Have: have.Generation}
	}
	if have.Namespace != req.Namespace {
		if have.RemovedAt != nil {
			return nil, false, &BusyError{Name: req.Name, Namespace: have.Namespace}
		}
		return nil, false, invalid.New("namespace", "release %q is in namespace %q and cannot move to %q; delete it first, or use another name",
			req.Name, have.Namespace, req.Namespace)
	}
	salt, values, err := s.seal.open(*have)
	if err != nil {
		return nil, false, err
	}
	if req.Spec.SecretValues == nil {
		req.Spec.SecretValues = values
		if err := req.Spec.Validate(); err != nil { // both together may be too large now
			return nil, false, err
		}
	}
	next := *have.Release
	next.Spec, next.RemovedAt = req.Spec, nil
	digest, err := next.digest(salt)
	if err != nil {
		return nil, false, err
	}
	if digest == have.Digest && !req.Again {
		return &next, false, nil
	}
	next.Generation, next.UpdatedAt = have.nextGeneration(), now
	return &next, have.RemovedAt != nil, s.write(ctx, actor, &next, salt)
}

// nextGeneration is above all that the agent has seen, even if this row came
// back from a backup that is older than what the agent has.
func (r *Release) nextGeneration() int64 { return max(r.Generation, r.Status.ObservedGeneration) + 1 }

// write stores a changed release, with its event and its wake-up.
func (s *Service) write(ctx context.Context, actor string, r *Release, salt []byte) error {
	var err error
	if r.Digest, err = r.digest(salt); err != nil {
		return err
	}
	sealed, err := s.seal.close(r, salt)
	if err != nil {
		return err
	}
	if err := s.store.ReleaseWrite(ctx, sealed); err != nil {
		return err
	}
	kind, message := event.ReleaseApplied, fmt.Sprintf("release %s is to be %s %s", r.Name, r.Spec.Chart.Name, r.Spec.Chart.Version)
	if r.RemovedAt != nil {
		kind, message = event.ReleaseDeleted, fmt.Sprintf("release %s is to be removed", r.Name)
	}
	s.store.WakeReleases(ctx, r.ClusterID)
	return s.record(ctx, r, kind, actor, message)
}

func (s *Service) record(ctx context.Context, r *Release, kind event.Type, actor, message string) error {
	e, err := event.Record(s.now(), kind, actor, eventData{ID: r.ID, Namespace: r.Namespace, Generation: r.Generation, Chart: r.Spec.Chart})
	if err != nil {
		return err
	}
	e.ClusterID, e.Subject, e.Message = r.ClusterID, r.Name, message
	return s.store.AppendEvents(ctx, e)
}

// eventData is the Data of a release's events.
type eventData struct {
	ID         uuid.UUID `json:"id"`
	Namespace  string    `json:"namespace"`
	Generation int64     `json:"generation"`
	Chart      Chart     `json:"chart"`
	Status     *Status   `json:"status,omitempty"`
}

// Get finds a release by its name, without its secret values.
func (s *Service) Get(ctx context.Context, clusterID uuid.UUID, name string) (*Release, error) {
	if !validName(name) {
		return nil, &NotFoundError{Name: invalid.Clip(name)}
	}
	r, err := s.store.ReleaseByName(ctx, clusterID, name)
	if errors.Is(err, ErrNotFound) {
		return nil, &NotFoundError{Name: name}
	}
	if err != nil {
		return nil, fmt.Errorf("get release %s: %w", name, err)
	}
	return r, nil
}

// List returns one page of releases in order of cluster and name, without
// their secret values.
func (s *Service) List(ctx context.Context, f Filter, p page.Page) (releases []*Release, next string, err error) {
	if f.Phase != "" && !slices.Contains(agentv1.Phases(), f.Phase) {
		return nil, "", invalid.New("phase", "%q is not a phase; use one of %v", invalid.Clip(string(f.Phase)), agentv1.Phases())
	}
	key, err := p.Key(2)
	if err != nil {
		return nil, "", err
	}
	after := Place{Name: key[1]}
	if key[0] != "" {
		if after.ClusterID, err = uuid.Parse(key[0]); err != nil {
			return nil, "", invalid.New("cursor", "%q is not one that this list gave out; leave it away to start at the first page", invalid.Clip(p.Cursor))
		}
	}
	releases, err = s.store.ReleaseList(ctx, f, after, p.Size()+1)
	if err != nil {
		return nil, "", fmt.Errorf("list releases: %w", err)
	}
	releases, next = page.Cut(releases, p, func(r *Release) []string { return []string{r.ClusterID.String(), r.Name} })
	return releases, next, nil
}

// Delete asks the agent to remove the release; the release stays, with
// RemovedAt set, until the agent says that it is gone. With forget, or in a
// cluster that has never joined, it goes at once, and what is in the cluster
// stays there.
func (s *Service) Delete(ctx context.Context, actor string, clusterID uuid.UUID, name string, forget bool) (r *Release, err error) {
	if !validName(name) {
		return nil, &NotFoundError{Name: invalid.Clip(name)}
	}
	err = s.store.InTx(ctx, func(ctx context.Context) error {
		home, err := s.store.ReleaseCluster(ctx, clusterID)
		if err != nil {
			return err
		}
		have, err := s.store.ReleaseLock(ctx, clusterID, name)
		if errors.Is(err, ErrNotFound) {
			return &NotFoundError{Name: name}
		}
		if err != nil {
			return err
		}
		r = have.Release
		if forget || !home.Joined {
			return s.drop(ctx, actor, r, forget && home.Joined)
		}
		if r.RemovedAt != nil {
			return nil
		}
		salt, values, err := s.seal.open(*have)
		if err != nil {
			return err
		}
		now := s.now().UTC()
		r.Spec.SecretValues = values
		r.RemovedAt, r.UpdatedAt, r.Generation = &now, now, r.nextGeneration()
		return s.write(ctx, actor, r, salt)
	})
	if err != nil {
		return nil, fmt.Errorf("delete release %s: %w", name, err)
	}
	r.Spec.SecretValues = nil
	return r, nil
}

func (s *Service) drop(ctx context.Context, actor string, r *Release, orphan bool) error {
	if err := s.store.ReleaseDrop(ctx, r.ID); err != nil {
		return err
	}
	message := fmt.Sprintf("release %s is gone", r.Name)
	if orphan {
		message = fmt.Sprintf("release %s was forgotten; what it installed stays in the cluster unmanaged", r.Name)
	}
	s.store.WakeReleases(ctx, r.ClusterID)
	return s.record(ctx, r, event.ReleaseRemoved, actor, message)
}

// Desired names everything that is wanted in a cluster, tombstones included.
func (s *Service) Desired(ctx context.Context, clusterID uuid.UUID) ([]Desired, error) {
	refs, err := s.store.ReleaseRefs(ctx, clusterID)
	if err != nil {
		return nil, fmt.Errorf("list desired state of cluster %s: %w", clusterID, err)
	}
	return refs, nil
}

// ByIDs returns those of the named releases that the cluster has, with their
// secret values: it is for the tunnel only.
func (s *Service) ByIDs(ctx context.Context, clusterID uuid.UUID, ids []uuid.UUID) ([]*Release, error) {
	sealed, err := s.store.ReleasesByID(ctx, clusterID, ids)
	if err != nil {
		return nil, fmt.Errorf("read %d releases of cluster %s: %w", len(ids), clusterID, err)
	}
	releases := make([]*Release, 0, len(sealed))
	for _, one := range sealed {
		_, values, err := s.seal.open(one)
		if err != nil {
			return nil, err
		}
		if hasSecret(values) {
			one.Spec.SecretValues = values
		}
		releases = append(releases, one.Release)
	}
	return releases, nil
}

// ChartAllowed reports whether a release of the cluster names the chart: an
// agent gets no other.
func (s *Service) ChartAllowed(ctx context.Context, clusterID uuid.UUID, digest string) (bool, error) {
	if !digestPattern.MatchString(digest) {
		return false, nil
	}
	allowed, err := s.store.ReleaseNamesChart(ctx, clusterID, digest)
	if err != nil {
		return false, fmt.Errorf("look for releases of chart %s in cluster %s: %w", digest, clusterID, err)
	}
	return allowed, nil
}

// equalStatus compares what is stored.
func equalStatus(a, b Status) bool {
	x, errX := encode(a)
	y, errY := encode(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}
