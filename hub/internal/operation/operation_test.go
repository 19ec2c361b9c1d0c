package operation_test

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/internal/cluster"
	"github.com/budecosystem/budcluster/hub/internal/component"
	"github.com/budecosystem/budcluster/hub/internal/equip"
	"github.com/budecosystem/budcluster/hub/internal/invalid"
	"github.com/budecosystem/budcluster/hub/internal/operation"
	"github.com/budecosystem/budcluster/hub/internal/release"
	"github.com/budecosystem/budcluster/hub/internal/store/storetest"
	"github.com/budecosystem/budcluster/hub/internal/workflow"
	"github.com/budecosystem/budcluster/internal/facts"
)

// scaler has no published chart in the catalogue that anybody could get.
var calm = map[string]component.Wish{"scaler": {Wanted: component.WantNo}, "prometheus-stack": {Wanted: component.WantNo}}

func TestRegisterAndRemoveAClusterWithGPUs(t *testing.T) {
	t.Parallel()
	w := setup(t)
	wf, c, err := w.Register(t.Context(), "ann", operation.Register{Name: "frankfurt", IngressURL: "https://models.example.com", Components: calm})
	require.NoError(t, err)
	w.reach(t, wf, func(now *workflow.Workflow) bool { return now.Steps[0].Status == workflow.StepWaiting })
	a := w.join(t, &agent{cluster: c.ID, gpu: true})
	done := w.end(t, wf)
	require.Equal(t, workflow.StatusCompleted, done.Status, done.Message)
	require.Equal(t, []string{"+node-feature-discovery", "+nvidia-gpu-operator", "+hami"}, a.did(), "in this order, once each")
	require.Equal(t, "none can be used yet: NVIDIA GPU Operator is wanted because node node-1 has PCI vendor 10de; HAMi is wanted because node node-1 has PCI vendor 10de",
		step(done, "accelerators").Message, "its driver comes with the next steps")
	require.Equal(t, workflow.StepSkipped, step(done, "component/intel-gaudi").Status)
	require.Contains(t, step(done, "component/prometheus-stack").Message, "the cluster's settings say no")
	require.Equal(t, []string{"Completed"}, w.told(wf))
	var result struct{ Name string }
	require.NoError(t, json.Unmarshal(done.Result, &result))
	require.Equal(t, "frankfurt", result.Name)

	overview, err := w.equipment.Overview(t.Context(), c.ID)
	require.NoError(t, err)
	i := slices.IndexFunc(overview, func(s equip.Status) bool { return s.Component == "hami" })
	require.True(t, overview[i].Owned && overview[i].Present)
	require.Equal(t, "Ready", overview[i].Health)
	require.Equal(t, component.ActionKeep, overview[i].Action, overview[i].Why())

	gone, err := w.Remove(t.Context(), "ann", operation.Remove{Cluster: "frankfurt"})
	require.NoError(t, err)
	over := w.end(t, gone)
	require.Equal(t, workflow.StatusCompleted, over.Status, over.Message)
	require.Equal(t, []string{"-hami", "-nvidia-gpu-operator", "-node-feature-discovery", "retired"}, a.did()[3:])
	require.Equal(t, []string{"Completed"}, w.told(gone))
	_, err = w.clusters.Get(t.Context(), "frankfurt")
	require.ErrorIs(t, err, cluster.ErrNotFound, "the name is free")
}

// A cluster without accelerators gets feature discovery and nothing else of
// them.
func TestRegisterACPUCluster(t *testing.T) {
	t.Parallel()
	w := setup(t)
	wf, c, err := w.Register(t.Context(), "ann", operation.Register{Name: "oslo", Components: calm})
	require.NoError(t, err)
	a := w.join(t, &agent{cluster: c.ID})
	done := w.end(t, wf)
	require.Equal(t, workflow.StatusCompleted, done.Status, done.Message)
	require.Equal(t, []string{"+node-feature-discovery"}, a.did())
	require.Equal(t, "no accelerators: models run on the CPUs", step(done, "accelerators").Message)
}

