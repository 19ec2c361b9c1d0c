package taskhub

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/budecosystem/budcluster/internal/backoff"
	"github.com/budecosystem/budcluster/internal/logkey"
)

// claimMost bounds one claim, so that replicas that wake together share.
const claimMost = 32

// The pauses of a claimer that finds due what it cannot have, or no database.
const (
	missBase  = 5 * time.Millisecond
	missLimit = time.Second
)

// found is what a claim brought.
type found[T any] struct {
	items []T
	// next is how long until something more may be claimed; negative when
	// nothing is foreseen.
	next time.Duration
	// more says that there may be more of what was asked for.
	more bool
}

// lane is one sort of work on its way to those who do it: claimed from the
// tables, or handed over by this process's own commits.
//
//	claimer ── claim ──┐
//	commits ── offer ──┴─► ready ─► next ─► worker ─► done
//	   each item holds a slot from the claim or offer until done
type lane[T any] struct {
	name    string
	slots   *slots
	ready   chan T // as large as there are slots, so a send never blocks
	claim   func(ctx context.Context, most int) (found[T], error)
	putBack func(ctx context.Context, items []T)
	wake    chan struct{} // of size 1

	mu    sync.Mutex // guards open, alarm
	open  bool       // the claimer runs, so there are workers
	alarm time.Time  // when it looks next at the latest; zero while it is looking
}

func newLane[T any](name string, size int, claim func(context.Context, int) (found[T], error), putBack func(context.Context, []T)) *lane[T] {
	return &lane[T]{name: name, slots: newSlots(size), ready: make(chan T, size), claim: claim, putBack: putBack, wake: make(chan struct{}, 1)}
}

// reserve takes a slot for what this process is about to commit, if it has
// workers and one is free. The slot then goes to offer or to cancel.
func (l *lane[T]) reserve() bool {
	return l.isOpen() && l.slots.try()
}

// isOpen reports whether this process takes work.
func (l *lane[T]) isOpen() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.open
}

// cancel gives back n reserved slots, which were not needed after all.
func (l *lane[T]) cancel(n int) { l.slots.release(n) }

// offer hands over an item whose slot is reserved. When the claimer has ended
// meanwhile it refuses, and the item is to be put back.
func (l *lane[T]) offer(item T) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.open {
		return false
	}
	l.ready <- item
	return true
}

// next waits for an item.
func (l *lane[T]) next(ctx context.Context) (T, error) {
	select {
	case item := <-l.ready:
		return item, nil
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
}

// done frees the slot of an item.
func (l *lane[T]) done() { l.slots.release(1) }

// look makes the claimer look now.
func (l *lane[T]) look() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// lookAt makes the claimer look at t, if it would not before.
func (l *lane[T]) lookAt(t time.Time) {
	l.mu.Lock()
	sooner := l.open && (l.alarm.IsZero() || t.Before(l.alarm))
	l.mu.Unlock()
	if sooner {
		l.look()
	}
}

// run claims until ctx ends, then puts back what nobody took.
func (l *lane[T]) run(ctx context.Context, others subscription, poll time.Duration, log *slog.Logger) {
	defer others.cancel()
	l.mu.Lock()
	l.open = true
	l.mu.Unlock()
	defer l.close(ctx)
	miss := backoff.New(missBase, missLimit)
	for {
		most, err := l.slots.acquire(ctx, claimMost)
		if err != nil {
			return
		}
		got, err := l.claim(ctx, most)
		l.slots.release(most - len(got.items))
		for _, item := range got.items {
			l.ready <- item
		}
		var pause time.Duration
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			pause = miss.Next()
			log.WarnContext(ctx, "claiming work failed", slog.String(logkey.Kind, l.name), slog.Any(logkey.Error, err), slog.Duration(logkey.RetryAfter, pause))
		case got.more:
			continue
		case got.next < 0 || got.next > poll:
			miss.Reset()
			pause = poll
		case got.next == 0 && len(got.items) == 0: // somebody else is taking it
			pause = miss.Next()
		default:
			miss.Reset()
			pause = got.next
		}
		if !l.sleep(ctx, others.wake, pause) {
			return
		}
	}
}

func (l *lane[T]) sleep(ctx context.Context, others <-chan struct{}, pause time.Duration) bool {
	l.setAlarm(time.Now().Add(pause))
	defer l.setAlarm(time.Time{})
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
	case <-l.wake:
	case <-others:
	}
	return true
}

func (l *lane[T]) setAlarm(at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.alarm = at
}

func (l *lane[T]) close(ctx context.Context) {
	l.mu.Lock()
	l.open = false
	l.mu.Unlock()
	var left []T
	for {
		select {
		case item := <-l.ready:
			left = append(left, item)
			continue
		default:
		}
		break
	}
	if len(left) > 0 {
		l.putBack(context.WithoutCancel(ctx), left)
		l.slots.release(len(left))
	}
}
