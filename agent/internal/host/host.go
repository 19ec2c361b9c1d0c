package host

import (
	"io/fs"

	"github.com/budecosystem/budcluster/agent/internal/sysfs"
)

// Facts are what stays the same while a node runs.
type Facts struct {
	// Kernel is the release of the running kernel, as uname -r gives it.
	Kernel string `json:"kernel,omitempty"`
	OS     OS     `json:"os"`
	CPU    CPU    `json:"cpu"`
	Memory Memory `json:"memory"`
	// NUMA is empty where the kernel knows of no nodes.
	NUMA []NUMANode `json:"numa,omitempty"`
	// NICs are the network interfaces that are hardware, and RDMA the devices
	// that InfiniBand and RoCE are used by.
	NICs []NIC  `json:"nics,omitempty"`
	RDMA []RDMA `json:"rdma,omitempty"`
	// Modules are those loaded that accelerators and their fabrics need.
	Modules []Module `json:"modules,omitempty"`
	// Accelerators are those on PCI, whether or not they have a driver.
	Accelerators []Accelerator `json:"accelerators,omitempty"`
}

// State is what changes by itself, and belongs to Facts by the names in it.
type State struct {
	Memory MemoryState `json:"memory"`
	NICs   []NICState  `json:"nics,omitempty"`
	Ports  []PortState `json:"ports,omitempty"`
	Links  []LinkState `json:"links,omitempty"`
}

// reader reads one node.
type reader struct{ *sysfs.Reader }

// Read reads a node's facts below root, the node's / as it is mounted. The
// sentences tell of what was there and could not be read.
func Read(root fs.FS) (Facts, []string) {
	r := &reader{sysfs.New(root)}
	facts := Facts{
		Kernel: r.Text("proc/sys/kernel/osrelease"),
		OS:     r.os(),
		CPU:    r.cpu(),
		Memory: r.memory(),
		NUMA:   r.numa(),
		NICs:   r.nics(),
		RDMA:   r.rdma(),
	}
	facts.Modules = r.modules()
	facts.Accelerators = r.accelerators()
	return facts, r.Problems()
}

// ReadState reads what has changed of those things that facts names.
func ReadState(root fs.FS, facts Facts) (State, []string) {
	r := &reader{sysfs.New(root)}
	state := State{Memory: r.memoryState()}
	for _, nic := range facts.NICs {
		state.NICs = append(state.NICs, r.nicState(nic.Name))
	}
	for _, device := range facts.RDMA {
		for _, port := range device.Ports {
			state.Ports = append(state.Ports, r.portState(device.Name, port.Number))
		}
	}
	for _, accelerator := range facts.Accelerators {
		if accelerator.MaxLink != (Link{}) {
			state.Links = append(state.Links, r.linkState(accelerator.Address))
		}
	}
	return state, r.Problems()
}
