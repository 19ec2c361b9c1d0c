package release

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"github.com/budecosystem/budcluster/agent/api/v1alpha1"
	"github.com/budecosystem/budcluster/agent/internal/helm"
	"github.com/budecosystem/budcluster/internal/logkey"
)

const (
	// fieldManager is who we are when we look for drift and correct it.
	fieldManager = "budcluster"
	// maxDrift bounds what is reported of one release.
	maxDrift = 50
	// maxRaces is how often an object may change while it is compared.
	maxRaces = 3
)

// surveyor finds out what others changed. The API server is asked what the
// object would be if the manifest were applied; what differs from the object
// as it is, is drift. So defaults, and what admission webhooks write, are
// never drift: the answer has them too.
type surveyor struct {
	dynamic dynamic.Interface
	log     *slog.Logger
}

// clean remembers objects that were as they should be, by a hash, so that an
// object that nobody touched costs one read and no dry run.
type clean map[string][sha256.Size]byte

// survey compares all objects of a manifest with what is there.
func (s *surveyor) survey(ctx context.Context, objects []helm.Object, known clean) ([]v1alpha1.Drift, error) {
	var drift []v1alpha1.Drift
	for _, obj := range objects {
		if !obj.Known || obj.GetName() == "" {
			continue
		}
		found, err := s.compare(ctx, obj, known)
		if err != nil {
			return nil, fmt.Errorf("look for drift of %s: %w", obj, err)
		}
		if drift = append(drift, found...); len(drift) >= maxDrift {
			return drift[:maxDrift], nil
		}
	}
	return drift, nil
}

func (s *surveyor) client(obj helm.Object) dynamic.ResourceInterface {
	r := s.dynamic.Resource(obj.Resource)
	if obj.Namespaced {
		return r.Namespace(obj.GetNamespace())
	}
	return r
}

func (s *surveyor) compare(ctx context.Context, obj helm.Object, known clean) ([]v1alpha1.Drift, error) {
	for range maxRaces {
		live, err := s.client(obj).Get(ctx, obj.GetName(), metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return missing(obj), nil
		}
		if err != nil {
			return nil, s.tolerate(ctx, obj, err)
		}
		sum := fingerprint(live)
		if old, ok := known[obj.String()]; ok && old == sum {
			return nil, nil
		}
		applied, err := s.apply(ctx, obj, live, []string{metav1.DryRunAll})
		if err != nil {
			return nil, s.tolerate(ctx, obj, err)
		}
		if applied.GetResourceVersion() != live.GetResourceVersion() {
			continue // it changed between the two requests
		}
		diffs := diffObjects(live, applied)
		if len(diffs) == 0 {
			known[obj.String()] = sum
			return nil, nil
		}
		delete(known, obj.String())
		return report(obj, live, diffs), nil
	}
	return nil, nil // busy; the next interval looks again
}

// missing: an object that is not there is drift, unless it is a Job that its
// own time to live took away.
func missing(obj helm.Object) []v1alpha1.Drift {
	if finishes(obj) {
		return nil
	}
	return []v1alpha1.Drift{{Object: obj.String()}}
}

// finishes: a Job that Kubernetes deletes once it is done.
func finishes(obj helm.Object) bool {
	_, found, _ := unstructured.NestedFieldNoCopy(obj.Object, "spec", "ttlSecondsAfterFinished")
	return found && obj.GroupVersionKind().GroupKind().String() == "Job.batch"
}

func report(obj helm.Object, live *unstructured.Unstructured, diffs []difference) []v1alpha1.Drift {
	drift := make([]v1alpha1.Drift, 0, len(diffs))
	for _, d := range diffs {
		drift = append(drift, v1alpha1.Drift{
			Object: obj.String(), Field: d.text, Manager: managerOf(live, d.path, fieldManager, helm.FieldManager()),
		})
	}
	return drift
}

// fingerprint covers what a person or a controller may change, not what the
// API server counts.
func fingerprint(live *unstructured.Unstructured) [sha256.Size]byte {
	subset := map[string]any{}
	for key, value := range live.Object {
		if key != "status" && key != "metadata" {
			subset[key] = value
		}
	}
	subset["metadata"] = comparableMeta(live)
	raw, _ := json.Marshal(subset) //nolint:errchkjson // it came from JSON
	return sha256.Sum256(raw)
}

// apply sends the manifest's object by server-side apply. Where that does not
// work, lists are replaced as a whole by a merge patch: a Service whose port
// was renumbered (both ports would stay, with one name), an environment with
// the same name twice, a field that the API server does not know (Helm's own
// requests let both pass).
func (s *surveyor) apply(ctx context.Context, obj helm.Object, live *unstructured.Unstructured, dryRun []string) (*unstructured.Unstructured, error) {
	body, err := json.Marshal(withoutScaled(obj.Unstructured, live))
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", obj, err)
	}
	force := true
	opts := metav1.PatchOptions{FieldManager: fieldManager, Force: &force, DryRun: dryRun}
	out, err := s.client(obj).Patch(ctx, obj.GetName(), types.ApplyPatchType, body, opts)
	if live == nil || !apierrors.IsInvalid(err) && !apierrors.IsInternalError(err) && !apierrors.IsBadRequest(err) {
		return out, err
	}
	opts.Force = nil
	merged, mergeErr := s.client(obj).Patch(ctx, obj.GetName(), types.MergePatchType, body, opts)
	if mergeErr != nil {
		return nil, err
	}
	return merged, nil
}

// tolerate: an object that the API server will not compare (a webhook that
// refuses dry runs, a list with the same name twice, a missing permission)
// must not hold up the others. Only losing the API server is an error.
func (s *surveyor) tolerate(ctx context.Context, obj helm.Object, err error) error {
	var status apierrors.APIStatus
	if !errors.As(err, &status) || apierrors.IsTimeout(err) || apierrors.IsServerTimeout(err) || apierrors.IsTooManyRequests(err) || apierrors.IsServiceUnavailable(err) {
		return err
	}
	s.log.DebugContext(ctx, "object cannot be checked for drift", slog.String(logkey.Object, obj.String()), slog.Any(logkey.Error, err))
	return nil
}

// correct applies the objects that drift names, and returns how many.
func (s *surveyor) correct(ctx context.Context, objects []helm.Object, drift []v1alpha1.Drift) (int, error) {
	wrong := map[string]bool{}
	for _, d := range drift {
		wrong[d.Object] = true
	}
	count := 0
	var errs []error
	for _, obj := range objects {
		if !wrong[obj.String()] {
			continue
		}
		live, err := s.client(obj).Get(ctx, obj.GetName(), metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			live, err = nil, nil
		}
		if err == nil {
			_, err = s.apply(ctx, obj, live, nil)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("correct %s: %w", obj, err))
			continue
		}
		count++
	}
	return count, errors.Join(errs...)
}
