package mirror

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/google/uuid"
)

// described is the result of a registration in the platform's form.
type described struct {
	ID    uuid.UUID `json:"id"`
	Name  string    `json:"name"`
	Nodes []Node    `json:"nodes"`
}

// statusResult is the result of a change of state.
type statusResult struct {
	ClusterID uuid.UUID `json:"cluster_id"`
	Status    State     `json:"status"`
	NodeInfo  Entry     `json:"node_info"`
}

func encode(what string, value any) (json.RawMessage, error) {
	raw, err := json.Marshal(value)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", what, err)
	}
	return raw, nil
}

// lean leaves out what no other service reads. Messages and the shared key are
// bounded, and a fleet has thousands of devices.
func lean(e Entry) Entry {
	return each(e, func(d *Device) {
		d.Vendor, d.Architecture, d.CUDAVersion, d.Threads, d.InstructionSets = "", "", "", nil, nil
	})
}

// still leaves out what changes all day.
func still(e Entry) Entry {
	return each(e, func(d *Device) {
		d.UtilizedCores, d.UtilizedMemoryGB, d.CoreUtilization, d.LastMetricsUpdate = nil, nil, nil, ""
	})
}

func each(e Entry, change func(*Device)) Entry {
	e.Nodes = slices.Clone(e.Nodes)
	for i := range e.Nodes {
		e.Nodes[i].Devices = slices.Clone(e.Nodes[i].Devices)
		for j := range e.Nodes[i].Devices {
			change(&e.Nodes[i].Devices[j])
		}
	}
	return e
}
