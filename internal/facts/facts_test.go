package facts_test

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/budecosystem/budcluster/internal/facts"
	agentv1 "github.com/budecosystem/budcluster/proto/agent/v1"
)

func node() facts.Node {
	memory, index := int64(80<<30), int32(0)
	suspect := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	return facts.Node{
		Name: "gpu-1", UID: "6f1", Ready: true, ReadyReason: "KubeletReady", Schedulable: true,
		Taints: []facts.Taint{{Key: "nvidia.com/gpu", Effect: "NoSchedule"}}, Roles: []string{"worker"},
		Addresses: []facts.Address{{Type: "InternalIP", Address: "10.0.0.1"}}, Labels: map[string]string{"zone": "a", "empty": ""},
		Architecture: "amd64", OperatingSystem: "linux", KubeletVersion: "v1.33.1",
		Capacity:    facts.Resources{CPUMillis: 64000, MemoryBytes: 512 << 30, Pods: 110, Extended: map[string]int64{"nvidia.com/gpu": 8}},
		Allocatable: facts.Resources{CPUMillis: 63000, MemoryBytes: 500 << 30, Pods: 110, Extended: map[string]int64{"nvidia.com/gpu": 8}},
		Requested:   facts.Resources{CPUMillis: 3000, MemoryBytes: 4 << 30, Pods: 12, Extended: map[string]int64{"nvidia.com/gpu": 3}},
		Devices: []facts.Device{{
			ID: "nvidia-cuda-0", Vendor: "nvidia", Kind: facts.KindCUDA, Index: &index, MemoryBytes: &memory,
			Health: facts.HealthHealthy, Source: facts.SourceLabel, SuspectSince: &suspect, InstructionSets: []string{"AVX2"},
		}},
		CreatedAt: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
	}
}

func TestNodeRoundTrip(t *testing.T) {
	t.Parallel()
	n := node()
	require.Equal(t, n, facts.NodeFromProto(n.ToProto()))
	require.Equal(t, facts.Node{}, facts.NodeFromProto(nil))
	require.Equal(t, facts.Node{}, facts.NodeFromProto(facts.Node{}.ToProto()))

	c := facts.Cluster{
		UID: "u", Version: "v1.33.1", Platform: facts.PlatformKubernetes, Distribution: "k3s",
		StorageClasses: []facts.StorageClass{{Name: "local-path", Provisioner: "rancher.io/local-path", Default: true, AccessMode: "ReadWriteOnce", Parameters: map[string]string{"archive": "true"}}},
		Claims:         &facts.Claims{Bound: 7, Pending: 1, PendingNames: []string{"a/data"}},
		DNS:            &facts.DNS{Service: "kube-system/kube-dns", Ready: new(int32(2))},
		IngressClasses: []facts.IngressClass{{Name: "traefik", Controller: "traefik.io/ingress-controller"}},
	}
	require.Equal(t, c, facts.ClusterFromProto(c.ToProto()))
	require.Equal(t, facts.Cluster{}, facts.ClusterFromProto(nil))
	for _, c := range []facts.Cluster{{Claims: &facts.Claims{}}, {DNS: &facts.DNS{}}} {
		require.Equal(t, c, facts.ClusterFromProto(c.ToProto()), "nothing there is not unknown")
	}
}

// What an older agent's digest covers is the same as before: the hub works it
// out again from what it stored.
func TestDigestOfAnOlderAgent(t *testing.T) {
	t.Parallel()
	c := facts.Cluster{UID: "u", StorageClasses: []facts.StorageClass{{Name: "a", Provisioner: "p"}}}
	raw, err := json.Marshal(c)
	require.NoError(t, err)
	require.JSONEq(t, `{"uid": "u", "version": "", "platform": "", "distribution": "", "storageClasses": [{"name": "a", "provisioner": "p"}]}`, string(raw))
}

func TestClusterFromProtoIsBounded(t *testing.T) {
	t.Parallel()
	names := make([]string, 1000)
	parameters := map[string]string{}
	for i := range names {
		names[i] = strings.Repeat("é", 1000)
		parameters[fmt.Sprintf("p%04d", i)] = strings.Repeat("é", 1000)
	}
	c := facts.ClusterFromProto(&agentv1.ClusterFacts{
		Claims:         &agentv1.Claims{Bound: -1, Pending: math.MinInt64, Lost: 3, PendingNames: names, LostNames: names},
		Dns:            &agentv1.Dns{Service: names[0], Ready: proto.Int32(-4)},
		StorageClasses: []*agentv1.StorageClass{{Parameters: parameters}},
	})
	require.Equal(t, []int64{0, 0, 3}, []int64{c.Claims.Bound, c.Claims.Pending, c.Claims.Lost})
	require.Len(t, c.Claims.PendingNames, facts.MaxClaimNames)
	require.Len(t, c.Claims.LostNames, facts.MaxClaimNames)
	require.Zero(t, *c.DNS.Ready)
	require.Len(t, c.StorageClasses[0].Parameters, 32)
	for _, text := range []string{c.Claims.LostNames[9], c.DNS.Service, c.StorageClasses[0].Parameters["p0031"]} {
		require.LessOrEqual(t, len(text), 512)
		require.True(t, utf8.ValidString(text))
	}
	require.Equal(t, c, facts.ClusterFromProto(c.ToProto()))
}

