package upgrade

import "time"

const (
	// lateness is how much later than the old agent the new one returns: it is
	// for when no old one is left.
	lateness = 30 * time.Second
	// takeover is how old the word of who returns must be for another to do it.
	takeover = time.Minute
)

// Sight is what one agent sees.
type Sight struct {
	// Pod is its name, Hash that of its template.
	Pod, Hash string
	// Leads: it holds the lease. Linked: it is connected to the hub.
	Leads, Linked bool
	// NewRuns: a pod of another template has its program running.
	NewRuns bool
}

// Action is what one agent does next.
type Action string

// The actions.
const (
	// Rest: there is nothing to do, and nothing to wait for.
	Rest Action = "Rest"
	// Wait: look again in a moment.
	Wait Action = "Wait"
	// Apply: have Helm upgrade the release.
	Apply Action = "Apply"
	// StandAside: let the new agent have the lease.
	StandAside Action = "StandAside"
	// Prove: record that the new agent reached the hub.
	Prove Action = "Prove"
	// Return: have Helm put back what there was.
	Return Action = "Return"
)

// Decide says what an agent does, by the record and by what it sees. It is
// pure, and every agent of the cluster decides by it.
func Decide(r Record, s Sight, now time.Time) Action {
	switch r.Phase {
	case Upgrading:
		if !r.Applied {
			if s.Leads {
				return Apply
			}
			return Wait
		}
		return decideProof(r, s, now)
	case Returning:
		if r.Holder == s.Pod || now.Sub(r.HeldAt) >= takeover {
			return Return
		}
		return Wait
	case Current, RolledBack, Failed:
		return Rest
	default:
		return Rest
	}
}

// decideProof is for when Helm has done its part.
func decideProof(r Record, s Sight, now time.Time) Action {
	isNew := s.Hash != r.FromHash
	switch {
	case isNew && s.Leads && s.Linked:
		return Prove
	case isNew && !now.Before(r.Deadline.Add(lateness)):
		return Return
	case !isNew && !now.Before(r.Deadline):
		return Return
	case !isNew && s.Leads && s.NewRuns:
		return StandAside
	default:
		return Wait
	}
}

// Unproven reports whether an agent must not count as ready yet.
func Unproven(r Record, hash string) bool { return r.Active() && hash != r.FromHash }
