package component

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/budecosystem/budcluster/internal/chartfile"
	"github.com/budecosystem/budcluster/internal/facts"
)

// planner is one plan in the making.
type planner struct {
	*Catalogue
	in       Input
	world    world
	answers  map[string][]facts.Presence // by probe
	items    map[string]*Item
	wanted   map[string]verdict
	waived   map[string]bool             // components that go without what they require
	foreign  map[string][]facts.Presence // components that were there before us, by what
	sighting map[string]string           // components of which it is unknown, and why
}

func newPlanner(c *Catalogue, in Input) *planner {
	p := &planner{
		Catalogue: c, in: in,
		world: world{
			cluster: in.Cluster, nodes: in.Nodes, there: map[string]bool{}, adopted: map[string]bool{},
			found: map[string]facts.Presence{}, asked: map[string]bool{},
		},
		answers: map[string][]facts.Presence{}, items: map[string]*Item{}, wanted: map[string]verdict{}, waived: map[string]bool{},
		foreign: map[string][]facts.Presence{}, sighting: map[string]string{},
	}
	for _, a := range in.Presence {
		p.answers[a.Probe] = append(p.answers[a.Probe], a)
	}
	for _, entry := range c.Components() {
		p.items[entry.Name] = &Item{Component: entry.Name, Title: entry.Title, Required: entry.Required}
		p.look(entry)
	}
	return p
}

// look tells what of a component is there: ours, somebody else's, or unknown.
func (p *planner) look(entry *Component) {
	item := p.items[entry.Name]
	for _, probe := range entry.Presence {
		name := entry.Name + "/" + probe.Name
		answers := p.answers[name]
		p.world.asked[name] = len(answers) > 0
		if len(answers) == 0 && probe.Decisive {
			p.sighting[entry.Name] = fmt.Sprintf("nobody has looked yet for its %s", probe.Kind)
		}
		for _, a := range answers {
			switch a.State {
			case facts.PresenceAbsent:
			case facts.PresenceFound:
				item.Found = append(item.Found, a)
				if p.ours(entry, a) {
					continue
				}
				p.world.found[name] = a
				if probe.Decisive {
					p.foreign[entry.Name] = append(p.foreign[entry.Name], a)
				}
			default:
				p.world.asked[name] = false
				if probe.Decisive {
					p.sighting[entry.Name] = fmt.Sprintf("it cannot be told whether its %s is there: %s", probe.Kind, orUnknown(a.Reason))
				}
			}
		}
	}
	if len(p.foreign[entry.Name]) > 0 {
		p.world.adopted[entry.Name] = p.in.Wishes[entry.Name].Wanted != WantNo
	}
}

func orUnknown(reason string) string {
	if reason == "" {
		return "the agent gave no reason"
	}
	return reason
}

// ours: the object belongs to the release by which this hub installed the
// component, or to none and lies in the namespace that is the component's own:
// an operator made it.
func (p *planner) ours(entry *Component, a facts.Presence) bool {
	have, ok := p.in.Installed[entry.Name]
	return ok && (a.Release == have.Release && a.ReleaseNamespace == have.Namespace ||
		a.Release == "" && entry.Removal.Namespace && a.Namespace == have.Namespace)
}

// wish asks for each component whether it is wanted by itself.
func (p *planner) wish() {
	for _, entry := range p.Components() {
		var v verdict
		var why Reason
		switch p.in.Wishes[entry.Name].Wanted {
		case WantYes:
			v, why = verdict{holds: true}, because(ReasonAskedFor, "the cluster's settings ask for it")
		case WantNo:
			why = because(ReasonSwitchedOff, "the cluster's settings say no")
		default:
			v, why = p.byDefault(entry)
		}
		p.wanted[entry.Name] = v
		p.say(entry.Name, why)
	}
}

func (p *planner) byDefault(entry *Component) (verdict, Reason) {
	switch entry.Wanted {
	case WantedAlways:
		return verdict{holds: true}, because(ReasonAlways, "every cluster gets it")
	case WantedAuto:
		v := p.world.evaluate(*entry.When)
		if !v.holds && !v.unknown && entry.When.asksPCI() && p.blind() {
			v = verdict{unknown: true, because: "feature discovery has labelled no node yet"}
		}
		switch {
		case v.unknown:
			return v, because(ReasonFactsMissing, "it is unknown whether it is wanted, since %s", v.because)
		case v.holds:
			return v, because(ReasonFactsAsk, "wanted because %s", v.because)
		default:
			return v, because(ReasonFactsDoNotAsk, "not wanted: %s", v.because)
		}
	default:
		return verdict{}, because(ReasonNotAskedFor, "not wanted: only the cluster's settings can ask for it")
	}
}

