package component

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/budecosystem/budcluster/internal/facts"
)

// Observation is what is known of a component whose release is ready.
type Observation struct {
	// Adopted: it is not our release, so it reports no outputs.
	Adopted bool
	// Outputs are those of the release, by name.
	Outputs map[string]string
	Nodes   []facts.Node
	// Since is when the release was ready first, or the component was adopted.
	Since, Now time.Time
}

// Judgement says whether a component is ready, beyond its release.
type Judgement struct {
	State JudgementState
	// Message says what is waited for, or what failed.
	Message string
	// Warnings tell of nodes that are missing from what is ready.
	Warnings []string
	// Until is when a waiting component will have failed.
	Until time.Time
}

// JudgementState is the outcome of a Judgement.
type JudgementState string

// The outcomes.
const (
	JudgedReady   JudgementState = "Ready"
	JudgedWaiting JudgementState = "Waiting"
	JudgedFailed  JudgementState = "Failed"
)

// Judge asks whether the component is ready. It is total: once the longest
// Within is over, the answer is Ready or Failed.
func (c *Component) Judge(o Observation) Judgement {
	var warnings []string
	for _, r := range c.Ready {
		j := r.judge(o)
		if j.State != JudgedReady {
			j.Warnings = warnings
			return j
		}
		warnings = append(warnings, j.Warnings...)
	}
	return Judgement{State: JudgedReady, Warnings: warnings}
}

func (r Readiness) judge(o Observation) Judgement {
	switch {
	case r.Output != nil && o.Adopted:
		return Judgement{State: JudgedReady}
	case r.Output != nil:
		return r.judgeOutput(o)
	case r.Resource != nil && o.Adopted && !slices.ContainsFunc(o.Nodes, r.Resource.expects):
		return Judgement{State: JudgedReady} // somebody put it there for hardware that is not
	case r.Resource != nil:
		return r.judgeNodes(o, r.Resource.expects, r.Resource.has, "offer "+r.Resource.Name)
	default:
		return r.judgeNodes(o, func(n facts.Node) bool { return n.Ready },
			func(n facts.Node) bool { return facts.FeaturesSeen(n.Labels) }, "be labelled by feature discovery")
	}
}

func (r Readiness) judgeOutput(o Observation) Judgement {
	value := o.Outputs[r.Output.Name]
	if value == r.Output.Equals {
		return Judgement{State: JudgedReady}
	}
	if value == "" {
		value = "not reported"
	}
	return r.late(o, fmt.Sprintf("%s %s is %s where %s is needed", r.Output.Kind, r.Output.Object, value, r.Output.Equals))
}

// late is waiting before the deadline, and failure after it.
func (r Readiness) late(o Observation, what string) Judgement {
	until := o.Since.Add(time.Duration(r.Within))
	if o.Now.Before(until) {
		return Judgement{State: JudgedWaiting, Message: what, Until: until}
	}
	return Judgement{State: JudgedFailed, Message: fmt.Sprintf("%s, %s after it was installed", what, time.Duration(r.Within))}
}

// judgeNodes waits for all nodes that it expects of; at the deadline some are
// enough, and the others are told of.
func (r Readiness) judgeNodes(o Observation, expects, has func(facts.Node) bool, what string) Judgement {
	var missing []string
	seen := 0
	for _, n := range o.Nodes {
		switch {
		case has(n):
			seen++
		case expects(n):
			missing = append(missing, n.Name)
		}
	}
	slices.Sort(missing)
	switch {
	case len(missing) == 0 && seen > 0:
		return Judgement{State: JudgedReady}
	case seen > 0 && !o.Now.Before(o.Since.Add(time.Duration(r.Within))):
		return Judgement{State: JudgedReady, Warnings: []string{fmt.Sprintf("waited %s in vain for %s to %s", time.Duration(r.Within), some(missing), what)}}
	case len(missing) == 0:
		return r.late(o, "no node is there to "+what)
	default:
		return r.late(o, fmt.Sprintf("waiting for %s to %s", some(missing), what))
	}
}

// some names the first of many.
func some(names []string) string {
	const most = 3
	switch {
	case len(names) == 1:
		return "node " + names[0]
	case len(names) <= most:
		return "nodes " + strings.Join(names, ", ")
	default:
		return fmt.Sprintf("nodes %s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
}

func (r ResourceReady) expects(n facts.Node) bool {
	_, ok := r.Nodes.match(n)
	return ok && n.Ready
}

func (r ResourceReady) has(n facts.Node) bool { return n.Allocatable.Extended[r.Name] > 0 }
