// Package daprtest gives tests a Dapr sidecar: a real one, or one in memory.
//
//	test ──► dapr.Client ─► Fake (NewFake)     in this process, for tests of what uses the sidecar
//	  │           │
//	  │           └─ socket ─► daprd (Start) ──► placement, scheduler, Redis
//	  │                          │    │          shared by the tests of a process
//	  └── App ◄── events, ───────┘    └────────► Redis or PostgreSQL, by deploy/dapr/components
//	          changes of settings
//
// Exercise is the suite that both pass, so that what is tried with the fake
// holds. The real ones run with the component files that are deployed.
//
// Dapr's programs come from DAPR_BIN_DIR, which `make dapr-build` fills; without
// it the tests fail and say so. With root they run in a network namespace of
// their own, since some of their ports listen on all addresses whatever they
// are told. They are killed with the test's process, however that ends.
package daprtest
