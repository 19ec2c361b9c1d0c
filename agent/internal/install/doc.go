// Package install puts the agent into a cluster from outside, and takes it out
// again: what `budcluster-agent install` and `uninstall` do for a hub, whose
// child process they are (internal/install has the conversation).
//
//	stdin ─► Request ─► access ─► look ─────────► decide ─► act ─► watch
//	                    dialing   version, UID,   pure      Helm   what the pod
//	                    rules     rights, agent                    waits for
//	stdout ◄── Checked ────────── Ready ───────────── Installing ─ Installed ─ …
//
// The kubeconfig stays in memory: no file is written, no environment is read,
// and no sentence holds a credential. The server in it is foreign until it has
// proved to be an API server: it answered with a version, and gave the UID of
// its namespace kube-system to this credential. Until then nothing that it
// says is repeated; redirects are refused, since they would carry the
// credential on; and what it may send is bounded.
//
// What an earlier run has left is finished, not refused: Helm's record of the
// agent's release is looked at, as the agent does for every other release. An
// agent that belongs to another hub is left alone.
//
// Undo takes back, in reverse order, what this process has done. What of that
// has meanwhile been used by others, a namespace with something in it, stays
// and is named.
package install
