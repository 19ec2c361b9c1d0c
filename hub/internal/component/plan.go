package component

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/budecosystem/budcluster/internal/facts"
)

// Input is all that a plan rests on.
type Input struct {
	ClusterID   string
	ClusterName string
	Cluster     facts.Cluster
	Nodes       []facts.Node
	// Presence answers Catalogue.Probes. A probe without an answer is unknown.
	Presence []facts.Presence
	// Installed is what this hub has installed in the cluster, by component.
	Installed map[string]Installed
	// Wishes are the cluster's own settings, by component.
	Wishes map[string]Wish
}

// Installed is a component that this hub has installed.
type Installed struct {
	Version string `json:"version"`
	// Digest of the chart.
	Digest    string `json:"digest"`
	Release   string `json:"release"`
	Namespace string `json:"namespace"`
	// ValuesDigest is what ValuesDigest gave for the values that were applied.
	ValuesDigest string `json:"valuesDigest"`
}

// Wish is what a cluster's settings say of one component.
type Wish struct {
	// Wanted is empty for auto.
	Wanted Wanted `json:"wanted,omitempty"`
	// Version and Digest replace the catalogue's.
	Version string `json:"version,omitempty"`
	Digest  string `json:"digest,omitempty"`
	// Values are merged over all others.
	Values map[string]any `json:"values,omitempty"`
}

// Wanted is a cluster's wish for a component.
type Wanted string

// The wishes.
const (
	WantAuto Wanted = "auto"
	WantYes  Wanted = "yes"
	WantNo   Wanted = "no"
)

// Action is what a plan says is to be done with a component.
type Action string

// The actions.
const (
	ActionInstall Action = "Install"
	// ActionUpgrade: another chart than the one that is installed.
	ActionUpgrade Action = "Upgrade"
	// ActionConfigure: the same chart with other values.
	ActionConfigure Action = "Configure"
	// ActionKeep: it is installed by us, and stays as it is.
	ActionKeep Action = "Keep"
	// ActionAdopt: it was there before us. It is used, and not touched.
	ActionAdopt Action = "Adopt"
	// ActionSkip: it is not wanted.
	ActionSkip Action = "Skip"
	// ActionRemove: we installed it, and somebody says no.
	ActionRemove Action = "Remove"
	// ActionBlocked: it is wanted, and cannot be.
	ActionBlocked Action = "Blocked"
	// ActionUnknown: what is known is not enough to decide; ask again later.
	ActionUnknown Action = "Unknown"
)

// There reports whether the component is in the cluster once the action is
// done.
func (a Action) There() bool {
	switch a {
	case ActionInstall, ActionUpgrade, ActionConfigure, ActionKeep, ActionAdopt:
		return true
	default:
		return false
	}
}

// Changes reports whether the action changes a release.
func (a Action) Changes() bool {
	switch a {
	case ActionInstall, ActionUpgrade, ActionConfigure, ActionRemove:
		return true
	default:
		return false
	}
}

// Item is what a plan says of one component.
type Item struct {
	Component string `json:"component"`
	Title     string `json:"title"`
	Required  bool   `json:"required"`
	Action    Action `json:"action"`
	// Reasons say why, each following from those before it.
	Reasons []Reason `json:"reasons"`
	// The rest is set where the component is ours or is to become it; of what is
	// to be removed, only release, namespace and chart.
	Release   string          `json:"release,omitempty"`
	Namespace string          `json:"namespace,omitempty"`
	Chart     Chart           `json:"chart,omitzero"`
	Values    json.RawMessage `json:"values,omitempty"`
	Timeout   Duration        `json:"timeout,omitempty"`
	// Outputs are fields to report, by which Readiness judges.
	Outputs []OutputReady `json:"outputs,omitempty"`
	// Available is the catalogue's version where another one is installed.
	Available string `json:"available,omitempty"`
	// Found is what of the component was there, whoever put it there.
	Found []facts.Presence `json:"found,omitempty"`
}

// Why is the chain of reasons as one sentence.
func (i Item) Why() string {
	parts := make([]string, 0, len(i.Reasons))
	for _, r := range i.Reasons {
		parts = append(parts, r.Message)
	}
	return strings.Join(parts, "; ")
}

// last is the reason that decided.
func (i Item) last() string {
	if len(i.Reasons) == 0 {
		return ""
	}
	return i.Reasons[len(i.Reasons)-1].Message
}

// Plan says for every component of the catalogue, in the order in which they
// are installed, what is to be done with it in a cluster, and why. Removing
// goes in the opposite order. The only errors are those of the input: a wish
// for what there is not, or values that cannot be.
//
// A plan speaks of the facts that it was given. Values may depend on what an
// earlier component reports once it is there (a driver found on the host, say),
// so plan again before each component.
func (c *Catalogue) Plan(in Input) ([]Item, error) {
	if err := c.checkInput(in); err != nil {
		return nil, err
	}
	p := newPlanner(c, in)
	p.wish()
	p.require()
	for _, entry := range c.Components() {
		p.decide(entry)
	}
	p.keepRequired()
	for _, entry := range c.Components() {
		if err := p.fill(entry); err != nil {
			return nil, fmt.Errorf("component %s: %w", entry.Name, err)
		}
	}
	return p.result(), nil
}

func (c *Catalogue) checkInput(in Input) error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(in.Wishes)) {
		wish := in.Wishes[name]
		if _, err := c.Component(name); err != nil {
			errs = append(errs, err)
		}
		if err := wish.validate(); err != nil {
			errs = append(errs, fmt.Errorf("component %s: %w", clip(name), err))
		}
	}
	return errors.Join(errs...)
}

// Probes are the questions to the agent whose answers Plan wants.
func (c *Catalogue) Probes() []facts.Probe {
	var probes []facts.Probe
	for _, entry := range c.Components() {
		for _, one := range entry.Presence {
			probes = append(probes, one.of(entry.Name))
		}
		for _, need := range entry.Needs {
			probes = append(probes, need.Probe.of(entry.Name))
		}
		if entry.Removal.Namespace {
			probes = append(probes, Probe{Name: namespaceProbe, APIVersion: "v1", Kind: kindNamespace, Object: entry.Namespace}.of(entry.Name))
		}
	}
	return probes
}

func (pr Probe) of(component string) facts.Probe {
	return facts.Probe{
		Name: component + "/" + pr.Name, APIVersion: pr.APIVersion, Kind: pr.Kind,
		Namespace: pr.Namespace, Object: pr.Object, Selector: pr.Selector,
	}
}
