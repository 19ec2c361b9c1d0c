package tunnel

import (
	"context"
	"fmt"
	"time"
)

// Watch notices that a peer has fallen silent. It is fed by the messages of a
// stream that matters: heartbeats elsewhere would stay green when the thing
// itself is dead.
type Watch struct {
	timeout time.Duration
	seen    chan struct{}
}

// SilentError means that nothing was heard for a time.
type SilentError struct{ For time.Duration }

// Error says for how long.
func (e *SilentError) Error() string {
	return fmt.Sprintf("the peer has been silent for %s; the connection is taken for dead", e.For)
}

// NewWatch makes a watch that Run starts.
func NewWatch(timeout time.Duration) *Watch {
	return &Watch{timeout: timeout, seen: make(chan struct{}, 1)}
}

// Seen says that the peer was heard. It never blocks.
func (w *Watch) Seen() {
	select {
	case w.seen <- struct{}{}:
	default:
	}
}

// Run returns a SilentError once nothing was Seen for the timeout, or nil when
// ctx ends.
func (w *Watch) Run(ctx context.Context) error {
	timer := time.NewTimer(w.timeout)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.seen:
			timer.Reset(w.timeout)
		case <-timer.C:
			select {
			case <-w.seen: // both at once, after a pause of this program
				timer.Reset(w.timeout)
				continue
			default:
			}
			return &SilentError{For: w.timeout}
		}
	}
}
