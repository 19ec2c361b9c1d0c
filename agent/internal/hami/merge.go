package hami

import (
	"fmt"
	"slices"

	"github.com/budecosystem/budcluster/internal/facts"
)

// maxMerged bounds the sentences of all sources: a cluster has a monitor for each
// node, and none of them may be reachable.
const maxMerged = 256

// Merge puts together what the sources say. Of each fact the strongest source's
// is kept, of one source's the newest; where two sources differ a sentence says
// so.
func Merge(views ...View) View {
	var m merger
	var out View
	for i := range views {
		out.Partial = out.Partial || views[i].Partial
		out.Problems = append(out.Problems, views[i].Problems...)
	}
	m.place(views)
	for i := range views {
		for j := range views[i].Devices {
			m.device(&views[i].Devices[j])
		}
	}
	m.join(views)
	out.Devices, out.Slices = m.devices, m.slices
	out.sort()
	out.Problems = append(m.said.sentences(), out.Problems...)
	if more := len(out.Problems) - maxMerged; more > 0 {
		out.Problems = append(out.Problems[:maxMerged:maxMerged], fmt.Sprintf("%d more such things are not listed", more))
	}
	return out
}

type merger struct {
	said    ledger
	nodes   map[string]string // of UUIDs: the node, or empty when several claim it
	devices []Device
	slices  []Slice
	at      map[deviceKey]int // of devices
	subject subject
}

// subject is what is being merged, for a sentence that may not be needed.
type subject struct{ namespace, pod, node, uuid string }

func (s subject) String() string {
	if s.pod != "" {
		return fmt.Sprintf("pod %s, GPU %s", quoted(s.namespace+"/"+s.pod), quoted(s.uuid))
	}
	return fmt.Sprintf("GPU %s of node %s", quoted(s.uuid), quoted(s.node))
}

// place learns on which node each UUID is.
func (m *merger) place(views []View) {
	count := 0
	for i := range views {
		count += len(views[i].Devices)
	}
	m.nodes = make(map[string]string, count)
	m.at = make(map[deviceKey]int, count)
	m.devices = make([]Device, 0, count)
	for i := range views {
		for j := range views[i].Devices {
			d := &views[i].Devices[j]
			node, known := m.nodes[d.UUID]
			switch {
			case d.Node == "" || known && node == d.Node:
			case !known:
				m.nodes[d.UUID] = d.Node
			default:
				if node != "" {
					m.said.note("a GPU is listed by two nodes, and which of them has it is unknown",
						fmt.Sprintf("%s by %s and %s", quoted(d.UUID), quoted(node), quoted(d.Node)))
				}
				m.nodes[d.UUID] = ""
			}
		}
	}
}

// device adds what a source says of a device.
func (m *merger) device(d *Device) {
	node := d.Node
	if node == "" {
		node = m.nodes[d.UUID]
	}
	if node == "" {
		m.said.note("a GPU is on no node that is known, so what is said of it was left out", quoted(d.UUID))
		return
	}
	i, ok := m.at[deviceKey{node, d.UUID}]
	if !ok {
		m.at[deviceKey{node, d.UUID}] = len(m.devices)
		added := *d
		added.Node, added.Elsewhere = node, m.nodes[d.UUID] == ""
		m.devices = append(m.devices, added)
		return
	}
	m.subject = subject{node: node, uuid: d.UUID}
	into := &m.devices[i]
	stronger(m, &into.Index, d.Index, "index of a GPU", plain)
	stronger(m, &into.Type, d.Type, "type of a GPU", plain)
	stronger(m, &into.Mode, d.Mode, "mode of a GPU", plain)
	stronger(m, &into.Healthy, d.Healthy, "health of a GPU", plain)
	stronger(m, &into.MemoryLimitBytes, d.MemoryLimitBytes, "memory that a GPU has to give", facts.FormatBytes)
	stronger(m, &into.MemoryAllocatedBytes, d.MemoryAllocatedBytes, "memory that is allocated of a GPU", facts.FormatBytes)
	stronger(m, &into.MemoryUsedBytes, d.MemoryUsedBytes, "memory that is used of a GPU", facts.FormatBytes)
	stronger(m, &into.CoreLimitPercent, d.CoreLimitPercent, "percent of its cores that a GPU has to give", plain)
	stronger(m, &into.CoreAllocatedPercent, d.CoreAllocatedPercent, "percent of a GPU's cores that are allocated", plain)
	stronger(m, &into.CoreUsedPercent, d.CoreUsedPercent, "percent of a GPU's cores that are used", plain)
	stronger(m, &into.Containers, d.Containers, "number of containers on a GPU", plain)
}

// stronger keeps the stronger of two facts, or the newer of two of one source. Two
// sources that differ are told of; one that has changed its mind is not.
func stronger[T comparable](m *merger, into *Fact[T], other Fact[T], what string, show func(T) string) {
	if !other.Known() {
		return
	}
	if into.Known() && into.Source != other.Source && !alike(into.Value, other.Value) {
		m.said.note("two sources differ in the "+what, fmt.Sprintf("%s: %s by the %s, %s by the %s",
			m.subject, show(into.Value), into.Source, show(other.Value), other.Source))
	}
	if mine, its := into.Source.strength(), other.Source.strength(); its > mine || its == mine && other.At.After(into.At) {
		*into = other
	}
}

func plain[T any](value T) string { return fmt.Sprint(value) }

// alike reports whether two values are the same but for the rounding of shares:
// HAMi's scheduler rounds them up to whole percents.
func alike[T comparable](a, b T) bool {
	x, share := any(a).(float64)
	y, also := any(b).(float64)
	if share && also {
		return x-y < 1 && y-x < 1
	}
	return a == b
}

