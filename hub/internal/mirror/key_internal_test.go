package mirror

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/internal/cluster"
	"github.com/budecosystem/budcluster/hub/internal/inventory"
	"github.com/budecosystem/budcluster/internal/facts"
)

// FuzzKey: whatever stands in the shared key, changing one entry leaves a list
// with that entry once, and all others as they were; removing it again leaves
// those.
func FuzzKey(f *testing.F) {
	const ours = "00000000-0000-4000-8000-000000000001"
	for _, seed := range []string{
		``, `null`, `[]`, `{}`, `"x"`, `[1, null, {}]`, `[{"id": 4}]`, `[{"id": "a", "nodes": [{"x": 1e3}]}]`,
		`[{"id": "` + ours + `"}, {"id": "b"}, {"id": "` + ours + `", "nodes": []}]`, `[{"ID": "` + ours + `"}]`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		follower := &Follower{log: slog.New(slog.DiscardHandler)}
		others := func(raw json.RawMessage) (rest []any, mine int) {
			var all []any
			if json.Unmarshal(raw, &all) != nil {
				return nil, 0
			}
			l := follower.open(t.Context(), raw)
			for i, one := range all {
				if l.ids[i] == ours {
					mine++
				} else {
					rest = append(rest, one)
				}
			}
			return rest, mine
		}
		before, _ := others(json.RawMessage(text))

		l := follower.open(t.Context(), json.RawMessage(text))
		l.put(ours, json.RawMessage(`{"id":"`+ours+`","nodes":[]}`))
		with, err := l.close(json.RawMessage(text))
		require.NoError(t, err)
		rest, mine := others(with)
		require.Equal(t, 1, mine)
		require.Equal(t, before, rest)

		l = follower.open(t.Context(), with)
		l.put(ours, nil)
		without, err := l.close(with)
		require.NoError(t, err)
		rest, mine = others(without)
		require.Zero(t, mine)
		require.Equal(t, before, rest)

		l = follower.open(t.Context(), without)
		same, err := l.close(without)
		require.NoError(t, err)
		require.Equal(t, string(without), string(same), "what says the same is not written")
	})
}

// A hundred clusters of ten nodes of eight GPUs are in the key: the sidecar
// takes 4 MiB.
func TestFleetFitsTheKey(t *testing.T) {
	t.Parallel()
	n := inventory.Node{Node: facts.Node{UID: "00000000-0000-4000-8000-000000000001", Ready: true, Schedulable: true}}
	for i := range 8 {
		n.Devices = append(n.Devices, facts.Device{
			ID: fmt.Sprint(i), Vendor: "nvidia", Kind: facts.KindCUDA, Model: "NVIDIA-H100-80GB-HBM3", UUID: "GPU-5d2c1e0a-7f3b-4c8e-9a61-0b7d2f4e6c8a", Resource: "nvidia.com/gpu",
			MemoryBytes: new(int64(80 << 30)), CUDAVersion: "12.8", ComputeCapability: "9.0",
		})
	}
	n.Devices = append(n.Devices, facts.Device{Kind: facts.KindCPU, Model: "Intel(R) Xeon(R) Platinum 8480C", Cores: new(int32(224)), MemoryBytes: new(int64(2 << 40)), InstructionSets: make([]string, 100)})
	var nodes []inventory.Node
	for i := range 10 {
		n.Name = fmt.Sprintf("gpu-node-%d.dc1.example.com", i)
		nodes = append(nodes, n)
	}
	raw, err := json.Marshal(lean(EntryOf(&cluster.Cluster{}, nodes, StateAvailable)))
	require.NoError(t, err)
	t.Logf("a cluster of ten nodes takes %d bytes", len(raw))
	require.Less(t, 100*(len(raw)+1), 4<<20)
}
