// Package operation is what a hub does with clusters that takes long: it says
// of which steps each kind of workflow consists, and carries the steps out.
//
//	Register ─► connect ─► platform ─► unique ─► component/nfd ─► accelerators ─► component/… ─► inventory
//	Remove   ─► reach ─► releases ─► remove/… (the last first) ─► retire
//	Install  ─► component/… (what it requires first) ─► settings
//	Upgrade  ─► rollout: one Upgrade for each cluster, in waves
//
// What is authoritative: the register, the releases and the facts. A step
// keeps nothing of its own: it looks at them, acts if something is missing,
// and looks again when they change. So it does not matter which replica takes
// the next look, or that one was killed in the middle of this one.
//
// What a run makes it records before it makes it (workflow.Effect): a release
// that was not wanted before, an entry in the register. Cancel and failure take
// back exactly that: also an agent that the hub installed, which then removes
// itself. A cluster whose agent a person installed stays in the register when
// its registration fails, for it is the person's; registering it again is one
// command.
//
// What this package does not do: it knows neither HTTP nor the platform's
// envelopes, and keeps no kubeconfig.
package operation
