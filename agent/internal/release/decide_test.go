package release_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/agent/api/v1alpha1"
	"github.com/budecosystem/budcluster/agent/internal/helm"
	"github.com/budecosystem/budcluster/agent/internal/release"
	agentv1 "github.com/budecosystem/budcluster/proto/agent/v1"
)

func at(seconds int) time.Time { return time.Unix(1_700_000_000+int64(seconds), 0).UTC() }

func want() release.Desired {
	return release.Desired{
		ID: "id", Generation: 2, Content: "new", Remediation: v1alpha1.RemediationRollback,
		Drift: v1alpha1.DriftCorrect, Adoption: v1alpha1.AdoptionObserve, MaxAttempts: 3, Timeout: time.Minute,
	}
}

// rec is a record of ours.
func rec(revision int, status helm.Status, content string, opts ...func(*helm.Record)) helm.Record {
	r := helm.Record{
		Revision: revision, Status: status, ChangedAt: at(-10),
		Labels: helm.Labels{ReleaseID: "id", Operation: "op-" + string(rune('a'+revision)), Content: content},
	}
	for _, o := range opts {
		o(&r)
	}
	return r
}

func wasReady(r *helm.Record)    { r.Ready = true }
func interrupted(r *helm.Record) { r.Interrupted = true }
func foreign(r *helm.Record)     { r.Labels = helm.Labels{} }
func adopted(r *helm.Record)     { r.Adopted = true }
func operation(id string) func(*helm.Record) {
	return func(r *helm.Record) { r.Operation = id }
}

