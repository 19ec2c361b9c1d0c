// Package release makes the cluster's Helm releases what the hub wants, and
// keeps them so while the hub is away.
//
//	hub ─ Upsert ──► CR spec + Secret ─┐
//	      Snapshot ─► notes            │ wake
//	      Forget ───► delete           ▼
//	                          ┌── queue: one goroutine per release in hand ──┐
//	                          │ observe   Helm's records (labels), objects   │
//	                          │    │                                         │
//	                          │ Decide    pure: observed + wanted → action   │
//	                          │    │                                         │
//	                          │   do ──► lock Lease ─► agent/internal/helm   │
//	                          │    └───── observe again ◄──┘                 │
//	                          └──────────┬───────────────────────────────────┘
//	hub ◄─ Statuses ◄─ board ◄─ CR status┘
//
// # What is authoritative
//
//   - What is wanted: the custom resource, written only from the hub.
//   - What was applied: the labels on Helm's newest record: release id,
//     operation id, content hash, and whether it was ready. Never the revision
//     number, and never what an operation returned.
//   - What neither can hold (attempts, when to try again, why the last attempt
//     failed): the status of the custom resource. Losing it costs attempts
//     being counted anew.
//
// # Short Helm operations
//
// Helm runs without its own waiting (docs/adr/0002): an operation ends when
// the API server has taken the objects and the hooks are done. Whether they
// become ready is judged here, from outside, with Helm's own rules and with
// Jobs: a Job is ready when it is complete, and its failure is the release's.
// The deadline is the record's last change plus the spec's timeout, so it
// survives restarts. A revision is waited for once: what was ready and is not
// any more is shown as Progressing and never rolled back.
//
// # What each crash point does
//
//	before the record exists      the attempt is counted; it is made again
//	record pending, kill -9       the lock lapses (15 s, at once in the same
//	                              pod): unlocked, marked interrupted, tried
//	                              again without remediation
//	record pending, SIGTERM       Helm's requests are cut, Helm records
//	                              "failed", marked interrupted; the attempt
//	                              is given back
//	after Helm, before the status the record says what was done
//	between uninstall and purge   the record says "uninstalled": what must be
//	                              gone is still known
//	API server away               nothing is decided; the queue backs off
//	two agents                    the Lease per release; who loses it writes
//	                              nothing more (helm.ErrFenced)
//
// # Policies
//
//   - remediation: keep leaves a failed revision; one that is not ready in time
//     may become ready later, and is not applied again: that changes nothing.
//     rollback returns to the newest other revision that was ready. uninstall
//     removes a failed first install; a failed upgrade is kept. Then the next
//     attempt follows, 5 s to 5 min later, until maxAttempts of this generation
//     are used.
//   - adoption: a Helm release that was there before is observed, or taken
//     over; in both cases it is never removed by us.
//   - drift: every object is compared with a dry run of applying it, so
//     defaults and what webhooks inject are not drift. Fields written through
//     the scale subresource belong to whoever scaled. Drift that comes back as
//     soon as it is corrected is reported until the next interval.
//   - leftovers: definitions, namespaces, objects of hooks and operators, marks
//     on nodes: those that the spec names, after the uninstall, in its order. What
//     was there before the first install is written into the status before it,
//     and stays; so does what is used, what belongs to another Helm release, and
//     all of which is not known whether it was there.
//   - removal: only by tombstone, only what we installed. The custom resource
//     has no finalizer and goes when the hub says Forget. What the hub does
//     not list any more is kept, and marked.
//
// # What it does not do
//
// It does not fetch charts from anywhere but the hub, upgrade CRDs of a
// chart's crds/ folder (Helm does not either), or remove anything that a release
// leaves behind unless its spec names it.
package release
