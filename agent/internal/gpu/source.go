package gpu

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/budecosystem/budcluster/internal/run"
)

const (
	// Deadline is how long a device may take for one answer. Reading all of a GPU
	// takes some milliseconds; the first call after the last user of a GPU has gone
	// may take a second or two, while the driver starts it (persistence mode off).
	Deadline = 5 * time.Second
	// listen is how long one wait for events takes, and so Close at the most.
	listen = time.Second
)

// Source reads the GPUs of a node. It is safe for concurrent use, and none of its
// calls hangs.
type Source struct {
	driver Driver
	list   *lane
	hear   *lane
	heard  chan heard
	closed chan struct{} // by Close

	mu     sync.Mutex // guards the rest
	shut   bool
	system System
	units  map[string]*unit // by ID
	lanes  map[string]*lane // the same, and of devices that have gone: a call may run yet
}

// unit is a device that has been listed. Source.mu guards what may change of it.
type unit struct {
	id string
	*lane
	device    Device
	described bool
	unnamed   bool // in the last listing
}

// heard is what one wait for events brought; nothing, if neither is set.
type heard struct {
	event Event
	ok    bool
	err   error
}

func newSource(d Driver) *Source {
	return &Source{
		driver: d, list: newLane(), hear: newLane(), heard: make(chan heard, 64), closed: make(chan struct{}),
		units: map[string]*unit{}, lanes: map[string]*lane{},
	}
}

// Enumerate lists the devices. Each new one is described, and those that did not
// answer before. If the driver cannot list them, the inventory is what it was.
func (s *Source) Enumerate(ctx context.Context) (Inventory, error) {
	type outcome struct {
		listing Listing
		err     error
	}
	if s.isShut() {
		return Inventory{}, ErrClosed
	}
	limited, cancel := context.WithTimeout(ctx, Deadline)
	defer cancel()
	got, err := do(limited, s.list, func() (out outcome) {
		out.listing, out.err = s.driver.List()
		return out
	}, s.answers(""))
	if err = errors.Join(err, got.err); err != nil {
		return s.inventory(nil), fmt.Errorf("list GPUs: %w", err)
	}
	problems, fresh := s.match(got.listing)
	err = run.Each(ctx, 0, fresh, func(ctx context.Context, u *unit) error { return s.describe(ctx, u) })
	if err != nil {
		return s.inventory(problems), fmt.Errorf("describe GPUs: %w", err)
	}
	return s.inventory(problems), nil
}

// match brings the units into line with a listing, and returns those that are to
// be described.
func (s *Source) match(l Listing) (problems []Problem, fresh []*unit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.system = l.System
	listed := map[string]bool{}
	for _, slot := range l.Slots {
		switch {
		case slot.ID == "":
		case listed[slot.ID]:
			problems = append(problems, Problem{Field: "devices", Reason: fmt.Sprintf("GPU %d has the UUID of another, %s, so it is left out", slot.Index, slot.ID)})
		default:
			listed[slot.ID] = true
			u := s.unitLocked(slot.ID)
			u.described = u.described && !u.unnamed // a device that is back is read anew
			u.unnamed, u.device.Index, u.device.Lost = false, slot.Index, false
		}
	}
	for _, slot := range l.Slots {
		if slot.ID != "" {
			continue
		}
		u := s.unnamedLocked(slot, listed)
		listed[u.id] = true
		u.unnamed, u.device.Index, u.device.Lost = true, slot.Index, slot.Lost
		u.device.Problems = []Problem{{Field: "device", Reason: slot.Problem}}
	}
	maps.DeleteFunc(s.units, func(id string, _ *unit) bool { return !listed[id] })
	for _, u := range s.units {
		if !u.described && !u.unnamed {
			fresh = append(fresh, u)
		}
	}
	return problems, fresh
}

// unnamedLocked is the unit that was in the slot before, if the listing has it
// nowhere else.
func (s *Source) unnamedLocked(slot Slot, listed map[string]bool) *unit {
	for id, u := range s.units {
		if u.device.Index == slot.Index && !listed[id] {
			return u
		}
	}
	return s.unitLocked(fmt.Sprintf("index-%d", slot.Index))
}

func (s *Source) unitLocked(id string) *unit {
	if u := s.units[id]; u != nil {
		return u
	}
	if s.lanes[id] == nil {
		s.lanes[id] = newLane()
	}
	u := &unit{id: id, lane: s.lanes[id], device: Device{ID: id}}
	s.units[id] = u
	return u
}

