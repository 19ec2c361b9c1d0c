package nvmltest

import (
	"fmt"
	"maps"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/agent/internal/gpu"
)

// none stands for no instance, in NVML.
const none = 1<<32 - 1

// What the stand-in answers instead of a value.
const (
	hangs   = "hang"
	unknown = "!999" // NVML_ERROR_UNKNOWN
	lost    = "!15"  // NVML_ERROR_GPU_IS_LOST
)

// Machine is a node of package gputest, behind the stand-in in a folder.
type Machine struct {
	t       testing.TB
	dir     string
	open    func() (gpu.Driver, gpu.Absence, error)
	devices []gpu.Device
	state   State
}

// The stand-in counts events and compares times, and there is one in a process.
var edition, events int //nolint:gochecknoglobals // so are these, of its tests, one after the other

// NewMachine makes the stand-in in dir, which open loads, show a machine.
func NewMachine(t testing.TB, dir string, inventory gpu.Inventory, samples []gpu.Sample, open func() (gpu.Driver, gpu.Absence, error)) *Machine {
	t.Helper()
	m := &Machine{t: t, dir: dir, open: open, devices: inventory.Devices, state: State{}}
	m.state.Set("-", "nvmlInit_v2", "")
	m.state.Set("-", "nvmlSystemGetDriverVersion", "%s", inventory.System.DriverVersion)
	m.state.Set("-", "nvmlSystemGetNVMLVersion", "%s", inventory.System.LibraryVersion)
	major, minor, _ := strings.Cut(inventory.System.CUDAVersion, ".")
	m.state.Set("-", "nvmlSystemGetCudaDriverVersion", "%s0%s0", major, minor)
	m.state.Set("-", "nvmlDeviceGetCount_v2", "%d", len(m.devices))
	for i, s := range samples {
		m.set(i, s)
	}
	m.write()
	return m
}

// Say has a device answer so to a function.
func (m *Machine) Say(device, function, answer string) {
	m.t.Helper()
	m.state.Set(device, function, "%s", answer)
	m.write()
}

// Open is of gputest.Machine, as the rest.
func (m *Machine) Open() (gpu.Driver, gpu.Absence, error) { return m.open() }

// Set makes the device look so.
func (m *Machine) Set(index int, s gpu.Sample) {
	m.t.Helper()
	m.set(index, s)
	m.write()
}

// Fail has the driver fail to read the power.
func (m *Machine) Fail(index int, field string) {
	m.t.Helper()
	require.Equal(m.t, "power", field)
	m.Say(strconv.Itoa(index), "nvmlDeviceGetPowerUsage", unknown)
}

// Lose has a device fall off the bus.
func (m *Machine) Lose(index int) {
	m.t.Helper()
	m.Say(strconv.Itoa(index), "*", lost)
}

// Recover brings it back.
func (m *Machine) Recover(index int) {
	m.t.Helper()
	delete(m.state[strconv.Itoa(index)], "*")
	m.write()
}

// Remove takes the last device out.
func (m *Machine) Remove() {
	m.t.Helper()
	m.Say("-", "nvmlDeviceGetCount_v2", strconv.Itoa(len(m.devices)-1))
}

// Emit has something happen.
func (m *Machine) Emit(e gpu.Event) {
	m.t.Helper()
	kinds := map[gpu.EventKind]int{gpu.EventXID: 8, gpu.EventDoubleBitECC: 2}
	for i, d := range m.devices {
		if d.ID == e.Device {
			events++
			m.Say("-", fmt.Sprintf("event.%d", events), fmt.Sprintf("%d %d %d %d %d", i, kinds[e.Kind], e.XID, or(e.GPUInstance), or(e.ComputeInstance)))
		}
	}
}

// Hang has a device not answer.
func (m *Machine) Hang(index int) (release func()) {
	m.t.Helper()
	device := strconv.Itoa(index)
	before := m.state[device]["nvmlDeviceGetPowerUsage"]
	m.Say(device, "nvmlDeviceGetPowerUsage", hangs)
	return func() { m.Say(device, "nvmlDeviceGetPowerUsage", before) }
}

func (m *Machine) write() {
	m.t.Helper()
	edition++
	require.NoError(m.t, m.state.Write(m.dir, edition))
}

func (m *Machine) set(index int, s gpu.Sample) {
	device := strconv.Itoa(index)
	maps.DeleteFunc(m.state, func(name string, _ map[string]string) bool {
		return name == device || strings.HasPrefix(name, device+".")
	})
	answer := answers{device, m.state}
	answer.describe(m.devices[index])
	answer.sample(s)
	for i, instance := range s.MIG.Instances {
		part := answers{fmt.Sprintf("%d.%d", index, 2*i), m.state} // there may be gaps
		part.instance(m.devices[index].Model, instance, s.Processes)
	}
}

func or(v gpu.Value[uint32]) uint32 {
	if !v.Known {
		return none
	}
	return v.V
}