// blind: feature discovery is to come, and has seen no node yet. Without it
// what devices tell is all that will ever be known.
func (p *planner) blind() bool {
	comes := slices.ContainsFunc(p.Components(), func(c *Component) bool {
		features := slices.ContainsFunc(c.Ready, func(r Readiness) bool { return r.NodeFeatures })
		return features && p.in.Wishes[c.Name].Wanted != WantNo
	})
	return comes && !slices.ContainsFunc(p.in.Nodes, func(n facts.Node) bool { return facts.FeaturesSeen(n.Labels) })
}

func (p *planner) say(component string, reasons ...Reason) {
	p.items[component].Reasons = append(p.items[component].Reasons, reasons...)
}

// require makes wanted what wanted components require. Going backwards through
// the order, every component comes before those that it requires.
func (p *planner) require() {
	for _, entry := range slices.Backward(p.Components()) {
		if !p.wanted[entry.Name].holds || p.world.adopted[entry.Name] {
			continue
		}
		for _, name := range entry.Requires {
			if p.wanted[name].holds || p.in.Wishes[name].Wanted == WantNo {
				continue
			}
			p.wanted[name] = verdict{holds: true}
			p.say(name, because(ReasonRequired, "%s requires it", entry.Name))
		}
	}
}

// decide says what is to be done with a component whose predecessors are
// decided.
func (p *planner) decide(entry *Component) {
	item := p.items[entry.Name]
	item.Action = p.action(entry)
	p.world.there[entry.Name] = item.Action.There()
}

func (p *planner) action(entry *Component) Action {
	_, installed := p.in.Installed[entry.Name]
	no := p.in.Wishes[entry.Name].Wanted == WantNo
	v := p.wanted[entry.Name]
	if found := p.foreign[entry.Name]; len(found) > 0 {
		return p.adopt(entry, found, installed, no)
	}
	switch {
	case no && installed:
		p.say(entry.Name, because(ReasonInstalled, "this hub installed it, so it is removed"))
		return ActionRemove
	case no:
		return ActionSkip
	case installed && !v.holds:
		p.say(entry.Name, because(ReasonInstalled, "this hub installed it, and it stays until the cluster's settings say no"))
		return ActionKeep
	case installed:
		p.say(entry.Name, because(ReasonInstalled, "this hub installed it"))
		return ActionKeep
	case v.unknown:
		return ActionUnknown
	case !v.holds:
		return ActionSkip
	default:
		return p.possible(entry)
	}
}

// adopt: it was there before us. It is never replaced, and with a no it is left
// alone.
func (p *planner) adopt(entry *Component, found []facts.Presence, installed, no bool) Action {
	names := make([]string, 0, len(found))
	for _, f := range found {
		names = append(names, f.String())
	}
	there := strings.Join(names, " and ")
	switch {
	case installed:
		p.say(entry.Name, because(ReasonConflict, "beside the one that this hub installed there is another: %s; remove one of them", there))
		return ActionKeep
	case no:
		p.say(entry.Name, because(ReasonThere, "%s is there and not ours, so it is left alone", there))
		return ActionSkip
	default:
		p.say(entry.Name, because(ReasonThere, "adopted: %s was there before us; it is neither changed nor removed", there))
		return ActionAdopt
	}
}

// possible asks in turn everything that may stand in the way of an
// installation; the first that does is the answer.
func (p *planner) possible(entry *Component) Action {
	if why, ok := p.sighting[entry.Name]; ok {
		p.say(entry.Name, because(ReasonCannotTell, "%s", why))
		return ActionUnknown
	}
	for _, ask := range []func(*Component) (Action, Reason){p.unfit, p.unmet, p.lacking, p.conflicting, p.unpublished} {
		if action, why := ask(entry); action != "" {
			p.say(entry.Name, why)
			return action
		}
	}
	return ActionInstall
}

func (p *planner) unfit(entry *Component) (Action, Reason) {
	for _, b := range entry.Blocked {
		switch v := p.world.evaluate(b.When); {
		case v.unknown:
			return ActionUnknown, because(ReasonFactsMissing, "it is unknown whether it can be installed here, since %s", v.because)
		case v.holds:
			return ActionBlocked, because(ReasonUnfit, "it cannot be installed here, since %s: %s", v.because, b.Remedy)
		}
	}
	return "", Reason{}
}

