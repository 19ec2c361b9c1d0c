package host_test

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/agent/internal/host"
)

// TestThisNode reads the machine that the test runs on and compares with what
// the kernel says by other ways.
func TestThisNode(t *testing.T) {
	t.Parallel()
	got := read(os.DirFS("/"))
	require.Empty(t, got.Problems, "a kernel's own files make sense")

	version, err := os.ReadFile("/proc/version")
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(string(version), "Linux version "+got.Facts.Kernel+" "), "%s is not in %s", got.Facts.Kernel, version)

	cpu := got.Facts.CPU
	require.GreaterOrEqual(t, int(*cpu.Threads), runtime.NumCPU(), "a process may be kept from some of them")
	stat, err := os.ReadFile("/proc/stat") // has a line for each CPU that is online
	require.NoError(t, err)
	require.Equal(t, strings.Count(string(stat), "\ncpu"), int(*cpu.Threads))
	require.Contains(t, []string{"amd64", "arm64"}, runtime.GOARCH, "what is read below is told by these")
	require.NotEmpty(t, cpu.Vendor)
	require.NotEmpty(t, cpu.InstructionSets)
	if cpu.Cores != nil {
		require.LessOrEqual(t, *cpu.Cores, *cpu.Threads)
	}
	if cpu.Sockets != nil {
		require.LessOrEqual(t, *cpu.Sockets, *cpu.Cores)
	}
	for _, cache := range cpu.Caches {
		require.Positive(t, cache.Count)
		require.LessOrEqual(t, cache.SharedBy, *cpu.Threads)
	}

	var info syscall.Sysinfo_t
	require.NoError(t, syscall.Sysinfo(&info))
	unit := int64(info.Unit)
	require.InEpsilon(t, int64(info.Totalram)*unit, *got.Facts.Memory.TotalBytes, 0.02, "memory may be plugged in between")
	require.Equal(t, int64(info.Totalswap)*unit, *got.Facts.Memory.SwapBytes)
	require.Positive(t, *got.State.Memory.AvailableBytes)
	require.LessOrEqual(t, *got.State.Memory.AvailableBytes, *got.Facts.Memory.TotalBytes)

	nodes, err := filepath.Glob("/sys/devices/system/node/node[0-9]*")
	require.NoError(t, err)
	require.Len(t, got.Facts.NUMA, len(nodes))
	for _, nic := range got.Facts.NICs {
		require.FileExists(t, "/sys/class/net/"+nic.Name+"/mtu")
	}
}

// TestStateIsCurrent: state follows what facts named, and one that is gone is
// unknown.
func TestStateIsCurrent(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	facts := host.Facts{NICs: []host.NIC{{Name: "eth0"}}}
	state, problems := host.ReadState(os.DirFS(dir), facts)
	require.Empty(t, problems)
	require.Equal(t, host.State{NICs: []host.NICState{{Name: "eth0"}}}, state)

	net := filepath.Join(dir, "sys/class/net/eth0")
	require.NoError(t, os.MkdirAll(net, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(net, "speed"), []byte("25000\n"), 0o600))
	state, problems = host.ReadState(os.DirFS(dir), facts)
	require.Empty(t, problems)
	require.Equal(t, int64(25e9), *state.NICs[0].BitsPerSecond)
}
