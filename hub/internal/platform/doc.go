// Package platform is the hub's face to the services of Bud's platform: the
// routes, envelopes and status codes of the service that the hub replaces, so
// that none of its callers has to change.
//
//	budapp, budpipeline, ask-bud ── service invocation ──► sidecar ──► Handler
//	                                                                     │ token, decode
//	  POST /cluster, /cluster/delete, update-node-status ──► operation ──┤ 200 workflow_metadata
//	  POST /cluster/cancel/…, /workflow/… ─────────────────► workflow ───┤
//	  GET  /cluster/…/nodes, storage-classes, health ──────► cluster, inventory
//	  cron bindings, topics, settings ─────────────────────► answered    │
//	  /deployment/…, /benchmark/… ─────────────────────────► 501         │
//	                                                                     ▼
//	              SuccessResponse, ErrorResponse, WorkflowMetadataResponse, {"detail": …}
//
// What callers hear later, by topics and by the state store, is package notify's
// and package mirror's part.
//
// It is wired like this, on a listener of its own (port 9081 as a rule):
//
//	face, err := platform.New(platform.Config{
//		Logger: log, Clusters: clusters, Inventory: inventory, Workflows: workflows,
//		Operations: operations, Register: register,
//		Watch: watch, Token: token, Sidecar: sidecar, PubSub: "pubsub-redis",
//	})
//	group.Add("platform", face.Run)
//	server := &http.Server{Handler: face.Handler(), …}
//
// What differs from the service that was there, since that was wrong: a fault of
// the caller is a 4xx with a sentence, never 200 or 500; an unknown cluster is
// 404 and starts nothing; a cluster that does not answer can be removed with
// "force": true; an ETA is in minutes always; what is sent to our topic is
// taken; health of the periodic sync is not shadowed by a cluster's. What began
// is told to the caller in the answer and not once more by a message. All that is
// left out or done otherwise on purpose is in docs/adr/0014.
//
// Names: the platform calls clusters as people like, the register takes labels
// of RFC 1123. A name that is one stays; of another a label is made with a hash
// in it, the same each time, so that two requests for one name meet in the
// register. The people's name is kept in the workflow's reply and in
// mirror's table, and answers use it.
//
// What it does not do: it keeps no kubeconfig, and gives none. The file is read
// from the form into memory, goes to Register, and is overwritten.
package platform
