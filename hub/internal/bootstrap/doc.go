// Package bootstrap brings the agent into a cluster of which somebody uploaded
// a kubeconfig. It is used once, in memory, and forgotten.
//
//	upload ──► Check ────► Begin ─────────► Go ─────────► Installed ─► Await ──► Close
//	           pure        child process    join token    Helm         pod's      child
//	                       cluster's UID                               reason     ends
//	                                          └──────────── Undo ◄───────┘
//
// The hub has no client of Kubernetes and no Helm (an invariant of the
// product), so the work is done by a child process: the agent's own program as
// `budcluster-agent install`, which speaks internal/install on its standard
// streams. The child has an empty environment and opens no file. After Begin
// the kubeconfig is in the child's memory only, and dies with it.
//
// Between Begin and Go the caller knows which cluster it is and may still
// refuse it; nothing has been changed there. What Go has changed Undo takes
// back, as long as the child lives: it holds the only credential. After a
// crash of the hub there is none any more, and none is needed: the child ends
// an installation that has begun, and the agent then joins by itself.
//
// The server in the file is an address that the uploader chose. What it answers
// is therefore never shown unless it has proved to be an API server, and the
// addresses that may be dialed are limited (internal/kubeconfig).
//
// What it does not do: it knows no cluster of the register, makes no join
// token and keeps nothing.
package bootstrap
