package accel

import (
	"io/fs"

	"github.com/budecosystem/budcluster/agent/internal/sysfs"
)

// Devices are what stays the same while a driver is loaded.
type Devices struct {
	AMD   []AMD   `json:"amd,omitempty"`
	Gaudi []Gaudi `json:"gaudi,omitempty"`
}

// State is what changes, in the order of Devices.
type State struct {
	AMD   []AMDState   `json:"amd,omitempty"`
	Gaudi []GaudiState `json:"gaudi,omitempty"`
}

// reader reads one node.
type reader struct{ *sysfs.Reader }

// Read finds a node's devices below root, the node's / as it is mounted. The
// sentences tell of what was there and could not be read.
func Read(root fs.FS) (Devices, []string) {
	r := &reader{sysfs.New(root)}
	return Devices{AMD: r.amd(), Gaudi: r.gaudi()}, r.Problems()
}

// ReadState reads how those devices are doing.
func ReadState(root fs.FS, devices Devices) (State, []string) {
	r := &reader{sysfs.New(root)}
	var state State
	for _, gpu := range devices.AMD {
		state.AMD = append(state.AMD, r.amdState(gpu))
	}
	for _, gaudi := range devices.Gaudi {
		state.Gaudi = append(state.Gaudi, r.gaudiState(gaudi))
	}
	return state, r.Problems()
}
