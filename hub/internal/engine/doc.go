// Package engine runs workflows so that they survive the death of whoever runs
// them. There are two engines behind one door; the functions of workflows and
// activities are the same on both, and so is the suite that both pass
// (enginetest).
//
//	          Start Raise Terminate Status Wait Purge          Run
//	                           │                                │
//	     ┌─────────────────────┴─────────────┐                  │
//	NewEmbedded                          NewDapr                │
//	     │                                   │                  │
//	TaskHub (store/taskhub)          gRPC to the sidecar        │
//	     │ turns, activities                 │ work items       │
//	     ▼                                   ▼                  │
//	  errand ─────────► functions in a workflow.Registry ◄──────┘
//
// What is authoritative: for the engine, the task hub's tables or the
// sidecar's state store; for people, the rows of package workflow. An engine
// knows which step is next and nothing else that matters.
//
// What is promised: an activity runs at least once. On the embedded engine it
// runs once as long as its process lives and reaches the database, however
// long it takes; when the process dies another replica begins it again within
// the lease and a second, and what the dead one would have said, had it lived,
// is refused. Dapr promises no more than at least once, keeps to once as a rule,
// and may leave the work of a replica that died undone for long. Activities are
// idempotent all the same, and the rows of package workflow take one outcome of
// a step, whoever else brings another; their dispatcher begins anew what an
// engine does nothing for.
//
// Turns are replayed: a workflow's function is deterministic, takes the time
// from its context, and neither waits nor calls out but by its context.
//
// The end of the hub: claims end first, then the contexts of activities (cause
// ErrStopping). A turn that is under way is finished and kept. An activity
// that returns a result has done so; one that returns an error because it was
// told to stop goes to another replica, at once. One that does not return
// keeps its lease until that ends by itself: nobody begins it beside the one
// that is still running.
//
// While hubs are upgraded, old and new replicas share the work. What a replica
// does not know (a workflow, a version of one, an activity) it gives back.
//
// What this package does not do: it keeps no rows of workflows, decides on no
// step, and holds no secret; inputs, outputs, events and errors are kept in
// the clear.
package engine
