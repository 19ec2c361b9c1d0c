// Package gpufake is a node with GPUs that are none, for tests of what reads GPUs.
// Its devices are what a test sets, fall off the bus, hang and come back. It passes
// the same suite as NVML does, package gputest.
package gpufake

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/budecosystem/budcluster/agent/internal/gpu"
)

// Node is the driver of such a node. It is safe for concurrent use.
type Node struct {
	mu      sync.Mutex // guards the rest
	system  gpu.System
	devices []*device
	absence gpu.Absence
	events  chan gpu.Event
	calls   map[string]int
}

type device struct {
	device gpu.Device
	sample gpu.Sample
	fails  string        // a field that cannot be read
	lost   bool          // fallen off the bus
	hangs  chan struct{} // closed when calls come back; nil: they do not hang
	fresh  bool          // its utilization has not been sampled yet
}

// New makes a node with these devices, and of each the sample.
func New(inventory gpu.Inventory, samples ...gpu.Sample) *Node {
	n := &Node{system: inventory.System, events: make(chan gpu.Event, 1024), calls: map[string]int{}}
	for i, d := range inventory.Devices {
		n.devices = append(n.devices, &device{device: d})
		if i < len(samples) {
			n.devices[i].sample, n.devices[i].fresh = samples[i], true
		}
	}
	return n
}

// Open is for gpu.NewOpener.
func (n *Node) Open() (gpu.Driver, gpu.Absence, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.absence != "" {
		return nil, n.absence, nil
	}
	return driver{n}, "", nil
}

// Absent has the next Open find no driver; an empty absence ends that.
func (n *Node) Absent(why gpu.Absence) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.absence = why
}

// Set makes a device look so from now on.
func (n *Node) Set(index int, s gpu.Sample) {
	n.change(index, func(d *device) { d.sample, d.fails, d.fresh = s, "", true })
}

// Fail has the driver fail to read a field of a device, until the next Set.
func (n *Node) Fail(index int, field string) {
	n.change(index, func(d *device) { d.fails = field })
}

// Lose has a device fall off the bus; Recover brings it back.
func (n *Node) Lose(index int) { n.change(index, func(d *device) { d.lost = true }) }

// Recover brings a lost device back.
func (n *Node) Recover(index int) { n.change(index, func(d *device) { d.lost = false }) }

// Add plugs a device in.
func (n *Node) Add(d gpu.Device, s gpu.Sample) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.devices = append(n.devices, &device{device: d, sample: s, fresh: true})
}

// Remove takes the last device out.
func (n *Node) Remove() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.devices = n.devices[:len(n.devices)-1]
}

// Emit has something happen.
func (n *Node) Emit(e gpu.Event) { n.events <- e }

// Hang has calls for a device not come back until they are released.
func (n *Node) Hang(index int) (release func()) {
	hangs := make(chan struct{})
	n.change(index, func(d *device) { d.hangs = hangs })
	return func() {
		n.change(index, func(d *device) { d.hangs = nil })
		close(hangs)
	}
}

// Calls is how often a method of the driver was called.
func (n *Node) Calls(method string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.calls[method]
}

func (n *Node) change(index int, f func(*device)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f(n.devices[index])
}

// driver is the node as gpu.Source sees it.
type driver struct{ *Node }

var _ gpu.Driver = driver{}

func (d driver) List() (gpu.Listing, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls["List"]++
	listing := gpu.Listing{System: d.system}
	for i, dev := range d.devices {
		slot := gpu.Slot{Index: i, ID: dev.device.ID}
		if dev.lost {
			slot = gpu.Slot{Index: i, Lost: true, Problem: "the GPU has fallen off the bus"}
		}
		listing.Slots = append(listing.Slots, slot)
	}
	return listing, nil
}

func (d driver) Describe(id string) (gpu.Device, error) {
	dev, err := d.call("Describe", id)
	return dev.device, err
}

func (d driver) Sample(id string) (gpu.Sample, error) {
	dev, err := d.call("Sample", id)
	if err != nil || dev.lost {
		return gpu.Sample{Lost: dev.lost}, err
	}
	s := dev.sample
	s.MIG.Instances, s.Processes, s.NVLink.Links = slices.Clone(s.MIG.Instances), slices.Clone(s.Processes), slices.Clone(s.NVLink.Links)
	if !dev.fresh { // as a driver, which gives each sample of utilization once
		s.Utilization.Mean, s.Utilization.Peak = gpu.Value[uint32]{}, gpu.Value[uint32]{}
	}
	if dev.fails == "power" {
		s.PowerMilliwatts = gpu.Value[uint32]{}
	}
	if dev.fails != "" {
		s.Problems = append(slices.Clone(s.Problems), gpu.Problem{Field: dev.fails, Reason: "an internal error of the driver"})
	}
	return s, nil
}

// call returns the device as it is once it answers.
func (d driver) call(method, id string) (device, error) {
	d.mu.Lock()
	d.calls[method]++
	i := slices.IndexFunc(d.devices, func(dev *device) bool { return dev.device.ID == id })
	if i < 0 {
		d.mu.Unlock()
		return device{}, fmt.Errorf("%w: %s", gpu.ErrNoDevice, id)
	}
	dev := d.devices[i]
	hangs := dev.hangs
	d.mu.Unlock()
	if hangs != nil {
		<-hangs
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	now := *dev
	if method == "Sample" {
		dev.fresh = false
	}
	return now, nil
}

func (d driver) Wait(timeout time.Duration) (gpu.Event, bool, error) {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case e := <-d.events:
		return e, true, nil
	case <-timer.C:
		return gpu.Event{}, false, nil
	}
}

func (d driver) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls["Close"]++
	if d.calls["Close"] > 1 {
		return errors.New("closed twice")
	}
	return nil
}
