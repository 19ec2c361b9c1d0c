// Package api is the hub's face for people and programs: /v1 as JSON over HTTP
// with its OpenAPI description, health, metrics, and the agent's chart.
//
//	request ─► observe (id, log, metrics, panics) ─► ServeMux ─► huma
//	             ─► authorise (key, role) ─► decode, check ─► handler ─► a rule
//	                                                             │
//	   answer, or a problem (problem.go, nowhere else) ◄─────────┘
//
// routes.go is the one table of /v1: method, path, role, handler. The OpenAPI
// document is made from it, and a test walks it to try every route with every
// kind of key.
//
// The types on the wire are hubapi's, which the Go client uses too. The rules
// decide; what is here decodes, authorises, calls and encodes. Whatever was
// observed is answered together with its age.
//
// On failure: a cluster that is away is 503 with Retry-After and when it was
// last seen, never 404; a panic is a 500 problem and a line in the log, and the
// hub lives on; a client that reads its events too slowly loses its connection
// and comes back with Last-Event-ID, at nobody else's cost.
//
// What this package does not do: it holds no state but counters, reaches no
// database and no tunnel by itself, and starts nothing before Serve.
package api