// A failure of HAMi fails the registration with the pod's own reason, and what
// this run installed is removed, the last first. The agent of a person stays.
func TestAFailedRegistrationUndoesWhatItMade(t *testing.T) {
	t.Parallel()
	w := setup(t)
	wf, c, err := w.Register(t.Context(), "ann", operation.Register{Name: "paris", Components: calm})
	require.NoError(t, err)
	a := w.join(t, &agent{cluster: c.ID, gpu: true, fails: map[string]string{"hami": "pod hami-device-plugin-x7: ImagePullBackOff: no such image"}})
	done := w.end(t, wf)
	require.Equal(t, workflow.StatusFailed, done.Status)
	require.Equal(t, "NotReadyInTime", done.Reason)
	require.Equal(t, "Installing HAMi: pod hami-device-plugin-x7: ImagePullBackOff: no such image", done.Message)
	require.Equal(t, []string{"+node-feature-discovery", "+nvidia-gpu-operator", "!hami", "-hami", "-nvidia-gpu-operator", "-node-feature-discovery"}, a.did())
	require.Empty(t, w.wanted(t, c.ID))
	require.Equal(t, []string{"Failed"}, w.told(wf))
	_, err = w.clusters.Get(t.Context(), "paris")
	require.NoError(t, err)

	a.fails = nil
	again, err := w.Retry(t.Context(), "ann", wf.ID.String())
	require.NoError(t, err)
	require.Equal(t, wf.ID, again.RetryOf)
	var in struct{ Name string }
	require.NoError(t, json.Unmarshal(again.Input, &in))
	require.Equal(t, "paris", in.Name, "and not its id, by which it was found: a retry of this one may have to enter it anew")
	require.Equal(t, workflow.StatusCompleted, w.end(t, again).Status)
}

// While a run could not get a chart, a person made the release that it was
// about to make. The run had written it down as its own effect, and its undo
// removed what the person made.
func TestWhatAPersonMadeMeanwhileStays(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.close(errors.New("the repository does not answer"))
	wf, c, err := w.Register(t.Context(), "ann", operation.Register{Name: "lille", Components: calm})
	require.NoError(t, err)
	w.join(t, &agent{cluster: c.ID})
	w.reach(t, wf, func(now *workflow.Workflow) bool { return step(now, "component/nfd").Reason == "Retrying" })
	made, err := w.workflows.Made(t.Context(), wf.ID)
	require.NoError(t, err)
	require.Len(t, made, 1, "the entry of the register, and no release")

	item := plan(t, w, c.ID, "nfd")
	_, created, err := w.releases.Apply(t.Context(), "bob", c.ID, release.Request{
		Name: item.Release, Namespace: item.Namespace,
		Spec: release.Spec{Chart: release.Chart{Digest: storetest.Chart(t, w.store, "node-feature-discovery", "0.18.0")}},
	})
	require.NoError(t, err)
	require.True(t, created)
	w.close(nil)
	w.reach(t, wf, func(now *workflow.Workflow) bool {
		return strings.Contains(step(now, "component/nfd").Message, `release "node-feature-discovery" exists already`)
	})
	_, err = w.workflows.Cancel(t.Context(), "ann", wf.ID.String())
	require.NoError(t, err)
	require.Equal(t, workflow.StatusCancelled, w.end(t, wf).Status)
	left, err := w.releases.Get(t.Context(), c.ID, item.Release)
	require.NoError(t, err)
	require.Nil(t, left.RemovedAt)
	require.Equal(t, "0.18.0", left.Spec.Chart.Version, "as the person made it")
}

// plan is what the plan says of one component.
func plan(t *testing.T, w *world, clusterID uuid.UUID, name string) component.Item {
	t.Helper()
	items, err := w.equipment.Plan(t.Context(), clusterID, nil)
	require.NoError(t, err)
	i := slices.IndexFunc(items, func(item component.Item) bool { return item.Component == name })
	return items[i]
}

// What was there before is used, and neither replaced nor removed.
func TestWhatWasThereBeforeStays(t *testing.T) {
	t.Parallel()
	w := setup(t)
	wf, c, err := w.Register(t.Context(), "ann", operation.Register{Name: "lyon", Components: calm})
	require.NoError(t, err)
	ready := true
	a := &agent{cluster: c.ID}
	w.join(t, a, facts.Presence{
		Probe: "nfd/worker", State: facts.PresenceFound, Kind: "DaemonSet", Namespace: "nfd", Object: "nfd-worker", Version: "0.16", Ready: &ready,
		Release: "nfd", ReleaseNamespace: "nfd",
	})
	a.effect(t.Context(), &release.Release{Spec: release.Spec{Component: "nfd"}}, &release.Status{}) // its labels
	done := w.end(t, wf)
	require.Equal(t, workflow.StatusCompleted, done.Status, done.Message)
	require.Empty(t, a.did())
	require.Contains(t, step(done, "component/nfd").Message, "it was there before")
	gone, err := w.Remove(t.Context(), "ann", operation.Remove{Cluster: "lyon"})
	require.NoError(t, err)
	require.Equal(t, workflow.StatusCompleted, w.end(t, gone).Status)
	require.Equal(t, []string{"retired"}, a.did())
}

