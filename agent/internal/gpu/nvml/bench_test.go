//go:build cgo && linux

package nvml_test

import (
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// BenchmarkSample reads all of a machine with 8 GPUs, one of them cut by MIG, from
// the stand-in, which looks before each answer whether its file has changed. The
// baseline is what each reading by nvidia-smi costs before it asks for anything: a
// process. cpu-ms/op is the CPU of all threads: at one sample in 10 s, 1 ms is
// 0.01 % of a core.
func BenchmarkSample(b *testing.B) {
	b.Run("baseline", func(b *testing.B) {
		for b.Loop() {
			if err := exec.CommandContext(b.Context(), "/bin/true").Run(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("stand-in", func(b *testing.B) {
		source := open(b, machine(b))
		inv, err := source.Enumerate(b.Context())
		require.NoError(b, err)
		b.ReportAllocs()
		before := cpu(b)
		for b.Loop() {
			for _, d := range inv.Devices {
				if _, err := source.Sample(b.Context(), d.ID); err != nil {
					b.Fatal(err)
				}
			}
		}
		b.ReportMetric(float64(cpu(b)-before)/float64(time.Millisecond)/float64(b.N), "cpu-ms/op")
	})
}

// cpu is what this process has used.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var usage syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