func TestStorageParametersLeaveSecretsOut(t *testing.T) {
	t.Parallel()
	require.Equal(t, map[string]string{"server": "nfs.example.com", "share": "/models"}, facts.StorageParameters(map[string]string{
		"server": "nfs.example.com", "share": "/models", "restuserkey": "x", "adminPassword": "x", "authToken": "x", "secretNamespace": "x",
		"csi.storage.k8s.io/provisioner-secret-name": "x", "kmsKeyId": "x", "PASSWD": "x", "encryptionPassphrase": "x", "userCredentials": "x",
	}))
	require.Nil(t, facts.StorageParameters(map[string]string{"token": "x"}))
	require.Nil(t, facts.StorageParameters(nil))
}

func TestDigestIgnoresOrderAndForm(t *testing.T) {
	t.Parallel()
	a, b := node(), node()
	a.Roles, b.Roles = []string{"x", "y"}, []string{"y", "x"}
	a.Pressures, b.Pressures = nil, []string{}
	b.CreatedAt = b.CreatedAt.In(time.FixedZone("east", 7200))
	a.Devices = append(a.Devices, facts.Device{ID: "cpu-0"})
	b.Devices = append([]facts.Device{{ID: "cpu-0"}}, b.Devices...)
	require.Equal(t, a.Digest(), b.Digest())
	require.Empty(t, facts.DiffNodes(a, b))
	require.Equal(t, []string{"x", "y"}, a.Roles, "the digest must not sort the caller's lists")
	require.Equal(t, "nvidia-cuda-0", a.Devices[0].ID)

	data, err := json.Marshal(a)
	require.NoError(t, err)
	var back facts.Node
	require.NoError(t, json.Unmarshal(data, &back))
	require.Equal(t, a.Digest(), back.Digest(), "a digest must survive storage")

	b.Ready = false
	require.NotEqual(t, a.Digest(), b.Digest())
}

func TestAvailable(t *testing.T) {
	t.Parallel()
	n := node()
	got := n.Available()
	require.Equal(t, facts.Resources{
		CPUMillis: 60000, MemoryBytes: 496 << 30, Pods: 98, Extended: map[string]int64{"nvidia.com/gpu": 5},
	}, got)

	over := node()
	over.Requested = facts.Resources{CPUMillis: math.MaxInt64, MemoryBytes: math.MinInt64, Extended: map[string]int64{"nvidia.com/gpu": 9}}
	got = over.Available()
	require.Zero(t, got.CPUMillis)
	require.Equal(t, int64(500<<30), got.MemoryBytes)
	require.Zero(t, got.Extended["nvidia.com/gpu"])

	cordoned := node()
	cordoned.Schedulable = false
	require.Zero(t, cordoned.Available())
	down := node()
	down.Ready = false
	require.Zero(t, down.Available())
}

func TestDiffNodes(t *testing.T) {
	t.Parallel()
	a, b := node(), node()
	b.Ready, b.ReadyReason = false, "NodeStatusUnknown"
	b.Schedulable = false
	b.Labels = map[string]string{"zone": "b"}
	b.Requested.MemoryBytes = 5 << 30
	b.Allocatable.MemoryBytes++ // below what the rounded form shows
	b.Devices = append(b.Devices, facts.Device{ID: "amd-rocm-0", Vendor: "amd", Model: "MI300X", Health: facts.HealthUnknown})
	b.Devices[0].Health = facts.HealthUnhealthy
	require.Equal(t, []facts.Change{
		{Field: "allocatable.memory", From: "536870912000 bytes", To: "536870912001 bytes"},
		{Field: "devices.amd-rocm-0", To: "amd MI300X"},
		{Field: "devices.amd-rocm-0.health", To: "unknown"},
		{Field: "devices.amd-rocm-0.model", To: "MI300X"},
		{Field: "devices.amd-rocm-0.vendor", To: "amd"},
		{Field: "devices.nvidia-cuda-0.health", From: "healthy", To: "unhealthy"},
		{Field: "labels.empty", From: `""`},
		{Field: "labels.zone", From: "a", To: "b"},
		{Field: "ready", From: "true", To: "false"},
		{Field: "readyReason", From: "KubeletReady", To: "NodeStatusUnknown"},
		{Field: "requested.memory", From: "4 GiB", To: "5 GiB"},
		{Field: "schedulable", From: "true", To: "false"},
	}, facts.DiffNodes(a, b))
}

