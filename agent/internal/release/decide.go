package release

import (
	"fmt"
	"strings"
	"time"

	"github.com/budecosystem/budcluster/agent/api/v1alpha1"
	"github.com/budecosystem/budcluster/agent/internal/helm"
	agentv1 "github.com/budecosystem/budcluster/proto/agent/v1"
)

// ActionKind is one thing that the machine can do.
type ActionKind string

// The actions.
const (
	// ActionWait does nothing until Action.At, or until something changes.
	ActionWait ActionKind = "Wait"
	// ActionUnlock turns a pending record, whose operation is over, into a failed one.
	ActionUnlock ActionKind = "Unlock"
	// ActionInstall installs, or repeats a first install that failed.
	ActionInstall ActionKind = "Install"
	// ActionUpgrade makes the next revision.
	ActionUpgrade ActionKind = "Upgrade"
	// ActionMarkReady notes that the revision was ready.
	ActionMarkReady ActionKind = "MarkReady"
	// ActionFail counts a failure that Helm did not report: objects that did
	// not become ready in time, or an operation that died with its agent.
	ActionFail ActionKind = "Fail"
	// ActionRollback returns to Action.Revision.
	ActionRollback ActionKind = "Rollback"
	// ActionCorrect applies the objects that others changed.
	ActionCorrect ActionKind = "Correct"
	// ActionUninstall deletes the objects and keeps the record.
	ActionUninstall ActionKind = "Uninstall"
	// ActionClear deletes what the chart's uninstall has left behind.
	ActionClear ActionKind = "Clear"
	// ActionPurge drops the records, once the objects are gone.
	ActionPurge ActionKind = "Purge"
)

// Action is what to do next.
type Action struct {
	Kind ActionKind
	// Revision is the one to unlock, mark, fail, or return to.
	Revision int
	// At is when waiting ends at the latest; zero: at the next interval.
	At time.Time
	// Soon: something is expected to happen and nothing tells of it, so the wait
	// is shorter the less time has gone since the last change.
	Soon bool
}

// Acts reports whether the action changes something.
func (a Action) Acts() bool { return a.Kind != ActionWait }

// Reason is why, as people and the hub see it.
type Reason struct {
	Phase   agentv1.Phase
	Code    string
	Message string
}

// The reason codes.
const (
	ReasonInstalling       = "Installing"
	ReasonUpgrading        = "Upgrading"
	ReasonChangedByHand    = "ChangedByHand"
	ReasonNotReady         = "NotReady"
	ReasonReady            = "Ready"
	ReasonDrifted          = "Drifted"
	ReasonForeignRelease   = "ForeignRelease"
	ReasonForeignOperation = "ForeignOperation"
	ReasonOtherAgent       = "OtherAgent"
	ReasonInterrupted      = "Interrupted"
	ReasonPreviousRemains  = "PreviousRemains"
	ReasonUninstalling     = "Uninstalling"
	ReasonUninstallFailed  = "UninstallFailed"
	ReasonObjectsRemain    = "ObjectsRemain"
	ReasonClearing         = "Clearing"
	ReasonClearFailed      = "ClearFailed"
	ReasonRemoved          = "Removed"
	ReasonNotOwned         = "NotOwned"
	ReasonRollingBack      = "RollingBack"
	ReasonInstallFailed    = "InstallFailed"
	ReasonUpgradeFailed    = "UpgradeFailed"
	ReasonRollbackFailed   = "RollbackFailed"
	ReasonNotReadyInTime   = "NotReadyInTime"
	ReasonObjectFailed     = "ObjectFailed"
	ReasonAttemptsUsed     = "AttemptsUsed"
	ReasonChartMissing     = "ChartMissing"
	ReasonChartRefused     = "ChartRefused"
	ReasonValuesMissing    = "ValuesMissing"
	ReasonInvalid          = "Invalid"
	ReasonUnreachable      = "APIServerUnreachable"
)

// Desired is what the hub wants of one release.
type Desired struct {
	ID         string
	Generation int64
	Removed    bool
	// Content is a hash of chart, values and mirrors.
	Content     string
	Remediation v1alpha1.Remediation
	Drift       v1alpha1.DriftPolicy
	Adoption    v1alpha1.AdoptionPolicy
	MaxAttempts int
	Timeout     time.Duration
}

