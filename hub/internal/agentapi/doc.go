// Package agentapi serves the agents: joining and renewal, the control
// stream, desired state with its charts, and the inventory. It decodes, calls
// a rule and encodes; what is decided is decided in the rules.
//
//	join lane ──► Enroll, Renew ───────────────► enroll
//
//	tunnel ─────► Control ── Hello, heartbeats ─► Attach (the gateway), cluster
//	              Sync ───── statuses ──────────► release.Observe
//	                   ◄──── snapshot, upserts ── release.Desired  ◄─ wake, poll
//	              FetchChart ◄── chunks ───────── chart
//	              Report ─── summaries, deltas ─► inventory
//	              Renew ────────────────────────► enroll
//
// Who calls is read from the verified certificate of the connection and from
// nowhere else: no message carries a cluster that anything is looked up by.
//
// What an agent sends is treated as an attacker's: every string is cleaned
// before a rule sees it (clean.go), amounts are bounded, an id that belongs to
// another cluster looks exactly like one that does not exist. A refused message
// ends at most its own stream, never the session or another cluster's.
//
// A stream ends with a status whose message is safe to show (status.go); when
// the hub itself is at fault the agent is told to come back and the log has
// the cause.
//
// What this package does not do: it accepts no connection and ends none; the
// gateway does, and hears of silence by Link.Close.
package agentapi
