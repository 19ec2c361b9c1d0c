package hub_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/internal/dapr/daprtest"
)

// names are what stands for <x>.
type names map[string]string

// calls makes calls and keeps what became of each.
type calls struct {
	p     *platform
	names names
	table []call
	said  map[string]string // by number
}

func (p *platform) calls(n names) *calls {
	return &calls{p: p, names: n, table: append(contractCalls(), modelCalls()...), said: map[string]string{}}
}

// make makes a call and requires that its caller takes it for what it is: a
// success is 200 and no "error", all else has the contract's envelope.
func (c *calls) make(t *testing.T, number, file string) []byte {
	t.Helper()
	var one call
	for _, one = range c.table {
		if one.number == number {
			break
		}
	}
	require.Equal(t, number, one.number, "there is no such call")
	for name, value := range c.names {
		one.path, one.payload = strings.ReplaceAll(one.path, "<"+name+">", value), strings.ReplaceAll(one.payload, "<"+name+">", value)
	}
	if file != "" {
		one.file = file
	}
	status, raw := c.p.send(one)
	var a answer
	require.NoError(t, json.Unmarshal(raw, &a), "%s", raw)
	if one.status == 0 {
		require.Equal(t, http.StatusOK, status, "call %s: %s", number, raw)
		require.NotEqual(t, "error", a["object"], "call %s: %s", number, raw)
		c.said[number] = "200"
	} else {
		require.Equal(t, one.status, status, "call %s: %s", number, raw)
		require.Equal(t, "error", a.at(t, "object"))
		require.InDelta(t, status, a.at(t, "code"), 0)
		a.has(t, nil, "type", "param")
		require.NotContains(t, string(raw), "canary-71c2")
		c.said[number] = strings.NewReplacer(c.names["cluster"], "<cluster>", c.names["unknown"], "<unknown>").Replace(fmt.Sprintf("%d %s", status, a.at(t, "message")))
	}
	if one.read != nil {
		one.read(t, a)
	}
	return raw
}

func (c *calls) each(t *testing.T, numbers ...string) {
	t.Helper()
	for _, n := range numbers {
		c.make(t, n, "")
	}
}

// rest makes the calls that were not made yet.
func (c *calls) rest(t *testing.T) {
	t.Helper()
	for _, one := range c.table {
		if c.said[one.number] == "" {
			c.make(t, one.number, "")
		}
	}
}

// began makes a call that begins a workflow.
func (c *calls) began(t *testing.T, number, file string) (b began) {
	t.Helper()
	require.NoError(t, json.Unmarshal(c.make(t, number, file), &b))
	require.NoError(t, uuid.Validate(b.WorkflowID))
	require.Positive(t, *b.ETA)
	for _, s := range b.Steps {
		require.NotEmpty(t, s.Title)
		require.Nil(t, s.Payload, "the main service adds its own")
	}
	return b
}

// report is the contract as a table.
func (c *calls) report() []byte {
	var out strings.Builder
	for _, one := range c.table {
		fmt.Fprintf(&out, "%-13s %-11s %s\n%14s%s %s\n%14sreads %s\n%14s=> %s\n", one.number, one.caller, one.by, "", one.method, one.path, "", one.reads, "", c.said[one.number])
	}
	return []byte(out.String())
}

// clusterInfo is an entry of the shared key as the planner's model has it: what
// is not here it ignores, a null or another type it refuses.
type clusterInfo struct {
	ID    string `json:"id"`
	Nodes []struct {
		Name    string          `json:"name"`
		ID      string          `json:"id"`
		Status  bool            `json:"status"`
		Master  bool            `json:"is_master"`
		Devices []plannerDevice `json:"devices"`
	} `json:"nodes"`
}

