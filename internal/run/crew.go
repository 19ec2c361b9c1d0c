package run

import (
	"context"
	"errors"
	"sync"
)

// Crew runs tasks as they come, at most so many at a time, where Each would
// have the next batch wait for the slowest of this one. It is for one owner,
// who gives it no more than Free tasks and waits for it in the end.
type Crew struct {
	slots chan struct{} // one in it for each task
	done  chan struct{} // never closed
	all   sync.WaitGroup

	mu   sync.Mutex // guards errs
	errs []error
}

// NewCrew makes a crew for at most limit tasks at a time.
func NewCrew(limit int) *Crew {
	return &Crew{slots: make(chan struct{}, max(limit, 1)), done: make(chan struct{}, 1)}
}

// Free is how many tasks it takes now.
func (c *Crew) Free() int { return cap(c.slots) - len(c.slots) }

// Idle reports whether it has nothing to do.
func (c *Crew) Idle() bool { return len(c.slots) == 0 }

// Done is readable after a task has ended. Many ends may become one.
func (c *Crew) Done() <-chan struct{} { return c.done }

// Go begins a task. It waits only if the crew is not free.
func (c *Crew) Go(ctx context.Context, task func(context.Context) error) {
	c.slots <- struct{}{}
	c.all.Go(func() {
		if err := protect(ctx, task); err != nil {
			c.mu.Lock()
			c.errs = append(c.errs, err)
			c.mu.Unlock()
		}
		<-c.slots
		select {
		case c.done <- struct{}{}:
		default: // there is one waiting already
		}
	})
}

// Errors returns what went wrong since it was asked last.
func (c *Crew) Errors() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := errors.Join(c.errs...)
	c.errs = nil
	return err
}

// Wait waits for all tasks and returns what went wrong.
func (c *Crew) Wait() error {
	c.all.Wait()
	return c.Errors()
}
