// Package dapr is the edge to the Dapr sidecar: what the platform's other
// services share with the hub lies behind it.
//
//	        hub                                   sidecar (daprd)
//	Publish ───────── POST /v1.0/publish ───────────► topics of the broker
//	Put, Get, Update  /v1.0/state ──────────────────► keys that others read (cluster_info)
//	Configuration,    /v1.0/configuration ──────────► settings;  Follow ◄─ Wake ◄─ POST /configuration/…
//	Secrets           /v1.0/secrets ────────────────► secret store
//	Wait, Metadata    /v1.0/healthz, /v1.0/metadata
//	ParseEvent ◄───── POST of a subscription ◄──────── topics that we subscribe to
//
// Nothing here is authoritative: the hub's truth is in Postgres. When the
// sidecar is away, calls fail with ErrUnreachable and the caller's own loop
// tries again; only while the sidecar has never answered yet does a call wait
// for it, since both start together and neither is first. Workflows are not
// here: package engine has its own connection to the sidecar, by gRPC.
//
// It is plain HTTP, not Dapr's SDK: the nine calls used are one function each,
// while the SDK brings Dapr's runtime module and some forty others into the
// hub. One thing is worse over HTTP: the sidecar decodes values of the state
// store into floating point, so that whole numbers above 2^53 come back
// rounded. A Put with such a number is refused.
//
// What the state stores really do; daprtest.Exercise holds them to it, with
// Redis and with PostgreSQL:
//
//   - An ETag is checked by both. A write with neither ETag nor Create always wins, but for the last case:
//   - Redis writes with any ETag where the entry was removed meanwhile; PostgreSQL refuses that.
//   - Redis marks what was made by Create, and from then on takes only writes that carry its ETag.
//
// Neither the token nor a secret shows in errors or logs: answers that repeat
// the token have it replaced, and values are secret.String.
package dapr
