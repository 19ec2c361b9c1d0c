// Package hubapi is the hub's public interface, /v1, seen from a client: the
// JSON types of every route, and a Client that calls them. The hub's own edge
// answers with the same types, so the two cannot drift apart.
//
//	Client ── JSON over HTTPS, "Authorization: Bearer budk_…" ──► /v1/…
//	   Clusters, Nodes, …     one page {items, next}
//	   AllClusters, …         every item, page after page (iter.Seq2)
//	   Follow                 events over SSE; reconnects with Last-Event-ID
//	   WatchRelease           a release, each time that it changes
//	   WaitRelease            until the agent settled the generation asked for
//
// What goes wrong is either a *Problem, the hub's own answer (RFC 9457), or an
// *UnreachableError when there was no answer. Both are found by errors.As.
//
// Whatever was observed in a cluster carries its age: ClusterRef says whether
// the hub hears from the cluster now and when it last did, and UpdatedAt when
// the thing itself last changed. A cluster that is away keeps its last known
// facts; they are old, not gone.
//
// A Client holds no connection of its own, starts nothing, and may be used by
// many goroutines at once.
package hubapi
