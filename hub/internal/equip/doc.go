// Package equip gives clusters the components of the catalogue: it joins the
// pure plan of package component to what the hub knows and wants.
//
//	facts of nodes ─┐
//	presence ───────┤                          ┌─► Overview   for people
//	releases ───────┼─► component.Plan ─► item ┼─► Look       for a workflow's step
//	wishes ─────────┘                          └─► Put, Drop  a release, through the tunnel
//
// What is authoritative: the release is what is wanted in the cluster and what
// the agent says of it; Spec.Component says that it is this component's. The
// wishes are a cluster's own settings. Nothing else is stored.
//
// What this package does not do: it waits for nothing and decides on no order;
// workflows do.
package equip
