package hubtest

import (
	"runtime"
	"sync"
	"testing"
)

var bubbling sync.Mutex //nolint:gochecknoglobals // the pool that it guards is global, too

// TakeTurn is for tests that use a tunnel in a synctest bubble. yamux keeps its
// timers in a pool for the whole process, and a timer of one bubble is fatal in
// another: so bubbles take turns until their test ends, and the pool is emptied
// in between, which takes two collections. For the same reason no test of the
// same package may use a tunnel outside a bubble.
func TakeTurn(t *testing.T) {
	t.Helper()
	bubbling.Lock()
	t.Cleanup(bubbling.Unlock)
	runtime.GC()
	runtime.GC()
}