// Observed is all that a decision rests on.
type Observed struct {
	Now     time.Time
	History helm.History
	// Readiness of the newest record's objects.
	Readiness Readiness
	// Drift of the newest record's objects from the manifest.
	Drift []v1alpha1.Drift
	// Remaining names what an uninstalled release has left.
	Remaining []string
	// Leftovers are what a removed release has left behind and is to be deleted;
	// Leaving is what goes already. Kept says in sentences what stays, and why.
	Leftovers, Leaving, Kept []string
	// Busy: another agent holds the lock of this release.
	Busy   bool
	Memory Memory
}

// Readiness counts the objects of a release.
type Readiness struct {
	Ready, Total int
	// WaitingFor says what the first object that is not ready waits for.
	WaitingFor string
	// Failed says which object cannot become ready any more, and why.
	Failed string
}

// Done reports whether every object is ready.
func (r Readiness) Done() bool { return r.Ready >= r.Total && r.Failed == "" }

// Memory is what cannot be read from Helm's records; it survives in the
// status of the custom resource.
type Memory struct {
	// Generation that the rest speaks of.
	Generation int64
	Attempts   int
	RetryAt    time.Time
	// FailedOperation is the operation whose failure is counted already.
	FailedOperation string
	Failure         Reason
	Permanent       bool
}

// exhausted reports whether trying again is over until the release changes.
func (m Memory) exhausted(most int) bool { return m.Permanent || m.Attempts >= most }

// Decide says what to do next, and why. It is pure and total: the same
// observation gives the same answer, every observation gives one, and after
// its action has succeeded deciding again comes to rest.
//
//	removed? ──► uninstalled and gone? ──► Removed
//	no record ─────────────────────────► Install
//	pending ── ours, lock lapsed ──────► Unlock        else Locked
//	not ours ── observe ───────────────► Adopted       takeOver: Upgrade
//	failed ─────────────────────────────► remediate, then try again
//	deployed ── other content ─────────► Upgrade
//	         ── not ready ─────────────► wait, at the timeout: Fail
//	         ── changed by others ─────► Correct | Drifted
//	         ── else ──────────────────► Ready
func Decide(o Observed, w Desired) (Action, Reason) {
	if o.Memory.Generation != w.Generation { // a new spec begins to count anew
		o.Memory = Memory{Generation: w.Generation, FailedOperation: o.Memory.FailedOperation}
	}
	v := &view{Observed: o, want: w}
	v.latest, v.found = o.History.Latest()
	v.ours = v.found && w.ID != "" && v.latest.ReleaseID == w.ID
	v.copied = o.History.Copied()
	action, reason := v.reconcile()
	if w.Removed {
		action, reason = v.remove()
	}
	if o.Busy && action.Acts() {
		return v.wait(lockPoll), Reason{agentv1.PhaseLocked, ReasonOtherAgent, "another agent is working on this release"}
	}
	return action, reason
}

// view is one decision's reading of an observation.
type view struct {
	Observed
	want   Desired
	latest helm.Record
	found  bool
	// ours: the newest record is of this release, whoever wrote it last.
	ours bool
	// copied: somebody used Helm by hand on our release.
	copied bool
}

func (v *view) reconcile() (Action, Reason) {
	switch {
	case !v.found:
		return v.attempt("")
	case v.latest.Status.Pending():
		return v.pending()
	case v.latest.Status == helm.StatusUninstalling:
		return v.uninstalling()
	case v.latest.Status == helm.StatusUninstalled:
		return v.uninstalled()
	case !v.ours:
		return v.foreign()
	case v.copied:
		return v.changedByHand()
	case v.latest.Status == helm.StatusFailed:
		return v.failed()
	case v.latest.Status == helm.StatusDeployed && v.latest.Content == v.want.Content:
		return v.deployed()
	default:
		return v.attempt("")
	}
}

// pending: an operation began and has not ended.
func (v *view) pending() (Action, Reason) {
	if v.ours && !v.copied {
		return Action{Kind: ActionUnlock, Revision: v.latest.Revision},
			Reason{agentv1.PhaseLocked, ReasonInterrupted, fmt.Sprintf("an agent died in the middle of %s", operationName(v.latest.Status))}
	}
	locked := Reason{agentv1.PhaseLocked, ReasonForeignOperation, fmt.Sprintf(
		"a Helm operation that is not ours is in %s since %s", v.latest.Status, v.latest.ChangedAt.UTC().Format(time.RFC3339))}
	patience := v.latest.ChangedAt.Add(v.want.Timeout)
	switch {
	case v.Now.Before(patience):
		locked.Message += "; waiting for it until " + patience.UTC().Format(time.RFC3339)
		return Action{Kind: ActionWait, At: patience}, locked
	case !v.mayTouch():
		locked.Message += "; it seems dead: end it with helm rollback or helm uninstall"
		return Action{Kind: ActionWait}, locked
	default:
		return Action{Kind: ActionUnlock, Revision: v.latest.Revision}, locked
	}
}

