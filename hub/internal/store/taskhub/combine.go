package taskhub

import (
	"context"
	"sync"
	"time"

	"github.com/budecosystem/budcluster/internal/backoff"
)

// maxBatch bounds what goes into one transaction.
const maxBatch = 64

// The pauses between tries of what the database's absence kept from it.
const (
	retryBase  = 50 * time.Millisecond
	retryLimit = time.Second
)

// combiner turns what many want at the same time into few transactions. What
// comes while nothing is under way goes at once; what comes meanwhile goes
// together next. So nobody waits for company, and the busier it is the less a
// single one costs. Two at a time instead of one were tried: batches halve,
// and on two cores everything together is 5 % slower.
type combiner[T any] struct {
	// flush does what all of ops want, in one transaction, or fails and has done
	// nothing. What became of a single one it tells the op.
	flush func(ctx context.Context, ops []T) error

	mu    sync.Mutex // guards queue, busy
	queue []*call[T]
	busy  bool // a drain runs
}

type call[T any] struct {
	op    T
	alone bool      // goes in a transaction of its own
	until time.Time // how long the database's absence is waited out
	err   error
	done  chan struct{} // closed when err is final
}

// do returns when op is committed or has failed. If ctx ends before, op goes
// its way nevertheless.
func (c *combiner[T]) do(ctx context.Context, op T, alone bool, until time.Time) error {
	k := &call[T]{op: op, alone: alone, until: until, done: make(chan struct{})}
	c.mu.Lock()
	c.queue = append(c.queue, k)
	start := !c.busy
	c.busy = true
	c.mu.Unlock()
	if start {
		// It carries others' ops, too, so it does not end with this ctx; it ends
		// when the queue is empty, and each op in it is bounded by its own time.
		go c.drain(context.WithoutCancel(ctx))
	}
	select {
	case <-k.done:
		return k.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (c *combiner[T]) drain(ctx context.Context) {
	wait := backoff.New(retryBase, retryLimit)
	for {
		calls := c.take()
		if len(calls) == 0 {
			return
		}
		if again := c.try(ctx, calls); len(again) > 0 {
			c.mu.Lock()
			c.queue = append(again, c.queue...)
			c.mu.Unlock()
			<-time.After(wait.Next())
			continue
		}
		wait.Reset()
	}
}

// take removes what goes next from the queue. When that is nothing, the drain
// is over.
func (c *combiner[T]) take() []*call[T] {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for n < len(c.queue) && n < maxBatch && !c.queue[n].alone {
		n++
	}
	if n == 0 && len(c.queue) > 0 {
		n = 1
	}
	if n == 0 {
		c.busy, c.queue = false, nil
		return nil
	}
	calls := c.queue[:n:n]
	c.queue = c.queue[n:]
	return calls
}

// try flushes calls and returns those to be tried again. When a batch fails
// for another reason than the database's absence, each goes alone: one that
// cannot be written must not keep the others from it.
func (c *combiner[T]) try(ctx context.Context, calls []*call[T]) (again []*call[T]) {
	ops := make([]T, len(calls))
	for i, k := range calls {
		ops[i] = k.op
	}
	err := c.flush(ctx, ops)
	switch {
	case err == nil:
	case absent(err):
		now := time.Now()
		for _, k := range calls {
			if now.Before(k.until) {
				again = append(again, k)
				continue
			}
			k.end(err)
		}
		return again
	case len(calls) > 1:
		for _, k := range calls {
			again = append(again, c.try(ctx, []*call[T]{k})...)
		}
		return again
	}
	for _, k := range calls {
		k.end(err)
	}
	return nil
}

func (k *call[T]) end(err error) {
	k.err = err
	close(k.done)
}
