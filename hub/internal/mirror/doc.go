// Package mirror shows clusters to the platform's other services, in their
// form: what a cluster is, has and can take now.
//
//	events (cluster.*, node.*, workflow.*) ──► dirty clusters ── settle ──┐
//	sweep, for what only time changes ────────────────────────────────────┤
//	                                                                      ▼
//	                    for each: read register, inventory ── one transaction ──► "cluster-status-update"
//	                              the row is locked            told what is new     by the outbox, once
//	                                                                      ▼
//	                    all dirty at once: read the shared key, replace those entries, write it
//	                                       unless somebody was faster, then again
//
// What is authoritative: the register and the inventory. The table
// platform_clusters says for which clusters the platform asked, what it calls
// them, and the digest of what it was last told; the shared key is a copy.
//
// Every replica does the same. A message is written in the transaction that
// keeps its digest, so one of them writes it; the shared key is written with
// the ETag with which it was read, and what is written is read from the
// database after that. So a replica that is slow cannot put back what another
// has renewed, and a write that changes nothing is left out.
//
// Only clusters that the platform asked for are shown, and from when their
// registration is complete: its planner would put models on others. Entries of
// the key that were never ours are left alone.
//
// What a message is sent for: the state, a node's coming and going and its
// readiness, its devices and which of them are free. What pods ask of a CPU
// changes all day; that is in the key and is no message.
//
// When the sidecar is away, clusters stay dirty and are tried again. A Service
// describes, a Follower shows; each replica runs one.
package mirror
