package accel_test

import (
	"encoding/json"
	"io/fs"
	"os"
	"path"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/agent/internal/accel"
	"github.com/budecosystem/budcluster/agent/internal/sysfs/sysfstest"
	"github.com/budecosystem/budcluster/internal/testutil"
)

// everything is what the package says of a node.
type everything struct {
	Devices accel.Devices `json:"devices"`
	State   accel.State   `json:"state"`
}

func read(root fs.FS) (everything, []string) {
	devices, problems := accel.Read(root)
	state, more := accel.ReadState(root, devices)
	return everything{devices, state}, append(problems, more...)
}

func machines() map[string]func() machine {
	return map[string]func() machine{"instinct": instinct, "workstation": workstation, "gaudi2": gaudi2, "gaudi1": gaudi1, "nothing": newMachine}
}

func TestMachines(t *testing.T) {
	t.Parallel()
	for name, m := range machines() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, problems := read(m().FS())
			require.Empty(t, problems)
			text, err := json.MarshalIndent(got, "", "  ")
			require.NoError(t, err)
			testutil.Golden(t, name, append(text, '\n'))

			dir := t.TempDir()
			require.NoError(t, os.CopyFS(dir, m().FS()))
			onDisk, problems := read(os.DirFS(dir))
			require.Empty(t, problems)
			require.Equal(t, got, onDisk, "the kernel follows the links of sysfs, and not only a map of files does")
		})
	}
}

func TestNothingChangesInSilence(t *testing.T) {
	t.Parallel()
	text := map[string]bool{ // what may be any text
		"product_name": true, "serial_number": true, "vbios_version": true, "version": true, "current_compute_partition": true, "current_memory_partition": true,
		"runtime_status": true, "device_type": true, "driver_ver": true, "fw_os_ver": true, "cpucp_ver": true, "armcp_ver": true, "preboot_btl_ver": true, "uboot_ver": true, "status": true,
	}
	for name, m := range machines() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sysfstest.NothingChangesInSilence(t, func() sysfstest.Tree { return m().Tree },
				func(name string) bool { return text[path.Base(name)] || strings.HasSuffix(name, "_label") },
				func(root fs.FS) (any, []string) { return read(root) })
		})
	}
}

// TestThisNode: on a machine without such devices nothing is found, and nothing
// is wrong.
func TestThisNode(t *testing.T) {
	t.Parallel()
	got, problems := read(os.DirFS("/"))
	require.Empty(t, problems)
	cards, err := os.ReadDir("/sys/class/drm")
	if err != nil {
		require.Empty(t, got.Devices.AMD)
	}
	require.LessOrEqual(t, len(got.Devices.AMD), len(cards))
	require.Len(t, got.State.AMD, len(got.Devices.AMD))
	require.Len(t, got.State.Gaudi, len(got.Devices.Gaudi))
}

// BenchmarkState is a sample of two MI300X from a disk.
func BenchmarkState(b *testing.B) {
	dir := b.TempDir()
	require.NoError(b, os.CopyFS(dir, instinct().FS()))
	root := os.DirFS(dir)
	devices, problems := accel.Read(root)
	require.Empty(b, problems)
	b.Run("devices", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			accel.Read(root)
		}
	})
	b.Run("state", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			accel.ReadState(root, devices)
		}
	})
}
