// Package hub is the hub's composition root: it makes every part, joins them,
// and runs them in the right order. Nothing is decided here.
//
//	POST /v1/clusters/{id}/releases
//	  api ── decode, authorise ──► release.Service.Apply
//	                                │ store.InTx: row, event             (one commit)
//	  200 ◄─────────────────────────┘   │ NOTIFY bud_releases  (poll is the net)
//	                               pg.Listener wakes agentapi's Sync
//	                                │ upsert through the gateway's session
//	                                ▼ tunnel (mTLS, yamux, gRPC)
//	                           agent: Decide → Helm → observe → Decide …
//	                                │ status on the same stream
//	                           agentapi ──► release.Service.Observe ──► row, NOTIFY
//	                                                                     │
//	  GET /v1/events/stream ◄── event.Service.Follow ◄── pg.Listener ◄───┘
//
// Order of life, first to last; the end goes backwards, one at a time:
//
//	postgres (--dev) · listener · sweeps · API · agents' gRPC · gateway · tunnel listener
//
// So a stop first closes the door to new agents, then sees the present ones
// off, then lets the API answer what it is answering, and the database goes
// last. PostgreSQL is authoritative for everything; the hub keeps nothing else
// but the key that seals secrets (crypto-keys).
package hub
