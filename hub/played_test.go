package hub_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/hubapi"
	"github.com/budecosystem/budcluster/hub/hubtest"
	"github.com/budecosystem/budcluster/internal/facts"
	agentv1 "github.com/budecosystem/budcluster/proto/agent/v1"
)

// played is a cluster with two GPUs whose agent says that the components
// for them are there already, and does at once what it is told.
type played struct {
	uid string
	// secrets are the secret values of releases that it was given.
	secrets chan string
}

// play begins to answer for a connection, until the test ends.
func play(t *testing.T, uid string, c *hubtest.Connection) *played {
	t.Helper()
	p := &played{uid: uid, secrets: make(chan string, 100)}
	live(c)
	s, err := c.Sync(t.Context())
	require.NoError(t, err)
	go p.obey(s)
	inv, err := c.Inventory(t.Context())
	require.NoError(t, err)
	cluster, node := p.facts()
	need, err := inv.Summary(&agentv1.Summary{ClusterDigest: cluster.Digest(), Nodes: map[string]string{node.Name: node.Digest()}})
	require.NoError(t, err)
	require.True(t, need.GetCluster())
	_, err = inv.Delta(&agentv1.Delta{Sequence: 1, Cluster: cluster.ToProto(), Nodes: []*agentv1.NodeFacts{node.ToProto()}})
	require.NoError(t, err)
	return p
}

// obey ends with the connection, which is why it looks at no error of sending.
func (p *played) obey(s *hubtest.Sync) {
	send := func(m *agentv1.SyncRequest) { _ = s.Stream.Send(m) }
	for {
		m, err := s.Stream.Recv()
		if err != nil {
			return
		}
		switch x := m.GetMessage().(type) {
		case *agentv1.SyncResponse_Probes:
			send(&agentv1.SyncRequest{Message: &agentv1.SyncRequest_Presence{Presence: facts.PresenceToProto(found(facts.ProbesFromProto(x.Probes)))}})
		case *agentv1.SyncResponse_Upsert:
			phase := agentv1.PhaseReady
			if x.Upsert.GetRemoved() {
				phase = agentv1.PhaseRemoved
			}
			if values := x.Upsert.GetSpec().GetSecretValues(); len(values) > 0 {
				p.secrets <- string(values)
			}
			_ = s.Report(&agentv1.ReleaseStatus{Id: x.Upsert.GetId(), ObservedGeneration: x.Upsert.GetGeneration(), Phase: string(phase), Owned: true})
		case *agentv1.SyncResponse_Retire:
			if !x.Retire.GetRecorded() {
				send(&agentv1.SyncRequest{Message: &agentv1.SyncRequest_Retired{Retired: &agentv1.Retired{Generation: x.Retire.GetGeneration()}}})
			}
		}
	}
}

// found answers the probes of components with something that is ready, but for
// those of other vendors.
func found(probes []facts.Probe) (answers []facts.Presence) {
	for _, p := range probes {
		if strings.HasPrefix(p.Name, "amd-gpu/") || strings.HasPrefix(p.Name, "intel-gaudi/") || strings.HasPrefix(p.Name, "aibrix/") {
			answers = append(answers, facts.Presence{Probe: p.Name, State: facts.PresenceAbsent})
			continue
		}
		answers = append(answers, facts.Presence{Probe: p.Name, State: facts.PresenceFound, Kind: p.Kind, Object: "theirs", Ready: new(true), Version: "1.0.0"})
	}
	return answers
}

func (p *played) facts() (facts.Cluster, facts.Node) {
	cluster := facts.Cluster{
		UID: p.uid, Version: "v1.33.1", Platform: facts.PlatformKubernetes, Distribution: "k3s",
		StorageClasses: []facts.StorageClass{
			{Name: "local-path", Provisioner: "rancher.io/local-path", Default: true, AccessMode: "ReadWriteOnce", ReclaimPolicy: "Delete", BindingMode: "WaitForFirstConsumer"},
			{Name: "nfs", Provisioner: "nfs.csi.k8s.io", AccessMode: "ReadWriteMany", ReclaimPolicy: "Retain", BindingMode: "Immediate"},
		},
		Claims: &facts.Claims{Bound: 4}, DNS: &facts.DNS{Service: "kube-system/kube-dns", Ready: new(int32(2))},
	}
	has := facts.Resources{CPUMillis: 64_000, MemoryBytes: 512 << 30, Pods: 110, Extended: map[string]int64{"nvidia.com/gpu": 2}}
	node := facts.Node{
		Name: "gpu-1", UID: uuid.NewString(), Ready: true, Schedulable: true, Roles: []string{"worker"}, Architecture: "amd64", OperatingSystem: "linux",
		Addresses: []facts.Address{{Type: "InternalIP", Address: "10.0.0.11"}}, Kernel: "6.8.0", ContainerRuntime: "containerd://2.0.0",
		Labels:   map[string]string{"nvidia.com/gpu.present": "true", "feature.node.kubernetes.io/pci-10de.present": "true", facts.LabelMultithreading: "true"},
		Capacity: has, Allocatable: has, Requested: facts.Resources{CPUMillis: 2000, MemoryBytes: 4 << 30},
		Devices: []facts.Device{
			a100(0), a100(1),
			{
				ID: "cpu-0", Vendor: "intel", Kind: facts.KindCPU, Model: "Sapphire Rapids", Cores: new(int32(32)), Threads: new(int32(64)), MemoryBytes: new(int64(512 << 30)),
				Health: facts.HealthHealthy, InstructionSets: []string{"AMX_TILE", "AVX2"}, Resource: "cpu", Source: facts.SourceNode,
			},
		},
	}
	return cluster, node
}

func a100(index int32) facts.Device {
	return facts.Device{
		ID: "nvidia-cuda-" + string('0'+index), Vendor: "nvidia", Kind: facts.KindCUDA, Model: "NVIDIA-A100-SXM4-80GB", Index: new(index), MemoryBytes: new(int64(80 << 30)),
		Health: facts.HealthHealthy, CUDAVersion: "12.4", Resource: "nvidia.com/gpu", UUID: "GPU-" + string('a'+index), Sharing: facts.SharingHAMi, Source: facts.SourceHAMi,
	}
}

// ended waits for the good end of a workflow.
func ended(t *testing.T, h *hubtest.Hub, id string) hubapi.Workflow {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	w, err := h.Client.WaitWorkflow(ctx, id, nil)
	if err != nil {
		w, _ = h.Client.Workflow(t.Context(), id)
	}
	require.NoError(t, err, "%s stands at %+v", w.Kind, w.Steps)
	return w
}
