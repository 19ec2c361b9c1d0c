package gpu

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// lane runs calls that may hang, one at a time, each on a goroutine of its own. A
// call that was given up keeps the lane until it comes back.
type lane struct {
	slot chan struct{} // full while a call runs

	mu    sync.Mutex // guards since, and what call says
	since time.Time  // when the running call was given up; zero: it was not
}

// call is one that runs; both are guarded by the lane's mu.
type call struct{ finished, givenUp bool }

func newLane() *lane { return &lane{slot: make(chan struct{}, 1)} }

// do runs f on the lane and waits for it until ctx ends. If f comes back after it
// was given up, late is told.
func do[T any](ctx context.Context, l *lane, f func() T, late func()) (T, error) {
	var result, none T
	if err := l.enter(ctx); err != nil {
		return none, err
	}
	c, done := &call{}, make(chan struct{})
	go func() {
		result = f()
		givenUp := l.leave(c)
		close(done)
		if givenUp {
			late()
		}
	}()
	select {
	case <-done:
		return result, nil
	case <-ctx.Done():
	}
	if l.giveUp(c) {
		return none, noAnswer(ctx)
	}
	<-done // at the same moment
	return result, nil
}

// enter waits for its turn, and not at all behind a call that was given up.
func (l *lane) enter(ctx context.Context) error {
	l.mu.Lock()
	since := l.since
	l.mu.Unlock()
	if !since.IsZero() {
		return fmt.Errorf("%w since %s", ErrNoAnswer, since.UTC().Format(time.RFC3339))
	}
	select {
	case l.slot <- struct{}{}:
		return nil
	case <-ctx.Done():
		return noAnswer(ctx)
	}
}

func (l *lane) leave(c *call) (givenUp bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c.finished = true
	l.since = time.Time{}
	<-l.slot
	return c.givenUp
}

func (l *lane) giveUp(c *call) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c.finished {
		return false
	}
	c.givenUp = true
	l.since = time.Now()
	return true
}

// shut waits for the lane to be free, and keeps it so.
func (l *lane) shut(ctx context.Context) error {
	select {
	case l.slot <- struct{}{}:
		return nil
	case <-ctx.Done():
		return noAnswer(ctx)
	}
}

// noAnswer tells a deadline, which is the driver's fault, from a caller who left.
func noAnswer(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return ErrNoAnswer
	}
	return context.Cause(ctx)
}
