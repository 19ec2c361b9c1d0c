package release

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/budecosystem/budcluster/agent/api/v1alpha1"
	"github.com/budecosystem/budcluster/internal/facts"
	"github.com/budecosystem/budcluster/internal/logkey"
	agentv1 "github.com/budecosystem/budcluster/proto/agent/v1"
)

// Syncer is what a link to the hub needs of the releases.
type Syncer interface {
	// Have lists what is stored.
	Have(ctx context.Context) ([]*agentv1.ReleaseRef, error)
	// ApplySnapshot takes the list of all that the hub wants. It removes nothing.
	ApplySnapshot(ctx context.Context, refs []*agentv1.ReleaseRef) error
	// Upsert stores one release. What cannot be stored is told in its status;
	// an error means that the cluster could not be written.
	Upsert(ctx context.Context, r *agentv1.Release) error
	// Forget drops the record of a release whose removal the hub has recorded.
	Forget(ctx context.Context, id string) error
	// Statuses sends every status, then each change, until ctx ends. The
	// channel is closed then, and also when the record of a release was deleted
	// by hand: the link has to compare with the hub again.
	Statuses(ctx context.Context) <-chan *agentv1.ReleaseStatus
}

var _ Syncer = (*Manager)(nil)

// Have lists the stored releases. One whose values are missing is listed
// without its digest, so that the hub sends it again.
func (m *Manager) Have(ctx context.Context) ([]*agentv1.ReleaseRef, error) {
	all, err := m.store.list(ctx)
	if err != nil {
		return nil, err
	}
	refs := make([]*agentv1.ReleaseRef, 0, len(all))
	for _, cr := range all {
		ref := &agentv1.ReleaseRef{Id: cr.Spec.ID, Generation: cr.Spec.Generation, Digest: cr.Spec.Digest}
		if cr.Spec.ValuesRef != nil && !cr.Spec.Removed {
			_, err := m.store.values(ctx, cr)
			if err != nil && !errors.Is(err, errValuesMissing) {
				return nil, err
			}
			if err != nil {
				ref.Digest = ""
			}
		}
		refs = append(refs, ref)
	}
	return refs, nil
}

// ApplySnapshot notes what the hub does not list any more, and what it lists
// in an older generation than is stored. Both are kept as they are: only a
// tombstone removes, and a hub restored from a backup turns nothing back.
func (m *Manager) ApplySnapshot(ctx context.Context, refs []*agentv1.ReleaseRef) error {
	listed := make(map[string]*agentv1.ReleaseRef, len(refs))
	for _, r := range refs {
		listed[r.GetId()] = r
	}
	all, err := m.store.list(ctx)
	if err != nil {
		return err
	}
	for _, cr := range all {
		n := note{fresh: true}
		if r, ok := listed[cr.Spec.ID]; !ok {
			n.orphaned = "the hub does not list this release any more; it is kept"
		} else if r.GetGeneration() < cr.Spec.Generation {
			n.refused = staleMessage(r.GetGeneration(), cr.Spec.Generation)
		}
		m.note(cr.Name, n)
	}
	return nil
}

func staleMessage(sent, stored int64) string {
	return fmt.Sprintf("the hub sent generation %d, older than %d that is stored here: refused; change the release at the hub to go on", sent, stored)
}

// note remembers what the hub said, and looks at the release again.
func (m *Manager) note(name string, n note) {
	m.mu.Lock()
	m.notes[name] = n
	m.mu.Unlock()
	m.queue.Add(name)
}

// Upsert stores one release.
func (m *Manager) Upsert(ctx context.Context, r *agentv1.Release) error {
	if m.retiring.Load() && !r.GetRemoved() {
		m.log.WarnContext(ctx, "release refused, the cluster leaves the fleet", slog.String(logkey.Release, r.GetName()))
		return nil
	}
	spec, v, err := specOf(r)
	if err != nil {
		m.reject(ctx, r, err)
		return nil
	}
	have, err := m.store.get(ctx, r.GetName())
	switch {
	case errors.Is(err, errNotFound):
	case err != nil:
		return err
	case have.Spec.ID == spec.ID && spec.Generation < have.Spec.Generation:
		m.log.WarnContext(ctx, "older generation refused", slog.String(logkey.Release, have.Name), slog.Int64(logkey.Generation, spec.Generation))
		m.note(have.Name, note{refused: staleMessage(spec.Generation, have.Spec.Generation)})
		return nil
	case have.Spec.ID != spec.ID:
		m.board.drop(have.Spec.ID)
	}
	cr, err := m.store.put(ctx, r.GetName(), spec, v)
	if apierrors.IsInvalid(err) || apierrors.IsRequestEntityTooLargeError(err) {
		m.reject(ctx, r, err)
		return nil
	}
	if err != nil {
		return err
	}
	if have == nil || have.Spec.ID != spec.ID || have.Spec.Generation != spec.Generation || have.Spec.Digest != spec.Digest {
		m.supersede(cr.Name)
	}
	m.note(cr.Name, note{fresh: true})
	return nil
}