func TestDecide(t *testing.T) {
	t.Parallel()
	waiting := release.Readiness{Ready: 1, Total: 2, WaitingFor: "deployment web: 0 of 1 ready"}
	drift := []v1alpha1.Drift{{Object: "ConfigMap/ns/c", Field: "data.word", Manager: "kubectl-edit"}}
	failedOnce := release.Memory{Generation: 2, Attempts: 1, RetryAt: at(60), FailedOperation: "op-c", Failure: release.Reason{Code: "UpgradeFailed", Message: "no"}}
	cases := map[string]struct {
		obs    release.Observed         // what is there; Now is at(0)
		change func(w *release.Desired) // what is wanted, unless the default
		action release.ActionKind       // what is done
		phase  agentv1.Phase            // how it is shown
		code   string                   // why; empty: not checked
		at     time.Time                // when to look again; zero: not checked
		soon   bool                     // whether something is expected meanwhile
	}{
		"absent": {action: release.ActionInstall, phase: agentv1.PhaseInstalling},
		"absent, too early": {
			obs:    release.Observed{Memory: failedOnce},
			action: release.ActionWait, phase: agentv1.PhaseFailed, at: at(60),
		},
		"absent, chart not here yet": {
			obs:    release.Observed{Memory: release.Memory{Generation: 2, RetryAt: at(5), Failure: release.Reason{Code: release.ReasonChartMissing}}},
			action: release.ActionWait, phase: agentv1.PhasePending, code: release.ReasonChartMissing, at: at(5),
		},
		"attempts used": {
			obs:    release.Observed{Memory: release.Memory{Generation: 2, Attempts: 3, Failure: release.Reason{Code: "InstallFailed", Message: "no"}}},
			action: release.ActionWait, phase: agentv1.PhaseFailed, code: "InstallFailed",
		},
		"attempts of an older spec do not count": {
			obs:    release.Observed{Memory: release.Memory{Generation: 1, Attempts: 3}},
			action: release.ActionInstall, phase: agentv1.PhaseInstalling,
		},
		"permanent failure": {
			obs:    release.Observed{Memory: release.Memory{Generation: 2, Attempts: 1, Permanent: true}},
			action: release.ActionWait, phase: agentv1.PhaseFailed,
		},
		"ours pending, nobody at work": {
			obs:    release.Observed{History: helm.History{rec(1, helm.StatusPendingInstall, "new")}},
			action: release.ActionUnlock, phase: agentv1.PhaseLocked, code: release.ReasonInterrupted,
		},
		"ours pending, another agent at work": {
			obs:    release.Observed{Busy: true, History: helm.History{rec(1, helm.StatusPendingInstall, "new")}},
			action: release.ActionWait, phase: agentv1.PhaseLocked, code: release.ReasonOtherAgent, at: at(3),
		},
		"foreign pending": {
			obs:    release.Observed{History: helm.History{rec(1, helm.StatusPendingUpgrade, "", foreign)}},
			action: release.ActionWait, phase: agentv1.PhaseLocked, code: release.ReasonForeignOperation, at: at(50),
		},
		"foreign pending for too long, observe": {
			obs:    release.Observed{Now: at(100), History: helm.History{rec(1, helm.StatusPendingUpgrade, "", foreign)}},
			action: release.ActionWait, phase: agentv1.PhaseLocked,
		},
		"foreign pending for too long, take over": {
			obs:    release.Observed{Now: at(100), History: helm.History{rec(1, helm.StatusPendingUpgrade, "", foreign)}},
			change: func(w *release.Desired) { w.Adoption = v1alpha1.AdoptionTakeOver },
			action: release.ActionUnlock, phase: agentv1.PhaseLocked,
		},
		"pending by hand on ours": {
			obs: release.Observed{History: helm.History{
				rec(2, helm.StatusPendingUpgrade, "new", operation("x")), rec(1, helm.StatusDeployed, "new", operation("x")),
			}},
			action: release.ActionWait, phase: agentv1.PhaseLocked, code: release.ReasonForeignOperation,
		},
		"adopted": {
			obs:    release.Observed{History: helm.History{rec(1, helm.StatusDeployed, "", foreign)}},
			action: release.ActionWait, phase: agentv1.PhaseAdopted,
		},
		"taken over": {
			obs:    release.Observed{History: helm.History{rec(1, helm.StatusDeployed, "", foreign)}},
			change: func(w *release.Desired) { w.Adoption = v1alpha1.AdoptionTakeOver },
			action: release.ActionUpgrade, phase: agentv1.PhaseUpgrading,
		},
		"out of sync": {
			obs:    release.Observed{History: helm.History{rec(1, helm.StatusDeployed, "old", wasReady)}},
			action: release.ActionUpgrade, phase: agentv1.PhaseUpgrading,
		},
		"changed by hand, correct": {
			obs: release.Observed{History: helm.History{
				rec(2, helm.StatusDeployed, "new", operation("x")), rec(1, helm.StatusSuperseded, "new", operation("x")),
			}},
			action: release.ActionUpgrade, phase: agentv1.PhaseUpgrading,
		},
		"changed by hand, report": {
			obs: release.Observed{History: helm.History{
				rec(2, helm.StatusDeployed, "new", operation("x")), rec(1, helm.StatusSuperseded, "new", operation("x")),
			}},
			change: func(w *release.Desired) { w.Drift = v1alpha1.DriftReport },
			action: release.ActionWait, phase: agentv1.PhaseDrifted, code: release.ReasonChangedByHand,
		},
		"progressing": {
			obs:    release.Observed{Readiness: waiting, History: helm.History{rec(1, helm.StatusDeployed, "new")}},
			action: release.ActionWait, phase: agentv1.PhaseProgressing, at: at(1), soon: true,
		},
		"became ready": {
			obs:    release.Observed{Readiness: release.Readiness{Ready: 2, Total: 2}, History: helm.History{rec(1, helm.StatusDeployed, "new")}},
			action: release.ActionMarkReady, phase: agentv1.PhaseProgressing,
		},
		"ready": {
			obs:    release.Observed{History: helm.History{rec(1, helm.StatusDeployed, "new", wasReady)}},
			action: release.ActionWait, phase: agentv1.PhaseReady,
		},
		"was ready, is not now, long after the timeout": {
			obs:    release.Observed{Now: at(9999), Readiness: waiting, History: helm.History{rec(1, helm.StatusDeployed, "new", wasReady)}},
			action: release.ActionWait, phase: agentv1.PhaseProgressing, code: release.ReasonNotReady,
		},
		"drifted, correct": {
			obs:    release.Observed{Drift: drift, History: helm.History{rec(1, helm.StatusDeployed, "new", wasReady)}},
			action: release.ActionCorrect, phase: agentv1.PhaseDrifted,
		},
		"drifted and broken by it, correct": {
			obs:    release.Observed{Drift: drift, Readiness: waiting, History: helm.History{rec(1, helm.StatusDeployed, "new", wasReady)}},
			action: release.ActionCorrect, phase: agentv1.PhaseDrifted,
		},
		"drifted, report": {
			obs:    release.Observed{Drift: drift, History: helm.History{rec(1, helm.StatusDeployed, "new", wasReady)}},
			change: func(w *release.Desired) { w.Drift = v1alpha1.DriftReport },
			action: release.ActionWait, phase: agentv1.PhaseDrifted,
		},
		"drifted, ignore": {
			obs:    release.Observed{Drift: drift, History: helm.History{rec(1, helm.StatusDeployed, "new", wasReady)}},
			change: func(w *release.Desired) { w.Drift = v1alpha1.DriftIgnore },
			action: release.ActionWait, phase: agentv1.PhaseReady,
		},
		"timeout is counted first": {
			obs: release.Observed{
				Now: at(100), Readiness: waiting, Memory: release.Memory{Generation: 2, Attempts: 1},
				History: helm.History{rec(2, helm.StatusDeployed, "new"), rec(1, helm.StatusSuperseded, "old", wasReady)},
			},
			action: release.ActionFail, phase: agentv1.PhaseFailed, code: release.ReasonNotReadyInTime,
		},
		"timeout, then rollback": {
			obs: release.Observed{
				Now: at(100), Readiness: waiting, Memory: failedOnce,
				History: helm.History{rec(2, helm.StatusDeployed, "new"), rec(1, helm.StatusSuperseded, "old", wasReady)},
			},
			action: release.ActionRollback, phase: agentv1.PhaseRollingBack,
		},
		"timeout, keep": {
			obs: release.Observed{
				Now: at(55), Readiness: waiting, Memory: failedOnce,
				History: helm.History{rec(2, helm.StatusDeployed, "new"), rec(1, helm.StatusSuperseded, "old", wasReady)},
			},
			change: func(w *release.Desired) { w.Remediation = v1alpha1.RemediationKeep },
			action: release.ActionWait, phase: agentv1.PhaseFailed, at: at(60),
		},
		"too slow, but ready while waiting": {
			obs:    release.Observed{Now: at(55), Memory: failedOnce, History: helm.History{rec(2, helm.StatusDeployed, "new")}},
			action: release.ActionMarkReady, phase: agentv1.PhaseProgressing,
		},
		"failed job": {
			obs: release.Observed{
				Readiness: release.Readiness{Total: 1, Failed: "job x: failed"}, Memory: release.Memory{Generation: 2, Attempts: 1},
				History: helm.History{rec(1, helm.StatusDeployed, "new")},
			},
			action: release.ActionFail, phase: agentv1.PhaseFailed, code: release.ReasonObjectFailed,
		},
		"failed first install, uninstall": {
			obs:    release.Observed{Memory: failedOnce, History: helm.History{rec(2, helm.StatusFailed, "new")}},
			change: func(w *release.Desired) { w.Remediation = v1alpha1.RemediationUninstall },
			action: release.ActionUninstall, phase: agentv1.PhaseRemoving,
		},
		"failed upgrade, uninstall does not apply": {
			obs: release.Observed{Memory: failedOnce, History: helm.History{
				rec(2, helm.StatusFailed, "new"), rec(1, helm.StatusDeployed, "old", wasReady),
			}},
			change: func(w *release.Desired) { w.Remediation = v1alpha1.RemediationUninstall },
			action: release.ActionWait, phase: agentv1.PhaseFailed,
		},
		"failed first install, nothing to return to": {
			obs:    release.Observed{Memory: failedOnce, History: helm.History{rec(2, helm.StatusFailed, "new")}},
			action: release.ActionWait, phase: agentv1.PhaseFailed,
		},
		"failed first install, again": {
			obs:    release.Observed{Now: at(61), Memory: failedOnce, History: helm.History{rec(2, helm.StatusFailed, "new")}},
			action: release.ActionInstall, phase: agentv1.PhaseInstalling,
		},
		"failed upgrade, again": {
			obs: release.Observed{Now: at(61), Memory: failedOnce, History: helm.History{
				rec(3, helm.StatusDeployed, "old", wasReady), rec(2, helm.StatusFailed, "new"),
			}},
			action: release.ActionUpgrade, phase: agentv1.PhaseUpgrading,
		},
		"rolled back, becomes ready": {
			obs: release.Observed{Memory: failedOnce, History: helm.History{
				rec(3, helm.StatusDeployed, "old"), rec(2, helm.StatusFailed, "new"), rec(1, helm.StatusSuperseded, "old", wasReady),
			}},
			action: release.ActionMarkReady, phase: agentv1.PhaseFailed,
		},
		"interrupted": {
			obs: release.Observed{Memory: release.Memory{Generation: 2, Attempts: 1, RetryAt: at(60)}, History: helm.History{
				rec(2, helm.StatusFailed, "new", interrupted), rec(1, helm.StatusDeployed, "old", wasReady),
			}},
			action: release.ActionUpgrade, phase: agentv1.PhaseUpgrading, code: release.ReasonInterrupted,
		},
		"interrupted too often": {
			obs: release.Observed{Memory: release.Memory{Generation: 2, Attempts: 3}, History: helm.History{
				rec(2, helm.StatusFailed, "new", interrupted), rec(1, helm.StatusDeployed, "old", wasReady),
			}},
			action: release.ActionFail, phase: agentv1.PhaseFailed,
		},
		"uninstalled by hand with history": {
			obs:    release.Observed{History: helm.History{rec(1, helm.StatusUninstalled, "new")}},
			action: release.ActionInstall, phase: agentv1.PhaseInstalling,
		},
		"uninstalled, objects still going": {
			obs:    release.Observed{Remaining: []string{"PersistentVolumeClaim/ns/p"}, History: helm.History{rec(1, helm.StatusUninstalled, "new")}},
			action: release.ActionWait, phase: agentv1.PhasePending, code: release.ReasonPreviousRemains, soon: true,
		},
		"removed": {
			obs:    release.Observed{History: helm.History{rec(1, helm.StatusDeployed, "new", wasReady)}},
			change: func(w *release.Desired) { w.Removed = true },
			action: release.ActionUninstall, phase: agentv1.PhaseRemoving,
		},
		"removed, not ours": {
			obs:    release.Observed{History: helm.History{rec(1, helm.StatusDeployed, "", foreign)}},
			change: func(w *release.Desired) { w.Removed = true },
			action: release.ActionWait, phase: agentv1.PhaseRemoved, code: release.ReasonNotOwned,
		},
		"removed, taken over": {
			obs:    release.Observed{History: helm.History{rec(1, helm.StatusDeployed, "new", adopted)}},
			change: func(w *release.Desired) { w.Removed = true },
			action: release.ActionWait, phase: agentv1.PhaseRemoved, code: release.ReasonNotOwned,
		},
		"removed in the middle of an uninstall": {
			obs:    release.Observed{History: helm.History{rec(1, helm.StatusUninstalling, "new")}},
			change: func(w *release.Desired) { w.Removed = true },
			action: release.ActionUninstall, phase: agentv1.PhaseRemoving,
		},
		"removed, objects remain": {
			obs:    release.Observed{Remaining: []string{"a", "b"}, History: helm.History{rec(1, helm.StatusUninstalled, "new")}},
			change: func(w *release.Desired) { w.Removed = true },
			action: release.ActionWait, phase: agentv1.PhaseRemoving, code: release.ReasonObjectsRemain, soon: true,
		},
		"removed, gone": {
			obs:    release.Observed{History: helm.History{rec(1, helm.StatusUninstalled, "new")}},
			change: func(w *release.Desired) { w.Removed = true },
			action: release.ActionPurge, phase: agentv1.PhaseRemoving,
		},
		"removed, purged": {
			change: func(w *release.Desired) { w.Removed = true },
			action: release.ActionWait, phase: agentv1.PhaseRemoved, code: release.ReasonRemoved,
		},
		"removed, uninstall failed a moment ago": {
			obs:    release.Observed{Memory: failedOnce, History: helm.History{rec(1, helm.StatusDeployed, "new")}},
			change: func(w *release.Desired) { w.Removed = true },
			action: release.ActionWait, phase: agentv1.PhaseRemoving, at: at(60),
		},
		"removed, Helm's record went with its namespace": {
			obs:    release.Observed{Leaving: []string{"Namespace/web"}},
			change: func(w *release.Desired) { w.Removed = true },
			action: release.ActionWait, phase: agentv1.PhaseRemoving, code: release.ReasonObjectsRemain, soon: true,
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := want()
			if c.change != nil {
				c.change(&w)
			}
			if c.obs.Now.IsZero() {
				c.obs.Now = at(0)
			}
			action, reason := release.Decide(c.obs, w)
			require.Equal(t, c.action, action.Kind, "%+v %+v", action, reason)
			require.Equal(t, c.phase, reason.Phase)
			if c.code != "" {
				require.Equal(t, c.code, reason.Code)
			}
			if !c.at.IsZero() {
				require.Equal(t, c.at, action.At)
			}
			require.Equal(t, c.soon, action.Soon)
		})
	}
}

