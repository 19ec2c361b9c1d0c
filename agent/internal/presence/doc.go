// Package presence looks for what the hub asks for, whoever put it there, and
// says what it found as that changes.
//
//	hub ─ Probes ─► Ask ──► one watch for each kind that is asked for
//	                          │   workloads: typed, as protobuf
//	                          │   Helm's records: metadata of its Secrets
//	                          │   anything else: metadata alone
//	                          ▼
//	                        objects that match a probe, slimmed as they are
//	                        decoded; all others are dropped at once
//	                          │  once every kind was listed, or may not be
//	                          ▼
//	hub ◄─ Presence ◄─ Watch ◄─ answers, when they differ from the last
//
// The cluster is authoritative; nothing is stored. Absent is said only after a
// list that worked, or when the API server does not have the kind; what may not
// be listed is unknown, with the reason. An API server that is away changes no
// answer: unknown is not gone.
//
// New probes end the watches of the old ones. Their answers are kept until the
// new ones can be given.
//
// What this package does not do: it knows no component, concludes nothing from
// what it finds, and reads no Secret's content.
package presence
