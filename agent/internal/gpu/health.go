package gpu

import (
	"errors"
	"fmt"
)

// Health says whether work may be put on a device.
type Health string

// The healths, from good to bad.
const (
	Healthy Health = "healthy"
	// Degraded: it computes, but slower than it could or not for long.
	Degraded Health = "degraded"
	// Unknown: it does not answer.
	Unknown Health = "unknown"
	// Unhealthy: no work may be put on it.
	Unhealthy Health = "unhealthy"
)

// ReasonCode names one thing that is wrong with a device.
type ReasonCode string

// The reasons for a health that is not good.
const (
	ReasonLost              ReasonCode = "Lost"
	ReasonNoAnswer          ReasonCode = "NoAnswer"
	ReasonUnreadable        ReasonCode = "Unreadable"
	ReasonXID               ReasonCode = "XID"
	ReasonRecoveryRequired  ReasonCode = "RecoveryRequired"
	ReasonUncorrectedECC    ReasonCode = "UncorrectedECC"
	ReasonRemapFailed       ReasonCode = "RemapFailed"
	ReasonRemapPending      ReasonCode = "RemapPending"
	ReasonRetirementPending ReasonCode = "RetirementPending"
	ReasonHardwareSlowdown  ReasonCode = "HardwareSlowdown"
	ReasonLinkInactive      ReasonCode = "LinkInactive"
)

// Reason is one of them, in a sentence with the remedy.
type Reason struct {
	Code    ReasonCode
	Message string
}

// Condition is the health of a device and why it is not better.
type Condition struct {
	Health  Health
	Reasons []Reason
}

func (c *Condition) add(h Health, code ReasonCode, format string, args ...any) {
	if rank(h) > rank(c.Health) {
		c.Health = h
	}
	c.Reasons = append(c.Reasons, Reason{Code: code, Message: fmt.Sprintf(format, args...)})
}

func rank(h Health) int {
	switch h {
	case Healthy:
		return 0
	case Degraded:
		return 1
	case Unknown:
		return 2
	case Unhealthy:
		return 3
	default:
		return 0
	}
}

// Judge decides by a device, its last sample or the error that came instead of
// one, and what happened since the device was last reset. It is pure. A number that
// is not known speaks neither for nor against a device that can be read.
func Judge(d Device, s Sample, err error, events []Event) Condition {
	c := Condition{Health: Healthy}
	switch {
	case d.Lost || s.Lost:
		c.add(Unhealthy, ReasonLost, "the GPU has fallen off the bus; drain the node and reboot it, and if that does not help reseat or replace the GPU")
		return c
	case errors.Is(err, ErrNoAnswer):
		c.add(Unknown, ReasonNoAnswer, "the driver does not answer for this GPU; drain the node and reboot it if that lasts")
	case err != nil:
		c.add(Unknown, ReasonUnreadable, "the GPU cannot be read: %v", err)
	case d.UUID == "":
		c.add(Unknown, ReasonUnreadable, "the GPU cannot be read: %v", d.Problems)
	}
	judgeEvents(&c, d, events)
	judgeMemory(&c, s)
	if action, known := s.RecoveryAction.Get(); known && action != RecoveryNone {
		c.add(Unhealthy, ReasonRecoveryRequired, "the driver asks to %s before the GPU is used again", action)
	}
	const hardware = ThrottleHWSlowdown | ThrottleHWThermalSlowdown | ThrottleHWPowerBrakeSlowdown
	if held := s.Throttle.V & hardware; held != 0 {
		c.add(Degraded, ReasonHardwareSlowdown, "the hardware holds the clocks down (%s); check cooling and power supply", held)
	}
	judgeLinks(&c, d, s)
	return c
}

func judgeEvents(c *Condition, d Device, events []Event) {
	seen := map[uint64]bool{}
	for _, e := range events {
		if e.Device != d.ID || e.Kind != EventXID || ApplicationXID(e.XID) || seen[e.XID] {
			continue
		}
		seen[e.XID] = true
		c.add(Unhealthy, ReasonXID, "the driver reported XID %d; look it up in NVIDIA's XID catalogue, and reset the GPU", e.XID)
	}
}

func judgeMemory(c *Condition, s Sample) {
	if s.RemappedRows.Failed.V {
		c.add(Unhealthy, ReasonRemapFailed, "the memory has no spare row for one that failed; replace the GPU")
	}
	if n := s.ECC.Volatile.Uncorrected.V; n > 0 {
		c.add(Degraded, ReasonUncorrectedECC, "uncorrected errors of the memory since the driver was loaded: %d; drain and reset the GPU", n)
	}
	if s.RemappedRows.Pending.V {
		c.add(Degraded, ReasonRemapPending, "a row of the memory is to be replaced by a spare one; reset the GPU when it is free")
	}
	if s.RetiredPages.Pending.V {
		c.add(Degraded, ReasonRetirementPending, "a page of the memory is to be taken out of use; reset the GPU when it is free")
	}
}

// judgeLinks: a link that has a peer and is inactive failed to train. One without
// a peer is not wired on this board.
func judgeLinks(c *Condition, d Device, s Sample) {
	var down []int
	for i, state := range s.NVLink.Links {
		if i < len(d.Links) && state == LinkInactive && d.Links[i].PeerPCIBusID != "" {
			down = append(down, d.Links[i].Number)
		}
	}
	if len(down) > 0 {
		c.add(Degraded, ReasonLinkInactive, "NVLinks %v are inactive; reset the GPU, and check the bridge or the fabric manager", down)
	}
}
