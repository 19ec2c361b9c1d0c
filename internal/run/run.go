// Package run is the life of everything that runs: a Group starts its tasks
// together and stops them in reverse order, one at a time; Each is the fan-out
// inside one function. Both name what failed and turn a panic into an error
// with its stack.
//
//	Add(store) Add(gateway) Add(api)      start: all at once
//	   │          │            │
//	   ▼          ▼            ▼          first failure, or ctx ends
//	 stops 3rd  stops 2nd   stops 1st     each is waited for before the next
//
// What is added first goes last: the thing that the others need while they
// stop. After Grace the contexts that remain end together. A task that returns
// nil is finished and ends nobody else; the Group ends when all tasks have.
package run

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// DefaultGrace is how long an orderly stop may take before the contexts of all
// remaining tasks end at once.
const DefaultGrace = 30 * time.Second

// Group runs tasks together. The zero value is ready.
type Group struct {
	// Grace overrides DefaultGrace.
	Grace time.Duration

	tasks []*task
}

type task struct {
	name   string
	fn     func(context.Context) error
	cancel context.CancelFunc
	done   chan struct{} // closed when fn has returned
	err    error         // set before done is closed
	asked  bool          // told to stop; written and read by Run only
}

// PanicError is a panic that a task raised.
type PanicError struct {
	Value any
	Stack []byte
}

// Error gives the panic's value and stack.
func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v\n%s", e.Value, e.Stack) }

// Unwrap gives the error that was panicked with, if it was one.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// Add names a task. It must not be called once Run has been.
func (g *Group) Add(name string, fn func(context.Context) error) {
	g.tasks = append(g.tasks, &task{name: name, fn: fn, done: make(chan struct{})})
}

// Run starts every task and returns when all have returned: after they
// finished, after one failed, or after ctx ended. An end that ctx asked for is
// no error; errors are joined, the first failure first.
func (g *Group) Run(ctx context.Context) error {
	finished := make(chan *task, len(g.tasks))
	for _, t := range g.tasks {
		// Values travel, cancellation does not: the Group decides the order.
		var taskCtx context.Context
		taskCtx, t.cancel = context.WithCancel(context.WithoutCancel(ctx))
		go func() {
			t.err = protect(taskCtx, t.fn)
			close(t.done)
			finished <- t
		}()
	}
	first := waitForEnd(ctx, finished, len(g.tasks))
	g.stop()
	return g.collect(first)
}

// waitForEnd returns the first task that failed, or nil once ctx ended or all
// finished.
func waitForEnd(ctx context.Context, finished <-chan *task, n int) *task {
	for range n {
		select {
		case <-ctx.Done():
			return nil
		case t := <-finished:
			if t.err != nil {
				return t
			}
		}
	}
	return nil
}

func (g *Group) stop() {
	grace := g.Grace
	if grace <= 0 {
		grace = DefaultGrace
	}
	timer := time.NewTimer(grace)
	defer timer.Stop()
	for _, t := range slices.Backward(g.tasks) {
		t.ask()
		select {
		case <-t.done:
			continue
		case <-timer.C:
		}
		break
	}
	for _, t := range g.tasks {
		t.ask()
		<-t.done
	}
}

// ask ends the task's context, and remembers whether that was a request or
// came after the task's own end.
func (t *task) ask() {
	select {
	case <-t.done:
	default:
		t.asked = true
	}
	t.cancel()
}

func (g *Group) collect(first *task) error {
	var errs []error
	add := func(t *task) {
		if t.err == nil || (t.asked && isCancellation(t.err)) {
			return
		}
		errs = append(errs, fmt.Errorf("%s: %w", t.name, t.err))
	}
	if first != nil {
		add(first)
	}
	for _, t := range slices.Backward(g.tasks) {
		if t != first {
			add(t)
		}
	}
	return errors.Join(errs...)
}

func isCancellation(err error) bool {
	return errors.Is(err, context.Canceled) || status.Code(err) == codes.Canceled
}

func protect(ctx context.Context, fn func(context.Context) error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	return fn(ctx)
}
