// Package pg is the way to Postgres: a pool, the migrations, a listener for
// what other replicas announce, and a private server for development.
//
//	Open ─► pool ─► store
//	         ├────► Migrate        one replica at a time, by a session lock
//	         └────► Listener ─► Subscribe ─► chan struct{}   (coalescing, size 1)
//	DevServer ─► URL                initdb once, then postgres as our child
//
// A notification only wakes; what is true is in the tables. One that is lost
// costs the time until the next poll. After each reconnect everybody is woken,
// since nobody knows what was missed.
//
// This is also the only package of the hub that starts processes: those of the
// private server.
package pg
