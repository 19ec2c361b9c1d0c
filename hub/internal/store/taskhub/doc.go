// Package taskhub keeps durable workflows in Postgres, schema wf, and hands
// out the work on them to any number of replicas. It is a backend of the
// durable task library, written for this.
//
//	Start, Raise ──► creates ┐                       ┌──► instances, history
//	turn done ─────► commits ├─ combiner: what comes │    events, activities
//	activity done ─► posts   ┘  together goes in one ┘        │
//	                            transaction                   │ NOTIFY, poll, timer
//	          ┌── handed over ◄──────┘                        ▼
//	          ▼                                            claimer
//	        lane: turns, activities ◄──────────────────────── │
//	          │   (a slot for each that this process holds)
//	          ▼
//	        workers            Keep: renews all leases in one statement
//
// What is authoritative: the tables. A process keeps what it holds, and a
// cache of histories that the tables confirm at each use.
//
// An instance has turns: a claim gives one holder the events that are due, the
// holder replays the function, and the commit writes what came of it. claim_at
// says from when on the next claim is possible: the lease's end while it is
// held, else when its next event is due. So one index leads to what is due,
// what a dead process left, and how long to sleep until then; and what a claim
// judges is in the very row that it locks. An event that comes while an
// instance is held goes to due_at, which becomes claim_at with the commit.
//
// A lease is a token in the row. A commit or renewal names it; a later claim
// has written another, so the commit of who lost it finds no row and does
// nothing. Tokens are random and never the same twice.
//
// Exactly one at a time, at least once in all: an activity's row goes in the
// transaction that writes its result. Its lease is renewed for as long as its
// process lives and reaches the database; when it cannot be, the process stops
// before another may begin.
//
// What answers something (a result, a timer, a child's end) names the
// execution that asked. After continue-as-new, or after a purge and a new
// start under the same id, it finds another execution and is dropped.
//
// What each crash point does: before a commit, all of the turn or activity is
// done again by whoever claims it after the lease. After it, what the commit
// began is in the tables: handed over in the dead process, or not, it is
// claimed after the lease, or at once. Between, there is nothing.
//
// What has ended is kept for a day, so that who asks to start it again finds it
// there, and is purged then: what came of it is in the rows of others.
//
// Postgres away: whoever has a result waits for a lease's time and tries
// again; whoever asks from outside is refused after two seconds; claimers back
// off. A turn that cannot be processed is tried again after 1 s, 2 s … 5 min;
// one that makes a statement fail does so alone, not with its batch.
package taskhub
