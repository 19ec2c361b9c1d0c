// Package inventory watches what the cluster has and keeps it as facts.
//
//	nodes ────────┐ reflectors: only what   ┌─► Summary, Delta ──► link
//	pods ─────────┤ is needed is decoded    │
//	storage cl. ──┼───────► Collector ──────┤
//	ingress cl. ──┤        facts per node   └─► Watch: which nodes changed
//	claims ───────┤        digest per node
//	node events ──┤
//	/version, DNS ┘
//
// The API server is authoritative; the Collector holds its last word. While it
// is away the last word stays, the board says APIServerUnreachable, and nothing
// is reported as gone. Before everything was listed once there is no Summary,
// since a Summary that lacks a node says that the node is gone.
//
// Of pods only the requests are kept, summed per node; pods that have ended
// and pods without a node are filtered out by the API server already.
//
// Of volume claims only the phase is kept, and they are counted at times, not
// with each change: a claim is pending for seconds whenever a volume is made.
//
// Kubernetes's events about nodes are passed on, the newest few hundred. They are
// no facts: no digest covers them, and a hub may miss one.
//
// A device whose labels vanish is not gone: NFD and GFD drop theirs for
// minutes when they restart. It keeps its facts, marked suspect, for a grace
// time (suspect.go). Removing the node removes it at once.
//
// A kind of object that may not be listed costs only itself: the board says
// which permission is missing, and the rest is reported.
package inventory