// world plays what each action does when it succeeds.
type world struct {
	obs  release.Observed
	want release.Desired
	next int
}

func (w *world) do(a release.Action) {
	h := &w.obs.History
	switch a.Kind {
	case release.ActionInstall, release.ActionUpgrade:
		w.obs.Memory.Attempts++
		w.deploy(w.want.Content)
		w.obs.Readiness = release.Readiness{Ready: 1, Total: 1}
	case release.ActionRollback:
		for _, r := range *h {
			if r.Revision == a.Revision {
				w.deploy(r.Content)
				break
			}
		}
		w.obs.Readiness = release.Readiness{Ready: 1, Total: 1}
	case release.ActionUnlock:
		(*h)[0].Status, (*h)[0].Interrupted = helm.StatusFailed, true
	case release.ActionMarkReady:
		(*h)[0].Ready = true
	case release.ActionFail:
		w.obs.Memory.FailedOperation = (*h)[0].Operation
		w.obs.Memory.RetryAt = w.obs.Now.Add(time.Second)
	case release.ActionCorrect:
		w.obs.Drift = nil
	case release.ActionUninstall:
		(*h)[0].Status = helm.StatusUninstalled
	case release.ActionClear:
		w.obs.Leftovers = nil
	case release.ActionPurge:
		*h = nil
	case release.ActionWait:
	}
	w.obs.Drift = nil
}

