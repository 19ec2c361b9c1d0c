package operation_test

import (
	"encoding/json"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/internal/component"
	"github.com/budecosystem/budcluster/hub/internal/operation"
	"github.com/budecosystem/budcluster/hub/internal/release"
	"github.com/budecosystem/budcluster/hub/internal/workflow"
)

const nfdRelease = "node-feature-discovery"

// plugin reports whether the operator is wanted with its device plugin.
func (a *agent) plugin(t *testing.T) bool {
	t.Helper()
	var values struct {
		DevicePlugin struct{ Enabled bool }
	}
	require.NoError(t, json.Unmarshal(a.w.release(t, a.cluster, "nvidia-gpu-operator").Spec.Values, &values))
	return values.DevicePlugin.Enabled
}

// secrets are a release's secret values, as the tunnel gets them.
func (a *agent) secrets(t *testing.T, releaseID uuid.UUID) string {
	t.Helper()
	all, err := a.w.releases.ByIDs(t.Context(), a.cluster, []uuid.UUID{releaseID})
	require.NoError(t, err)
	require.Len(t, all, 1)
	return string(all[0].Spec.SecretValues)
}

// An upgrade that failed goes back to what was there, its secret values
// included, of which nothing is written down.
func TestAFailedUpgradeGoesBack(t *testing.T) {
	t.Parallel()
	w := setup(t)
	a := w.ready(t, "nice", &agent{fails: map[string]string{nfdRelease + " 0.20.0": "pod nfd-worker-1: CrashLoopBackOff"}}, calm)
	had := w.release(t, a.cluster, "nfd")
	spec := had.Spec
	spec.SecretValues = json.RawMessage(`{"password":"hush-hush"}`)
	had, _, err := w.releases.Apply(t.Context(), "bob", a.cluster, release.Request{Name: had.Name, Namespace: had.Namespace, Spec: spec})
	require.NoError(t, err)
	wishes, err := w.equipment.Wishes(t.Context(), a.cluster)
	require.NoError(t, err)

	up, err := w.Upgrade(t.Context(), "ann", operation.Component{Cluster: "nice", Name: "nfd", Wish: component.Wish{Version: "0.20.0"}})
	require.NoError(t, err)
	done := w.end(t, up)
	require.Equal(t, workflow.StatusFailed, done.Status)
	require.Equal(t, "Installing Node Feature Discovery: pod nfd-worker-1: CrashLoopBackOff", done.Message, "and nothing is left behind")
	now := w.release(t, a.cluster, "nfd")
	require.Equal(t, had.Digest, now.Digest, "what is wanted is what was")
	require.Equal(t, had.Spec.Chart.Version, now.Status.ChartVersion, "and it is there again")
	require.JSONEq(t, `{"password":"hush-hush"}`, a.secrets(t, now.ID))
	after, err := w.equipment.Wishes(t.Context(), a.cluster)
	require.NoError(t, err)
	require.Equal(t, wishes, after)

	made, err := w.workflows.Made(t.Context(), up.ID)
	require.NoError(t, err)
	require.Len(t, made, 1)
	require.Equal(t, workflow.EffectChange, made[0].Kind)
	require.NotNil(t, made[0].UndoneAt)
	require.NotContains(t, string(made[0].Before)+made[0].After, "hush-hush")
}

func TestACancelledUpgradeGoesBack(t *testing.T) {
	t.Parallel()
	w := setup(t)
	a := w.ready(t, "nice", &agent{fails: map[string]string{nfdRelease + " 0.20.0": ""}}, calm)
	had := w.release(t, a.cluster, "nfd")
	up, err := w.Upgrade(t.Context(), "ann", operation.Component{Cluster: "nice", Name: "nfd", Wish: component.Wish{Version: "0.20.0"}})
	require.NoError(t, err)
	w.reach(t, up, func(now *workflow.Workflow) bool {
		return w.release(t, a.cluster, "nfd").Spec.Chart.Version == "0.20.0" && step(now, "component/nfd").Status == workflow.StepWaiting
	})
	_, err = w.workflows.Cancel(t.Context(), "ann", up.ID.String())
	require.NoError(t, err)
	done := w.end(t, up)
	require.Equal(t, workflow.StatusCancelled, done.Status)
	require.Equal(t, "cancelled by ann", done.Message)
	now := w.release(t, a.cluster, "nfd")
	require.Equal(t, had.Digest, now.Digest)
	require.Equal(t, now.Generation, now.Status.ObservedGeneration, "the agent has taken it")
}