func operationName(s helm.Status) string {
	return "an " + strings.TrimPrefix(strings.Replace(string(s), "pending-rollback", "rollback", 1), "pending-")
}

// mayTouch: the release is ours, or policy says to take it over.
func (v *view) mayTouch() bool {
	return v.ours || v.want.Adoption == v1alpha1.AdoptionTakeOver
}

// uninstalling: an uninstall began and has not ended, but the release is wanted.
func (v *view) uninstalling() (Action, Reason) {
	if !v.ours || v.latest.Adopted {
		return Action{Kind: ActionWait}, Reason{
			agentv1.PhaseLocked, ReasonForeignOperation,
			"somebody's helm uninstall has not ended; when it has, this release is installed",
		}
	}
	return Action{Kind: ActionUninstall}, Reason{agentv1.PhaseRemoving, ReasonUninstalling, "finishing an uninstall that was interrupted"}
}

// uninstalled: the record is left, the objects may still be going.
func (v *view) uninstalled() (Action, Reason) {
	if v.ours && len(v.Remaining) > 0 {
		return v.soon(busyPoll), Reason{
			agentv1.PhasePending, ReasonPreviousRemains,
			"waiting for the previous install to be gone: " + v.Remaining[0],
		}
	}
	return v.attempt("")
}

// foreign: a release of that name was there before us.
func (v *view) foreign() (Action, Reason) {
	if v.want.Adoption != v1alpha1.AdoptionTakeOver {
		return Action{Kind: ActionWait}, Reason{
			agentv1.PhaseAdopted, ReasonForeignRelease,
			"a Helm release of this name was there before; it is watched and never changed (adoption: observe)",
		}
	}
	return v.attempt("")
}

// changedByHand: Helm's CLI was used on our release.
func (v *view) changedByHand() (Action, Reason) {
	changed := Reason{agentv1.PhaseDrifted, ReasonChangedByHand, fmt.Sprintf("revision %d was made with Helm by hand", v.latest.Revision)}
	switch v.want.Drift {
	case v1alpha1.DriftReport:
		return Action{Kind: ActionWait}, changed
	case v1alpha1.DriftIgnore:
		changed.Phase = agentv1.PhaseReady
		return Action{Kind: ActionWait}, changed
	default:
		return v.attempt("")
	}
}

// failed: Helm says that the last operation failed.
func (v *view) failed() (Action, Reason) {
	if v.latest.Content != v.want.Content {
		return v.attempt("")
	}
	if v.latest.Interrupted && v.Memory.Attempts < v.want.MaxAttempts {
		v.Memory.RetryAt = time.Time{}
		return v.attempt(ReasonInterrupted)
	}
	return v.remediate(Reason{agentv1.PhaseFailed, v.attemptFailed(), ""})
}

// deployed: what is wanted was applied.
func (v *view) deployed() (Action, Reason) {
	switch {
	case !v.Readiness.Done():
		return v.notReady()
	case !v.latest.Ready:
		return Action{Kind: ActionMarkReady, Revision: v.latest.Revision},
			Reason{agentv1.PhaseProgressing, ReasonReady, "everything is ready"}
	case len(v.Drift) > 0:
		return v.drifted()
	default:
		return Action{Kind: ActionWait}, Reason{agentv1.PhaseReady, ReasonReady, ""}
	}
}

func (v *view) drifted() (Action, Reason) {
	r := Reason{agentv1.PhaseDrifted, ReasonDrifted, driftMessage(v.Drift)}
	switch v.want.Drift {
	case v1alpha1.DriftReport:
		return Action{Kind: ActionWait}, r
	case v1alpha1.DriftIgnore:
		return Action{Kind: ActionWait}, Reason{agentv1.PhaseReady, ReasonReady, ""}
	default:
		return Action{Kind: ActionCorrect, Revision: v.latest.Revision}, r
	}
}

func driftMessage(drift []v1alpha1.Drift) string {
	d := drift[0]
	text := d.Object
	if d.Field != "" {
		text += " " + d.Field
	}
	if d.Manager != "" {
		text += " was changed by " + d.Manager
	} else {
		text += " is not as the chart has it"
	}
	if n := len(drift) - 1; n > 0 {
		text += fmt.Sprintf(", and %d more", n)
	}
	return text
}

