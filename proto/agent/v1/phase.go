package agentv1

// Phase is where a release stands in a cluster. It travels as a string so that
// an older hub shows a newer agent's phase instead of losing it.
type Phase string

// The phases of a release.
const (
	// PhasePending: wanted, nothing has been done yet.
	PhasePending Phase = "Pending"
	// PhaseInstalling: the first Helm operation runs.
	PhaseInstalling Phase = "Installing"
	// PhaseUpgrading: a Helm upgrade runs.
	PhaseUpgrading Phase = "Upgrading"
	// PhaseRollingBack: a failed upgrade is being undone.
	PhaseRollingBack Phase = "RollingBack"
	// PhaseProgressing: Helm is done, objects are not all ready yet.
	PhaseProgressing Phase = "Progressing"
	// PhaseReady: everything the chart made is ready; jobs are complete.
	PhaseReady Phase = "Ready"
	// PhaseDrifted: objects were changed by others and policy says to report.
	PhaseDrifted Phase = "Drifted"
	// PhaseAdopted: a release of that name was there before us; we watch it.
	PhaseAdopted Phase = "Adopted"
	// PhaseLocked: an operation that is not ours is pending; we wait for it.
	PhaseLocked Phase = "Locked"
	// PhaseFailed: the last attempt failed; the message says why and what next.
	PhaseFailed Phase = "Failed"
	// PhaseRemoving: being uninstalled.
	PhaseRemoving Phase = "Removing"
	// PhaseRemoved: gone, or released from our care if it was not ours.
	PhaseRemoved Phase = "Removed"
)

// Phases lists every phase, in the order of a release's life.
func Phases() []Phase {
	return []Phase{
		PhasePending, PhaseInstalling, PhaseUpgrading, PhaseRollingBack, PhaseProgressing, PhaseReady,
		PhaseDrifted, PhaseAdopted, PhaseLocked, PhaseFailed, PhaseRemoving, PhaseRemoved,
	}
}

// Settled reports whether a release in this phase stays there until its spec,
// the cluster, or a retry changes it: what a waiting operator waits for.
func (p Phase) Settled() bool {
	switch p {
	case PhaseReady, PhaseDrifted, PhaseAdopted, PhaseFailed, PhaseRemoved:
		return true
	default:
		return false
	}
}
