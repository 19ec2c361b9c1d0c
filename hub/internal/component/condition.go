package component

import (
	"fmt"
	"slices"
	"strings"

	"github.com/budecosystem/budcluster/internal/facts"
)

// Condition is a question to the facts of a cluster; exactly one of its
// questions is set.
type Condition struct {
	// What names in a few words what AnyOf, AllOf or Node looks for, for the
	// sentence that says it was not found: "an NVIDIA GPU".
	What  string      `json:"what,omitempty"`
	AnyOf []Condition `json:"anyOf,omitempty"`
	AllOf []Condition `json:"allOf,omitempty"`
	Not   *Condition  `json:"not,omitempty"`
	// Node: some node is so.
	Node         *NodeCondition   `json:"node,omitempty"`
	Platform     []facts.Platform `json:"platform,omitempty"`
	Distribution []string         `json:"distribution,omitempty"`
	// There names a component that is in the cluster or is about to be.
	There string `json:"there,omitempty"`
	// Adopted names a component that was there before us.
	Adopted string `json:"adopted,omitempty"`
	// Found names a presence, as component/probe, of something that is there and
	// not ours.
	Found string `json:"found,omitempty"`
}

// NodeCondition is a question to one node; exactly one of its questions is set.
type NodeCondition struct {
	AnyOf  []NodeCondition  `json:"anyOf,omitempty"`
	Label  *LabelCondition  `json:"label,omitempty"`
	PCI    *PCICondition    `json:"pci,omitempty"`
	Device *DeviceCondition `json:"device,omitempty"`
}

// LabelCondition asks whether the node has this label; an empty Value is any value.
type LabelCondition struct {
	Key   string `json:"key"`
	Value string `json:"value,omitempty"`
}

// PCICondition asks whether feature discovery saw such a device on the node, by
// whatever naming of its labels.
type PCICondition struct {
	// Vendor and Devices are four lower-case hex digits.
	Vendor  string   `json:"vendor"`
	Devices []string `json:"devices,omitempty"`
	// Classes are classes of PCI devices or their beginnings.
	Classes []string `json:"classes,omitempty"`
	// VendorAlone: a label that tells nothing of these is enough, where a vendor
	// makes nothing else that feature discovery shows.
	VendorAlone bool `json:"vendorAlone,omitempty"`
}

// DeviceCondition asks whether the node reports such a device.
type DeviceCondition struct {
	Vendor string     `json:"vendor"`
	Kind   facts.Kind `json:"kind"`
}

// verdict is the answer to a condition. An unknown one is neither.
type verdict struct {
	holds, unknown bool
	because        string
}

// world is what conditions are asked of.
type world struct {
	cluster facts.Cluster
	nodes   []facts.Node
	// there and adopted are the components that are in the cluster or about to
	// be, and those of them that somebody else installed.
	there, adopted map[string]bool
	// found tells of presences, by component/probe, what is there and not ours,
	// and asked which of them somebody has looked for.
	found map[string]facts.Presence
	asked map[string]bool
}

// evaluate answers c.
func (w *world) evaluate(c Condition) verdict {
	switch {
	case len(c.AnyOf) > 0:
		return w.any(c)
	case len(c.AllOf) > 0:
		return w.all(c)
	case c.Not != nil:
		v := w.evaluate(*c.Not)
		v.holds = !v.holds && !v.unknown
		return v
	case c.Node != nil:
		return w.someNode(c)
	case len(c.Platform) > 0:
		return w.is("platform", string(w.cluster.Platform), slices.Contains(c.Platform, w.cluster.Platform))
	case len(c.Distribution) > 0:
		return w.is("distribution", w.cluster.Distribution, slices.Contains(c.Distribution, w.cluster.Distribution))
	case c.There != "":
		return toggle(w.there[c.There], c.There+" is in the cluster", c.There+" is not in the cluster")
	case c.Adopted != "":
		return toggle(w.adopted[c.Adopted], c.Adopted+" was there before", c.Adopted+" was not there before")
	case c.Found != "":
		return w.finding(c.Found)
	default: // validation lets none through
		return verdict{unknown: true, because: "a condition asks nothing"}
	}
}

func toggle(holds bool, yes, no string) verdict {
	if holds {
		return verdict{holds: true, because: yes}
	}
	return verdict{because: no}
}

func (w *world) finding(probe string) verdict {
	if a, ok := w.found[probe]; ok {
		return verdict{holds: true, because: a.String() + " is there and not ours"}
	}
	if !w.asked[probe] {
		return verdict{unknown: true, because: "nobody can tell whether there is a " + probe}
	}
	return verdict{because: "there is no " + probe + " but ours"}
}

func (w *world) is(what, value string, holds bool) verdict {
	if value == "" {
		return verdict{unknown: true, because: "the " + what + " is not known yet"}
	}
	return verdict{holds: holds, because: "the " + what + " is " + value}
}

func (w *world) any(c Condition) verdict {
	var none verdict
	for _, one := range c.AnyOf {
		v := w.evaluate(one)
		switch {
		case v.holds:
			return v
		case v.unknown && !none.unknown, none.because == "":
			none = v
		}
	}
	if !none.unknown && c.What != "" {
		none.because = "no node has " + c.What
	}
	return none
}

