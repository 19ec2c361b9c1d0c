// Package tunnel is the way between agent and hub: one connection that the
// agent dials, through a proxy if need be, on which both sides open gRPC
// streams. It is the only importer of yamux.
//
//	agent                                                   hub
//	Dialer ── TCP │ CONNECT ──────────────────────────────► Acceptor
//	   └────────── TLS 1.3, both certificates (package pki) ───┤ by ALPN
//	                                                  control ─┤─ join: JoinConn ◄─► FanIn
//	Client(conn) ═══ yamux: streams, each with a Header ═══ Server(conn)
//	   │ Accept ◄── ClientConn ── Header{grpc, lane} ───────────┘ │
//	   └ ClientConn ── Header{grpc, lane} ──────► Accept ► FanIn ─┴► one grpc.Server
//
// A connection is up when the first call has succeeded, not when it was
// dialed: in TLS 1.3 the hub judges the client's certificate after the client
// is done. Whether the peer still lives is not known here either: a Watch over
// the messages of the control stream says so.
//
// No queue of bounded length is shared between streams: each has its own
// window, and a reader that stalls stops only its own writer. On failure
// everything on a connection fails at once and Err says why, as a sentence
// for whoever can mend it. Nothing here reconnects.
package tunnel
