package gpu

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Errors of a Source. A Driver returns the latter two as well.
var (
	// ErrNoAnswer: a call of the driver has not come back in time.
	ErrNoAnswer = errors.New("the driver does not answer")
	// ErrClosed: the source was closed.
	ErrClosed = errors.New("the GPU source is closed")
	// ErrNoDevice: there is no device of that ID; it may have been taken out.
	ErrNoDevice = errors.New("no such GPU")
	// ErrReplaced: the driver was unloaded or replaced while its library is loaded.
	ErrReplaced = errors.New("the driver was replaced or unloaded under this process, which must be restarted to load it anew")
)

// Driver is a library that reads GPUs. Its calls may hang. A Source makes one call
// for a device at a time, Describe before Sample.
type Driver interface {
	// List says which devices there are, by index.
	List() (Listing, error)
	// Describe reads what does not change.
	Describe(id string) (Device, error)
	// Sample reads what changes. A lost device is no error.
	Sample(id string) (Sample, error)
	// Wait waits so long for the next event of any device that was described, and
	// returns false if there was none.
	Wait(timeout time.Duration) (Event, bool, error)
	// Close is the last call, made when none is running.
	Close() error
}

// Listing is what a driver lists.
type Listing struct {
	System System
	Slots  []Slot
}

// Slot is a device as it is listed. If it is lost or cannot be named, ID is empty
// and Problem says why.
type Slot struct {
	Index   int
	ID      string
	Lost    bool
	Problem string
}

// Absence says why a node has no driver to read GPUs by, which is no error. It is
// empty if there is one.
type Absence string

// The absences.
const (
	// NotBuilt: this program was built without NVML, which needs cgo.
	NotBuilt Absence = "built without NVML"
	// NoLibrary: there is no libnvidia-ml.so.1. The node has no NVIDIA driver, or
	// the container did not get the driver's libraries.
	NoLibrary Absence = "no NVIDIA driver library"
	// NoDriver: the library is there, but the kernel module is not loaded.
	NoDriver Absence = "NVIDIA's kernel driver is not loaded"
)

// Opener opens a driver.
type Opener struct {
	open func() (Driver, Absence, error)
	lane *lane

	mu     sync.Mutex // guards opened
	opened Driver     // by an Open that had been given up
}

// NewOpener makes an opener of a function that opens the driver, which may hang.
func NewOpener(open func() (Driver, Absence, error)) *Opener {
	return &Opener{open: open, lane: newLane()}
}

// Open opens the driver once and holds it; without one it says why. It may be
// tried again: an attempt that hangs is not repeated until it has come back, and
// what it opened then is used.
func (o *Opener) Open(ctx context.Context) (*Source, Absence, error) {
	type outcome struct {
		driver  Driver
		absence Absence
		err     error
	}
	if kept := o.take(); kept != nil {
		return newSource(kept), "", nil
	}
	var driver Driver
	got, err := do(ctx, o.lane, func() (out outcome) {
		out.driver, out.absence, out.err = o.open()
		driver = out.driver
		return out
	}, func() { o.keep(driver) })
	switch {
	case err != nil:
		return nil, "", fmt.Errorf("open the GPU driver: %w", err)
	case got.err != nil:
		return nil, "", fmt.Errorf("open the GPU driver: %w", got.err)
	case got.driver == nil:
		return nil, got.absence, nil
	}
	return newSource(got.driver), "", nil
}

func (o *Opener) take() Driver {
	o.mu.Lock()
	defer o.mu.Unlock()
	kept := o.opened
	o.opened = nil
	return kept
}

func (o *Opener) keep(d Driver) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.opened = d
}
