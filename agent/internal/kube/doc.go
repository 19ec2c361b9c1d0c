// Package kube is the agent's way to its own API server: the client
// configuration, the clients that share one connection pool, the custom
// resource definitions that the agent applies, and the Events by which it
// speaks to the people on site.
//
// Core types travel as protobuf; custom resources as JSON, because the API
// server has no other form for them. Requests are limited on our side
// (DefaultQPS), so that a faulty release cannot flood an API server that
// others need.
package kube