// wire is a seed: a message as it travels.
func wire(tb testing.TB, n facts.Node) []byte {
	tb.Helper()
	data, err := proto.Marshal(n.ToProto())
	require.NoError(tb, err)
	return data
}

// Whatever a peer sends is read without a panic, and what was read travels and
// is stored unchanged.
func FuzzNodeFromProto(f *testing.F) {
	f.Add(wire(f, node()))
	f.Add(wire(f, facts.Node{CreatedAt: time.Date(9999, 1, 1, 0, 0, 0, 1, time.UTC), Labels: map[string]string{"a\x00b": "\x00"}}))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		var p agentv1.NodeFacts
		if proto.Unmarshal(data, &p) != nil {
			t.Skip()
		}
		n := facts.NodeFromProto(&p)
		require.Equal(t, n, facts.NodeFromProto(n.ToProto()))
		stored, err := json.Marshal(n)
		require.NoError(t, err)
		var back facts.Node
		require.NoError(t, json.Unmarshal(stored, &back))
		require.Equal(t, n.Digest(), back.Digest())
		_ = n.Available()
	})
}

func FuzzClusterFromProto(f *testing.F) {
	seed, err := proto.Marshal(facts.Cluster{
		UID: "u", StorageClasses: []facts.StorageClass{{Name: "a", Parameters: map[string]string{"b\x00": "c", "b": strings.Repeat("é", 300)}}},
		Claims: &facts.Claims{Lost: -1, LostNames: []string{"\x00"}}, DNS: &facts.DNS{Service: strings.Repeat("é", 300), Ready: new(int32(-1))},
	}.ToProto())
	require.NoError(f, err)
	f.Add(seed)
	f.Fuzz(func(t *testing.T, data []byte) {
		var p agentv1.ClusterFacts
		if proto.Unmarshal(data, &p) != nil {
			t.Skip()
		}
		c := facts.ClusterFromProto(&p)
		require.Equal(t, c, facts.ClusterFromProto(c.ToProto()))
		require.NotEmpty(t, c.Digest())
	})
}

// The differences are complete: none between equal nodes, some between others,
// and the same ones backwards.
func FuzzDiffNodes(f *testing.F) {
	other := node()
	other.Devices[0].ID = "nvidia-cuda-0.health"
	other.Capacity.Extended = map[string]int64{"cpu": 1, "memory": 0}
	f.Add(wire(f, node()), wire(f, other))
	f.Add(wire(f, facts.Node{}), wire(f, facts.Node{Devices: []facts.Device{{ID: "a"}, {ID: "a", Kind: "x"}}}))
	f.Fuzz(func(t *testing.T, left, right []byte) {
		var p, q agentv1.NodeFacts
		if proto.Unmarshal(left, &p) != nil || proto.Unmarshal(right, &q) != nil {
			t.Skip()
		}
		a, b := facts.NodeFromProto(&p), facts.NodeFromProto(&q)
		require.Empty(t, facts.DiffNodes(a, a))
		there, back := facts.DiffNodes(a, b), facts.DiffNodes(b, a)
		require.Equal(t, a.Digest() == b.Digest(), len(there) == 0, "%v", there)
		require.Len(t, back, len(there))
		for _, c := range there {
			require.NotEqual(t, c.From, c.To)
		}
	})
}

// Whatever a peer says happened is bounded text, and travels unchanged.
func FuzzNodeEventFromProto(f *testing.F) {
	seed, err := proto.Marshal(facts.NodeEvent{
		UID: "u", Node: "n\x00", Message: strings.Repeat("é", 2000), Count: -3, LastAt: time.Date(9999, 12, 31, 23, 0, 0, 1, time.UTC),
	}.ToProto())
	require.NoError(f, err)
	f.Add(seed)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		var p agentv1.NodeEvent
		if proto.Unmarshal(data, &p) != nil {
			t.Skip()
		}
		e := facts.NodeEventFromProto(&p)
		require.Equal(t, e, facts.NodeEventFromProto(e.ToProto()))
		require.Positive(t, e.Count)
		for _, text := range []string{e.UID, e.Node, e.Type, e.Reason, e.Message, e.Component, e.Host} {
			require.LessOrEqual(t, len(text), 1024)
			require.True(t, utf8.ValidString(text))
			require.NotContains(t, text, "\x00")
		}
	})
}
