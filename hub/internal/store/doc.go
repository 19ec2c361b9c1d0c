// Package store keeps everything in Postgres: it implements the Store of each
// rule, and returns the rules' own types. It holds no rule itself.
//
//	rule ── InTx(ctx, fn) ─► BEGIN ─► fn(ctx) ─► queries on the same transaction
//	                                     │
//	                                     ├─ AppendEvents ─┐ kept until fn is done
//	                                     └─ WakeReleases ─┤
//	                         lock, INSERT events, NOTIFY ◄┘ ─► COMMIT
//
// The transaction travels in the context that fn is given, so that one Store
// serves rules that do not know each other; a method called with that context
// takes part, one called with another does not. Within fn use only its ctx.
//
// Events are written as the last act before the commit, under one advisory
// lock: their ids become visible in order, and the lock covers one INSERT and
// one COMMIT, however long the rule took (ADR 5).
//
// Texts reach this package without NUL, which Postgres cannot hold: the rules
// check what callers write, and agentapi cleans what agents send.
package store
