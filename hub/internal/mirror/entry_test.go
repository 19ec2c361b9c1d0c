package mirror_test

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/internal/cluster"
	"github.com/budecosystem/budcluster/hub/internal/inventory"
	"github.com/budecosystem/budcluster/hub/internal/mirror"
	"github.com/budecosystem/budcluster/internal/facts"
	"github.com/budecosystem/budcluster/internal/testutil"
)

func TestStateOf(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) *time.Time { return new(now.Add(-d)) }
	open := &cluster.Session{LeaseUntil: now.Add(time.Second)}
	for name, one := range map[string]struct {
		c    cluster.Cluster
		want mirror.State
	}{
		"never joined":               {cluster.Cluster{}, mirror.StateRegistering},
		"connected":                  {cluster.Cluster{JoinedAt: &now, Session: open, ReadyNodes: 1}, mirror.StateAvailable},
		"connected, no node is":      {cluster.Cluster{JoinedAt: &now, Session: open}, mirror.StateNotAvailable},
		"away for a moment":          {cluster.Cluster{JoinedAt: &now, LastSeen: ago(80 * time.Second), ReadyNodes: 1}, mirror.StateAvailable},
		"away for a moment, no node": {cluster.Cluster{JoinedAt: &now, LastSeen: ago(80 * time.Second)}, mirror.StateNotAvailable},
		"away":                       {cluster.Cluster{JoinedAt: &now, LastSeen: ago(2 * time.Minute), ReadyNodes: 1}, mirror.StateNotAvailable},
		"away for a day":             {cluster.Cluster{JoinedAt: &now, LastSeen: ago(24 * time.Hour), ReadyNodes: 1}, mirror.StateError},
		"joined, never seen":         {cluster.Cluster{JoinedAt: &now, ReadyNodes: 1}, mirror.StateError},
		"revoked":                    {cluster.Cluster{JoinedAt: &now, RevokedAt: &now, Session: open, ReadyNodes: 1}, mirror.StateError},
		"retired":                    {cluster.Cluster{JoinedAt: &now, RetiredAt: &now}, mirror.StateError},
	} {
		require.Equal(t, one.want, mirror.StateOf(&one.c, now, mirror.DefaultGrace), name)
	}
}

// gpus makes a node of n GPUs, of which pods have asked for some shares.
func gpus(n int, shares, requested int64) inventory.Node {
	node := inventory.Node{Node: facts.Node{
		Name: "gpu", UID: "00000000-0000-4000-8000-000000000007", Ready: true, Schedulable: true,
		Allocatable: facts.Resources{Extended: map[string]int64{"nvidia.com/gpu": int64(n) * shares}},
		Requested:   facts.Resources{Extended: map[string]int64{"nvidia.com/gpu": requested}},
	}}
	for range n {
		node.Devices = append(node.Devices, facts.Device{Kind: facts.KindCUDA, Model: "NVIDIA-L40S", Resource: "nvidia.com/gpu", Health: facts.HealthHealthy, MemoryBytes: new(int64(48 << 30))})
	}
	return node
}

func free(n inventory.Node, state mirror.State) (count int) {
	e := mirror.EntryOf(&cluster.Cluster{}, []inventory.Node{n}, state)
	for _, d := range e.Nodes[0].Devices {
		count += d.AvailableCount
	}
	return count
}

// The planner puts models on what is free, and on nothing else.
func TestFreeDevices(t *testing.T) {
	t.Parallel()
	require.Equal(t, 4, free(gpus(4, 1, 0), mirror.StateAvailable))
	require.Equal(t, 1, free(gpus(4, 1, 3), mirror.StateAvailable))
	require.Equal(t, 0, free(gpus(4, 1, 4), mirror.StateAvailable))
	require.Equal(t, 0, free(gpus(4, 1, 9), mirror.StateAvailable), "pods that wait ask too")
	require.Equal(t, 4, free(gpus(4, 10, 0), mirror.StateAvailable), "shared by nobody")
	require.Equal(t, 2, free(gpus(4, 10, 2), mirror.StateAvailable), "two shares may be of two devices, of which no pod can have the whole then")
	require.Equal(t, 0, free(gpus(4, 10, 25), mirror.StateAvailable))
	require.Equal(t, 0, free(gpus(1, 10, 1), mirror.StateAvailable), "one of ten shares is taken")
	require.Equal(t, 0, free(gpus(4, 1, 0), mirror.StateNotAvailable))

	n := gpus(4, 1, 1)
	n.Devices[3].Health = facts.HealthUnhealthy
	require.Equal(t, 2, free(n, mirror.StateAvailable), "the broken one is not the busy one")
	n = gpus(4, 1, 0)
	n.Schedulable = false
	require.Equal(t, 0, free(n, mirror.StateAvailable), "cordoned")
	n.Schedulable, n.Ready = true, false
	require.Equal(t, 0, free(n, mirror.StateAvailable), "not ready")
	n = gpus(4, 0, 0)
	require.Equal(t, 4, free(n, mirror.StateAvailable), "no plugin says how many there are")
}

