package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// The errors that callers tell apart.
var (
	// ErrNotFound: there is no such instance, or no more.
	ErrNotFound = errors.New("the engine knows no such instance")
	// ErrNotEnded: an instance that is on cannot be purged.
	ErrNotEnded = errors.New("the instance has not ended")
)

// State is how an instance is.
type State string

// The states.
const (
	Pending    State = "Pending"    // it had no turn yet
	Running    State = "Running"    // it is on, or waits for something
	Suspended  State = "Suspended"  // it takes no notice until it is resumed
	Stalled    State = "Stalled"    // no replica that tried knows its version
	Completed  State = "Completed"  // its function returned
	Failed     State = "Failed"     // its function returned an error
	Terminated State = "Terminated" // somebody ended it
)

// Ended reports whether the state is final.
func (s State) Ended() bool { return s == Completed || s == Failed || s == Terminated }

// Status is what the engine says of an instance.
type Status struct {
	ID, Name string
	State    State
	// Output is JSON: what the function returned, or the reason of Terminate.
	Output json.RawMessage
	// Failure says why it Failed.
	Failure              string
	CreatedAt, UpdatedAt time.Time
}

// Engine runs workflows so that they survive this process.
type Engine struct {
	engine driver
	ready  chan struct{} // closed when workers are up
}

// driver is what differs between the engines.
type driver interface {
	run(ctx context.Context, ready func()) error
	start(ctx context.Context, name, id string, input []byte) error
	raise(ctx context.Context, id, event string, data []byte) error
	terminate(ctx context.Context, id string, reason []byte) error
	status(ctx context.Context, id string) (Status, error)
	wait(ctx context.Context, id string) (Status, error)
	purge(ctx context.Context, id string) error
}

func newEngine(d driver) *Engine { return &Engine{engine: d, ready: make(chan struct{})} }

// Run works until ctx ends. Then it takes no more work, ends the contexts of
// activities that are on, waits for what is under way, and gives back the
// rest, so that another replica goes on at once. It is called once.
//
// A process that does not call it may call all else: it starts workflows for
// others to run.
func (e *Engine) Run(ctx context.Context) error {
	return e.engine.run(ctx, func() { close(e.ready) })
}

// Ready is closed when Run takes work.
func (e *Engine) Ready() <-chan struct{} { return e.ready }

// Start begins an instance of the workflow that is registered under name. If
// there is one of this id already, even one that has ended, nothing happens.
// Input is kept as JSON, in the clear.
func (e *Engine) Start(ctx context.Context, name, id string, input any) error {
	if name == "" || id == "" {
		return fmt.Errorf("start workflow %q as %q: a name and an id are needed", name, id)
	}
	raw, err := encode(input)
	if err != nil {
		return fmt.Errorf("encode input of %s: %w", id, err)
	}
	if err := e.engine.start(ctx, name, id, raw); err != nil {
		return fmt.Errorf("start workflow %s as %s: %w", name, id, err)
	}
	return nil
}

// Raise gives an event to an instance. One that comes before it is awaited is
// kept; one for an instance that has ended is dropped.
func (e *Engine) Raise(ctx context.Context, id, event string, data any) error {
	raw, err := encode(data)
	if err != nil {
		return fmt.Errorf("encode event %s of %s: %w", event, id, err)
	}
	if err := e.engine.raise(ctx, id, event, raw); err != nil {
		return fmt.Errorf("raise event %s for %s: %w", event, id, err)
	}
	return nil
}

// Terminate ends an instance and its children where they are. No activity
// begins any more; one that runs is told by its context, soon on the embedded
// engine and not at all on Dapr. An instance that has ended stays as it is.
func (e *Engine) Terminate(ctx context.Context, id, reason string) error {
	raw, err := encode(reason)
	if err != nil {
		return fmt.Errorf("encode reason: %w", err)
	}
	if err := e.engine.terminate(ctx, id, raw); err != nil {
		return fmt.Errorf("terminate %s: %w", id, err)
	}
	return nil
}

// Status says how an instance is.
func (e *Engine) Status(ctx context.Context, id string) (Status, error) {
	s, err := e.engine.status(ctx, id)
	if err != nil {
		return Status{}, fmt.Errorf("look up %s: %w", id, err)
	}
	return s, nil
}

// Wait returns when an instance has ended.
func (e *Engine) Wait(ctx context.Context, id string) (Status, error) {
	s, err := e.engine.wait(ctx, id)
	if err != nil {
		return Status{}, fmt.Errorf("wait for %s: %w", id, err)
	}
	return s, nil
}

// Purge forgets an instance that has ended, and its children. One that is not
// there is no error.
func (e *Engine) Purge(ctx context.Context, id string) error {
	if err := e.engine.purge(ctx, id); err != nil && !errors.Is(err, ErrNotFound) {
		return fmt.Errorf("purge %s: %w", id, err)
	}
	return nil
}

func encode(v any) ([]byte, error) {
	if v == nil {
		return nil, nil
	}
	return json.Marshal(v)
}

// DefaultGrace is how long Run waits for activities that were told to stop.
const DefaultGrace = 10 * time.Second

// ErrStopping is the cause with which the contexts of activities end when the
// hub stops.
var ErrStopping = errors.New("the hub is stopping")
