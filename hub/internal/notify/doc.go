// Package notify tells the platform's services how a workflow goes, by
// messages to topics of its broker, in the form that they know.
//
//	workflow.Settle, Finish ── the transaction of the change
//	  └─ Notify(w, notice) ──► payload of the contract ──► outbox rows,
//	                           one for each topic of the Reply   │ commit, NOTIFY
//	                                                             ▼
//	Deliverer (each replica) ◄── claims the first message of a lane (stream and
//	  │                          topic), others skip what is claimed
//	  ├─ Publisher.Publish ──► broker ──► budnotify, budapp, budpipeline
//	  └─ sent: the next of the lane │ failed: later │ hopeless: a dead letter
//
// What is authoritative: the rows. A message is there if and only if the
// change is that it tells of. Its key says what it tells, and is unique in its
// stream: whatever is replayed writes nothing again, so there is one terminal
// "results" for each workflow and topic.
//
// What is promised: each message at least once, those of a lane in their
// order. One that fails holds up its own lane and no other. A process that
// dies between the broker's yes and the row's leaves a message that is sent
// twice, with the same id; the platform's receivers bear that.
//
// What is withheld: the platform's main service takes any "results" for a
// success. Told that a removal failed, it would forget the cluster; told that
// a registration failed, it would stumble over the missing result. On the
// topics of Config.SuccessOnly a failure is therefore the FAILED of a step, as
// it always was, and "results" comes only with a success.
//
// What this package does not do: it knows no broker, and does not decide what
// a workflow says or when.
package notify