func (w *world) deploy(content string) {
	w.next++
	if w.obs.Memory.Generation != w.want.Generation {
		w.obs.Memory = release.Memory{Generation: w.want.Generation, Attempts: 1}
	}
	for i := range w.obs.History {
		if w.obs.History[i].Status == helm.StatusDeployed {
			w.obs.History[i].Status = helm.StatusSuperseded
		}
	}
	r := rec(1000+w.next, helm.StatusDeployed, content, operation("sim"+string(rune('a'+w.next))))
	r.ReleaseID = w.want.ID
	r.ChangedAt = w.obs.Now
	w.obs.History = append(helm.History{r}, w.obs.History...)
}

// FuzzDecide throws arbitrary histories at Decide: it always answers, and
// when every action succeeds it comes to rest within a few steps.
func FuzzDecide(f *testing.F) {
	for i := range 64 {
		f.Add(uint64(i)*0x9e3779b97f4a7c15, uint64(i)*0xbf58476d1ce4e5b9)
	}
	f.Fuzz(func(t *testing.T, a, b uint64) {
		w := randomWorld(a, b)
		const enough = 12
		var trail []release.ActionKind
		for range enough {
			action, reason := release.Decide(w.obs, w.want)
			require.NotEmpty(t, reason.Phase, "%+v", w.obs)
			require.NotEmpty(t, action.Kind)
			again, sameReason := release.Decide(w.obs, w.want)
			require.Equal(t, action, again)
			require.Equal(t, reason, sameReason)
			if w.obs.Busy {
				require.False(t, action.Acts(), "nothing is touched beside another agent")
			}
			requireSafe(t, w, action)
			if !action.Acts() {
				return
			}
			trail = append(trail, action.Kind)
			w.do(action)
		}
		t.Fatalf("does not come to rest: %v\n%+v\n%+v", trail, w.obs, w.want)
	})
}