// planner is what the platform's planner makes of the key, with its types: a
// missing figure of those that it needs, or one of another type, would make it
// refuse the whole key. What the hub says beside that stands at the end.
type planner []struct {
	ID    string `json:"id"`
	Nodes []struct {
		Name     string `json:"name"`
		ID       string `json:"id"`
		Status   *bool  `json:"status"`
		IsMaster *bool  `json:"is_master"`
		Devices  []struct {
			Name           string   `json:"name"`
			Type           string   `json:"type"`
			AvailableCount *int     `json:"available_count"`
			Memory         *float64 `json:"mem_per_GPU_in_GB"`
			Inter          *float64 `json:"inter_node_bandwidth_in_GB_per_sec"`
			Intra          *float64 `json:"intra_node_bandwidth_in_GB_per_sec"`

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

			TotalCount      *int     `json:"total_count"`
			Vendor          string   `json:"vendor"`
			CUDAVersion     string   `json:"cuda_version"`
			Architecture    string   `json:"architecture"`
			Threads         *int     `json:"threads"`
			InstructionSets []string `json:"instruction_sets"`
		} `json:"devices"`
	} `json:"nodes"`
}

func requirePlannable(t *testing.T, raw []byte) planner {
	t.Helper()
	var p planner
	strict := json.NewDecoder(bytes.NewReader(raw))
	strict.DisallowUnknownFields()
	require.NoError(t, strict.Decode(&p))
	require.NotContains(t, string(raw), "null")
	for _, c := range p {
		require.NoError(t, uuid.Validate(c.ID))
		for _, n := range c.Nodes {
			require.NoError(t, uuid.Validate(n.ID))
			require.NotEmpty(t, n.Name)
			require.NotNil(t, n.Status)
			require.NotNil(t, n.IsMaster)
			for _, d := range n.Devices {
				require.NotEmpty(t, d.Name)
				require.Contains(t, []string{"cpu", "cpu_high", "cuda", "rocm", "hpu"}, d.Type)
				require.NotNil(t, d.AvailableCount)
				require.NotNil(t, d.Memory)
				require.NotNil(t, d.Inter)
				require.NotNil(t, d.Intra)
			}
		}
	}
	return p
}

func TestEntryIsTheContracts(t *testing.T) {
	t.Parallel()
	n := gpus(1, 1, 0)
	n.Roles, n.Requested.CPUMillis, n.Requested.MemoryBytes = []string{"control-plane"}, 2500, 3<<30
	n.Architecture, n.Labels = "amd64", map[string]string{facts.LabelMultithreading: "true"}
	n.Devices = append(n.Devices,
		facts.Device{Kind: facts.KindHPU, Vendor: "intel"},
		facts.Device{Kind: facts.KindCPU, Vendor: "amd", Model: "EPYC", Cores: new(int32(64)), Threads: new(int32(96)), InstructionSets: []string{"AVX2"}, MemoryBytes: new(int64(256 << 30))},
		facts.Device{Kind: facts.KindCPU})
	shared := gpus(2, 10, 0)
	shared.Name, shared.UpdatedAt = "shared", time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	shared.Devices[0].Sharing, shared.Devices[0].UUID = facts.SharingHAMi, "GPU-a"
	shared.Devices[1].Sharing, shared.Devices[1].UUID = facts.SharingHAMi, "GPU-b"
	taken := shared
	taken.Name, taken.Requested = "taken", facts.Resources{Extended: map[string]int64{"nvidia.com/gpu": 1}}
	e := mirror.EntryOf(&cluster.Cluster{ID: uuid.MustParse("00000000-0000-4000-8000-000000000001")}, []inventory.Node{n, shared, taken}, mirror.StateAvailable)
	raw, err := json.MarshalIndent([]mirror.Entry{e}, "", "  ")
	require.NoError(t, err)
	p := requirePlannable(t, raw)
	testutil.Golden(t, "entry", append(raw, '\n'))

	// The planner's two modes: for itself alone, a model gets a device of which
	// nothing is given away; a part of one, where it is known how much is left.
	idle, used := p[0].Nodes[1].Devices, p[0].Nodes[2].Devices
	require.Equal(t, []int{1, 1, 1, 0}, []int{*idle[0].AvailableCount, *idle[1].AvailableCount, *used[0].AvailableCount, *used[1].AvailableCount})
	require.Zero(t, *idle[1].MemoryAllocatedGB)
	require.Nil(t, used[0].MemoryAllocatedGB, "which of the two it is, and how much of it, only HAMi knows")
	require.Equal(t, "time-slicing", *used[0].HardwareMode)
	require.Nil(t, p[0].Nodes[0].Devices[0].MemoryAllocatedGB, "no HAMi")
}

// Threads are halved only where that is what they are.
func TestPhysicalCores(t *testing.T) {
	t.Parallel()
	for name, one := range map[string]struct {
		arch, label string
		want        *int32
	}{
		"two threads a core":        {"amd64", "true", new(int32(32))},
		"switched off":              {"amd64", "false", new(int32(64))},
		"nobody has looked":         {"amd64", "", nil},
		"some threads a core":       {"ppc64le", "true", nil},
		"one thread a core, on ARM": {"arm64", "false", new(int32(64))},
	} {
		n := inventory.Node{Node: facts.Node{Architecture: one.arch, Labels: map[string]string{facts.LabelMultithreading: one.label}, Devices: []facts.Device{{Kind: facts.KindCPU, Threads: new(int32(64))}}}}
		e := mirror.EntryOf(&cluster.Cluster{}, []inventory.Node{n}, mirror.StateAvailable)
		require.Equal(t, one.want, e.Nodes[0].Devices[0].PhysicalCores, name)
	}
}
