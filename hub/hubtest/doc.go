// Package hubtest gives tests a hub.
//
//	New         a whole hub: Postgres, sockets on 127.0.0.1, /v1 with a key
//	NewGateway  the gateway and the agents' API alone, over net.Pipe, with the
//	            rules replaced by a map: it runs inside a synctest bubble
//	Agent       the other end of either: an agent that does what the test says
//
// The map (Rules) honours what the gateway relies on: epochs that grow, leases,
// revocation, and a wake-up after each change.
package hubtest
