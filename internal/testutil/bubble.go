package testutil

import (
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
)

var bubbles sync.Mutex //nolint:gochecknoglobals // one bubble at a time in a process

// Bubble is synctest.Test for code that uses the tunnel. yamux keeps timers in
// a pool of the whole process, and a timer of one bubble must not be used in
// another nor outside: so bubbles go one after the other, with the pool
// emptied between them. A test that calls it must not be parallel to tests
// that use tunnels in real time: leave t.Parallel out, and it runs before
// those.
func Bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	bubbles.Lock()
	defer bubbles.Unlock()
	emptyPools()
	defer emptyPools()
	synctest.Test(t, f)
}

// emptyPools makes every sync.Pool forget: what one collection keeps for a
// last use the next one drops.
func emptyPools() {
	runtime.GC()
	runtime.GC()
}
