package sysfs_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/agent/internal/sysfs"
)

func reader(files map[string]string) *sysfs.Reader {
	root := fstest.MapFS{}
	for name, text := range files {
		root[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return sysfs.New(root)
}

func TestAbsentIsUnknownAndNoProblem(t *testing.T) {
	t.Parallel()
	r := reader(nil)
	require.Nil(t, r.Bytes("sys/x"))
	require.Empty(t, r.Text("sys/x"))
	require.Nil(t, r.Int("sys/x", 0, 9))
	require.Nil(t, r.Int32("sys/x", 0, 9))
	require.Nil(t, r.NUMANode("sys/x"))
	require.Empty(t, r.Hex("sys/x", 4))
	require.Empty(t, r.Link("sys/x"))
	require.Empty(t, r.LinkName("sys/x"))
	require.Empty(t, r.Names("sys"))
	require.Empty(t, r.Numbered("sys", "x"))
	require.False(t, r.Exists("sys/x"))
	require.Empty(t, r.Problems())
}

func TestNonsenseIsDroppedAndToldOf(t *testing.T) {
	t.Parallel()
	r := reader(map[string]string{
		"sys/number": "12x\n", "sys/big": "10\n", "sys/low": "-2\n", "sys/id": "0x10deg\n", "sys/short": "0x1\n", "sys/bare": "10de\n",
		"sys/long": strings.Repeat("9", 99),
	})
	require.Nil(t, r.Int("sys/number", 0, 9))
	require.Nil(t, r.Int("sys/big", 0, 9))
	require.Nil(t, r.Int32("sys/big", 0, 9))
	require.Nil(t, r.Int("sys/long", 0, 9))
	require.Nil(t, r.NUMANode("sys/low"))
	require.Empty(t, r.Hex("sys/id", 4))
	require.Empty(t, r.Hex("sys/short", 4))
	require.Empty(t, r.Hex("sys/bare", 4))
	require.Equal(t, []string{
		`/sys/bare is "10de" and not 0x with 4 hexadecimal digits, so it is ignored`,
		`/sys/big is "10" and not a number from 0 to 9, so it is ignored`,
		`/sys/id is "0x10deg" and not 0x with 4 hexadecimal digits, so it is ignored`,
		`/sys/long is "` + strings.Repeat("9", 64) + `"… and not a number from 0 to 9, so it is ignored`,
		`/sys/low is "-2" and not a number from -1 to 4096, so it is ignored`,
		`/sys/number is "12x" and not a number from 0 to 9, so it is ignored`,
		`/sys/short is "0x1" and not 0x with 4 hexadecimal digits, so it is ignored`,
	}, r.Problems())
}

func TestValues(t *testing.T) {
	t.Parallel()
	r := reader(map[string]string{
		"sys/n": " 7\n", "sys/none": "-1\n", "sys/id": "0x10DE\n", "sys/text": "NVIDIA\tH100\x00\n\n",
		"sys/cpu/cpu10/x": "", "sys/cpu/cpu2/x": "", "sys/cpu/cpu0/x": "", "sys/cpu/cpufreq/x": "", "sys/cpu/cpu": "", "sys/cpu/cpu99999999999": "",
	})
	require.Equal(t, int64(7), *r.Int("sys/n", 0, 9))
	require.Equal(t, int32(7), *r.Int32("sys/n", 0, 9))
	require.Equal(t, int32(7), *r.NUMANode("sys/n"))
	require.Nil(t, r.NUMANode("sys/none"))
	require.Equal(t, "10de", r.Hex("sys/id", 4))
	require.Equal(t, "NVIDIA H100", r.Text("sys/text"))
	require.Equal(t, []string{"cpu0", "cpu2", "cpu10"}, r.Numbered("sys/cpu", "cpu"))
	require.True(t, r.Exists("sys/cpu"))
	require.Empty(t, r.Problems())
}

// refusing answers every read of a file as a driver would.
type refusing struct{ err error }

func (f refusing) Open(string) (fs.File, error)       { return f, nil }
func (f refusing) Stat() (fs.FileInfo, error)         { return nil, f.err }
func (f refusing) Read([]byte) (int, error)           { return 0, f.err }
func (f refusing) Close() error                       { return nil }
func (f refusing) ReadDir(int) ([]fs.DirEntry, error) { return nil, f.err }

func TestWhatADriverRefuses(t *testing.T) {
	t.Parallel()
	for _, err := range []error{syscall.EINVAL, syscall.ENODEV, syscall.EOPNOTSUPP, syscall.ENODATA, syscall.ENXIO} {
		r := sysfs.New(refusing{&fs.PathError{Op: "read", Path: "x", Err: err}})
		require.Nil(t, r.Int("sys/x", 0, 1))
		require.Empty(t, r.Problems(), "%v only means that there is nothing to know", err)
	}
	r := sysfs.New(refusing{&fs.PathError{Op: "read", Path: "x", Err: syscall.EACCES}})
	require.Nil(t, r.Int("sys/x", 0, 1))
	require.Empty(t, r.Names("sys/dir"))
	require.Equal(t, []string{
		"/sys/dir cannot be read, so what it says is unknown: permission denied",
		"/sys/x cannot be read, so what it says is unknown: permission denied",
	}, r.Problems())
}

// endless never ends.
type endless struct{ refusing }

func (f endless) Open(string) (fs.File, error)  { return f, nil }
func (f endless) Read(data []byte) (int, error) { return len(data), nil }

func TestEndlessFileIsGivenUp(t *testing.T) {
	t.Parallel()
	r := sysfs.New(endless{refusing{errors.New("x")}})
	require.Nil(t, r.Bytes("proc/x"))
	require.Len(t, r.Problems(), 1)
	require.Contains(t, r.Problems()[0], "is larger than")
}

func TestProblemsAreBounded(t *testing.T) {
	t.Parallel()
	r := reader(nil)
	for i := range 1000 {
		r.Problem("problem %d", i)
	}
	require.Len(t, r.Problems(), 64)
}

func TestLinksOfARealFolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "sys/bus/drivers/mlx5_core"), 0o755))
	require.NoError(t, os.Symlink("bus/drivers/mlx5_core", filepath.Join(dir, "sys/driver")))
	r := sysfs.New(os.DirFS(dir))
	require.Equal(t, "bus/drivers/mlx5_core", r.Link("sys/driver"))
	require.Equal(t, "mlx5_core", r.LinkName("sys/driver"))
	require.True(t, r.Exists("sys/driver"))
}

