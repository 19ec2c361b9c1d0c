// Package retire takes the agent out of its cluster, with all that it made.
//
//	hub ─ Retire ──────────► every release that we own is removed
//	                         then a rehearsal: could the rest be removed? (dry run)
//	hub ◄─ Retired, left ──┘
//	hub ─ Retire, recorded ► the agent's work ends: nothing is written any more
//	                         1. its Deployment is marked
//	                         2. everything of ours gets one owner, the anchor
//	                         3. the anchor is deleted
//	                              └─► Kubernetes's garbage collector removes the rest,
//	                                  this pod and its rights included
//
// The anchor is a ClusterRole of the agent's own chart. The agent could not
// remove itself object by object: without its roles it may do nothing more, and
// without its Deployment it is not there to do it. Owners are set and one object
// is deleted while it still may; what comes after needs neither its rights nor
// its life.
//
// Authoritative is the hub for whether to leave, and the mark on the Deployment
// for having begun: an agent that starts and finds the mark, or finds its own
// Deployment gone, writes nothing, finishes leaving and waits for its end. So a
// pod that is restarted in between does not make again what was just removed.
//
//	killed before Retired      the hub tells it again; what is gone stays gone
//	killed before the mark     the hub tells it again, with recorded
//	killed after the mark      the next one, or the standby, goes on at 1
//	killed after the anchor    nothing is left to do
//
// What is ours is what the agent's Helm release lists, Helm's records of it,
// what carries our label in our namespace, our custom resource definition
// unless another agent uses it, and the namespace if it was made for the agent
// and nothing else lives there. What cannot be removed is told to the hub, a sentence each,
// before the agent goes.
package retire
