package mirror_test

import (
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
	require.Equal(t, 4, free(gpus(4, 10, 9), mirror.StateAvailable), "none of four that are shared is full")
	require.Equal(t, 2, free(gpus(4, 10, 25), mirror.StateAvailable))
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
// missing figure, or one of another type, would make it refuse the whole key.
type planner []struct {
	ID    string `json:"id"`
	Nodes []struct {
		Name    string `json:"name"`
		ID      string `json:"id"`
		Status  *bool  `json:"status"`
		Devices []struct {
			Name           string   `json:"name"`
			Type           string   `json:"type"`
			AvailableCount *int     `json:"available_count"`
			Memory         *float64 `json:"mem_per_GPU_in_GB"`
			Inter          *float64 `json:"inter_node_bandwidth_in_GB_per_sec"`
			Intra          *float64 `json:"intra_node_bandwidth_in_GB_per_sec"`
		} `json:"devices"`
	} `json:"nodes"`
}

func requirePlannable(t *testing.T, raw []byte) planner {
	t.Helper()
	var p planner
	require.NoError(t, json.Unmarshal(raw, &p))
	require.NotContains(t, string(raw), "null")
	for _, c := range p {
		require.NoError(t, uuid.Validate(c.ID))
		for _, n := range c.Nodes {
			require.NoError(t, uuid.Validate(n.ID))
			require.NotEmpty(t, n.Name)
			require.NotNil(t, n.Status)
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
	n.Devices = append(n.Devices,
		facts.Device{Kind: facts.KindHPU, Vendor: "intel"},
		facts.Device{Kind: facts.KindCPU, Vendor: "amd", Cores: new(int32(64)), InstructionSets: []string{"AVX2"}, MemoryBytes: new(int64(256 << 30))},
		facts.Device{Kind: facts.KindCPU})
	e := mirror.EntryOf(&cluster.Cluster{ID: uuid.MustParse("00000000-0000-4000-8000-000000000001")}, []inventory.Node{n}, mirror.StateAvailable)
	raw, err := json.MarshalIndent([]mirror.Entry{e}, "", "  ")
	require.NoError(t, err)
	requirePlannable(t, raw)
	testutil.Golden(t, "entry", append(raw, '\n'))
}