// plannerDevice is a device as the planner's model has it. Those that are no
// pointers it needs.
type plannerDevice struct {
	Name              string   `json:"name"`
	Type              string   `json:"type"`
	Available         int      `json:"available_count"`
	MemPerGPU         float64  `json:"mem_per_GPU_in_GB"`
	Inter             float64  `json:"inter_node_bandwidth_in_GB_per_sec"`
	Intra             float64  `json:"intra_node_bandwidth_in_GB_per_sec"`
	MemoryGB          *float64 `json:"memory_gb"`
	RawName           *string  `json:"raw_name"`
	DeviceModel       *string  `json:"device_model"`
	Model             *string  `json:"model"`
	Cores             *int     `json:"cores"`
	PhysicalCores     *int     `json:"physical_cores"`
	UtilizedCores     *float64 `json:"utilized_cores"`
	UtilizedMemoryGB  *float64 `json:"utilized_memory_gb"`
	MemoryAllocatedGB *float64 `json:"memory_allocated_gb"`
	CoreUtilization   *float64 `json:"core_utilization_percent"`
	MemoryUtilization *float64 `json:"memory_utilization_percent"`
	CoresAllocated    *float64 `json:"cores_allocated_percent"`
	SharedContainers  *int     `json:"shared_containers_count"`
	HardwareMode      *string  `json:"hardware_mode"`
	DeviceUUID        *string  `json:"device_uuid"`
	LastMetricsUpdate *string  `json:"last_metrics_update"`
	// TotalCount is what the planner ignores.
	TotalCount int `json:"total_count"`
}

// planned reads the shared key by the state store of another service, and gives
// the entries of a cluster.
func (p *platform) planned(id string) (found []clusterInfo) {
	p.t.Helper()
	state, err := p.others.Client(p.t).Get(p.t.Context(), daprtest.StateStore, "cluster_info")
	require.NoError(p.t, err)
	if state.Value == nil {
		return nil
	}
	var all []json.RawMessage
	require.NoError(p.t, json.Unmarshal(state.Value, &all), "it is a list: %s", state.Value)
	for _, raw := range all {
		var one clusterInfo
		require.NoError(p.t, json.Unmarshal(raw, &one), "%s", raw)
		if one.ID == id {
			wellFormed(p.t, raw)
			found = append(found, one)
		}
	}
	return found
}

// wellFormed requires of an entry what the planner's model does, and that it says
// all that the planner has a use for: nothing that it does not know is there, all
// that it needs is, and of each kind of device what is said of that kind. The
// cluster's GPUs are HAMi's, with no pod on them.
func wellFormed(t *testing.T, raw json.RawMessage) {
	t.Helper()
	require.NotContains(t, string(raw), "null", "of what it needs, the planner refuses a null")
	strict := json.NewDecoder(bytes.NewReader(raw))
	strict.DisallowUnknownFields()
	require.NoError(t, strict.Decode(&clusterInfo{}), "%s", raw)
	var a answer
	require.NoError(t, json.Unmarshal(raw, &a))
	for i := range a.at(t, "nodes").([]any) {
		node := []any{"nodes", i}
		a.has(t, node, "name", "id", "status", "is_master")
		require.NoError(t, uuid.Validate(a.at(t, "nodes", i, "id").(string)))
		for j := range a.at(t, "nodes", i, "devices").([]any) {
			device := append(node, "devices", j)
			a.has(t, device, "name", "type", "available_count", "mem_per_GPU_in_GB", "inter_node_bandwidth_in_GB_per_sec", "intra_node_bandwidth_in_GB_per_sec", "memory_gb", "raw_name", "device_model", "model")
			switch kind := a.at(t, append(device, "type")...); kind {
			case "cpu_high":
				a.has(t, device, "cores", "physical_cores", "utilized_cores", "utilized_memory_gb", "core_utilization_percent")
			case "cuda":
				a.has(t, device, "device_uuid", "hardware_mode", "core_utilization_percent", "memory_utilization_percent", "memory_allocated_gb", "cores_allocated_percent", "shared_containers_count", "last_metrics_update")
			default:
				require.Failf(t, "a device of no type that the cluster has", "%v", kind)
			}
		}
	}
}

// free counts the devices of a type that the planner may use.
func free(c clusterInfo, kind string) (n int) {
	for _, node := range c.Nodes {
		for _, d := range node.Devices {
			if node.Status && d.Type == kind {
				n += d.Available
			}
		}
	}
	return n
}