// Cancelled before its agent came, a registration leaves nothing: the name is
// free at once.
func TestCancelledBeforeTheAgentCame(t *testing.T) {
	t.Parallel()
	w := setup(t)
	wf, _, err := w.Register(t.Context(), "ann", operation.Register{Name: "rome", Components: calm})
	require.NoError(t, err)
	_, _, err = w.Register(t.Context(), "bob", operation.Register{Name: "rome"})
	require.ErrorIs(t, err, cluster.ErrExists)
	_, _, err = w.Register(t.Context(), "bob", operation.Register{Name: "rome", Existing: true})
	require.ErrorIs(t, err, workflow.ErrBusy)
	_, err = w.workflows.Cancel(t.Context(), "bob", wf.ID.String())
	require.NoError(t, err)
	require.Equal(t, workflow.StatusCancelled, w.end(t, wf).Status)
	require.Equal(t, []string{"Cancelled"}, w.told(wf))
	next, _, err := w.Register(t.Context(), "ann", operation.Register{Name: "rome"})
	require.NoError(t, err)
	require.NotEqual(t, wf.ID, next.ID)
}

func TestForceTakesASilentClusterOut(t *testing.T) {
	t.Parallel()
	w := setup(t)
	wf, c, err := w.Register(t.Context(), "ann", operation.Register{Name: "kyiv", Components: calm})
	require.NoError(t, err)
	w.join(t, &agent{cluster: c.ID})
	require.Equal(t, workflow.StatusCompleted, w.end(t, wf).Status)
	gone, err := w.Remove(t.Context(), "ann", operation.Remove{Cluster: "kyiv", Force: true})
	require.NoError(t, err)
	done := w.end(t, gone)
	require.Equal(t, workflow.StatusCompleted, done.Status)
	require.Len(t, done.Steps, 1)
}

// A removal waits for an agent that is gone for good, and says to use force.
// Force was refused, as the cluster was busy with that very removal.
func TestForceEndsWhatIsOnInTheCluster(t *testing.T) {
	t.Parallel()
	w := setup(t)
	wf, _, err := w.Register(t.Context(), "ann", operation.Register{Name: "kiel", Components: calm})
	require.NoError(t, err)
	w.reach(t, wf, func(now *workflow.Workflow) bool { return now.Steps[0].Status == workflow.StepWaiting })
	_, err = w.Remove(t.Context(), "ann", operation.Remove{Cluster: "kiel"})
	require.ErrorContains(t, err, `cluster "kiel" is busy with workflow `+wf.ID.String()+" (register_cluster)")
	_, _, err = w.Register(t.Context(), "ann", operation.Register{Name: "kiel", Existing: true})
	require.ErrorContains(t, err, `cluster "kiel" is busy with workflow `+wf.ID.String()+" (register_cluster)")
	gone, err := w.Remove(t.Context(), "bob", operation.Remove{Cluster: "kiel", Force: true})
	require.NoError(t, err)
	require.Equal(t, workflow.StatusCompleted, w.end(t, gone).Status)
	ended := w.end(t, wf)
	require.Equal(t, workflow.StatusCancelled, ended.Status)
	require.Equal(t, "cancelled by bob", ended.Message)
	require.Equal(t, []string{"Cancelled"}, w.told(wf))
	require.Equal(t, []string{"Completed"}, w.told(gone))
	_, err = w.clusters.Get(t.Context(), "kiel")
	require.ErrorIs(t, err, cluster.ErrNotFound)
}

func TestOneComponent(t *testing.T) {
	t.Parallel()
	w := setup(t)
	wf, c, err := w.Register(t.Context(), "ann", operation.Register{Name: "nice", Components: calm})
	require.NoError(t, err)
	a := w.join(t, &agent{cluster: c.ID})
	require.Equal(t, workflow.StatusCompleted, w.end(t, wf).Status)

	install, err := w.Install(t.Context(), "ann", operation.Component{Cluster: "nice", Name: "prometheus-stack"})
	require.NoError(t, err)
	done := w.end(t, install)
	require.Equal(t, workflow.StatusCompleted, done.Status, done.Message)
	wishes, err := w.equipment.Wishes(t.Context(), c.ID)
	require.NoError(t, err)
	require.Equal(t, component.WantYes, wishes["prometheus-stack"].Wanted)

	upgrade, err := w.Upgrade(t.Context(), "ann", operation.Component{Cluster: "nice", Name: "prometheus-stack", Wish: component.Wish{Version: "85.0.0"}})
	require.NoError(t, err)
	require.Equal(t, workflow.StatusCompleted, w.end(t, upgrade).Status)
	components, _, err := w.equipment.Releases(t.Context(), c.ID)
	require.NoError(t, err)
	require.Equal(t, "85.0.0", components["prometheus-stack"].Spec.Chart.Version)

	_, err = w.Upgrade(t.Context(), "ann", operation.Component{Cluster: "nice", Name: "hami"})
	require.NotEmpty(t, invalid.Of(err), "it is not installed")
	remove, err := w.Uninstall(t.Context(), "ann", operation.Component{Cluster: "nice", Name: "prometheus-stack"})
	require.NoError(t, err)
	require.Equal(t, workflow.StatusCompleted, w.end(t, remove).Status)
	require.Equal(t, "-"+components["prometheus-stack"].Name, a.did()[len(a.did())-1])
}

