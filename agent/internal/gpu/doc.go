// Package gpu reads the GPUs of one node: what they are, what they do now, what
// happened to them, and whether work may be put on them.
//
//	sampler, node facts ─► Source ─► a lane per device ──┐
//	                         │       a lane for the list ├─► Driver ─► NVML
//	                         │       a lane for events ──┘   (gpu/nvml, gpu/gpufake)
//	                         ▼
//	          Inventory (read once)   Sample (read each time)   Event
//	                         └──────────────┬─────────────────────┘
//	                                      Judge ─► Condition
//
// A Driver is the library behind: its calls block, and any of them may hang for
// ever, as those of a GPU do whose firmware has stopped. A Source never does: each
// of its calls ends with its context or after Deadline. On a lane runs one call at
// a time; one that was given up keeps its lane, so that a device costs one
// goroutine and one thread at the most, and nobody calls it again until that call
// has come back. The other devices are not touched by it.
//
// The driver is authoritative, and unknown is absent: what it does not say is no
// zero but a Value without Known. A call that fails costs the field that it would
// have filled and leaves a Problem with the reason; that a device or a driver does
// not have something is no problem. Numbers that cannot be are treated alike.
//
// A GPU that fell off the bus is lost, not gone: it stays in the inventory with
// what was known of it, until the driver lists one device less. A driver that was
// replaced under the running library is ErrReplaced, and only a new process can
// load the new one: the dynamic linker binds each function once.
//
// What this package does not do: it sets nothing on a device, it knows no
// Kubernetes, and it keeps no history.
package gpu
