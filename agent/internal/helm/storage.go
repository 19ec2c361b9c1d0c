package helm

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/storage/driver"
)

// ErrFenced ends an operation whose lock was lost: another agent may be at
// work, so nothing more is written.
var ErrFenced = errors.New("the lock of this operation was lost")

// recorder stands between Helm and its storage for one operation. Helm's SDK
// has no place for labels on a rollback, does not post-render hooks, and does
// not tell a failure from an interruption; the record is where all three are
// put right, because every operation writes it before it does anything.
type recorder struct {
	driver.Driver
	ctx     context.Context //nolint:containedctx // Helm's storage takes no context; this one is the operation's
	labels  map[string]string
	mirrors Mirrors
}

// Create labels the new record and rewrites the images of its hooks.
func (r *recorder) Create(key string, rls *release.Release) error {
	if err := r.fenced(); err != nil {
		return err
	}
	rls.Labels = merge(rls.Labels, r.labels)
	for _, h := range rls.Hooks {
		text, err := r.mirrors.Manifests(h.Manifest)
		if err != nil {
			return fmt.Errorf("hook %s: %w", h.Path, err)
		}
		h.Manifest = text
	}
	return r.Driver.Create(key, rls)
}

// Update marks our record as interrupted when it fails because we stop.
func (r *recorder) Update(key string, rls *release.Release) error {
	if err := r.fenced(); err != nil {
		return err
	}
	rls.Labels = maps.Clone(rls.Labels)
	delete(rls.Labels, labelCreatedAt) // see merge
	delete(rls.Labels, labelModifiedAt)
	ours := rls.Labels[LabelOperation] == r.labels[LabelOperation] && r.labels[LabelOperation] != ""
	if ours && r.ctx.Err() != nil && rls.Info.Status == release.StatusFailed {
		rls.Labels[LabelInterrupted] = labelTrue
	}
	return r.Driver.Update(key, rls)
}

// Delete forgets one revision.
func (r *recorder) Delete(key string) (*release.Release, error) {
	if err := r.fenced(); err != nil {
		return nil, err
	}
	return r.Driver.Delete(key)
}

func (r *recorder) fenced() error {
	if cause := context.Cause(r.ctx); errors.Is(cause, ErrFenced) {
		return cause
	}
	return nil
}
