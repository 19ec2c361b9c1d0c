package host_test

import (
	"io/fs"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/agent/internal/host"
)

// BenchmarkRead reads a node of 128 threads from a disk, and beside it, as the
// baseline, every file of its CPUs' topology and caches, which is what asking
// each thread would cost.
func BenchmarkRead(b *testing.B) {
	dir := b.TempDir()
	require.NoError(b, os.CopyFS(dir, xeon(32).FS()))
	root := os.DirFS(dir)
	facts, problems := host.Read(root)
	require.Empty(b, problems)
	var all []string
	for name, file := range xeon(32).Tree {
		if file.Mode.Type() == 0 && (strings.Contains(name, "/topology/") || strings.Contains(name, "/cache/")) {
			all = append(all, name)
		}
	}
	b.Run("facts", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			host.Read(root)
		}
	})
	b.Run("every-thread", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			for _, name := range all {
				if _, err := fs.ReadFile(root, name); err != nil {
					b.Fatal(err)
				}
			}
		}
	})
	b.Run("state", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			host.ReadState(root, facts)
		}
	})
}
