package hami_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/agent/internal/hami"
	"github.com/budecosystem/budcluster/internal/testutil"
)

// noon is when all is read, if a test says nothing else.
func noon() time.Time { return time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC) }

// recorded is a text in testdata as HAMi of a version serves it.
func recorded(t testing.TB, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name+".txt"))
	require.NoError(t, err)
	return text
}

// read reads lines as from the scheduler.
func read(lines ...string) hami.View {
	return hami.Read(strings.NewReader(strings.Join(lines, "\n")+"\n"), hami.Origin{At: noon()})
}

// dump writes a view for people to review.
func dump(v hami.View) []byte {
	var out bytes.Buffer
	for i := range v.Devices {
		d := &v.Devices[i]
		fmt.Fprintf(&out, "device %s of %q, elsewhere %t\n", d.UUID, d.Node, d.Elsewhere)
		fact(&out, "index", d.Index)
		fact(&out, "type", d.Type)
		fact(&out, "mode", d.Mode)
		fact(&out, "healthy", d.Healthy)
		fact(&out, "memory limit", d.MemoryLimitBytes)
		fact(&out, "memory allocated", d.MemoryAllocatedBytes)
		fact(&out, "memory used", d.MemoryUsedBytes)
		fact(&out, "cores limit", d.CoreLimitPercent)
		fact(&out, "cores allocated", d.CoreAllocatedPercent)
		fact(&out, "cores used", d.CoreUsedPercent)
		fact(&out, "containers", d.Containers)
	}
	for _, s := range v.Slices {
		fmt.Fprintf(&out, "slice %s/%s container %q at %d, init %t, on %s part %q of %q, vdevice %d\n",
			s.Namespace, s.Pod, s.Container, s.ContainerIndex, s.Init, s.DeviceUUID, s.Part, s.Node, s.VDevice)
		fact(&out, "memory limit", s.MemoryLimitBytes)
		fact(&out, "memory used", s.MemoryUsedBytes)
		fact(&out, "cores allocated", s.CoreAllocatedPercent)
		fact(&out, "cores used", s.CoreUsedPercent)
	}
	fmt.Fprintf(&out, "partial %t\n", v.Partial)
	for _, problem := range v.Problems {
		fmt.Fprintln(&out, "problem:", problem)
	}
	return out.Bytes()
}

func fact[T comparable](out *bytes.Buffer, name string, f hami.Fact[T]) {
	if f.Known() {
		fmt.Fprintf(out, "  %-16s %-14v %s, %s\n", name, f.Value, f.Source, f.At.Format(time.TimeOnly))
	}
}

func TestRead(t *testing.T) {
	t.Parallel()
	for name, node := range map[string]string{"scheduler-2.10": "", "scheduler-older": "", "monitor-2.10": "", "monitor-older": "n1"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := hami.Read(bytes.NewReader(recorded(t, name)), hami.Origin{Node: node, At: noon()})
			testutil.Golden(t, name, dump(v))
		})
	}
}
