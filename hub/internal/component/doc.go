// Package component is the catalogue of what a cluster needs beside
// Kubernetes to serve models, and the rules of installing and removing it.
//
//	catalogue/*.yaml ── embedded ──┐
//	componentsDir/*.yaml ── merged ┴► Catalogue
//	                                     │        facts: nodes, labels, devices
//	                                     ├── Plan ◄── presence: what was there before
//	                                     │     │      wishes: per cluster, yes | no | auto
//	                                     │     ▼
//	                                     │   Items in order: install, upgrade, configure,
//	                                     │   keep, adopt, skip, remove, blocked, unknown,
//	                                     │   each with its values and its reasons
//	                                     ├── Probes     what to ask the agent
//	                                     ├── Readiness  is it really there, beyond Helm
//	                                     ├── Leftovers  what to remove after the release
//	                                     └── Wave       upgrade one component in many clusters
//
// Everything here is data or a pure function: the same input gives the same
// answer, in the same order, and every input gives one. Nothing is looked up,
// stored or sent.
//
// # How it is used
//
//	c, err := component.Load(folder)            // folder of the hub, or nil
//	c, err = c.With(component.Settings{…})      // NFD_NAMESPACE, NFD_DETECTION_TIMEOUT
//	questions := c.Probes()                     // to the agent; the answers are Input.Presence
//	items, err := c.Plan(component.Input{…})    // one Item for each component, in order
//
// Per item, Action.Changes tells whether there is a release to write: Release,
// Namespace, Chart, Values, Timeout and Outputs are its spec, and Why is the
// sentence for people. Install, Upgrade and Configure go in the order of the
// plan, Remove against it. Plan again before each component: what one brings
// changes the values of the next, and Unknown becomes something else. With an
// Install keep the answers of that moment: they are the before of Leftovers.
//
//	entry.Judge(Observation{…})                 // once the release is ready: Ready, Waiting until, Failed
//	entry.Leftovers(namespace, before)          // what the release will leave, for its uninstall
//	entry.Removal.Nodes, entry.Removal.Stays    // marks to take off nodes; sentences of what stays
//	Wave{…}.Decide()                            // which clusters to begin with now, or why to pause
//
// A component that is Required fails a registration when it is Blocked or its
// release or Judge fails. Overriding: per hub a folder of YAML and settings, per
// cluster a Wish with wanted, version, digest and values.
//
// # What is whose
//
// What was in a cluster before is adopted: neither replaced nor removed. An
// answer that did not come is not "absent": a component of which it is unknown
// whether it is there is not installed. What facts no longer ask for stays
// installed, since labels vanish for minutes when feature discovery restarts;
// only a person's no removes.
//
// # Merging
//
// From the weakest to the strongest: the catalogue's values, its variants in
// order, the folder of the hub (which may change every field of an entry, or
// add entries), the cluster's own values. Objects are merged key by key. Lists
// are replaced, except those in which every element of both is an object with a
// name, such as env: those are merged by it. null stays, and makes Helm drop
// the chart's default of that key.
//
// # One device plugin
//
// HAMi registers nvidia.com/gpu itself. Where it is wanted, the GPU operator
// gets devicePlugin.enabled=false; where somebody else's device plugin is
// found, HAMi is blocked with a sentence that says what to switch off.
package component