// join puts the slices of all sources together, pod by pod and device by device.
func (m *merger) join(views []View) {
	count := 0
	for i := range views {
		count += len(views[i].Slices)
	}
	all := make([]*Slice, 0, count)
	for i := range views {
		for j := range views[i].Slices {
			all = append(all, &views[i].Slices[j])
		}
	}
	slices.SortStableFunc(all, func(a, b *Slice) int {
		if order := compareGroups(a, b); order != 0 {
			return order
		}
		return int(a.speaker() - b.speaker())
	})
	m.slices = make([]Slice, 0, count)
	for len(all) > 0 {
		n := 1
		for n < len(all) && compareGroups(all[0], all[n]) == 0 {
			n++
		}
		m.group(all[:n])
		all = all[n:]
	}
}

// speaker is who speaks of a slice. It shows in what is known of the container:
// annotations have its name and place, the scheduler its place, monitors its name.
type speaker int

const (
	annotations speaker = iota
	scheduler
	monitor
)

func (s *Slice) speaker() speaker {
	switch {
	case s.MemoryLimitBytes.Source == SourcePod || s.CoreAllocatedPercent.Source == SourcePod:
		return annotations
	case s.Container == "":
		return scheduler
	default:
		return monitor
	}
}

// group joins what is said of one pod's slices of one device, in the order of the
// speakers.
func (m *merger) group(said []*Slice) {
	first := len(m.slices)
	m.subject = subject{namespace: said[0].Namespace, pod: said[0].Pod, uuid: said[0].DeviceUUID}
	upTo := func(who speaker) int {
		n := slices.IndexFunc(said, func(s *Slice) bool { return s.speaker() > who })
		if n < 0 {
			n = len(said)
		}
		return n
	}
	fromPods, withScheduler := upTo(annotations), upTo(scheduler)
	for _, s := range said[:fromPods] {
		m.slices = append(m.slices, *s)
	}
	m.scheduled(m.slices[first:], said[fromPods:withScheduler])
	m.monitored(m.slices[first:], said[withScheduler:])
	for i := first; i < len(m.slices); i++ {
		if s := &m.slices[i]; s.Node == "" {
			s.Node = m.nodes[s.DeviceUUID]
		}
	}
}

// scheduled adds what the scheduler says to a group. One that takes account of
// init containers gives a pod's slices of a device as one, under place 0
// (CollapseInitContainerUsage in its pkg/device): then the annotations tell of
// each.
func (m *merger) scheduled(group []Slice, said []*Slice) {
	if len(group) == 0 {
		for _, s := range said {
			m.slices = append(m.slices, *s)
		}
		return
	}
	if len(group) != len(said) {
		m.whole(group, said)
		return
	}
	taken := make([]bool, len(group))
	for _, s := range said {
		i := slices.IndexFunc(group, func(g Slice) bool { return g.ContainerIndex == s.ContainerIndex && g.Part == s.Part })
		if i < 0 || taken[i] {
			i = slices.Index(taken, false)
		}
		taken[i] = true
		m.absorb(&group[i], s)
	}
}

// whole compares what the scheduler says of a pod as a whole with its slices.
func (m *merger) whole(group []Slice, said []*Slice) {
	var theirs int64
	for _, s := range said {
		theirs += s.MemoryLimitBytes.Value
	}
	if ours := held(group).memory; len(said) > 0 && ours != theirs {
		m.said.note("two sources differ in the memory that a pod may have of a GPU", fmt.Sprintf("%s: %s by the %s, %s by the %s",
			m.subject, facts.FormatBytes(ours), SourcePod, facts.FormatBytes(theirs), SourceScheduler))
	}
}

// monitored adds what monitors say to a group. Where the group is the scheduler's
// it has no names of containers, and they are taken in order if the numbers agree.
func (m *merger) monitored(group []Slice, said []*Slice) {
	taken := make([]bool, len(group))
	nameless := len(group) == len(said) && !slices.ContainsFunc(group, func(g Slice) bool { return g.Container != "" })
	for _, s := range said {
		i := slices.Index(taken, false)
		if !nameless {
			i = match(group, taken, s)
		}
		if i < 0 {
			if len(group) > 0 {
				m.said.note("a monitor's slice is none of those that the scheduler gave the pod", "container "+quoted(s.Container)+" of "+m.subject.String())
			}
			m.slices = append(m.slices, *s)
			continue
		}
		taken[i] = true
		group[i].Container, group[i].VDevice = s.Container, s.VDevice
		m.absorb(&group[i], s)
	}
}

// match finds the slice of the same container, and of its devices rather the same
// than any.
func match(group []Slice, taken []bool, s *Slice) int {
	found := -1
	for i := range group {
		if taken[i] || group[i].Container != s.Container {
			continue
		}
		if group[i].VDevice == s.VDevice {
			return i
		}
		if found < 0 {
			found = i
		}
	}
	return found
}

func (m *merger) absorb(into, s *Slice) {
	if into.Node == "" {
		into.Node = s.Node
	}
	stronger(m, &into.MemoryLimitBytes, s.MemoryLimitBytes, "memory that a container may have of a GPU", facts.FormatBytes)
	stronger(m, &into.MemoryUsedBytes, s.MemoryUsedBytes, "memory that a container uses of a GPU", facts.FormatBytes)
	stronger(m, &into.CoreAllocatedPercent, s.CoreAllocatedPercent, "percent of a GPU's cores that a container may use", plain)
	stronger(m, &into.CoreUsedPercent, s.CoreUsedPercent, "percent of a GPU's cores that a container uses", plain)
}