// unmet: a component that it requires is not there, unless a yes waives that.
func (p *planner) unmet(entry *Component) (Action, Reason) {
	for _, name := range entry.Requires {
		if p.world.there[name] {
			continue
		}
		if p.in.Wishes[name].Wanted == WantNo && p.in.Wishes[entry.Name].Wanted == WantYes {
			p.waived[entry.Name] = true
			p.say(entry.Name, because(ReasonWaived, "it requires %s, which the settings switch off; what that would bring must be there already", name))
			continue
		}
		action := ActionBlocked
		if p.items[name].Action == ActionUnknown {
			action = ActionUnknown
		}
		return action, because(ReasonUnmet, "it requires %s, which is not there: %s", name, p.items[name].last())
	}
	return "", Reason{}
}

// lacking: something that no component brings is not there.
func (p *planner) lacking(entry *Component) (Action, Reason) {
	for _, need := range entry.Needs {
		found, unknown := false, len(p.answers[entry.Name+"/"+need.Probe.Name]) == 0
		for _, a := range p.answers[entry.Name+"/"+need.Probe.Name] {
			found = found || a.State == facts.PresenceFound
			unknown = unknown || a.State != facts.PresenceFound && a.State != facts.PresenceAbsent
		}
		switch {
		case found:
		case unknown:
			return ActionUnknown, because(ReasonCannotTell, "it is unknown whether the cluster has its %s", need.Probe)
		default:
			return ActionBlocked, because(ReasonNeed, "the cluster has no %s: %s", need.Probe, need.Remedy)
		}
	}
	return "", Reason{}
}

// String names what a probe looks for.
func (pr Probe) String() string {
	if pr.Object == "" {
		return pr.Kind + " with " + pr.Selector
	}
	return pr.Kind + " " + pr.Object
}

// conflicting: something of somebody else's is there that cannot be beside it.
func (p *planner) conflicting(entry *Component) (Action, Reason) {
	for _, conflict := range entry.Conflicts {
		switch v := p.world.finding(conflict.With); {
		case v.holds:
			return ActionBlocked, because(ReasonConflict, "%s: %s", v.because, conflict.Remedy)
		case v.unknown:
			return ActionUnknown, because(ReasonCannotTell, "%s, which could not be beside it", v.because)
		}
	}
	return "", Reason{}
}

func (p *planner) unpublished(entry *Component) (Action, Reason) {
	if entry.Chart.Published() || p.in.Wishes[entry.Name].Digest != "" || entry.Chart.Digest != "" {
		return "", Reason{}
	}
	return ActionBlocked, because(ReasonNoChart, "nobody publishes chart %s %s: %s", entry.Chart.Name, entry.Chart.Version, entry.Chart.Unverified)
}

// keepRequired: what others require is not removed from under them.
func (p *planner) keepRequired() {
	for _, entry := range slices.Backward(p.Components()) {
		if !p.items[entry.Name].Action.There() || p.items[entry.Name].Action == ActionAdopt || p.waived[entry.Name] {
			continue
		}
		for _, name := range entry.Requires {
			item := p.items[name]
			if item.Action == ActionRemove && p.in.Wishes[entry.Name].Wanted != WantYes {
				item.Action, p.world.there[name] = ActionKeep, true
				p.say(name, because(ReasonNeeded, "it stays, since %s requires it; say no to %s as well, or yes to have it without", entry.Name, entry.Name))
			}
		}
	}
}

// validate refuses a wish that nobody can fulfil.
func (w Wish) validate() error {
	var errs []error
	switch w.Wanted {
	case "", WantAuto, WantYes, WantNo:
	default:
		errs = append(errs, fmt.Errorf("wanted: %q is not known; use one of auto, yes, no", clip(string(w.Wanted))))
	}
	if w.Digest != "" && !chartfile.IsDigest(w.Digest) {
		errs = append(errs, fmt.Errorf("digest: %q is not a digest; use sha256: and 64 hex digits", clip(w.Digest)))
	}
	if len(w.Version) > maxVersion {
		errs = append(errs, fmt.Errorf("version: it is %d characters long; a chart's version is at most %d", len(w.Version), maxVersion))
	}
	if deeper(w.Values, maxDepth) {
		errs = append(errs, fmt.Errorf("values: they are nested deeper than %d levels", maxDepth))
	}
	if err := checkPlaceholders(w.Values); err != nil {
		errs = append(errs, fmt.Errorf("values: %w", err))
	}
	return errors.Join(errs...)
}

const maxVersion = 253

// forgotten are installed components that the catalogue has no more.
func (p *planner) forgotten() []string {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(p.in.Installed)) {
		if _, ok := p.byName[name]; !ok {
			names = append(names, name)
		}
	}
	return names
}