// describe reads what does not change. A device that does not answer is tried
// again with the next Enumerate.
func (s *Source) describe(ctx context.Context, u *unit) error {
	type outcome struct {
		device Device
		err    error
	}
	limited, cancel := context.WithTimeout(ctx, Deadline)
	defer cancel()
	got, err := do(limited, u.lane, func() (out outcome) {
		out.device, out.err = s.driver.Describe(u.id)
		return out
	}, s.answers(u.id))
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	err = errors.Join(err, got.err)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err != nil:
		u.device.Problems = []Problem{{Field: "device", Reason: err.Error()}}
		return nil
	case got.device.Lost: // meanwhile
		u.device.Lost, u.device.Problems = true, got.device.Problems
		return nil
	}
	index := u.device.Index
	u.device, u.described = got.device, true
	u.device.ID, u.device.Index = u.id, index
	return nil
}

func (s *Source) inventory(problems []Problem) Inventory {
	s.mu.Lock()
	defer s.mu.Unlock()
	inv := Inventory{System: s.system, Problems: problems}
	for _, u := range s.units {
		inv.Devices = append(inv.Devices, u.device)
	}
	slices.SortFunc(inv.Devices, func(a, b Device) int { return a.Index - b.Index })
	return inv
}

// Sample reads one device of the inventory. One that has been given up is not
// called before it has come back; until then the error is ErrNoAnswer at once.
func (s *Source) Sample(ctx context.Context, id string) (Sample, error) {
	type outcome struct {
		sample Sample
		err    error
	}
	s.mu.Lock()
	u, shut := s.units[id], s.shut
	var unnamed, lost bool
	var device Device
	if u != nil {
		unnamed, lost, device = u.unnamed, u.device.Lost, u.device
	}
	s.mu.Unlock()
	switch {
	case shut:
		return Sample{}, ErrClosed
	case u == nil:
		return Sample{}, fmt.Errorf("sample %s: %w", id, ErrNoDevice)
	case lost:
		return Sample{At: time.Now(), Lost: true}, nil
	case unnamed:
		return Sample{}, fmt.Errorf("sample %s: %v", id, device.Problems)
	}
	limited, cancel := context.WithTimeout(ctx, Deadline)
	defer cancel()
	got, err := do(limited, u.lane, func() (out outcome) {
		at := time.Now()
		out.sample, out.err = s.driver.Sample(id)
		out.sample.At = at
		return out
	}, s.answers(id))
	if err = errors.Join(err, got.err); err != nil {
		return Sample{}, fmt.Errorf("sample %s: %w", id, err)
	}
	dropImplausible(&got.sample)
	return got.sample, nil
}

// Wait waits for the next event until ctx ends. An error of the driver does not
// end the source: Wait may be called again, and the driver is asked once in a
// while.
func (s *Source) Wait(ctx context.Context) (Event, error) {
	for {
		s.listen()
		select {
		case got := <-s.heard:
			if got.ok || got.err != nil {
				return got.event, got.err
			}
		case <-s.closed:
			return Event{}, ErrClosed
		case <-ctx.Done():
			return Event{}, context.Cause(ctx)
		}
	}
}

// listen has the driver wait for an event, unless it does already.
func (s *Source) listen() {
	select {
	case s.hear.slot <- struct{}{}:
	default:
		return
	}
	go func() {
		defer func() { <-s.hear.slot }()
		var got heard
		got.event, got.ok, got.err = s.driver.Wait(listen)
		got.event.At = time.Now()
		if got.err != nil {
			s.pause()
			got.err = fmt.Errorf("wait for GPU events: %w", got.err)
		}
		select {
		case s.heard <- got:
		case <-s.closed:
		}
	}()
}

// pause keeps a driver that answers each wait with an error at once from taking
// all of a core.
func (s *Source) pause() {
	timer := time.NewTimer(listen)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.closed:
	}
}

// answers makes what is done when a call that was given up has come back: whoever
// waits for events learns of it. If nobody does, the next Sample will show.
func (s *Source) answers(id string) func() {
	return func() {
		select {
		case s.heard <- heard{event: Event{At: time.Now(), Kind: EventAnswers, Device: id}, ok: true}:
		default:
		}
	}
}

func (s *Source) isShut() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.shut
}

// Close waits for the calls that run and closes the driver. If one of them does
// not come back until ctx ends, the driver is left open, since closing a library
// under a call is undefined: that is an error, and only the end of the process
// releases it.
func (s *Source) Close(ctx context.Context) error {
	s.mu.Lock()
	if s.shut {
		s.mu.Unlock()
		return nil
	}
	s.shut = true
	close(s.closed)
	lanes := append([]*lane{s.list, s.hear}, slices.Collect(maps.Values(s.lanes))...)
	s.mu.Unlock()
	for _, l := range lanes {
		if err := l.shut(ctx); err != nil {
			return fmt.Errorf("close the GPU driver: a call has not come back: %w", err)
		}
	}
	closed, err := do(ctx, newLane(), s.driver.Close, func() {})
	if err = errors.Join(err, closed); err != nil {
		return fmt.Errorf("close the GPU driver: %w", err)
	}
	return nil
}
