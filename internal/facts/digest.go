package facts

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"
)

// Digest names the content of a cluster's facts: "sha256:" and hex. Order,
// nil or empty, and the form of times do not change it.
func (c Cluster) Digest() string {
	c.StorageClasses = sorted(c.StorageClasses, func(a, b StorageClass) int { return cmp.Compare(a.Name, b.Name) })
	c.IngressClasses = sorted(c.IngressClasses, func(a, b IngressClass) int { return cmp.Compare(a.Name, b.Name) })
	return digest(c)
}

// Digest names the content of a node's facts, in the same way.
func (n Node) Digest() string { return digest(n.normalised()) }

// normalised gives equal nodes the same form.
func (n Node) normalised() Node {
	n.Taints = sorted(n.Taints, func(a, b Taint) int {
		return cmp.Or(cmp.Compare(a.Key, b.Key), cmp.Compare(a.Effect, b.Effect), cmp.Compare(a.Value, b.Value))
	})
	n.Roles = sorted(n.Roles, cmp.Compare)
	n.Addresses = sorted(n.Addresses, func(a, b Address) int {
		return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.Address, b.Address))
	})
	n.Pressures = sorted(n.Pressures, cmp.Compare)
	n.Problems = sorted(n.Problems, cmp.Compare)
	n.CreatedAt = normalTime(n.CreatedAt)
	n.Devices = slices.Clone(n.Devices)
	for i := range n.Devices {
		d := &n.Devices[i]
		d.InstructionSets = sorted(d.InstructionSets, cmp.Compare)
		if d.SuspectSince != nil {
			t := normalTime(*d.SuspectSince)
			d.SuspectSince = &t
			if t.IsZero() {
				d.SuspectSince = nil
			}
		}
	}
	n.Devices = sorted(n.Devices, compareDevices)
	return n
}

// compareDevices goes by id; of an id that is there twice by everything else.
func compareDevices(a, b Device) int {
	if c := cmp.Compare(a.ID, b.ID); c != 0 {
		return c
	}
	return cmp.Compare(digest(a), digest(b))
}

func sorted[T any](in []T, compare func(a, b T) int) []T {
	if len(in) == 0 {
		return nil
	}
	return slices.SortedStableFunc(slices.Values(in), compare)
}

func digest(v any) string {
	data, err := json.Marshal(v)
	if err != nil {
		// Only a type that JSON cannot hold, or a time beyond year 9999,
		// which normalised removes.
		panic(err)
	}
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// Available is what new pods can still have: allocatable less requested, never
// below zero, and nothing on a node that is not ready or cordoned.
func (n Node) Available() Resources {
	if !n.Ready || !n.Schedulable {
		return Resources{}
	}
	free := func(allocatable, requested int64) int64 {
		if allocatable <= 0 {
			return 0
		}
		return max(allocatable-max(requested, 0), 0)
	}
	out := Resources{
		CPUMillis:      free(n.Allocatable.CPUMillis, n.Requested.CPUMillis),
		MemoryBytes:    free(n.Allocatable.MemoryBytes, n.Requested.MemoryBytes),
		EphemeralBytes: free(n.Allocatable.EphemeralBytes, n.Requested.EphemeralBytes),
		Pods:           free(n.Allocatable.Pods, n.Requested.Pods),
	}
	if len(n.Allocatable.Extended) > 0 {
		out.Extended = maps.Clone(n.Allocatable.Extended)
		for name, amount := range out.Extended {
			out.Extended[name] = free(amount, n.Requested.Extended[name])
		}
	}
	return out
}
