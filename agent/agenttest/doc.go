// Package agenttest helps to test the agent: a real API server without nodes
// (Kube), the agent's end of a link for a pipe (NewLink), and a scripted hub
// that speaks the real protocol over real TLS (Hub).
//
//	test ──► Kube        etcd + kube-apiserver, one per test package
//	  │
//	  ├────► NewLink     link.Link over any net.Conn, in fake time or not
//	  │
//	  └────► Hub         TLS 1.3, yamux, gRPC; answers what the test scripted
//
// It holds no assertion about the agent, and needs neither hub nor database.
package agenttest