// notReady: objects are waited for until the timeout, but only once per
// revision. What was ready and is not any more is shown, never rolled back:
// a node that went away is no reason to change a release.
func (v *view) notReady() (Action, Reason) {
	waiting := Reason{agentv1.PhaseProgressing, ReasonNotReady, v.Readiness.WaitingFor}
	if v.Readiness.Failed != "" {
		waiting.Message = v.Readiness.Failed
	}
	if v.latest.Ready {
		if len(v.Drift) > 0 && v.want.Drift != v1alpha1.DriftIgnore {
			return v.drifted()
		}
		return v.wait(readyPoll), waiting
	}
	if v.Readiness.Failed != "" {
		return v.remediate(Reason{agentv1.PhaseFailed, ReasonObjectFailed, v.Readiness.Failed})
	}
	deadline := v.latest.ChangedAt.Add(v.want.Timeout)
	if v.Now.Before(deadline) {
		return v.soon(min(busyPoll, deadline.Sub(v.Now))), waiting
	}
	return v.remediate(Reason{
		agentv1.PhaseFailed, ReasonNotReadyInTime,
		fmt.Sprintf("not ready after %s: %s", v.want.Timeout, v.Readiness.WaitingFor),
	})
}

// remediate counts the failure once, does what policy says, and tries again.
func (v *view) remediate(why Reason) (Action, Reason) {
	if v.Memory.Attempts == 0 { // not an attempt of this generation: make one
		return v.attempt("")
	}
	if v.Memory.FailedOperation != v.latest.Operation {
		return Action{Kind: ActionFail, Revision: v.latest.Revision}, why
	}
	switch v.want.Remediation {
	case v1alpha1.RemediationRollback:
		if good, ok := v.lastGood(); ok {
			return Action{Kind: ActionRollback, Revision: good.Revision},
				Reason{agentv1.PhaseRollingBack, ReasonRollingBack, fmt.Sprintf("returning to revision %d: %s", good.Revision, v.Memory.Failure.Message)}
		}
	case v1alpha1.RemediationUninstall:
		if !v.latest.Adopted && v.firstInstall() {
			return Action{Kind: ActionUninstall}, Reason{agentv1.PhaseRemoving, ReasonUninstalling, "removing the failed install: " + v.Memory.Failure.Message}
		}
	case v1alpha1.RemediationKeep:
	}
	return v.attempt("")
}

// lastGood is the newest other revision that was ready, or that was deployed
// before us.
func (v *view) lastGood() (helm.Record, bool) {
	for _, r := range v.History[1:] {
		deployed := r.Status == helm.StatusDeployed || r.Status == helm.StatusSuperseded
		foreign := r.ReleaseID != v.want.ID
		if deployed && (r.Ready || foreign) && (r.Content != v.want.Content || foreign) {
			return r, true
		}
	}
	return helm.Record{}, false
}

// firstInstall: nothing that was ever ready, or not ours, is in the history.
func (v *view) firstInstall() bool {
	for _, r := range v.History {
		if r.Ready || r.ReleaseID != v.want.ID {
			return false
		}
	}
	return true
}

// attempt tries to reach what is wanted, if it is time and attempts are left.
func (v *view) attempt(code string) (Action, Reason) {
	m := v.Memory
	failure := m.Failure
	failure.Phase = agentv1.PhaseFailed
	switch {
	case m.Attempts > 0 && m.Permanent:
		failure.Message += "; change the release to try again"
		return v.rest(), failure
	case m.Attempts >= v.want.MaxAttempts:
		if failure.Code == "" {
			failure.Code = ReasonAttemptsUsed
		}
		failure.Message += fmt.Sprintf("; gave up after %s, change the release to try again", attempts(m.Attempts))
		return v.rest(), failure
	case v.Now.Before(m.RetryAt):
		if failure.Code == ReasonChartMissing { // not our failure, and no attempt was made
			failure.Phase = agentv1.PhasePending
		}
		next := v.rest()
		if !next.Acts() && (next.At.IsZero() || m.RetryAt.Before(next.At)) {
			next.At = m.RetryAt
		}
		return next, failure
	case v.installs():
		return Action{Kind: ActionInstall}, Reason{agentv1.PhaseInstalling, orCode(code, ReasonInstalling), ""}
	default:
		return Action{Kind: ActionUpgrade}, Reason{agentv1.PhaseUpgrading, orCode(code, ReasonUpgrading), ""}
	}
}

