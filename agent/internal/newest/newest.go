// Package newest holds the newest of something, and wakes those who watch it.
// Whoever is slow misses what came in between, never the newest.
package newest

import "sync"

// Value is the newest T. Its zero value holds none yet.
type Value[T any] struct {
	mu      sync.Mutex // guards what follows
	value   T
	edition int // 0: there is none
	readers map[chan struct{}]bool
}

// Set replaces what is there and wakes all.
func (v *Value[T]) Set(value T) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.value = value
	v.edition++
	for r := range v.readers {
		wake(r)
	}
}

// Watch wakes at once if there is something, and whenever it was replaced. Take
// returns the newest, and false if the reader has it already.
func (v *Value[T]) Watch() (wakes <-chan struct{}, take func() (T, bool), cancel func()) {
	r := make(chan struct{}, 1)
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.readers == nil {
		v.readers = map[chan struct{}]bool{}
	}
	v.readers[r] = true
	if v.edition > 0 {
		wake(r)
	}
	taken := 0
	take = func() (T, bool) {
		v.mu.Lock()
		defer v.mu.Unlock()
		fresh := v.edition > taken
		taken = v.edition
		return v.value, fresh
	}
	return r, take, func() {
		v.mu.Lock()
		defer v.mu.Unlock()
		delete(v.readers, r)
	}
}

func wake(r chan struct{}) {
	select {
	case r <- struct{}{}:
	default:
	}
}
