// Package upload runs the real hub and the real installer, the agent's program
// as its child process, against servers that no agent can be installed with: of
// each bad kubeconfig both faces of the hub say what is wrong, and nothing is
// made. What a good one leads to is proven where there is a cluster, in
// deploy/e2e.
//
//	the test ── kubeconfig ─► hub ── child ─► a server that is away, or ended, or none
//
// There is nothing here but tests. They need PostgreSQL and nothing else.
package upload
