package host_test

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/agent/internal/host"
	"github.com/budecosystem/budcluster/agent/internal/sysfs/sysfstest"
	"github.com/budecosystem/budcluster/internal/testutil"
)

// everything is what the package says of a node.
type everything struct {
	Facts    host.Facts `json:"facts"`
	State    host.State `json:"state"`
	Problems []string   `json:"problems,omitempty"`
}

func read(root fs.FS) everything {
	facts, problems := host.Read(root)
	state, more := host.ReadState(root, facts)
	return everything{facts, state, append(problems, more...)}
}

func TestMachines(t *testing.T) {
	t.Parallel()
	for name, m := range map[string]machine{
		"xeon": xeon(32), "epyc": epyc(), "grace": grace(), "small": small(), "container": container(), "nothing": newMachine(),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := read(m.FS())
			require.Empty(t, got.Problems)
			text, err := json.MarshalIndent(got, "", "  ")
			require.NoError(t, err)
			testutil.Golden(t, name, append(text, '\n'))
		})
	}
}

// TestRealFolders: the links of sysfs are followed by the kernel too, and not
// only by a map of files, and none of them leads out of the root.
func TestRealFolders(t *testing.T) {
	t.Parallel()
	for name, m := range map[string]machine{"xeon": xeon(4), "small": small()} {
		dir := t.TempDir()
		require.NoError(t, os.CopyFS(dir, m.FS()))
		require.Equal(t, read(m.FS()), read(os.DirFS(dir)), name)
		confined, err := os.OpenRoot(dir)
		require.NoError(t, err)
		require.Equal(t, read(m.FS()), read(confined.FS()), name)
		require.NoError(t, confined.Close())
	}
}

// TestAbsoluteLinkStaysInTheNode: some distributions link /etc/os-release by a
// path that begins with /. Followed by the kernel it would name the file of the
// agent's own image.
func TestAbsoluteLinkStaysInTheNode(t *testing.T) {
	t.Parallel()
	m := newMachine()
	m.File("run/release", "ID=nixos")
	m.Link("etc/static/os-release", "/run/release")
	m.Link("etc/os-release", "/etc/static/os-release")
	facts, problems := host.Read(m.FS())
	require.Empty(t, problems)
	require.Equal(t, "nixos", facts.OS.ID)

	m.Link("etc/os-release", "/etc/os-release") // in a circle
	facts, _ = host.Read(m.FS())
	require.Empty(t, facts.OS)
}

func TestNothingChangesInSilence(t *testing.T) {
	t.Parallel()
	text := map[string]bool{ // what may be any text
		"proc/sys/kernel/osrelease": true, "usr/lib/os-release": true,
		"version": true, "operstate": true, "fw_ver": true, "link_layer": true, "state": true, "phys_state": true,
	}
	sysfstest.NothingChangesInSilence(t, func() sysfstest.Tree { return xeon(2).Tree },
		func(name string) bool { return text[name] || text[path.Base(name)] },
		func(root fs.FS) (any, []string) {
			got := read(root)
			problems := got.Problems
			got.Problems = nil
			return got, problems
		})
}

func TestListsAreBounded(t *testing.T) {
	t.Parallel()
	m := newMachine()
	for i := range 1030 {
		m.Link(fmt.Sprintf("sys/class/net/eth%d/device", i), "../../../devices/x")
		m.File(fmt.Sprintf("sys/bus/pci/devices/0000:%02x:%02x.%d/class", i>>8, i>>3&0x1f, i&7), "0x120000")
	}
	m.File("sys/devices/system/node/node9999/cpulist", "0")
	got := read(m.FS())
	require.Len(t, got.Facts.NICs, 1024)
	require.Len(t, got.Facts.Accelerators, 1024)
	require.Empty(t, got.Facts.NUMA)
	require.Equal(t, []string{
		"/sys/devices/system/node/node9999 has a number above 4096, so it is ignored",
		"the node has more than 1024 accelerators on PCI; the others are left out",
		"the node has more than 1024 network interfaces; the others are left out",
	}, got.Problems)
}

func TestSentences(t *testing.T) {
	t.Parallel()
	m := xeon(2)
	m.File("proc/cpuinfo", "processor: 0\nmodel: twelve\nstepping: -1\ncpu family: 99999999")
	m.File("proc/meminfo", "MemTotal: 12 MB\nMemAvailable: 1 kB\nSwapTotal: 9999999999999999999 kB\nSwapFree: -1 kB")
	m.File("sys/devices/system/cpu/cpu0/topology/core_cpus_list", "1-3")
	m.File("sys/devices/system/cpu/cpu0/topology/package_cpus_list", "3-0")
	m.File("sys/devices/system/cpu/cpu1/cache/index2/size", "much")
	m.File("sys/devices/system/cpu/cpu1/cache/index0/type", "Trace")
	m.File("sys/devices/system/cpu/cpu0/cpufreq/base_frequency", "fast")
	m.File("sys/devices/system/node/node0/cpulist", "all")
	m.Files("sys/kernel/mm/hugepages/hugepages-bigkB", map[string]string{"nr_hugepages": "1"})
	m.Files("sys/class/infiniband/mlx5_9/ports/999", map[string]string{"link_layer": "InfiniBand"})
	m.File("sys/devices/pci0000:9a/0000:97:01.0/0000:9a:00.0/infiniband/mlx5_0/ports/1/rate", "fast")
	m.File("sys/devices/pci0000:17/0000:15:01.0/0000:17:00.0/max_link_speed", "32")
	m.File("sys/devices/pci0000:17/0000:15:01.0/0000:17:00.0/numa_node", "x")
	testutil.Golden(t, "sentences", []byte(strings.Join(read(m.FS()).Problems, "\n")+"\n"))
}
