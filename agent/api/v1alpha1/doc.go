// Package v1alpha1 holds the custom resources of the agent: what the hub
// wants in this cluster, written where the people on site can read it, and
// where it survives the agent, the hub and the link between them.
//
//	hub ──Upsert──► spec ──► release machine ──► status ──► hub
//	                  │                             │
//	                  └── kubectl get releases.budcluster.io
//
// The agent applies crd.yaml by itself. A release carries no finalizer: with
// the agent gone, a namespace must still be deletable.
package v1alpha1
