package component

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
)

// fill completes an item with chart, values and outputs, where there are any
// to have.
func (p *planner) fill(entry *Component) error {
	item := p.items[entry.Name]
	have, installed := p.in.Installed[entry.Name]
	switch item.Action {
	case ActionInstall:
		p.traces(entry)
	case ActionKeep, ActionRemove:
	default:
		return nil
	}
	item.Release, item.Namespace, item.Timeout = entry.Release, entry.Namespace, entry.Timeout
	if installed { // a release does not move
		item.Release, item.Namespace = have.Release, have.Namespace
	}
	p.chart(entry, item)
	if item.Action == ActionRemove {
		return nil
	}
	for _, r := range entry.Ready {
		if r.Output != nil {
			item.Outputs = append(item.Outputs, *r.Output)
		}
	}
	values, err := p.values(entry)
	if err != nil {
		return err
	}
	item.Values = values
	if item.Action == ActionKeep {
		p.compare(entry, item, have)
	}
	return nil
}

// traces tells of what is no proof of an installation.
func (p *planner) traces(entry *Component) {
	for _, f := range p.items[entry.Name].Found {
		if !p.ours(entry, f) {
			p.say(entry.Name, because(ReasonTraces, "%s was there already", f))
		}
	}
}

// chart chooses: the wish, else what is installed, else the catalogue's.
func (p *planner) chart(entry *Component, item *Item) {
	wish, have := p.in.Wishes[entry.Name], p.in.Installed[entry.Name]
	item.Chart = entry.Chart
	switch {
	case wish.Version != "" && wish.Version != entry.Chart.Version && entry.Chart.Builtin == "": // of those there is one
		item.Chart.Version, item.Chart.Digest = wish.Version, ""
		item.Chart.Unverified = "the cluster's settings choose the version"
		if wish.Version == have.Version {
			item.Chart.Digest, item.Chart.Unverified = have.Digest, ""
		}
	case wish.Version == "" && have.Version != "" && have.Version != entry.Chart.Version:
		item.Chart.Version, item.Chart.Digest, item.Chart.Unverified = have.Version, have.Digest, ""
		item.Available = entry.Chart.Version
	case entry.Chart.Digest == "" && have.Version == entry.Chart.Version:
		item.Chart.Digest, item.Chart.Unverified = have.Digest, ""
	}
	if wish.Digest != "" {
		item.Chart.Digest, item.Chart.Unverified = wish.Digest, ""
	}
	if item.Chart.Digest == "" && item.Chart.Builtin == "" && item.Action == ActionInstall {
		p.say(entry.Name, because(ReasonUnpinned, "the digest of chart %s %s is not pinned; that of the first download is kept (%s)",
			item.Chart.Name, item.Chart.Version, item.Chart.Unverified))
	}
}

// values are the catalogue's, its variants', and the cluster's.
func (p *planner) values(entry *Component) (json.RawMessage, error) {
	values := mergeValues(entry.Values, nil)
	for _, v := range entry.Variants {
		if verdict := p.world.evaluate(v.When); verdict.holds {
			values = mergeValues(values, v.Values)
			p.say(entry.Name, because(ReasonVariant, "values for %s, since %s", v.Name, verdict.because))
		}
	}
	if over := p.in.Wishes[entry.Name].Values; len(over) > 0 {
		values = mergeValues(values, over)
		p.say(entry.Name, because(ReasonOverridden, "the cluster's settings change values"))
	}
	raw, err := encode(substitute(values, map[string]string{
		"${cluster.id}": p.in.ClusterID, "${cluster.name}": p.in.ClusterName, "${cluster.uid}": p.in.Cluster.UID,
	}))
	if err != nil {
		return nil, fmt.Errorf("encode values: %w", err)
	}
	return raw, nil
}

// compare tells keeping from upgrading and from configuring. Values are compared
// for other versions than the catalogue's too: they also say what components owe
// to each other, such as the one device plugin.
func (p *planner) compare(entry *Component, item *Item, have Installed) {
	if item.Available != "" {
		p.say(entry.Name, because(ReasonAvailable, "version %s is installed and %s is available", have.Version, item.Available))
	}
	switch {
	case item.Chart.Version != have.Version, item.Chart.Digest != "" && have.Digest != "" && item.Chart.Digest != have.Digest:
		item.Action = ActionUpgrade
		p.say(entry.Name, because(ReasonVersion, "version %s is installed and %s is wanted", have.Version, item.Chart.Version))
	case have.ValuesDigest != "" && have.ValuesDigest != ValuesDigest(item.Values):
		item.Action = ActionConfigure
		p.say(entry.Name, because(ReasonValues, "it was installed with other values"))
	}
}

// ValuesDigest names values by what they say, however they are written.
func ValuesDigest(values json.RawMessage) string {
	if decoder := json.NewDecoder(bytes.NewReader(values)); len(values) > 0 {
		decoder.UseNumber()
		var said any
		if err := decoder.Decode(&said); err == nil {
			if raw, err := json.Marshal(said); err == nil {
				values = raw
			}
		}
	}
	sum := sha256.Sum256(values)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// result lists the items in order, and after them what the catalogue has
// forgotten.
func (p *planner) result() []Item {
	items := make([]Item, 0, len(p.order))
	for _, name := range p.order {
		items = append(items, *p.items[name])
	}
	for _, name := range p.forgotten() {
		have := p.in.Installed[name]
		items = append(items, Item{
			Component: name, Title: name, Action: ActionKeep, Release: have.Release, Namespace: have.Namespace,
			Reasons: []Reason{because(ReasonForgotten, "this hub installed it, and its catalogue has it no more; put it back to change or remove it")},
		})
	}
	return items
}
