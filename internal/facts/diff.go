package facts

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Change is one difference, for people. From is empty for what is new, To for
// what is gone.
type Change struct {
	Field string `json:"field"`
	From  string `json:"from,omitempty"`
	To    string `json:"to,omitempty"`
}

// DiffNodes lists what changed from a to b, by field. It is empty exactly when
// their digests are equal.
func DiffNodes(a, b Node) []Change {
	from, to := flatten(a.normalised()), flatten(b.normalised())
	var changes []Change
	for _, name := range slices.Sorted(maps.Keys(from)) {
		if was, is := from[name], to[name]; was.exact != is.exact {
			changes = append(changes, change(name, was, is))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(to)) {
		if _, both := from[name]; !both {
			changes = append(changes, change(name, text{}, to[name]))
		}
	}
	slices.SortStableFunc(changes, func(a, b Change) int { return strings.Compare(a.Field, b.Field) })
	return changes
}

func change(name string, was, is text) Change {
	name = strings.ReplaceAll(strings.ReplaceAll(name, sep+sep, sep), sep, ".")
	if was.shown == is.shown { // too fine a difference for the rounded form
		return Change{Field: name, From: was.exact, To: is.exact}
	}
	return Change{Field: name, From: was.shown, To: is.shown}
}

// text is a value twice: exact to compare, shown for people. Absent is the
// zero value.
type text struct{ exact, shown string }

// flat gathers the fields that are not empty, by path.
type flat map[string]text

// sep parts the path of a field. No name of a label, resource or device has
// it, so that none can be taken for another field; people see a dot.
const sep = "\x00"

func (f flat) set(name, value string) {
	if value != "" {
		f[name] = text{value, value}
	}
}

func (f flat) bytes(name string, n int64) {
	if n != 0 {
		f[name] = text{strconv.FormatInt(n, 10) + " bytes", FormatBytes(n)}
	}
}

func (f flat) number(name string, n int64) {
	if n != 0 {
		f.set(name, strconv.FormatInt(n, 10))
	}
}

func flatten(n Node) flat {
	f := flat{}
	for name, value := range map[string]string{
		"name": n.Name, "uid": n.UID, "readyReason": n.ReadyReason, "readyMessage": n.ReadyMessage,
		"architecture": n.Architecture, "operatingSystem": n.OperatingSystem, "osImage": n.OSImage, "kernel": n.Kernel,
		"kubeletVersion": n.KubeletVersion, "containerRuntime": n.ContainerRuntime,
	} {
		f.set(name, value)
	}
	f.set("ready", strconv.FormatBool(n.Ready))
	f.set("schedulable", strconv.FormatBool(n.Schedulable))
	if !n.CreatedAt.IsZero() {
		f.set("createdAt", n.CreatedAt.Format(time.RFC3339Nano))
	}
	f.list("taints", convert(n.Taints, func(t Taint) string {
		if t.Value == "" {
			return t.Key + ":" + t.Effect
		}
		return t.Key + "=" + t.Value + ":" + t.Effect
	}), fmt.Sprintf("%q", n.Taints))
	f.list("addresses", convert(n.Addresses, func(a Address) string { return a.Type + " " + a.Address }), fmt.Sprintf("%q", n.Addresses))
	f.list("roles", n.Roles, fmt.Sprintf("%q", n.Roles))
	f.list("pressures", n.Pressures, fmt.Sprintf("%q", n.Pressures))
	f.list("problems", n.Problems, fmt.Sprintf("%q", n.Problems))
	for key, value := range n.Labels {
		// An empty label is not an absent one.
		f["labels"+sep+key] = text{strconv.Quote(value), cmpOr(value, `""`)}
	}
	f.resources("capacity", n.Capacity)
	f.resources("allocatable", n.Allocatable)
	f.resources("requested", n.Requested)
	seen := map[string]int{}
	for _, d := range n.Devices {
		name := "devices" + sep + d.ID
		if seen[d.ID]++; seen[d.ID] > 1 {
			name += sep + "#" + strconv.Itoa(seen[d.ID])
		}
		f.device(name, d)
	}
	return f
}

func cmpOr(value, fallback string) string {
	if value == "" {
		return fallback
	}
	return value
}

func (f flat) list(name string, items []string, exact string) {
	if len(items) > 0 {
		f[name] = text{exact, strings.Join(items, ", ")}
	}
}

func (f flat) resources(name string, r Resources) {
	if r.CPUMillis != 0 {
		f[name+sep+"cpu"] = text{strconv.FormatInt(r.CPUMillis, 10) + "m", FormatCPU(r.CPUMillis)}
	}
	f.bytes(name+sep+"memory", r.MemoryBytes)
	f.bytes(name+sep+"ephemeralStorage", r.EphemeralBytes)
	f.number(name+sep+"pods", r.Pods)
	for key, amount := range r.Extended {
		f.set(name+sep+sep+key, strconv.FormatInt(amount, 10)) // none of a kind is not no such kind
	}
}

// device has one entry for the device itself, so that a device without any
// detail is noticed too, and one for each detail.
func (f flat) device(name string, d Device) {
	f[name] = text{"present", cmpOr(strings.TrimSpace(d.Vendor+" "+d.Model), string(d.Kind))}
	for field, value := range map[string]string{
		"vendor": d.Vendor, "kind": string(d.Kind), "model": d.Model, "uuid": d.UUID, "health": string(d.Health), "sharing": string(d.Sharing),
		"driverVersion": d.DriverVersion, "cudaVersion": d.CUDAVersion, "computeCapability": d.ComputeCapability,
		"resource": d.Resource, "source": string(d.Source),
	} {
		f.set(name+sep+field, value)
	}
	for field, value := range map[string]*int32{"index": d.Index, "cores": d.Cores, "threads": d.Threads} {
		if value != nil {
			f.set(name+sep+field, strconv.FormatInt(int64(*value), 10))
		}
	}
	if d.MemoryBytes != nil {
		f[name+sep+"memory"] = text{strconv.FormatInt(*d.MemoryBytes, 10) + " bytes", FormatBytes(*d.MemoryBytes)}
	}
	if d.SuspectSince != nil {
		f.set(name+sep+"suspectSince", d.SuspectSince.Format(time.RFC3339Nano))
	}
	f.list(name+sep+"instructionSets", d.InstructionSets, fmt.Sprintf("%q", d.InstructionSets))
}
