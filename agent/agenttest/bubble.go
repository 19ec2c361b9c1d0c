package agenttest

import (
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
)

// tunnels is held by whoever runs tunnels in this process.
var tunnels sync.Mutex //nolint:gochecknoglobals // see Alone

// Bubble runs a test that uses a tunnel in fake time.
func Bubble(t *testing.T, f func(*testing.T)) {
	t.Helper()
	Alone(func() { synctest.Test(t, f) })
}

// Alone runs f while no other tunnel runs. yamux keeps its timers in one pool
// of the process, and the runtime ends the program when a timer that was made
// in one bubble is reset in another: so bubbles with tunnels go one by one, and
// between them two collections empty the pool.
func Alone(f func()) {
	tunnels.Lock()
	defer tunnels.Unlock()
	runtime.GC()
	runtime.GC()
	f()
}
