package hami

import (
	"time"

	"github.com/budecosystem/budcluster/internal/facts"
)

// Node is a node with the annotations that facts.NodeAnnotations chooses.
type Node struct {
	Name        string
	Annotations map[string]string
}

// Annotated is what the annotations of nodes and pods say, as of a time. The pods
// are all of those nodes', since what they hold together is what is allocated.
func Annotated(nodes []Node, pods []facts.HAMiPod, at time.Time) View {
	var v View
	var said ledger
	for _, node := range nodes {
		devices, problems := facts.HAMiDevices(node.Annotations)
		for _, problem := range problems {
			said.note("the annotations of a node are not all to be used", quoted(node.Name)+": "+problem)
		}
		for _, d := range devices {
			v.Devices = append(v.Devices, registered(node.Name, d, at))
		}
	}
	for _, pod := range pods {
		held, problems := facts.HAMiSlices(pod)
		for _, problem := range problems {
			said.note("the annotations of a pod are not all to be used", problem)
		}
		for _, s := range held {
			v.Slices = append(v.Slices, Slice{
				Namespace: s.Namespace, Pod: s.Pod, Container: s.Container, ContainerIndex: s.ContainerIndex, Init: s.Init, Node: s.Node,
				DeviceUUID: s.DeviceUUID, Part: s.Part, VDevice: s.VDevice,
				MemoryLimitBytes:     Fact[int64]{Value: s.MemoryBytes, Source: SourcePod, At: at},
				CoreAllocatedPercent: Fact[float64]{Value: float64(s.Cores), Source: SourcePod, At: at},
			})
		}
	}
	v.normalise(&said)
	v.sort()
	v.allocate(at)
	v.Problems = said.sentences()
	return v
}

func registered(node string, d facts.HAMiDevice, at time.Time) Device {
	out := Device{
		Node: node, UUID: d.UUID,
		Index:            Fact[int32]{Value: d.Index, Source: SourceNode, At: at},
		Healthy:          Fact[bool]{Value: d.Healthy, Source: SourceNode, At: at},
		CoreLimitPercent: Fact[float64]{Value: float64(d.Cores), Source: SourceNode, At: at},
	}
	if d.Type != "" {
		out.Type = Fact[string]{Value: d.Type, Source: SourceNode, At: at}
	}
	if d.Mode != "" {
		out.Mode = Fact[Mode]{Value: Mode(d.Mode), Source: SourceNode, At: at}
	}
	if d.MemoryBytes != nil {
		out.MemoryLimitBytes = Fact[int64]{Value: *d.MemoryBytes, Source: SourceNode, At: at}
	}
	return out
}

// allocate gives each device what its slices hold together.
func (v *View) allocate(at time.Time) {
	totals := make(map[deviceKey]share, len(v.Devices))
	for rest := v.Slices; len(rest) > 0; {
		n := 1
		for n < len(rest) && compareGroups(&rest[0], &rest[n]) == 0 {
			n++
		}
		key := deviceKey{rest[0].Node, rest[0].DeviceUUID}
		totals[key] = totals[key].plus(held(rest[:n]))
		rest = rest[n:]
	}
	for i := range v.Devices {
		d := &v.Devices[i]
		total := totals[deviceKey{d.Node, d.UUID}]
		d.MemoryAllocatedBytes = Fact[int64]{Value: total.memory, Source: SourcePod, At: at}
		d.CoreAllocatedPercent = Fact[float64]{Value: total.cores, Source: SourcePod, At: at}
		d.Containers = Fact[int64]{Value: total.containers, Source: SourcePod, At: at}
	}
}

// share is what slices hold together.
type share struct {
	memory     int64
	cores      float64
	containers int64
}

func (s share) plus(o share) share {
	return share{memory: s.memory + o.memory, cores: s.cores + o.cores, containers: s.containers + o.containers}
}

// held sums up the slices of one pod on one device. An init container holds its
// own before the others, not beside them, so the larger counts (HAMi's
// docs/develop/initContainer-design.md).
func held(pod []Slice) share {
	var before, beside share
	for i := range pod {
		own := share{memory: pod[i].MemoryLimitBytes.Value, cores: pod[i].CoreAllocatedPercent.Value, containers: 1}
		if pod[i].Init {
			before = before.or(own)
		} else {
			beside = beside.plus(own)
		}
	}
	return beside.or(before)
}

// or is the larger of each.
func (s share) or(o share) share {
	return share{memory: max(s.memory, o.memory), cores: max(s.cores, o.cores), containers: max(s.containers, o.containers)}
}
