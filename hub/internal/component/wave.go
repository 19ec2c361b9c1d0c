package component

import (
	"fmt"
	"strings"
)

// Wave plans the upgrade of one component in many clusters: some at a time, and
// no further when one fails.
type Wave struct {
	// Size is how many clusters are worked on at a time; below 1 is 1.
	Size int
	// Canary is how many make up the first wave; 0 makes it like the others.
	Canary int
	// Tolerate is how many failures do not stop the rollout. Whoever resumes a
	// rollout that was stopped raises it to the number of failures so far.
	Tolerate int
	// Targets are the clusters in the order in which they take part.
	Targets []Target
}

// Target is one cluster of a Wave.
type Target struct {
	Cluster string
	State   TargetState
	// Message says why it failed or was left out.
	Message string
}

// TargetState is how far a cluster is.
type TargetState string

// The states of a cluster.
const (
	// TargetWaiting: its turn has not come.
	TargetWaiting TargetState = "Waiting"
	// TargetAway: it cannot be reached. It is passed over, and comes when it is back.
	TargetAway    TargetState = "Away"
	TargetRunning TargetState = "Running"
	TargetDone    TargetState = "Done"
	TargetFailed  TargetState = "Failed"
	// TargetSkipped: the component is not there, or not ours to upgrade.
	TargetSkipped TargetState = "Skipped"
)

// Decision is what to do next.
type Decision struct {
	State WaveState
	// Start names the clusters to begin with now.
	Start []string
	// Reason says what is waited for, or why the rollout stands still.
	Reason string
}

// WaveState is the state of a rollout.
type WaveState string

// The states of a rollout.
const (
	// WaveStart: begin with Start.
	WaveStart WaveState = "Start"
	// WaveWait: some are running, or away.
	WaveWait WaveState = "Wait"
	// WavePaused: too many failed, and a person decides.
	WavePaused WaveState = "Paused"
	WaveDone   WaveState = "Done"
)

// Decide is pure and total, and comes to rest: while nothing changes, deciding
// again gives the same, and a started cluster is not started again.
//
// A wave begins when the one before it has ended everywhere, so that a failure
// is seen before the next clusters are touched. Running clusters finish; a
// paused rollout begins with no other.
func (w Wave) Decide() Decision {
	var waiting, running, away, failed []string
	ended := 0
	for _, t := range w.Targets {
		switch t.State {
		case TargetRunning:
			running = append(running, t.Cluster)
		case TargetAway:
			away = append(away, t.Cluster)
		case TargetFailed:
			failed = append(failed, describe(t))
			ended++
		case TargetDone:
			ended++
		case TargetSkipped:
		default: // what is not known has not begun
			waiting = append(waiting, t.Cluster)
		}
	}
	switch {
	case len(failed) > max(w.Tolerate, 0) && len(running) > 0:
		return Decision{State: WaveWait, Reason: fmt.Sprintf("%s failed, so no more clusters begin; waiting for %s", strings.Join(failed, ", "), list(running))}
	case len(failed) > max(w.Tolerate, 0) && len(waiting)+len(away) > 0:
		return Decision{State: WavePaused, Reason: fmt.Sprintf("%s failed; resume to go on with the other %d", strings.Join(failed, ", "), len(waiting)+len(away))}
	case len(running) > 0:
		return Decision{State: WaveWait, Reason: "waiting for " + list(running)}
	case len(waiting) > 0:
		return Decision{State: WaveStart, Start: waiting[:min(w.size(ended), len(waiting))]}
	case len(away) > 0:
		return Decision{State: WaveWait, Reason: list(away) + " cannot be reached; the rollout goes on when they are back"}
	default:
		return Decision{State: WaveDone}
	}
}

// size of the next wave: the first, as long as none has ended, may be smaller.
func (w Wave) size(ended int) int {
	if ended == 0 && w.Canary > 0 {
		return w.Canary
	}
	return max(w.Size, 1)
}

func describe(t Target) string {
	if t.Message == "" {
		return t.Cluster
	}
	return t.Cluster + " (" + t.Message + ")"
}

func list(clusters []string) string {
	const most = 3
	if len(clusters) <= most {
		return strings.Join(clusters, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(clusters[:most], ", "), len(clusters)-most)
}