func (w *world) all(c Condition) verdict {
	var because []string
	for _, one := range c.AllOf {
		v := w.evaluate(one)
		if !v.holds {
			if !v.unknown && c.What != "" {
				v.because = "no node has " + c.What
			}
			return v
		}
		because = append(because, v.because)
	}
	return verdict{holds: true, because: strings.Join(because, ", and ")}
}

// someNode answers by the first node, in order of names, that is so, and
// counts the others.
func (w *world) someNode(c Condition) verdict {
	if len(w.nodes) == 0 {
		return verdict{unknown: true, because: "no node has been reported yet"}
	}
	var first, evidence string
	count := 0
	for _, n := range w.nodes {
		if why, ok := c.Node.match(n); ok {
			if count == 0 || n.Name < first {
				first, evidence = n.Name, why
			}
			count++
		}
	}
	switch count {
	case 0:
		what := c.What
		if what == "" {
			what = c.Node.String()
		}
		return verdict{because: "no node has " + what}
	case 1:
		return verdict{holds: true, because: fmt.Sprintf("node %s has %s", first, evidence)}
	default:
		return verdict{holds: true, because: fmt.Sprintf("node %s and %d more have %s", first, count-1, evidence)}
	}
}

// asksFor: the condition, or one below it, asks whether the component is there.
func (c Condition) asksFor(name string) bool {
	return c.There == name || c.Not != nil && c.Not.asksFor(name) ||
		slices.ContainsFunc(slices.Concat(c.AnyOf, c.AllOf), func(one Condition) bool { return one.asksFor(name) })
}

// Heeds reports whether the component's values go by whether another one is in
// the cluster.
func (c *Component) Heeds(name string) bool {
	return slices.ContainsFunc(c.Variants, func(v Variant) bool { return v.When.asksFor(name) })
}

// asksPCI: the condition, or one below it, looks for what only feature
// discovery sees.
func (c Condition) asksPCI() bool {
	return c.Node != nil && c.Node.asksPCI() || c.Not != nil && c.Not.asksPCI() ||
		slices.ContainsFunc(slices.Concat(c.AnyOf, c.AllOf), Condition.asksPCI)
}

func (c NodeCondition) asksPCI() bool {
	return c.PCI != nil || slices.ContainsFunc(c.AnyOf, NodeCondition.asksPCI)
}

// match reports whether a node is so, and by what.
func (c NodeCondition) match(n facts.Node) (evidence string, ok bool) {
	switch {
	case len(c.AnyOf) > 0:
		for _, one := range c.AnyOf {
			if evidence, ok = one.match(n); ok {
				return evidence, true
			}
		}
		return "", false
	case c.Label != nil:
		value, has := n.Labels[c.Label.Key]
		return c.String(), has && (c.Label.Value == "" || c.Label.Value == value)
	case c.PCI != nil:
		return c.PCI.match(n.Labels)
	case c.Device != nil:
		return c.String(), slices.ContainsFunc(n.Devices, func(d facts.Device) bool {
			return d.Vendor == c.Device.Vendor && d.Kind == c.Device.Kind
		})
	default:
		return "", false
	}
}

// String says in a few words what is looked for.
func (c NodeCondition) String() string {
	switch {
	case len(c.AnyOf) > 0:
		parts := make([]string, 0, len(c.AnyOf))
		for _, one := range c.AnyOf {
			parts = append(parts, one.String())
		}
		return strings.Join(parts, " or ")
	case c.Label != nil && c.Label.Value != "":
		return "label " + c.Label.Key + "=" + c.Label.Value
	case c.Label != nil:
		return "label " + c.Label.Key
	case c.PCI != nil:
		return "PCI vendor " + c.PCI.Vendor
	case c.Device != nil:
		return fmt.Sprintf("a %s device of %s", c.Device.Kind, c.Device.Vendor)
	default:
		return "nothing"
	}
}

// match goes by what a label tells: nothing of it may be against the condition,
// and something must be for it, or the vendor alone is enough.
func (c PCICondition) match(labels map[string]string) (string, bool) {
	for _, d := range facts.PCIDevices(labels, c.Vendor) {
		against := d.Class != "" && len(c.Classes) > 0 && !beginsWithOne(d.Class, c.Classes) ||
			d.Device != "" && len(c.Devices) > 0 && !slices.Contains(c.Devices, d.Device)
		support := d.Class != "" && len(c.Classes) > 0 || d.Device != "" && len(c.Devices) > 0
		if against || !support && !c.VendorAlone {
			continue
		}
		switch {
		case d.Device != "":
			return "PCI device " + c.Vendor + ":" + d.Device, true
		case d.Class != "":
			return "PCI vendor " + c.Vendor + " in class " + d.Class, true
		default:
			return "PCI vendor " + c.Vendor, true
		}
	}
	return "", false
}

func beginsWithOne(class string, beginnings []string) bool {
	return slices.ContainsFunc(beginnings, func(b string) bool { return strings.HasPrefix(class, b) })
}
