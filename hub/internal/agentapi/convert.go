package agentapi

import (
	"math"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/budecosystem/budcluster/hub/internal/cluster"
	"github.com/budecosystem/budcluster/hub/internal/release"
	"github.com/budecosystem/budcluster/internal/facts"
	agentv1 "github.com/budecosystem/budcluster/proto/agent/v1"
)

// Bounds of one status. A chart makes some hundred objects at most; beyond
// these figures a status is an attack or a fault, and its head says enough.
const (
	maxDrifts       = 200
	maxOutputs      = 64
	maxDegradations = 16
	// maxGeneration leaves room above it: the next generation is counted from
	// what was observed.
	maxGeneration = 1 << 53
)

// releaseToProto is what the agent is told to make so.
func releaseToProto(r *release.Release) *agentv1.Release {
	out := &agentv1.Release{
		Id:         r.ID.String(),
		Name:       r.Name,
		Namespace:  r.Namespace,
		Generation: r.Generation,
		Digest:     r.Digest,
		Removed:    r.RemovedAt != nil,
		Spec: &agentv1.ReleaseSpec{
			Chart:           &agentv1.Chart{Digest: r.Spec.Chart.Digest, Name: r.Spec.Chart.Name, Version: r.Spec.Chart.Version},
			Values:          r.Spec.Values,
			SecretValues:    r.Spec.SecretValues,
			CreateNamespace: r.Spec.CreateNamespace,
			Timeout:         durationpb.New(r.Spec.Timeout),
			Remediation:     remediationToProto(r.Spec.Remediation),
			MaxAttempts:     clampInt32(r.Spec.MaxAttempts),
			Drift:           driftToProto(r.Spec.Drift),
			Adoption:        adoptionToProto(r.Spec.Adoption),
		},
	}
	out.Spec.Leftovers = facts.LeftoversToProto(r.Spec.Leftovers)
	if marks := r.Spec.NodeMarks; !marks.Empty() {
		out.Spec.NodeMarks = &agentv1.NodeMarks{Labels: marks.Labels, Annotations: marks.Annotations}
	}
	for _, o := range r.Spec.Outputs {
		out.Spec.Outputs = append(out.Spec.Outputs, &agentv1.Output{
			Name: o.Name, ApiVersion: o.APIVersion, Kind: o.Kind, Object: o.Object, JsonPath: o.JSONPath,
		})
	}
	return out
}

func remediationToProto(r release.Remediation) agentv1.Remediation {
	switch r {
	case release.RemediationKeep:
		return agentv1.Remediation_REMEDIATION_KEEP
	case release.RemediationRollback:
		return agentv1.Remediation_REMEDIATION_ROLLBACK
	case release.RemediationUninstall:
		return agentv1.Remediation_REMEDIATION_UNINSTALL
	default:
		return agentv1.Remediation_REMEDIATION_UNSPECIFIED
	}
}

func driftToProto(d release.DriftPolicy) agentv1.DriftPolicy {
	switch d {
	case release.DriftCorrect:
		return agentv1.DriftPolicy_DRIFT_POLICY_CORRECT
	case release.DriftReport:
		return agentv1.DriftPolicy_DRIFT_POLICY_REPORT
	case release.DriftIgnore:
		return agentv1.DriftPolicy_DRIFT_POLICY_IGNORE
	default:
		return agentv1.DriftPolicy_DRIFT_POLICY_UNSPECIFIED
	}
}

func adoptionToProto(a release.AdoptionPolicy) agentv1.AdoptionPolicy {
	switch a {
	case release.AdoptionObserve:
		return agentv1.AdoptionPolicy_ADOPTION_POLICY_OBSERVE
	case release.AdoptionTakeOver:
		return agentv1.AdoptionPolicy_ADOPTION_POLICY_TAKE_OVER
	default:
		return agentv1.AdoptionPolicy_ADOPTION_POLICY_UNSPECIFIED
	}
}

// statusFromProto never fails: a figure below zero is zero, lists are cut. A
// phase that this hub does not know is kept as it is (phase.go says why), but
// for its length.
func statusFromProto(s *agentv1.ReleaseStatus) release.Status {
	out := release.Status{
		ObservedGeneration: min(max(s.GetObservedGeneration(), 0), maxGeneration),
		Phase:              agentv1.Phase(cut(s.GetPhase(), 64)),
		Reason:             cut(s.GetReason(), 128),
		Message:            cut(s.GetMessage(), 4<<10),
		Ready:              int(max(s.GetProgress().GetReady(), 0)),
		Total:              int(max(s.GetProgress().GetTotal(), 0)),
		WaitingFor:         cut(s.GetProgress().GetWaitingFor(), 1<<10),
		ChartVersion:       cut(s.GetChartVersion(), 256),
		AppVersion:         cut(s.GetAppVersion(), 256),
		Revision:           int(max(s.GetRevision(), 0)),
		Owned:              s.GetOwned(),
		Attempts:           int(max(s.GetAttempts(), 0)),
		Corrections:        max(s.GetCorrections(), 0),
		ChangedAt:          timeFromProto(s.GetChangedAt()),
		RetryAt:            timeFromProto(s.GetRetryAt()),
	}
	for i, d := range s.GetDrift() {
		if i == maxDrifts {
			break
		}
		out.Drift = append(out.Drift, release.Drift{
			Object: cut(d.GetObject(), 1<<10), Field: cut(d.GetField(), 1<<10), Manager: cut(d.GetManager(), 256),
		})
	}
	for k, v := range s.GetOutputs() {
		if len(out.Outputs) == maxOutputs {
			break
		}
		if out.Outputs == nil {
			out.Outputs = make(map[string]string, min(len(s.GetOutputs()), maxOutputs))
		}
		out.Outputs[cut(k, 253)] = v
	}
	return out
}

// degradationsFromProto keeps what can be shown; since falls back to now.
func degradationsFromProto(in []*agentv1.Degradation, now time.Time) []cluster.Degradation {
	var out []cluster.Degradation
	for i, d := range in {
		if i == maxDegradations {
			break
		}
		since := now
		if t := timeFromProto(d.GetSince()); t != nil && t.Before(now) {
			since = *t
		}
		out = append(out, cluster.Degradation{Reason: cut(d.GetReason(), 128), Message: cut(d.GetMessage(), 1<<10), Since: since})
	}
	return out
}

// timeFromProto drops what is no time, and what the database cannot hold.
func timeFromProto(ts *timestamppb.Timestamp) *time.Time {
	if ts == nil || ts.CheckValid() != nil {
		return nil
	}
	t := ts.AsTime()
	if t.Year() < 1970 || t.Year() > 9000 {
		return nil
	}
	return &t
}

func clampInt32(n int) int32 {
	return int32(min(max(n, 0), math.MaxInt32))
}

func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "") + "…"
}