func TestPCIAddress(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"0000:17:00.0", "ffff:ff:1f.7", "10000:e1:00.0"} {
		require.True(t, sysfs.PCIAddress(name), name)
	}
	for _, name := range []string{"", "virtio0", "0000:17:00", "0000:17:00.8", "000:17:00.0", "0000:17:00.00", "pci0000:00", "0000:1g:00.0", ":::.", "123456789:00:00.0"} {
		require.False(t, sysfs.PCIAddress(name), name)
	}
}

func FuzzClean(f *testing.F) {
	for _, seed := range []string{"", "x", "a\x00b", "\xff\xfe", strings.Repeat("ä", 300), " \n\t ", "\u202e"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		text := sysfs.Clean(data)
		require.True(t, utf8.ValidString(text))
		require.LessOrEqual(t, len(text), 256)
		require.NotContains(t, text, "\n")
		require.Equal(t, text, sysfs.Clean([]byte(text)), "cleaning again changes nothing")
	})
}

func FuzzHex(f *testing.F) {
	for _, seed := range []string{"", "0x10de\n", "0x", "0x10dE", "10de", "0xzzzz"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		id := reader(map[string]string{"sys/id": text}).Hex("sys/id", 4)
		require.Contains(t, []int{0, 4}, len(id))
		require.Empty(t, strings.Trim(id, "0123456789abcdef"))
	})
}

func FuzzPCIAddress(f *testing.F) {
	f.Add("0000:17:00.0")
	f.Add(":.:")
	f.Fuzz(func(t *testing.T, name string) {
		if sysfs.PCIAddress(name) {
			require.True(t, fs.ValidPath(name), "an address is a name of a folder")
			require.NotContains(t, name, "/")
		}
	})
}