// reject tells the hub why a release cannot even be stored.
func (m *Manager) reject(ctx context.Context, r *agentv1.Release, err error) {
	m.log.WarnContext(ctx, "release refused", slog.String(logkey.ReleaseID, r.GetId()), slog.String(logkey.Release, r.GetName()), slog.Any(logkey.Error, err))
	m.board.set(&agentv1.ReleaseStatus{
		Id: r.GetId(), ObservedGeneration: r.GetGeneration(), Phase: string(agentv1.PhaseFailed), Reason: ReasonInvalid,
		Message: clipMessage("the release cannot be stored in the cluster: " + err.Error()), ChangedAt: timestamppb.New(m.now()),
	})
}

// specOf turns what the hub sent into what is stored.
func specOf(r *agentv1.Release) (v1alpha1.ReleaseSpec, values, error) {
	s := r.GetSpec()
	v := values{plain: s.GetValues(), secret: s.GetSecretValues()}
	if r.GetId() == "" || r.GetName() == "" || r.GetNamespace() == "" {
		return v1alpha1.ReleaseSpec{}, v, errors.New("id, name and namespace are required")
	}
	if n := len(v.plain) + len(v.secret); n > maxValues {
		return v1alpha1.ReleaseSpec{}, v, fmt.Errorf("values and secretValues have %d bytes together; %d are possible", n, maxValues)
	}
	for name, raw := range map[string]json.RawMessage{"values": v.plain, "secretValues": v.secret} {
		if _, err := object(raw); err != nil {
			return v1alpha1.ReleaseSpec{}, v, fmt.Errorf("%s: %w", name, err)
		}
	}
	spec := v1alpha1.ReleaseSpec{
		ID: r.GetId(), Generation: max(r.GetGeneration(), 1), Digest: r.GetDigest(), Namespace: r.GetNamespace(), Removed: r.GetRemoved(),
		Chart:           v1alpha1.Chart{Digest: s.GetChart().GetDigest(), Name: s.GetChart().GetName(), Version: s.GetChart().GetVersion()},
		CreateNamespace: s.GetCreateNamespace(), MaxAttempts: int(s.GetMaxAttempts()),
		Remediation: remediationOf(s.GetRemediation()), Drift: driftOf(s.GetDrift()), Adoption: adoptionOf(s.GetAdoption()),
	}
	if d := s.GetTimeout().AsDuration(); d > 0 {
		spec.Timeout = d.Round(time.Millisecond).String()
	}
	spec.Leftovers = facts.LeftoversFromProto(s.GetLeftovers())
	if marks := s.GetNodeMarks(); marks != nil {
		spec.NodeMarks = &v1alpha1.NodeMarks{Labels: marks.GetLabels(), Annotations: marks.GetAnnotations()}
	}
	for _, o := range s.GetOutputs() {
		spec.Outputs = append(spec.Outputs, v1alpha1.Output{
			Name: o.GetName(), APIVersion: o.GetApiVersion(), Kind: o.GetKind(), Object: o.GetObject(), JSONPath: o.GetJsonPath(),
		})
	}
	return spec, v, nil
}

func remediationOf(r agentv1.Remediation) v1alpha1.Remediation {
	switch r {
	case agentv1.Remediation_REMEDIATION_KEEP:
		return v1alpha1.RemediationKeep
	case agentv1.Remediation_REMEDIATION_UNINSTALL:
		return v1alpha1.RemediationUninstall
	default:
		return v1alpha1.RemediationRollback
	}
}

func driftOf(d agentv1.DriftPolicy) v1alpha1.DriftPolicy {
	switch d {
	case agentv1.DriftPolicy_DRIFT_POLICY_REPORT:
		return v1alpha1.DriftReport
	case agentv1.DriftPolicy_DRIFT_POLICY_IGNORE:
		return v1alpha1.DriftIgnore
	default:
		return v1alpha1.DriftCorrect
	}
}

func adoptionOf(a agentv1.AdoptionPolicy) v1alpha1.AdoptionPolicy {
	if a == agentv1.AdoptionPolicy_ADOPTION_POLICY_TAKE_OVER {
		return v1alpha1.AdoptionTakeOver
	}
	return v1alpha1.AdoptionObserve
}

// Forget drops a removed release. One that is not removed yet is kept, as an
// orphan: nothing but a tombstone removes.
func (m *Manager) Forget(ctx context.Context, id string) error {
	cr, err := m.store.byID(ctx, id)
	if errors.Is(err, errNotFound) {
		m.board.drop(id)
		return nil
	}
	if err != nil {
		return err
	}
	if !cr.Spec.Removed || cr.Status.Phase != agentv1.PhaseRemoved {
		m.note(cr.Name, note{orphaned: "the hub has forgotten this release; it is kept"})
		return nil
	}
	m.forgotten(cr.Name)
	if err := m.store.forget(ctx, cr); err != nil {
		return err
	}
	m.board.drop(id)
	return m.collectCharts(ctx)
}

// Statuses sends every status, then each change.
func (m *Manager) Statuses(ctx context.Context) <-chan *agentv1.ReleaseStatus {
	return m.board.subscribe(ctx)
}
