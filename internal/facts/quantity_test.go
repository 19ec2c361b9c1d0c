package facts_test

import (
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/internal/facts"
)

func TestParseQuantity(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{
		"0": 0, "1": 1, "64Gi": 64 << 30, "512Ki": 512 << 10, "1.5Gi": 3 << 29, "1k": 1000, "2e3": 2000, "2E3": 2000, "1E": 1e18, "500m": 1, "1n": 1,
		"9999999999999999999999": math.MaxInt64, "16Ei": math.MaxInt64, ".5": 1, "+7": 7, "-0": 0,
	} {
		got, err := facts.ParseQuantity(text, 1)
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
	}
	for _, text := range []string{"", "-1", "1MiB", "1 Gi", "Gi", "1e99", "--1", "+-1", "1..5", "0x10", "é", "1é", strings.Repeat("9", 65)} {
		_, err := facts.ParseQuantity(text, 1)
		require.Error(t, err, text)
	}
	millis, err := facts.ParseQuantity("95500m", 1000)
	require.NoError(t, err)
	require.Equal(t, int64(95500), millis)
}

func FuzzParseQuantity(f *testing.F) {
	for _, seed := range []string{"64Gi", "500m", "1e3", "-1", "1.5E", "9e999999999"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		n, err := facts.ParseQuantity(text, 1000)
		if err == nil {
			require.GreaterOrEqual(t, n, int64(0))
		}
	})
}

func TestResourcesFrom(t *testing.T) {
	t.Parallel()
	r, problems := facts.ResourcesFrom(map[string]string{
		"cpu": "3500m", "memory": "16Gi", "ephemeral-storage": "100G", "pods": "110",
		"nvidia.com/gpu": "0", "hugepages-2Mi": "0", "example.com/odd": "lots",
	})
	require.Equal(t, facts.Resources{
		CPUMillis: 3500, MemoryBytes: 16 << 30, EphemeralBytes: 100e9, Pods: 110, Extended: map[string]int64{"nvidia.com/gpu": 0},
	}, r)
	require.Len(t, problems, 1)
	require.Contains(t, problems[0], "example.com/odd")
}

func TestFormat(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1 << 30: "1 GiB", 85899345920: "80 GiB", 1536: "1.5 KiB", math.MaxInt64: "8 EiB", -2048: "-2 KiB"} {
		require.Equal(t, want, facts.FormatBytes(n))
	}
	for n, want := range map[int64]string{0: "0", 3000: "3", 3500: "3.5", 250: "250m"} {
		require.Equal(t, want, facts.FormatCPU(n))
	}
}

func TestKubernetes(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		version string
		labels  map[string]string
		groups  []string
		want    string
	}{
		{version: "v1.33.1+k3s1", want: "k3s"},
		{version: "v1.33.1+rke2r1", want: "rke2"},
		{version: "v1.33.1-eks-abc", want: "eks"},
		{version: "v1.33.1-gke.100", want: "gke"},
		{version: "v1.33.1", labels: map[string]string{"kubernetes.azure.com/cluster": "mc"}, want: "aks"},
		{version: "v1.33.1", groups: []string{"apps", "config.openshift.io"}, want: "openshift"},
		{version: "v1.33.1", want: "kubernetes"},
		{want: "kubernetes"},
	} {
		require.Equal(t, tc.want, facts.Distribution(tc.version, tc.labels, tc.groups))
	}
	require.Equal(t, facts.PlatformOpenShift, facts.PlatformOf([]string{"config.openshift.io"}))
	require.Equal(t, "ReadWriteMany", facts.AccessMode("rook-ceph.cephfs.csi.ceph.com"))
	require.Equal(t, "ReadWriteOnce", facts.AccessMode("rancher.io/local-path"))
	require.Empty(t, facts.AccessMode("example.com/unheard-of"))
	require.Equal(t, []string{"control-plane", "master"}, facts.NodeRoles(map[string]string{
		"node-role.kubernetes.io/control-plane": "", "node-role.kubernetes.io/master": "true", "kubernetes.io/role": "master", "node-role.kubernetes.io/": "",
	}))
	require.Equal(t, map[string]string{"zone": "a", "nvidia.com/gpu.product": "x"}, facts.NodeLabels(map[string]string{
		"zone": "a", "nvidia.com/gpu.product": "x", "nvidia.com/gfd.timestamp": "1", nfd + "cpu-cpuid.AVX": "true", "nfd.node.kubernetes.io/feature-labels": "…",
	}))
}

func BenchmarkDigest(b *testing.B) {
	n := node()
	for b.Loop() {
		_ = n.Digest()
	}
}
