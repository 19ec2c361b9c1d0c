package mirror

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/budecosystem/budcluster/hub/internal/cluster"
	"github.com/budecosystem/budcluster/hub/internal/inventory"
	"github.com/budecosystem/budcluster/internal/facts"
)

// Entry is a cluster as the platform's services read it. Its fields, and those
// of Node and Device, are the platform's contract.
type Entry struct {
	ID    string `json:"id"`
	Nodes []Node `json:"nodes"`
}

// Node is a node of an Entry.
type Node struct {
	Name string `json:"name"`
	ID   string `json:"id"`
	// Status is whether models can be put there.
	Status   bool     `json:"status"`
	IsMaster bool     `json:"is_master"`
	Devices  []Device `json:"devices"`
}

// Device is an accelerator, or the CPU of a node. The optional figures are left
// out when they are not known. The planner takes a null for the same, of those
// that it can do without; but of core_utilization_percent it also asks whether it
// is there at all, and none is ever made up.
type Device struct {
	Name string `json:"name"`
	Type string `json:"type"`
	// AvailableCount is 1 if a model can have it now.
	AvailableCount int     `json:"available_count"`
	TotalCount     int     `json:"total_count"`
	MemPerGPU      float64 `json:"mem_per_GPU_in_GB"`
	MemoryGB       float64 `json:"memory_gb"`
	RawName        string  `json:"raw_name"`
	Vendor         string  `json:"vendor,omitempty"`
	Model          string  `json:"model,omitempty"`
	DeviceModel    string  `json:"device_model,omitempty"`
	CUDAVersion    string  `json:"cuda_version,omitempty"`
	Architecture   string  `json:"architecture,omitempty"`
	// Cores, PhysicalCores, Threads and what is utilized are of a CPU: what pods
	// can have, what the machine has, and what pods ask for.
	Cores            *int32   `json:"cores,omitempty"`
	PhysicalCores    *int32   `json:"physical_cores,omitempty"`
	Threads          *int32   `json:"threads,omitempty"`
	InstructionSets  []string `json:"instruction_sets,omitempty"`
	UtilizedCores    *float64 `json:"utilized_cores,omitempty"`
	UtilizedMemoryGB *float64 `json:"utilized_memory_gb,omitempty"`
	InterBandwidth   float64  `json:"inter_node_bandwidth_in_GB_per_sec"`
	IntraBandwidth   float64  `json:"intra_node_bandwidth_in_GB_per_sec"`
	Use
}

// Use is how a device is shared, and what of it is given away. Percent are from 0
// to 100; of an accelerator they are of what was allocated, not of what is busy.
type Use struct {
	DeviceUUID        string   `json:"device_uuid,omitempty"`
	CoreUtilization   *float64 `json:"core_utilization_percent,omitempty"`
	MemoryUtilization *float64 `json:"memory_utilization_percent,omitempty"`
	MemoryAllocatedGB *float64 `json:"memory_allocated_gb,omitempty"`
	CoresAllocated    *float64 `json:"cores_allocated_percent,omitempty"`
	SharedContainers  *int32   `json:"shared_containers_count,omitempty"`
	HardwareMode      string   `json:"hardware_mode,omitempty"`
	// LastMetricsUpdate is of when the figures are, in RFC 3339.
	LastMetricsUpdate string `json:"last_metrics_update,omitempty"`
}

// The platform's planner wants bandwidths, which nobody measures: these are the
// figures that it was always given.
const (
	gpuInter, gpuIntra = 200, 300
	cpuInter, cpuIntra = 100, 200
)

// The types of CPUs: the platform's engine for CPUs needs wide vectors.
const (
	typeCPU     = "cpu"
	typeCPUHigh = "cpu_high"
)

// State is where a cluster stands, in the platform's words.
type State string

// The states.
const (
	StateRegistering  State = "registering"
	StateAvailable    State = "available"
	StateNotAvailable State = "not_available"
	StateError        State = "error"
)

// The times after which silence means something to the platform.
const (
	// DefaultGrace: an agent that is away for less has only changed its hub.
	DefaultGrace = 90 * time.Second
	// errorAfter is when the platform calls a cluster that is away an error.
	errorAfter = 24 * time.Hour
)

// StateOf sums a cluster up: it is available while its agent is in contact and
// one of its nodes is ready. It is decided in this one place, so that it does
// not flap between two that see it differently.
func StateOf(c *cluster.Cluster, now time.Time, grace time.Duration) State {
	switch c.State(now) {
	case cluster.StatePending:
		return StateRegistering
	case cluster.StateRevoked, cluster.StateRetired:
		return StateError
	case cluster.StateConnected:
	case cluster.StateUnknown:
		switch {
		case c.LastSeen == nil || now.Sub(*c.LastSeen) >= errorAfter:
			return StateError
		case now.Sub(*c.LastSeen) >= grace:
			return StateNotAvailable
		}
	}
	if c.ReadyNodes == 0 {
		return StateNotAvailable
	}
	return StateAvailable
}

// With counts the nodes that were read: the register's own count was read at
// another moment.
func With(c *cluster.Cluster, nodes []inventory.Node) *cluster.Cluster {
	counted := *c
	counted.Nodes, counted.ReadyNodes = len(nodes), 0
	for i := range nodes {
		if nodes[i].Ready {
			counted.ReadyNodes++
		}
	}
	return &counted
}

// EntryOf describes a cluster. The nodes of one that is not available are shown
// as not ready: nothing may be planned there. What they have stays.
func EntryOf(c *cluster.Cluster, nodes []inventory.Node, state State) Entry {
	e := Entry{ID: c.ID.String(), Nodes: make([]Node, 0, len(nodes))}
	for i := range nodes {
		e.Nodes = append(e.Nodes, nodeOf(&nodes[i], state == StateAvailable))
	}
	return e
}

