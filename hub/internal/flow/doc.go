// Package flow carries workflows out: it is what the engine runs.
//
//	engine ── run(id) ─► look ─► look ─► … ─► done       one orchestrator for all kinds
//	                      │
//	                      ▼ one activity, until it waits
//	  Running:  Begin ─► the step acts and looks ─► Settle ─► the next step acts and looks ─► Settle …
//	  Undoing:  the last effect that is not undone ─► undo it ─► Undone
//	  neither:  Finish
//
// What is authoritative: the rows of package workflow. The engine's history
// holds the workflow's id and the number of the look, so a workflow that began
// under an older hub goes on under a newer one, whatever steps that has.
//
// A few looks run at a time (see hands). Where a step is over, Settle opens the
// look at the next one in the same transaction.
//
// A look that fails for want of the database is repeated by the engine. One in
// which the step itself could not do its work (a chart repository that does
// not answer) is recorded, so that people see it, and tried again with a
// growing pause until the step's limit; then the step has failed with that
// sentence.
//
// What this package does not do: it knows no step. Package operation does.
package flow
