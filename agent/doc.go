// Package agent joins the parts of the agent: the program that runs in every
// cluster, dials the hub, reports what is there, and makes the releases that
// the hub wants.
//
//	                    ┌─ http: /healthz /readyz /metrics ── always
//	Run ── group ───────┤
//	                    └─ leader ── Lease ──► lead ── only one of the replicas
//	                                            │
//	     stops last ◄───────────────────────────┴───────────────► stops first
//	     link ── inventory ── definition ── releases ── phases
//	      │  ▲        │         the CRD       │  ▲
//	      │  └────────┴── facts, statuses ────┘  │ charts
//	      └──────── desired state ───────────────┘
//
// The hub is authoritative for what is wanted, the custom resources in the
// agent's namespace for what of it has arrived, the API server for what is
// there. The agent itself keeps nothing but its identity, in a Secret.
//
// When the hub is away, releases are kept as they were last wanted. When the
// API server is away, the link stays up and says so. When both are away, the
// agent waits. It exits only when it is told to, or cannot even start.
//
// On a stop the releases go first: a Helm operation in progress ends as failed,
// its status leaves through the link, then the link says goodbye, and the lease
// is given back last.
//
// What it does not do: it opens no port that is of use outside the cluster, and
// it executes no command; it only reconciles.
package agent