// rest waits between attempts or after the last. What is there meanwhile, a
// revision that was returned to or one that was too slow, may become ready.
func (v *view) rest() Action {
	switch {
	case !v.found || !v.ours || v.copied || v.latest.Status != helm.StatusDeployed || v.latest.Ready:
		return Action{Kind: ActionWait}
	case v.Readiness.Done():
		return Action{Kind: ActionMarkReady, Revision: v.latest.Revision}
	default:
		return v.wait(readyPoll)
	}
}

func orCode(code, other string) string {
	if code == "" {
		return other
	}
	return code
}

func attempts(n int) string {
	if n == 1 {
		return "1 attempt"
	}
	return fmt.Sprintf("%d attempts", n)
}

// installs: nothing was ever deployed, so install hooks have to run.
func (v *view) installs() bool {
	switch {
	case !v.found, v.latest.Status == helm.StatusUninstalled:
		return true
	case v.latest.Status == helm.StatusFailed:
		return !v.History.Established()
	default:
		return false
	}
}

// attemptFailed names the kind of operation that the newest record is of.
func (v *view) attemptFailed() string {
	if v.History.Established() {
		return ReasonUpgradeFailed
	}
	return ReasonInstallFailed
}

// remove: a tombstone. Only what is ours is touched.
func (v *view) remove() (Action, Reason) {
	removed := Reason{agentv1.PhaseRemoved, ReasonRemoved, strings.Join(v.Kept, "; ")}
	switch {
	case !v.found:
		return v.clear(Action{Kind: ActionWait}, removed)
	case !v.ours || v.latest.Adopted:
		removed.Code, removed.Message = ReasonNotOwned, "the Helm release was there before us and stays"
		return Action{Kind: ActionWait}, removed
	case v.latest.Status == helm.StatusUninstalled:
		return v.vanish()
	case v.latest.Status.Pending() && v.copied:
		if patience := v.latest.ChangedAt.Add(v.want.Timeout); v.Now.Before(patience) {
			return Action{Kind: ActionWait, At: patience}, Reason{
				agentv1.PhaseLocked, ReasonForeignOperation,
				"a Helm operation that is not ours is running; waiting for it until " + patience.UTC().Format(time.RFC3339),
			}
		}
	case v.Now.Before(v.Memory.RetryAt):
		failure := v.Memory.Failure
		failure.Phase = agentv1.PhaseRemoving
		return Action{Kind: ActionWait, At: v.Memory.RetryAt}, failure
	}
	return Action{Kind: ActionUninstall}, Reason{agentv1.PhaseRemoving, ReasonUninstalling, ""}
}

// vanish waits for the objects of an uninstalled release to be gone.
func (v *view) vanish() (Action, Reason) {
	if len(v.Remaining) == 0 {
		return v.clear(Action{Kind: ActionPurge}, Reason{agentv1.PhaseRemoving, ReasonUninstalling, ""})
	}
	return v.await(v.Remaining)
}

// await waits for objects to be gone.
func (v *view) await(objects []string) (Action, Reason) {
	return v.soon(readyPoll), Reason{agentv1.PhaseRemoving, ReasonObjectsRemain, "waiting for " + andMore(objects) + " to be gone"}
}

// clear removes what the chart left behind, and then does what comes after.
func (v *view) clear(then Action, reason Reason) (Action, Reason) {
	switch {
	case len(v.Leftovers) > 0 && v.Now.Before(v.Memory.RetryAt) && v.Memory.Failure.Code == ReasonClearFailed:
		failure := v.Memory.Failure
		failure.Phase = agentv1.PhaseRemoving
		return Action{Kind: ActionWait, At: v.Memory.RetryAt}, failure
	case len(v.Leftovers) > 0:
		return Action{Kind: ActionClear}, Reason{agentv1.PhaseRemoving, ReasonClearing, "removing " + andMore(v.Leftovers) + ", which the chart left behind"}
	case len(v.Leaving) > 0:
		return v.await(v.Leaving)
	default:
		return then, reason
	}
}

func andMore(names []string) string {
	if n := len(names) - 1; n > 0 {
		return fmt.Sprintf("%s and %d more", names[0], n)
	}
	return names[0]
}

func (v *view) wait(d time.Duration) Action { return Action{Kind: ActionWait, At: v.Now.Add(d)} }

func (v *view) soon(most time.Duration) Action {
	return Action{Kind: ActionWait, At: v.Now.Add(most), Soon: true}
}

// How soon to look again.
const (
	// busyPoll: while something is expected to happen.
	busyPoll = time.Second
	// lockPoll: while another agent holds the lock.
	lockPoll = 3 * time.Second
	// readyPoll: while something is broken and may heal.
	readyPoll = 10 * time.Second
)