// What somebody changed after this run has did not become this run's.
func TestWhatAPersonChangedSinceStays(t *testing.T) {
	t.Parallel()
	w := setup(t)
	a := w.ready(t, "nice", &agent{}, calm)
	up, err := w.Upgrade(t.Context(), "ann", operation.Component{Cluster: "nice", Name: "nfd", Wish: component.Wish{Version: "0.20.0"}})
	require.NoError(t, err)
	require.Equal(t, workflow.StatusCompleted, w.end(t, up).Status)
	a.age(t, "nfd", "0.30.0")
	require.NoError(t, w.equipment.SetWish(t.Context(), "bob", a.cluster, "nfd", component.Wish{Version: "0.30.0"}))
	made, err := w.workflows.Made(t.Context(), up.ID)
	require.NoError(t, err)
	require.Len(t, made, 2, "the release, and the setting")
	for _, e := range made {
		undo, ok := w.Undo(e.Kind)
		require.True(t, ok)
		o, err := undo.Do(t.Context(), up, e)
		require.NoError(t, err)
		require.Equal(t, workflow.Completed("somebody has changed it since, and it stays so"), o)
	}
	require.Equal(t, "0.30.0", w.release(t, a.cluster, "nfd").Spec.Chart.Version)
	wishes, err := w.equipment.Wishes(t.Context(), a.cluster)
	require.NoError(t, err)
	require.Equal(t, "0.30.0", wishes["nfd"].Version)
}

// A registration of a cluster that is in the register gives it settings; if it
// fails the cluster has those that it had.
func TestAFailedRegistrationGivesTheSettingsBack(t *testing.T) {
	t.Parallel()
	w := setup(t)
	a := w.ready(t, "lyon", &agent{fails: map[string]string{nfdRelease + " 0.20.0": "pod nfd-worker-1: CrashLoopBackOff"}}, calm)
	_, err := w.clusters.SetIngressURL(t.Context(), "ann", "lyon", "https://old.example.com")
	require.NoError(t, err)
	had := w.release(t, a.cluster, "nfd")
	before, err := w.equipment.Wishes(t.Context(), a.cluster)
	require.NoError(t, err)

	wf, _, err := w.Register(t.Context(), "bob", operation.Register{
		Name: "lyon", Existing: true, IngressURL: "https://new.example.com",
		Components: map[string]component.Wish{"nfd": {Version: "0.20.0"}, "scaler": {Wanted: component.WantYes, Values: map[string]any{"replicas": 2}}},
	})
	require.NoError(t, err)
	during, err := w.equipment.Wishes(t.Context(), a.cluster)
	require.NoError(t, err)
	require.Equal(t, "0.20.0", during["nfd"].Version)
	done := w.end(t, wf)
	require.Equal(t, workflow.StatusFailed, done.Status)
	require.Contains(t, done.Message, "CrashLoopBackOff")
	require.NotContains(t, done.Message, "left behind")
	after, err := w.equipment.Wishes(t.Context(), a.cluster)
	require.NoError(t, err)
	require.Equal(t, before, after)
	c, err := w.clusters.Get(t.Context(), "lyon")
	require.NoError(t, err)
	require.Equal(t, "https://old.example.com", c.IngressURL)
	require.Equal(t, had.Digest, w.release(t, a.cluster, "nfd").Digest)
}

// HAMi takes the operator's device plugin away. It comes back when HAMi fails
// to install, and when HAMi is removed.
func TestTheOperatorGetsItsDevicePluginBack(t *testing.T) {
	t.Parallel()
	w := setup(t)
	without := map[string]component.Wish{"hami": {Wanted: component.WantNo}, "scaler": {Wanted: component.WantNo}, "prometheus-stack": {Wanted: component.WantNo}}
	a := w.ready(t, "turin", &agent{gpu: true, fails: map[string]string{"hami": "pod hami-device-plugin-x7: ImagePullBackOff"}}, without)
	require.True(t, a.plugin(t))
	install, err := w.Install(t.Context(), "ann", operation.Component{Cluster: "turin", Name: "hami"})
	require.NoError(t, err)
	done := w.end(t, install)
	require.Equal(t, workflow.StatusFailed, done.Status)
	require.Equal(t, "Installing HAMi: pod hami-device-plugin-x7: ImagePullBackOff", done.Message)
	require.Equal(t, []string{"+nvidia-gpu-operator", "!hami", "-hami", "+nvidia-gpu-operator"}, a.did()[2:])
	require.True(t, a.plugin(t))

	a.fails = nil
	install, err = w.Retry(t.Context(), "ann", install.ID.String())
	require.NoError(t, err)
	done = w.end(t, install)
	require.Equal(t, workflow.StatusCompleted, done.Status, done.Message)
	require.False(t, a.plugin(t))

	remove, err := w.Uninstall(t.Context(), "ann", operation.Component{Cluster: "turin", Name: "hami"})
	require.NoError(t, err)
	done = w.end(t, remove)
	require.Equal(t, workflow.StatusCompleted, done.Status, done.Message)
	require.Equal(t, []string{"remove/hami", "settings", "component/nvidia-gpu-operator"}, stepNames(done))
	require.Equal(t, []string{"-hami", "+nvidia-gpu-operator"}, a.did()[8:])
	require.True(t, a.plugin(t))
}

func stepNames(wf *workflow.Workflow) (names []string) {
	for _, s := range wf.Steps {
		names = append(names, s.Name)
	}
	return names
}
