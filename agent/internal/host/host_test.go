package host_test

import (
	"encoding/json"
	"io/fs"
	"os"
	"path"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/agent/internal/host"
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
		"xeon": xeon(32), "epyc": epyc(), "grace": grace(), "small": small(), "container": container(), "nothing": {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := read(fstest.MapFS(m))
			require.Empty(t, got.Problems)
			text, err := json.MarshalIndent(got, "", "  ")
			require.NoError(t, err)
			testutil.Golden(t, name, append(text, '\n'))
		})
	}
}

// TestRealFolders: the links of sysfs are followed by the kernel too, and not
// only by a map of files.
func TestRealFolders(t *testing.T) {
	t.Parallel()
	for name, m := range map[string]machine{"xeon": xeon(4), "small": small()} {
		dir := t.TempDir()
		require.NoError(t, os.CopyFS(dir, fstest.MapFS(m)))
		require.Equal(t, read(fstest.MapFS(m)), read(os.DirFS(dir)), name)
	}
}

// TestAbsoluteLinkStaysInTheNode: some distributions link /etc/os-release by a
// path that begins with /. Followed by the kernel it would name the file of the
// agent's own image.
func TestAbsoluteLinkStaysInTheNode(t *testing.T) {
	t.Parallel()
	m := machine{}
	m.file("run/release", "ID=nixos")
	m.link("etc/static/os-release", "/run/release")
	m.link("etc/os-release", "/etc/static/os-release")
	facts, problems := host.Read(fstest.MapFS(m))
	require.Empty(t, problems)
	require.Equal(t, "nixos", facts.OS.ID)

	m.link("etc/os-release", "/etc/os-release") // in a circle
	facts, _ = host.Read(fstest.MapFS(m))
	require.Empty(t, facts.OS)
}

// TestNothingChangesInSilence replaces each file of a machine by garbage of
// several kinds: no kind makes a panic, and what is then told differently is
// explained by a sentence that names the file.
func TestNothingChangesInSilence(t *testing.T) {
	t.Parallel()
	intact := read(fstest.MapFS(xeon(2)))
	require.Empty(t, intact.Problems)
	text := map[string]bool{ // what may be any text
		"proc/sys/kernel/osrelease": true, "usr/lib/os-release": true,
		"version": true, "operstate": true, "fw_ver": true, "link_layer": true, "state": true, "phys_state": true,
	}
	for kind, garbage := range map[string]string{
		"bytes": "\xff\xfe\x00\x80\n", "words": "no such thing: {}", "digits": strings.Repeat("9", 5000), "negative": "-7", "long": strings.Repeat("0-", 1<<16),
	} {
		for name, file := range xeon(2) {
			if file.Mode.Type() != 0 {
				continue
			}
			m := xeon(2)
			m[name] = &fstest.MapFile{Data: []byte(garbage)}
			got := read(fstest.MapFS(m))
			if text[name] || text[path.Base(name)] {
				continue
			}
			problems := got.Problems
			got.Problems = nil
			if len(problems) == 0 {
				require.Equal(t, intact, got, "%s of %s is told nothing of", kind, name)
				continue
			}
			require.Contains(t, strings.Join(problems, "\n"), path.Base(name), "%s of %s", kind, name)
		}
	}
}

// TestEveryFileMayBeMissing: what is left is told, and without a complaint.
func TestEveryFileMayBeMissing(t *testing.T) {
	t.Parallel()
	for name := range xeon(2) {
		m := xeon(2)
		delete(m, name)
		require.Empty(t, read(fstest.MapFS(m)).Problems, name)
	}
}

func TestSentences(t *testing.T) {
	t.Parallel()
	m := xeon(2)
	m.file("proc/cpuinfo", "processor: 0\nmodel: twelve\nstepping: -1\ncpu family: 99999999")
	m.file("proc/meminfo", "MemTotal: 12 MB\nMemAvailable: 1 kB\nSwapTotal: 9999999999999999999 kB\nSwapFree: -1 kB")
	m.file("sys/devices/system/cpu/cpu0/topology/core_cpus_list", "1-3")
	m.file("sys/devices/system/cpu/cpu0/topology/package_cpus_list", "3-0")
	m.file("sys/devices/system/cpu/cpu1/cache/index2/size", "much")
	m.file("sys/devices/system/cpu/cpu1/cache/index0/type", "Trace")
	m.file("sys/devices/system/cpu/cpu0/cpufreq/base_frequency", "fast")
	m.file("sys/devices/system/node/node0/cpulist", "all")
	m.files("sys/kernel/mm/hugepages/hugepages-bigkB", map[string]string{"nr_hugepages": "1"})
	m.files("sys/class/infiniband/mlx5_9/ports/999", map[string]string{"link_layer": "InfiniBand"})
	m.file("sys/devices/pci0000:9a/0000:97:01.0/0000:9a:00.0/infiniband/mlx5_0/ports/1/rate", "fast")
	m.file("sys/devices/pci0000:17/0000:15:01.0/0000:17:00.0/max_link_speed", "32")
	m.file("sys/devices/pci0000:17/0000:15:01.0/0000:17:00.0/numa_node", "x")
	testutil.Golden(t, "sentences", []byte(strings.Join(read(fstest.MapFS(m)).Problems, "\n")+"\n"))
}
