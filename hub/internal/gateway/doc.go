// Package gateway holds the sessions of this replica: every agent's connection
// from the moment its TLS handshake is done until it is closed.
//
//	tunnel.Acceptor ──► Handle ──► Admit(certificate) ──refused──► Control answers with
//	                                  │                            the sentence; closed
//	                                  ▼
//	                        link ──► FanIn ──► the one grpc.Server (agentapi)
//	                          ▲                      │ Control: Hello
//	                          │◄──────── Attach ─────┘  OpenSession: epoch; an older
//	                          │                         session of the cluster is fenced
//	   api ──► Conn(cluster) ─┘  a lazy gRPC connection back to the agent
//
//	one loop for all:   leases renewed, one statement per tick
//	one loop per link:  revocation (woken by NOTIFY, the lease tick is the net),
//	                    age of its certificate, Hello missing
//
// The row in the store is authoritative for which session is a cluster's; the
// map here is authoritative for which connections this process has. A link
// whose epoch is not the cluster's any more leaves.
//
// On failure: a lost connection ends its link and closes its session in the
// store; a killed hub closes nothing, and its sessions end with their leases.
// A store that is away costs nobody the connection: leases are renewed when it
// is back. On a stop every agent is told when to come back, each at another
// moment, so that the next hub meets a queue and not a crowd.
//
// What this package does not do: it knows no message but GoAway and RenewNow,
// and it forwards to no other replica yet; Conn is where that will go.
package gateway
