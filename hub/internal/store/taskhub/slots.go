package taskhub

import (
	"context"
	"sync"
)

// slots bounds what this process holds of one sort.
type slots struct {
	mu      sync.Mutex // guards free, waiting
	free    int
	waiting bool          // the claimer waits for a slot, so nobody else gets one
	freed   chan struct{} // of size 1
}

func newSlots(n int) *slots { return &slots{free: n, freed: make(chan struct{}, 1)} }

// try takes a slot if one is free. It does not take what the claimer waits
// for: what is at hand must not starve what others left.
func (s *slots) try() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.free == 0 || s.waiting {
		return false
	}
	s.free--
	return true
}

// acquire waits until a slot is free and takes up to most. It is for the
// claimer alone.
func (s *slots) acquire(ctx context.Context, most int) (int, error) {
	for {
		s.mu.Lock()
		s.waiting = s.free == 0
		if !s.waiting {
			n := min(s.free, most)
			s.free -= n
			s.mu.Unlock()
			return n, nil
		}
		s.mu.Unlock()
		select {
		case <-s.freed:
		case <-ctx.Done():
			s.mu.Lock()
			s.waiting = false
			s.mu.Unlock()
			return 0, ctx.Err()
		}
	}
}

func (s *slots) release(n int) {
	if n == 0 {
		return
	}
	s.mu.Lock()
	s.free += n
	s.mu.Unlock()
	select {
	case s.freed <- struct{}{}:
	default:
	}
}
