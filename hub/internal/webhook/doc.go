// Package webhook tells other programs of events by HTTP, signed and in order,
// as Standard Webhooks says it (standardwebhooks.com).
//
//	the change's transaction ──► events ──┐ NOTIFY, a sweep
//	                                      ▼
//	Runner (each replica) ── claims webhooks that have not seen the newest
//	  │                      event, others skip what is claimed
//	  ├─ the events after its cursor that it asked for, one by one
//	  ├─ Poster.Post ──► the receiver
//	  └─ 2xx: the cursor moves │ else: later │ hopeless: a dead letter, and on
//
// What is authoritative: the cursor. An event is behind it when it was taken,
// was given up, or was not asked for.
//
// What is promised: each event at least once and in order, with the same
// webhook-id at each attempt. A receiver that fails delays itself and no
// other. An event that it refuses (4xx) is given up after some attempts;
// while it does not answer, events are given up when they are a day old. What
// was given up is kept and can be sent again.
//
// Where it may go: only to public addresses, over HTTPS; other networks have
// to be allowed by configuration (Guard). The check is made of the address
// that is dialed, not of the name, and redirects are not followed.
//
// What this package does not do: it neither speaks HTTP nor resolves names,
// which the courier does. Nothing of what a receiver answers is kept but its
// status.
package webhook
