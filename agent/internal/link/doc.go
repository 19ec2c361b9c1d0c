// Package link keeps the agent connected to its hub.
//
//	Run: ┌► identity ► dial ► session ► group ──► judge the end ─► wait ─┐
//	     └───────────────────────────────────────────────────────────────┘
//
//	group, one per connection, stopped from the right to the left:
//
//	  session ─ control ─ agent service ─ releases ─ inventory ─ renewal ─ departure
//	            Hello      Inspect        Have        Summary     at 2/3    GoAway
//	            Welcome                   statuses    deltas
//	            heartbeats                upserts     needs
//
// A connection is up when Welcome has come, not when it was dialed: in TLS 1.3
// the hub judges our certificate after we think that all is well. It is dead
// when the control stream was silent for the time that Welcome named. Nothing
// holds a connection beyond its group, and no field says "connected".
//
// What ended a connection decides what comes next:
//
//	lost, silent, refused by TCP   dial again, full jitter 0.25 s to 30 s
//	draining hub                   dial again at the slot it gave
//	certificate renewed            dial again at once, with the new one
//	revoked, refused for good      wait minutes, or for another join token
//	fenced by a newer session      wait until our lease is confirmed again
//
// A stream (releases, inventory) that ends by itself while control lives is
// opened again on the same connection, so that one faulty message or a hub
// whose database is away costs no other stream.
//
// Authoritative are: the Secret for the identity, the custom resources for
// the releases, the collector for the inventory. The link stores nothing. When
// the hub is away nothing in the cluster changes.
package link
