package gpu

import "time"

// Event is something that happened on a device.
type Event struct {
	At   time.Time
	Kind EventKind
	// Device is an ID, and empty where the driver does not say which device.
	Device string
	// XID is the number of the error, of kind EventXID.
	XID uint64
	// GPUInstance and ComputeInstance are where it happened, if that was within one.
	GPUInstance, ComputeInstance Value[uint32]
}

// EventKind is what happened.
type EventKind string

// The kinds of events.
const (
	// EventXID: the driver wrote an XID into the kernel's log.
	EventXID EventKind = "XID"
	// EventDoubleBitECC: memory lost data.
	EventDoubleBitECC EventKind = "DoubleBitECC"
	// EventRecovery: the driver wants a device recovered, or does no longer.
	EventRecovery EventKind = "Recovery"
	// EventUnavailable: a device cannot be used.
	EventUnavailable EventKind = "Unavailable"
	// EventLost: a device has fallen off the bus; the driver does not say which.
	EventLost EventKind = "Lost"
	// EventAnswers: a call that had been given up has come back.
	EventAnswers EventKind = "Answers"
)

// ApplicationXID reports whether an XID is the fault of a program, which leaves
// the device usable for the next. These are the ones that NVIDIA's catalogue of XID
// errors gives an application as the likely cause of, and that NVIDIA's device
// plugin for Kubernetes does not take a device away for: a fault of the graphics
// engine (13), of a page (31), a stopped or cleaned up channel (43, 45), of the
// video processor (68), a timeout of a context switch (109).
func ApplicationXID(xid uint64) bool {
	switch xid {
	case 13, 31, 43, 45, 68, 109:
		return true
	default:
		return false
	}
}