// requireSafe holds what must never happen, whatever was observed.
func requireSafe(t *testing.T, w *world, a release.Action) {
	t.Helper()
	latest, found := w.obs.History.Latest()
	ours := found && latest.ReleaseID == w.want.ID
	if a.Kind == release.ActionUninstall || a.Kind == release.ActionPurge {
		require.True(t, ours && !latest.Adopted, "only what is ours is removed: %+v", w.obs.History)
	}
	if a.Kind == release.ActionClear {
		require.True(t, w.want.Removed && (!found || ours && !latest.Adopted && latest.Status == helm.StatusUninstalled), "leftovers go after the release")
	}
	if found && !ours && w.want.Adoption == v1alpha1.AdoptionObserve && latest.Status != helm.StatusUninstalled {
		require.False(t, a.Acts(), "a foreign release is only observed: %s", a.Kind)
	}
	if w.want.Removed {
		require.NotContains(t, []release.ActionKind{release.ActionInstall, release.ActionUpgrade, release.ActionRollback, release.ActionCorrect}, a.Kind)
	}
}

func randomWorld(a, b uint64) *world {
	pick := func(n int) int {
		a, b = b, a*6364136223846793005+b+1442695040888963407
		return int((a >> 33) % uint64(n))
	}
	flag := func() bool { return pick(2) == 1 }
	w := &world{want: want()}
	w.want.Removed = pick(4) == 0
	w.want.Remediation = []v1alpha1.Remediation{v1alpha1.RemediationKeep, v1alpha1.RemediationRollback, v1alpha1.RemediationUninstall, ""}[pick(4)]
	w.want.Drift = []v1alpha1.DriftPolicy{v1alpha1.DriftCorrect, v1alpha1.DriftReport, v1alpha1.DriftIgnore, ""}[pick(4)]
	w.want.Adoption = []v1alpha1.AdoptionPolicy{v1alpha1.AdoptionObserve, v1alpha1.AdoptionTakeOver}[pick(2)]
	w.want.MaxAttempts = pick(4)
	statuses := helm.Statuses()
	for i := pick(5); i > 0; i-- {
		r := rec(i, statuses[pick(len(statuses))], []string{"new", "old", ""}[pick(3)])
		r.ReleaseID = []string{"id", "other", ""}[pick(3)]
		r.Operation = []string{"op-a", "op-b", "op-c", ""}[pick(4)]
		r.Ready, r.Adopted, r.Interrupted = flag(), flag(), flag()
		r.ChangedAt = at(-pick(200))
		w.obs.History = append(w.obs.History, r)
	}
	w.obs.Now = at(0)
	w.obs.Busy = pick(5) == 0
	w.obs.Readiness = release.Readiness{Ready: pick(3), Total: pick(3)}
	if pick(5) == 0 {
		w.obs.Readiness.Failed = "job failed"
	}
	if flag() {
		w.obs.Drift = []v1alpha1.Drift{{Object: "a"}}
	}
	if pick(4) == 0 {
		w.obs.Remaining = []string{"a"}
	}
	if pick(3) == 0 {
		w.obs.Leftovers = []string{"x"}
	}
	if pick(6) == 0 {
		w.obs.Leaving = []string{"y"}
	}
	w.obs.Memory = release.Memory{
		Generation: int64(1 + pick(2)), Attempts: pick(4), RetryAt: at(pick(20) - 10),
		FailedOperation: []string{"op-a", "op-b", ""}[pick(3)], Permanent: pick(5) == 0,
	}
	return w
}

func BenchmarkDecide100(b *testing.B) {
	w := want()
	o := release.Observed{Now: at(0), Readiness: release.Readiness{Ready: 5, Total: 5}}
	for i := range 10 {
		o.History = append(o.History, rec(10-i, helm.StatusSuperseded, "old", wasReady))
	}
	o.History[0] = rec(10, helm.StatusDeployed, "new", wasReady)
	b.ReportAllocs()
	for b.Loop() {
		for range 100 {
			if a, _ := release.Decide(o, w); a.Acts() {
				b.Fatal("acts")
			}
		}
	}
}
