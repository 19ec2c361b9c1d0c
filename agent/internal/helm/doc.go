// Package helm is the one door to the Helm SDK. It turns the SDK into a set
// of short operations whose outcome can be read back from Helm's storage, and
// a checker that says what a release's objects wait for.
//
//	release ──► Client.Install / Upgrade / Rollback / Uninstall      (short)
//	              │  chart bytes, values, labels
//	              ▼
//	            Helm SDK ── kubeClient (ends with ctx) ──► API server
//	              │
//	              └─ recorder (labels, fencing) ──► Secrets of type helm.sh/release.v1
//	                                                      │
//	release ◄── Client.History / Details ◄────────────────┘   believed
//	release ◄── Checker.Check(object) ◄── API server
//
// What is authoritative: Helm's records and the labels that we write on them.
// What an operation returned is only a hint; the caller reads History again.
//
// Operations are short. They run without Helm's own waiting, so they end as
// soon as the objects are accepted; only hooks run inside, up to the timeout.
// Helm's waiting would hold a worker for as long as an image takes to pull,
// would know nothing after a restart, and would fail with "context deadline
// exceeded" instead of naming the object and the reason.
//
// What happens on failure:
//
//   - The context ends (SIGTERM): every request of the operation is cut in the
//     transport, Helm sees an error and records the revision as failed through
//     a storage client that is not cut. The SDK's own RunWithContext returns
//     while the operation goes on in the background and may still mark the
//     revision as deployed, so it is not used.
//   - The lock is lost (context cause ErrFenced): nothing more is written.
//   - Helm returns and leaves a pending record, as a failed rollback hook does:
//     the record is set to failed before the operation returns.
//   - kill -9: the record stays pending; the next holder of the lock calls
//     Unlock.
//   - Memory: discovery, mapper and schemas belong to one operation and are
//     dropped with it; the runtime is told to return the pages.
//
// It does not decide anything, keeps no state between operations, and never
// judges by a revision number.
package helm
