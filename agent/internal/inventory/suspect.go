package inventory

import (
	"cmp"
	"slices"
	"time"

	"github.com/budecosystem/budcluster/internal/facts"
)

// settle merges what was known of a node's devices with what its labels and
// resources say now. It returns what to report, and when to look again because
// a grace time ends (zero: never).
//
// A vendor whose labels are there has its word taken: fewer devices are fewer
// devices. Without any label of the vendor, what was known stays, suspect, until
// the grace time is over.
func settle(known, fresh []facts.Device, now time.Time, grace time.Duration) (devices []facts.Device, again time.Time) {
	keep := func(was facts.Device) (facts.Device, bool) {
		since := now
		if was.SuspectSince != nil {
			since = *was.SuspectSince
		}
		end := since.Add(grace)
		if !now.Before(end) {
			return facts.Device{}, false
		}
		if again.IsZero() || end.Before(again) {
			again = end
		}
		was.SuspectSince = &since
		return was, true
	}
	for _, is := range fresh {
		i := slices.IndexFunc(known, func(d facts.Device) bool { return d.ID == is.ID && d.Kind == is.Kind })
		if i >= 0 && poorer(is, known[i]) && !spoken(fresh, is) {
			if kept, ok := keep(merged(known[i], is)); ok {
				is = kept
			}
		}
		devices = append(devices, is)
	}
	for _, was := range known {
		there := slices.ContainsFunc(fresh, func(d facts.Device) bool { return d.ID == was.ID && d.Kind == was.Kind })
		if there || spoken(fresh, was) {
			continue
		}
		if kept, ok := keep(was); ok {
			kept.Health = facts.HealthUnknown
			devices = append(devices, kept)
		}
	}
	return devices, again
}

// spoken reports whether labels, or HAMi, tell about devices of d's vendor and
// kind. The CPU's own facts have no label that says so.
func spoken(fresh []facts.Device, d facts.Device) bool {
	return d.Kind != facts.KindCPU && slices.ContainsFunc(fresh, func(o facts.Device) bool {
		return o.Vendor == d.Vendor && o.Kind == d.Kind && (o.Source == facts.SourceLabel || o.Source == facts.SourceHAMi)
	})
}

// poorer reports whether is lacks a fact that was has.
func poorer(is, was facts.Device) bool {
	return (is.Model == "" && was.Model != "") ||
		(is.Vendor == "" && was.Vendor != "") ||
		(is.MemoryBytes == nil && was.MemoryBytes != nil) ||
		(is.DriverVersion == "" && was.DriverVersion != "") ||
		(is.CUDAVersion == "" && was.CUDAVersion != "") ||
		(is.ComputeCapability == "" && was.ComputeCapability != "") ||
		(len(is.InstructionSets) == 0 && len(was.InstructionSets) > 0)
}

// merged fills what is lacks from was. What Kubernetes itself says now, health
// and amounts, is taken from is.
func merged(was, is facts.Device) facts.Device {
	is.Model = cmp.Or(is.Model, was.Model)
	is.Vendor = cmp.Or(is.Vendor, was.Vendor)
	is.MemoryBytes = cmp.Or(is.MemoryBytes, was.MemoryBytes)
	is.DriverVersion = cmp.Or(is.DriverVersion, was.DriverVersion)
	is.CUDAVersion = cmp.Or(is.CUDAVersion, was.CUDAVersion)
	is.ComputeCapability = cmp.Or(is.ComputeCapability, was.ComputeCapability)
	is.Sharing = cmp.Or(is.Sharing, was.Sharing)
	if len(is.InstructionSets) == 0 {
		is.InstructionSets = was.InstructionSets
	}
	is.Source = was.Source
	is.SuspectSince = was.SuspectSince
	return is
}
