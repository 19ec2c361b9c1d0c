package agentapi

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/budecosystem/budcluster/hub/internal/release"
	agentv1 "github.com/budecosystem/budcluster/proto/agent/v1"
)

func TestReleaseToProtoKeepsEverything(t *testing.T) {
	t.Parallel()
	removed := time.Now()
	r := &release.Release{
		ID: uuid.New(), Name: "web", Namespace: "prod", Generation: 7, Digest: "sha256:ab", RemovedAt: &removed,
		Spec: release.Spec{
			Chart:  release.Chart{Digest: "sha256:cd", Name: "nginx", Version: "1.2.3"},
			Values: json.RawMessage(`{"a":1}`), SecretValues: json.RawMessage(`{"b":2}`), CreateNamespace: true,
			Timeout: 90 * time.Second, Remediation: release.RemediationUninstall, MaxAttempts: 3,
			Drift: release.DriftReport, Adoption: release.AdoptionTakeOver,
			Outputs: []release.Output{{Name: "ip", APIVersion: "v1", Kind: "Service", Object: "web", JSONPath: "{.spec.clusterIP}"}},
		},
	}
	p := releaseToProto(r)
	require.True(t, p.GetRemoved())
	require.Equal(t, []any{r.ID.String(), "web", "prod", int64(7), "sha256:ab"},
		[]any{p.GetId(), p.GetName(), p.GetNamespace(), p.GetGeneration(), p.GetDigest()})
	s := p.GetSpec()
	require.Equal(t, []any{"sha256:cd", "nginx", "1.2.3", `{"a":1}`, `{"b":2}`, true, 90 * time.Second, int32(3)},
		[]any{
			s.GetChart().GetDigest(), s.GetChart().GetName(), s.GetChart().GetVersion(), string(s.GetValues()), string(s.GetSecretValues()),
			s.GetCreateNamespace(), s.GetTimeout().AsDuration(), s.GetMaxAttempts(),
		})
	require.Equal(t, agentv1.Remediation_REMEDIATION_UNINSTALL, s.GetRemediation())
	require.Equal(t, agentv1.DriftPolicy_DRIFT_POLICY_REPORT, s.GetDrift())
	require.Equal(t, agentv1.AdoptionPolicy_ADOPTION_POLICY_TAKE_OVER, s.GetAdoption())
	require.Equal(t, "{.spec.clusterIP}", s.GetOutputs()[0].GetJsonPath())
}

func TestEveryPolicyHasAProto(t *testing.T) {
	t.Parallel()
	for _, r := range []release.Remediation{release.RemediationKeep, release.RemediationRollback, release.RemediationUninstall} {
		require.NotZero(t, remediationToProto(r), r)
	}
	for _, d := range []release.DriftPolicy{release.DriftCorrect, release.DriftReport, release.DriftIgnore} {
		require.NotZero(t, driftToProto(d), d)
	}
	for _, a := range []release.AdoptionPolicy{release.AdoptionObserve, release.AdoptionTakeOver} {
		require.NotZero(t, adoptionToProto(a), a)
	}
}

func TestStatusFromProtoTakesNoNonsense(t *testing.T) {
	t.Parallel()
	outputs := map[string]string{}
	for range 1000 {
		outputs[uuid.NewString()] = "x"
	}
	s := statusFromProto(&agentv1.ReleaseStatus{
		ObservedGeneration: math.MaxInt64, Phase: strings.Repeat("P", 1000), Revision: -4, Attempts: math.MinInt32, Corrections: -1,
		Progress: &agentv1.Progress{Ready: -1, Total: -2}, Drift: make([]*agentv1.Drift, 5000), Outputs: outputs,
		ChangedAt: &timestamppb.Timestamp{Seconds: math.MaxInt64}, RetryAt: &timestamppb.Timestamp{Seconds: -1 << 40},
	})
	require.Equal(t, int64(maxGeneration), s.ObservedGeneration)
	require.Less(t, len(s.Phase), 100)
	require.Zero(t, s.Revision+s.Attempts+int(s.Corrections)+s.Ready+s.Total)
	require.Len(t, s.Drift, maxDrifts)
	require.Len(t, s.Outputs, maxOutputs)
	require.Nil(t, s.ChangedAt)
	require.Nil(t, s.RetryAt)
	require.Zero(t, statusFromProto(nil).ObservedGeneration)
	require.Zero(t, statusFromProto(&agentv1.ReleaseStatus{ObservedGeneration: -9}).ObservedGeneration)
}

func TestDegradationsAreBoundedAndNotFromTheFuture(t *testing.T) {
	t.Parallel()
	now := time.Now()
	in := make([]*agentv1.Degradation, 1000)
	for i := range in {
		in[i] = &agentv1.Degradation{Reason: "R", Message: "m", Since: timestamppb.New(now.Add(time.Hour))}
	}
	out := degradationsFromProto(in, now)
	require.Len(t, out, maxDegradations)
	require.Equal(t, now, out[0].Since)
	require.Empty(t, degradationsFromProto(nil, now))
}
