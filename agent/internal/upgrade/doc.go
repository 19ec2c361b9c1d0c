// Package upgrade lets the agent replace itself, and return by itself when the
// new one does not reach the hub.
//
//	hub ─ AgentTarget ─► old agent leads
//	                     1. record: Upgrading, what there was before
//	                     2. Helm upgrades the agent's own release
//	                     3. the new pod runs ─► old one stands aside, and watches
//	                                            new one takes the lease and dials
//	     Connected ◄────────────────────────── 4. new: record Current, pod ready
//	                                            5. Deployment ends the old one
//	     not in time ──► record Returning, Helm rolls back, old one leads again
//
// The record is authoritative: a ConfigMap in the agent's namespace that is only
// changed by comparing versions. Every agent of the cluster reads it and decides
// by the same pure function (Decide), so whichever runs carries on.
//
// The old pod cannot be ended too early: the new one is not ready, in the
// kubelet's sense, before the record says Current, and the Deployment ends
// nothing as long as the new one is not ready. So the one that knows the way
// back is there until the new one has proved itself: an image that is never
// pulled, a program that crashes, settings that it refuses and a hub that it
// does not reach all end at the same deadline.
//
//	old killed before 2      the record says Upgrading; the next leader does 2
//	old killed in 2          Helm's record is failed or pending: Returning
//	old killed after 2       its template's next pod is an old one: it watches
//	new killed               its template's next pod tries again, until the deadline
//	both old gone            the new one returns by itself, a little later
//	killed while returning   another one takes it over after a minute
//
// Old and new are told apart by the hash of their pods' template, never by a
// version: a chart may change what is around the program only.
//
// What it does not do: it hands out no right. Where the new chart has roles with
// rights that the agent does not hold, the API server refuses it, the agent
// returns and says so; such an upgrade is done with helm by somebody who may.
package upgrade
