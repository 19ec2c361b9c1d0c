package hami

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// Source says who gave a fact.
type Source string

// The sources, from weakest to strongest: what is enforced or measured on the
// node stands above what the scheduler holds in memory, and that above the
// annotations that it writes.
const (
	SourcePod       Source = "pod annotation"
	SourceNode      Source = "node annotation"
	SourceScheduler Source = "HAMi scheduler"
	SourceMonitor   Source = "HAMi monitor"
)

func (s Source) strength() int {
	switch s {
	case SourcePod:
		return 1
	case SourceNode:
		return 2
	case SourceScheduler:
		return 3
	case SourceMonitor:
		return 4
	default:
		return 0
	}
}

// Fact is a value with who said it and when. It is unknown when Source is empty.
type Fact[T comparable] struct {
	Value  T
	Source Source
	At     time.Time
}

// Known reports whether any source has said it.
func (f Fact[T]) Known() bool { return f.Source != "" }

// Mode is how HAMi shares a device: hami-core, mig or mps.
type Mode string

// ModeMIG is what HAMi calls a GPU that it cuts into MIG slices.
const ModeMIG Mode = "mig"

// Device is one GPU on one node.
type Device struct {
	// Node is empty when no source tells where the device is.
	Node, UUID string
	// Elsewhere says that another node lists a device of this UUID as well, so
	// that one of them is wrong.
	Elsewhere bool

	Index Fact[int32]
	// Type is HAMi's name of the model, e.g. NVIDIA-NVIDIA L40S.
	Type    Fact[string]
	Mode    Fact[Mode]
	Healthy Fact[bool]

	// MemoryLimitBytes is what HAMi gives away, more than there is where it is
	// told to overcommit.
	MemoryLimitBytes     Fact[int64]
	MemoryAllocatedBytes Fact[int64]
	MemoryUsedBytes      Fact[int64]
	// CoreLimitPercent is 100, or 0 when HAMi does not limit the device's cores.
	CoreLimitPercent     Fact[float64]
	CoreAllocatedPercent Fact[float64]
	CoreUsedPercent      Fact[float64]
	// Containers counts those that share the device.
	Containers Fact[int64]
}

// Slice is a part of a device that a container has.
type Slice struct {
	Namespace, Pod string
	// Container is empty, and ContainerIndex negative, when unknown. The index is
	// the place in the pod's annotation, init containers first.
	Container      string
	ContainerIndex int32
	// Init says that the container runs before the pod's others and holds its
	// slice instead of them, not beside them.
	Init bool
	// Node is empty when no source tells.
	Node string
	// DeviceUUID is the GPU's. Part names a MIG slice of it as HAMi did before
	// 2.10.
	DeviceUUID, Part string
	// VDevice counts the container's devices; it is negative when unknown.
	VDevice int32

	MemoryLimitBytes Fact[int64]
	MemoryUsedBytes  Fact[int64]
	// CoreAllocatedPercent is 0 when the container's cores are not limited.
	CoreAllocatedPercent Fact[float64]
	CoreUsedPercent      Fact[float64]
}

// View is what a source says, or several.
type View struct {
	// Devices are sorted by node and UUID.
	Devices []Device
	// Slices are sorted by namespace, pod, device and container.
	Slices []Slice
	// Partial says that a source could not be read in full, so that what is not
	// here may be there.
	Partial bool
	// Problems are sentences on what was left out or is in doubt, in a bounded
	// number.
	Problems []string
}

func (v *View) sort() {
	slices.SortStableFunc(v.Devices, func(a, b Device) int {
		return cmp.Or(strings.Compare(a.Node, b.Node), strings.Compare(a.UUID, b.UUID))
	})
	slices.SortStableFunc(v.Slices, compareSlices)
}

func compareSlices(a, b Slice) int {
	if order := compareGroups(&a, &b); order != 0 {
		return order
	}
	return cmp.Or(cmp.Compare(a.ContainerIndex, b.ContainerIndex), strings.Compare(a.Container, b.Container),
		cmp.Compare(a.VDevice, b.VDevice), strings.Compare(a.Part, b.Part))
}

// compareGroups brings together what the sources say of one pod on one device.
func compareGroups(a, b *Slice) int {
	return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Pod, b.Pod), strings.Compare(a.DeviceUUID, b.DeviceUUID))
}

// normalise turns shares of cores, which a source may count in a unit of the
// device's own (an AMD GPU has 304 compute units, and deviceCoreScaling
// multiplies), into percents of what HAMi gives away of the device, and drops
// those that are none.
func (v *View) normalise(said *ledger) {
	units := make(map[deviceKey]float64)
	for i := range v.Devices {
		d := &v.Devices[i]
		if unit := d.CoreLimitPercent.Value; unit != 0 && unit != wholePercent {
			units[deviceKey{d.Node, d.UUID}] = unit
			d.CoreLimitPercent.Value = wholePercent
			d.CoreAllocatedPercent.Value *= wholePercent / unit
		}
		said.percent(&d.CoreAllocatedPercent, d.UUID)
	}
	for i := range v.Slices {
		s := &v.Slices[i]
		if unit, ok := units[deviceKey{s.Node, s.DeviceUUID}]; ok {
			s.CoreAllocatedPercent.Value *= wholePercent / unit
		}
		said.percent(&s.CoreAllocatedPercent, s.DeviceUUID)
	}
}

// wholePercent is all of a device's cores.
const wholePercent = 100

// deviceKey names a device; a UUID alone does not, since two nodes may claim it.
type deviceKey struct{ node, uuid string }