func nodeOf(n *inventory.Node, available bool) Node {
	status := available && n.Ready
	out := Node{Name: n.Name, ID: NodeID(n).String(), Status: status, IsMaster: master(n.Roles), Devices: []Device{}}
	free := freeDevices(n)
	for i := range n.Devices {
		d := deviceOf(n, &n.Devices[i])
		if status && n.Schedulable && free[i] {
			d.AvailableCount = 1
		}
		out.Devices = append(out.Devices, d)
	}
	return out
}

// NodeID is the node's UID. One that is none gets an id from its name, which
// the platform takes for nothing but a UUID.
func NodeID(n *inventory.Node) uuid.UUID {
	if id, err := uuid.Parse(n.UID); err == nil {
		return id
	}
	return uuid.NewSHA1(n.ClusterID, []byte(n.Name))
}

func master(roles []string) bool {
	return slices.Contains(roles, "control-plane") || slices.Contains(roles, "master")
}

// freeDevices says of each device whether a pod can have it for itself: it is not
// known to be unhealthy, and pods ask for fewer of its kind than there are. Which
// device a pod has only the node knows, so the last ones are taken to be busy. Of
// devices that are shared, pods ask for shares, and those may lie on as many
// devices as there are shares: one of which any share may be taken is not free.
func freeDevices(n *inventory.Node) []bool {
	free := make([]bool, len(n.Devices))
	busy := maps.Clone(n.Requested.Extended)
	for i, d := range slices.Backward(n.Devices) {
		free[i] = d.Health != facts.HealthUnhealthy
		if d.Kind != facts.KindCPU && free[i] && busy[d.Resource] > 0 {
			free[i] = false
			busy[d.Resource]--
		}
	}
	return free
}

func deviceOf(n *inventory.Node, d *facts.Device) Device {
	out := Device{
		Name: cmp.Or(d.Model, strings.TrimSpace(d.Vendor+" "+string(d.Kind))), Type: string(d.Kind), TotalCount: 1,
		Vendor: d.Vendor, Model: d.Model, DeviceModel: d.Model, CUDAVersion: d.CUDAVersion, InterBandwidth: gpuInter, IntraBandwidth: gpuIntra,
		Use: Use{DeviceUUID: d.UUID, HardwareMode: hardwareMode(d.Sharing)},
	}
	out.RawName = out.Name
	if d.MemoryBytes != nil {
		out.MemoryGB = gigabytes(*d.MemoryBytes)
		out.MemPerGPU = out.MemoryGB
	}
	switch {
	case d.Kind == facts.KindCPU:
		out.cpu(n, d)
	case d.Sharing == facts.SharingHAMi && n.Requested.Extended[d.Resource] == 0:
		out.idle(n)
	}
	return out
}

// hardwareMode is a way of sharing in the platform's words, to which HAMi's is
// one of slicing time.
func hardwareMode(s facts.Sharing) string {
	switch s {
	case facts.SharingNone:
		return "dedicated"
	case facts.SharingHAMi:
		return string(facts.SharingTimeSlicing)
	default:
		return string(s)
	}
}

// idle is the use of a device of HAMi's on a node where no pod asks for any:
// nothing of it is given away. Where pods do, only HAMi knows which device they
// have and how much of it, and the figures stay unknown.
func (out *Device) idle(n *inventory.Node) {
	out.CoreUtilization, out.MemoryUtilization, out.MemoryAllocatedGB, out.CoresAllocated = new(0.0), new(0.0), new(0.0), new(0.0)
	out.SharedContainers = new(int32(0))
	if !n.UpdatedAt.IsZero() {
		out.LastMetricsUpdate = n.UpdatedAt.UTC().Format(time.RFC3339)
	}
}

func (out *Device) cpu(n *inventory.Node, d *facts.Device) {
	out.Type, out.HardwareMode, out.InterBandwidth, out.IntraBandwidth = typeCPU, "", cpuInter, cpuIntra
	if wideVectors(d.InstructionSets) {
		out.Type = typeCPUHigh
	}
	out.Architecture, out.Cores, out.Threads, out.InstructionSets = n.Architecture, d.Cores, d.Threads, d.InstructionSets
	out.PhysicalCores = physicalCores(n, d)
	cores, memory := round(float64(n.Requested.CPUMillis)/1000), gigabytes(n.Requested.MemoryBytes)
	out.UtilizedCores, out.UtilizedMemoryGB = &cores, &memory
	if d.Cores != nil && *d.Cores > 0 {
		percent := round(min(100*cores/float64(*d.Cores), 100))
		out.CoreUtilization = &percent
	}
}

// physicalCores are those of a machine of which feature discovery says whether
// its cores have two threads each, as those of amd64 have; nil of any other.
func physicalCores(n *inventory.Node, cpu *facts.Device) *int32 {
	if cpu.Threads == nil {
		return nil
	}
	switch multithreaded := n.Labels[facts.LabelMultithreading]; {
	case multithreaded == "false":
		return cpu.Threads
	case multithreaded == "true" && n.Architecture == "amd64":
		return new(*cpu.Threads / 2)
	default:
		return nil
	}
}

// wideVectors: AVX2 or AMX, whoever made the CPU.
func wideVectors(sets []string) bool {
	return slices.ContainsFunc(sets, func(s string) bool {
		s = strings.ToUpper(s)
		return s == "AVX2" || strings.HasPrefix(s, "AMX")
	})
}

func gigabytes(bytes int64) float64 { return round(float64(bytes) / (1 << 30)) }

// round keeps figures short, and equal where nothing of interest differs.
func round(f float64) float64 { return float64(int64(f*100+0.5)) / 100 }
