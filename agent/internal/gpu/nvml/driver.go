//go:build cgo && linux

package nvml

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/dl"
	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/budecosystem/budcluster/agent/internal/gpu"
)

const defaultLibrary = "libnvidia-ml.so.1"

// Open makes the function that loads NVML for gpu.NewOpener. An empty library is
// libnvidia-ml.so.1, which the dynamic linker looks for; else it is a path.
func Open(library string) func() (gpu.Driver, gpu.Absence, error) {
	library = cmp.Or(library, defaultLibrary)
	return func() (gpu.Driver, gpu.Absence, error) {
		d, absence, err := open(nvml.New(nvml.WithLibraryPath(library)))
		if absence == gpu.NoLibrary {
			err = loadError(library)
		}
		if d == nil || err != nil {
			return nil, absence, err
		}
		return d, "", nil
	}
}

// loadError is why a library was not loaded, which go-nvml does not say. That it
// is not there is no error.
func loadError(library string) error {
	err := dl.New(library, dl.RTLD_LAZY).Open()
	if err == nil || strings.HasSuffix(err.Error(), "No such file or directory") {
		return nil
	}
	return fmt.Errorf("load the NVIDIA driver library: %w", err)
}

// driver is a loaded library.
type driver struct {
	lib    nvml.Interface
	has    map[function]bool
	system gpu.System
	events nvml.EventSet // nil if the library has none

	mu      sync.Mutex // guards devices
	devices map[string]*device
}

// device is one that was listed. Only one call at a time uses it, but for the
// handle, which driver.mu guards.
type device struct {
	handle      nvml.Device
	registered  nvml.Device // the handle of which the driver tells events, or was asked to
	instances   uint32      // how many MIG instances there can be
	fields      []nvml.FieldValue
	sampled     uint64            // when the driver took its last sample of utilization that was read, in its µs
	processSeen uint64            // the same of the processes
	profiles    map[string]string // of MIG instances by UUID
}

func open(lib nvml.Interface) (*driver, gpu.Absence, error) {
	switch ret := lib.Init(); ret {
	case nvml.SUCCESS:
	case nvml.ERROR_LIBRARY_NOT_FOUND:
		return nil, gpu.NoLibrary, nil
	case nvml.ERROR_DRIVER_NOT_LOADED:
		return nil, gpu.NoDriver, nil
	case nvml.ERROR_LIB_RM_VERSION_MISMATCH:
		return nil, "", fmt.Errorf("initialise NVML: %s: %w", reason(ret), gpu.ErrReplaced)
	default:
		return nil, "", fmt.Errorf("initialise NVML: %s", reason(ret))
	}
	d := &driver{lib: lib, has: present(lib.Extensions()), devices: map[string]*device{}}
	if !d.has["nvmlDeviceGetCount"] || !d.has["nvmlDeviceGetHandleByIndex"] || !d.has["nvmlDeviceGetUUID"] {
		return nil, "", errors.New("the NVIDIA driver library cannot list devices; is it NVIDIA's?")
	}
	d.system = d.versions()
	if d.has["nvmlEventSetCreate"] && d.has["nvmlEventSetWait"] && d.has["nvmlDeviceRegisterEvents"] {
		if set, ret := lib.EventSetCreate(); ret == nvml.SUCCESS {
			d.events = set
		}
	}
	return d, "", nil
}

func (d *driver) versions() (s gpu.System) {
	if d.has["nvmlSystemGetDriverVersion"] {
		version, _ := d.lib.SystemGetDriverVersion()
		s.DriverVersion = clean(version)
	}
	if d.has["nvmlSystemGetNVMLVersion"] {
		version, _ := d.lib.SystemGetNVMLVersion()
		s.LibraryVersion = clean(version)
	}
	if d.has["nvmlSystemGetCudaDriverVersion"] {
		// 12080 is 12.8, by NVML_CUDA_DRIVER_VERSION_MAJOR and _MINOR.
		if n, ret := d.lib.SystemGetCudaDriverVersion(); ret == nvml.SUCCESS && n > 0 {
			s.CUDAVersion = fmt.Sprintf("%d.%d", n/1000, n%1000/10)
		}
	}
	return s
}