// What a registration can do without is not needed by it; who asks for that very
// component is told that it failed, or cannot be.
func TestWhatIsAskedForIsNeeded(t *testing.T) {
	t.Parallel()
	w := setup(t)
	a := w.ready(t, "nice", &agent{fails: map[string]string{"bud-metrics": "pod prometheus-0: Pending: no volume"}}, calm)
	before, err := w.equipment.Wishes(t.Context(), a.cluster)
	require.NoError(t, err)
	for name, message := range map[string]string{
		"prometheus-stack": "pod prometheus-0: Pending: no volume",
		"aibrix":           "the cluster has no CustomResourceDefinition",
	} {
		install, err := w.Install(t.Context(), "ann", operation.Component{Cluster: "nice", Name: name})
		require.NoError(t, err)
		done := w.end(t, install)
		require.Equal(t, workflow.StatusFailed, done.Status, name)
		require.Contains(t, done.Message, message)
	}
	after, err := w.equipment.Wishes(t.Context(), a.cluster)
	require.NoError(t, err)
	require.Equal(t, before, after)
	require.Equal(t, []string{"node-feature-discovery"}, w.wanted(t, a.cluster))
}

// A rollout stops at the first failure, and a retry goes on.
func TestRolloutPausesOnFailure(t *testing.T) {
	t.Parallel()
	w := setup(t)
	agents := map[string]*agent{}
	for _, name := range []string{"a", "b", "c"} {
		wf, c, err := w.Register(t.Context(), "ann", operation.Register{Name: name, Components: calm})
		require.NoError(t, err)
		agents[name] = w.join(t, &agent{cluster: c.ID})
		require.Equal(t, workflow.StatusCompleted, w.end(t, wf).Status)
	}
	agents["b"].fails = map[string]string{"node-feature-discovery": "pod nfd-worker-1: CrashLoopBackOff"}
	roll, err := w.Rollout(t.Context(), "ann", operation.Rollout{Name: "nfd", Wish: component.Wish{Version: "0.20.0"}, Clusters: []string{"a", "b", "c"}})
	require.NoError(t, err)
	done := w.end(t, roll)
	require.Equal(t, workflow.StatusFailed, done.Status)
	require.Equal(t, "Paused", done.Reason)
	require.True(t, strings.Contains(done.Message, "1 of 3 clusters are done") && strings.Contains(done.Message, "CrashLoopBackOff"), done.Message)
	require.Len(t, agents["c"].did(), 1, "its turn has not come")

	agents["b"].fails = nil
	again, err := w.Retry(t.Context(), "ann", roll.ID.String())
	require.NoError(t, err)
	done = w.end(t, again)
	require.Equal(t, workflow.StatusCompleted, done.Status, done.Message)
	require.Equal(t, "3 of 3 clusters are done", step(done, "rollout").Message)
}

// An agent is replaced, and the workflow says what became of it.
func TestUpgradeAgent(t *testing.T) {
	t.Parallel()
	w := setup(t)
	wf, c, err := w.Register(t.Context(), "ann", operation.Register{Name: "bern", Components: calm})
	require.NoError(t, err)
	w.join(t, &agent{cluster: c.ID})
	require.Equal(t, workflow.StatusCompleted, w.end(t, wf).Status)

	says := func(phase cluster.AgentPhase, message string) *workflow.Workflow {
		up, err := w.UpgradeAgent(t.Context(), "ann", operation.AgentUpgrade{Cluster: "bern"})
		require.NoError(t, err)
		w.reach(t, up, func(now *workflow.Workflow) bool { return now.Steps[1].Status == workflow.StepWaiting })
		u, err := w.clusters.AgentUpgrade(t.Context(), c.ID)
		require.NoError(t, err)
		require.NoError(t, w.clusters.ObserveAgent(t.Context(), c.ID, cluster.AgentStatus{
			ObservedGeneration: u.Target.Generation, Phase: phase, Message: message, AgentVersion: "1.1.0",
		}))
		return w.end(t, up)
	}
	back := says(cluster.AgentReturned, "the new agent did not connect within 1m0s: ImagePullBackOff")
	require.Equal(t, workflow.StatusFailed, back.Status)
	require.Contains(t, back.Message, "ImagePullBackOff")
	done := says(cluster.AgentCurrent, "")
	require.Equal(t, workflow.StatusCompleted, done.Status, done.Message)
	require.Equal(t, "agent 1.1.0 reached the hub", done.Steps[1].Message)
}
