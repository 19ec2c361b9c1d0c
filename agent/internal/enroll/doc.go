// Package enroll gets the agent's identity, keeps it in one Secret, and renews
// it.
//
//	no identity ──► key stored ──► Enroll(token) ──► certificate stored
//	                   │ crash: the same key is used again
//	2/3 of its life ─► new key stored ──► Renew, on the tunnel ──► stored
//	expired ─────────► new key stored ──► Renew, on the join lane ──► stored
//
// The Secret is authoritative. Every write is a compare-and-swap on its
// resourceVersion: of two agents that believe to lead, one wins and the other
// reads again. A key is stored before its certificate is asked for, so a
// certificate that the hub signed and we never stored is not lost: the next
// attempt presents the same key.
//
// What the hub refuses for good (a token that was used, a revoked cluster)
// comes back as a *dial.RefusedError. It is written to the log, the health board
// and an Event once, with the remedy, and Await holds the next attempt back
// until minutes have passed or another token lies in the token file.
//
// What it does not do: it decides nothing about the connection; it never
// throws away an identity, whatever the hub says, before it has a better one.
package enroll