// List asks for all devices anew, since a reset may give one another handle.
func (d *driver) List() (gpu.Listing, error) {
	n, ret := d.lib.DeviceGetCount()
	all := reader{has: d.has}
	if !all.ok("devices", ret) {
		if all.replaced {
			return gpu.Listing{}, fmt.Errorf("count devices: %s: %w", reason(ret), gpu.ErrReplaced)
		}
		return gpu.Listing{}, fmt.Errorf("count devices: %s", reason(ret))
	}
	listing := gpu.Listing{System: d.system}
	found := map[string]bool{}
	for i := range n {
		slot := gpu.Slot{Index: i}
		handle, ret := d.lib.DeviceGetHandleByIndex(i)
		if ret == nvml.SUCCESS {
			slot.ID, ret = handle.GetUUID()
		}
		if slot.ID = clean(slot.ID); ret != nvml.SUCCESS || slot.ID == "" {
			slot.ID, slot.Lost, slot.Problem = "", ret == nvml.ERROR_GPU_IS_LOST, reason(ret)
		} else if !found[slot.ID] {
			found[slot.ID] = true
			d.keep(slot.ID, handle)
		}
		listing.Slots = append(listing.Slots, slot)
	}
	d.forget(found)
	return listing, nil
}

func (d *driver) keep(id string, handle nvml.Device) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.devices[id] == nil {
		d.devices[id] = &device{profiles: map[string]string{}}
	}
	d.devices[id].handle = handle
}

// forget drops devices that are listed no longer, or without a name.
func (d *driver) forget(found map[string]bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for id := range d.devices {
		if !found[id] {
			delete(d.devices, id)
		}
	}
}

// device gives one, and what makes the calls for it.
func (d *driver) device(id string) (*device, *reader, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	dev := d.devices[id]
	if dev == nil {
		return nil, nil, gpu.ErrNoDevice
	}
	return dev, &reader{has: d.has, device: dev.handle}, nil
}

// idOf names the device of an event.
func (d *driver) idOf(handle nvml.Device) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	for id, dev := range d.devices {
		if dev.handle == handle {
			return id
		}
	}
	return ""
}

// Close releases the library.
func (d *driver) Close() error {
	if d.events != nil && d.has["nvmlEventSetFree"] {
		d.events.Free()
	}
	if !d.has["nvmlShutdown"] {
		return nil
	}
	if ret := d.lib.Shutdown(); ret != nvml.SUCCESS {
		return fmt.Errorf("shut NVML down: %s", reason(ret))
	}
	return nil
}

var _ gpu.Driver = (*driver)(nil)

// Wait waits for the next event.
func (d *driver) Wait(timeout time.Duration) (e gpu.Event, ok bool, err error) {
	if d.events == nil {
		<-time.After(timeout)
		return e, false, nil
	}
	data, ret := d.events.Wait(uint32(timeout.Milliseconds())) //nolint:gosec // a second
	switch ret {
	case nvml.SUCCESS:
	case nvml.ERROR_TIMEOUT:
		return e, false, nil
	case nvml.ERROR_GPU_IS_LOST:
		return gpu.Event{Kind: gpu.EventLost}, true, nil
	case nvml.ERROR_UNINITIALIZED, nvml.ERROR_DRIVER_NOT_LOADED, nvml.ERROR_LIB_RM_VERSION_MISMATCH:
		return e, false, gpu.ErrReplaced
	default:
		return e, false, errors.New(reason(ret))
	}
	e = gpu.Event{Kind: eventKind(data.EventType), GPUInstance: instanceID(data.GpuInstanceId), ComputeInstance: instanceID(data.ComputeInstanceId)}
	if data.Device != nil {
		e.Device = d.idOf(data.Device)
	}
	if e.Kind == gpu.EventXID {
		e.XID = data.EventData
	}
	return e, e.Kind != "", nil
}

func eventKind(bits uint64) gpu.EventKind {
	switch bits {
	case nvml.EventTypeXidCriticalError:
		return gpu.EventXID
	case nvml.EventTypeDoubleBitEccError:
		return gpu.EventDoubleBitECC
	case nvml.EventTypeGpuRecoveryAction:
		return gpu.EventRecovery
	case nvml.EventTypeGpuUnavailableError:
		return gpu.EventUnavailable
	default:
		return ""
	}
}

// instanceID is the id of a GPU or compute instance; the greatest number stands
// for none.
func instanceID(id uint32) (v gpu.Value[uint32]) {
	if id == 1<<32-1 {
		return v
	}
	return gpu.Known(id)
}
