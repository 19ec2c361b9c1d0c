package hubtest

import (
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
)

var bubbling sync.Mutex //nolint:gochecknoglobals // the pool that it guards is global, too

// Bubble runs f in a synctest bubble with a clock of its own. yamux keeps its
// timers in a pool for the whole process, and a timer of one bubble is fatal in
// another: so bubbles take turns, and the pool is emptied in between, which
// takes two collections. For the same reason no test of the same package may
// use a tunnel outside a bubble.
func Bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	bubbling.Lock()
	defer bubbling.Unlock()
	runtime.GC()
	runtime.GC()
	synctest.Test(t, f)
}
