package hub_test

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/hubtest"
)

// BenchmarkConnect is what an agent's coming costs: TCP, TLS with both
// certificates, admission, Hello, the session's row, Welcome. It also reports
// what fifty agents that are there and say nothing hold in memory, both ends
// together.
func BenchmarkConnect(b *testing.B) {
	const present = 50
	h := hubtest.New(b)
	agents := make([]*hubtest.Agent, present)
	for i := range agents {
		agents[i] = h.Joined(fmt.Sprintf("c%d", i))
	}
	before := inUse()
	for _, a := range agents {
		live(a.MustConnect())
	}
	held := (inUse() - before) / present / 1024
	one := h.Joined("one")
	for b.Loop() {
		c, err := one.Connect(b.Context())
		require.NoError(b, err)
		c.Close()
	}
	b.ReportMetric(held, "KiB/agent+hub") // after Loop, which clears what was reported
}

func inUse() float64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc + m.StackInuse)
}
