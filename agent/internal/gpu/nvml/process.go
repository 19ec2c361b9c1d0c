//go:build cgo && linux

package nvml

import (
	"strings"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/budecosystem/budcluster/agent/internal/gpu"
)

// defaultInstances is how many MIG instances are looked for where the driver does
// not say how many there can be: as many as any GPU has had.
const defaultInstances = 8

// notAvailable stands for a number that the driver does not know
// (NVML_VALUE_NOT_AVAILABLE).
const notAvailable = 1<<64 - 1

// instances lists the MIG instances with their processes. They may be cut anew at
// any time, so all but the profile is read each time.
func (r *reader) instances(dev *device, s *gpu.Sample) {
	most := dev.instances
	if most == 0 {
		most = defaultInstances
	}
	s.ProcessesKnown = r.may("nvmlDeviceGetMigDeviceHandleByIndex")
	for i := range most {
		if !r.may("nvmlDeviceGetMigDeviceHandleByIndex") {
			return
		}
		handle, ret := r.device.GetMigDeviceHandleByIndex(int(i))
		if ret == nvml.ERROR_NOT_FOUND || ret == nvml.ERROR_INVALID_ARGUMENT || !r.ok("mig.instances", ret) {
			continue // there is none in this place
		}
		part := r.of(handle)
		instance := part.instance(dev)
		s.MIG.Instances = append(s.MIG.Instances, instance)
		before := len(s.Processes)
		s.ProcessesKnown = part.processes(s) && s.ProcessesKnown
		for j := range s.Processes[before:] {
			s.Processes[before+j].GPUInstance, s.Processes[before+j].ComputeInstance = instance.GPUInstance, instance.ComputeInstance
		}
		r.join(part)
	}
}

func (r *reader) instance(dev *device) gpu.Instance {
	i := gpu.Instance{
		UUID:            text(r, "mig.uuid", "nvmlDeviceGetUUID", nvml.Device.GetUUID),
		GPUInstance:     count(r, "mig.gpu_instance", "nvmlDeviceGetGpuInstanceId", nvml.Device.GetGpuInstanceId),
		ComputeInstance: count(r, "mig.compute_instance", "nvmlDeviceGetComputeInstanceId", nvml.Device.GetComputeInstanceId),
		Memory:          r.memory("mig.memory"),
	}
	profile, ok := dev.profiles[i.UUID]
	if !ok {
		profile = profileOf(text(r, "mig.profile", "nvmlDeviceGetName", nvml.Device.GetName))
		if profile != "" && len(dev.profiles) < 1<<10 { // of a device that is cut again and again
			dev.profiles[i.UUID] = profile
		}
	}
	i.Profile = profile
	return i
}

// profileOf reads the name of a MIG device: NVIDIA H100 80GB HBM3 MIG 1g.10gb.
func profileOf(name string) string {
	_, profile, _ := strings.Cut(name, " MIG ")
	return profile
}

// processes adds those of the device, and reports whether all are known.
func (r *reader) processes(s *gpu.Sample) bool {
	known := false
	for _, kind := range []struct {
		kind gpu.ProcessKind
		list function
		call func(nvml.Device) ([]nvml.ProcessInfo, nvml.Return)
	}{
		{gpu.ProcessCompute, "nvmlDeviceGetComputeRunningProcesses", nvml.Device.GetComputeRunningProcesses},
		{gpu.ProcessGraphics, "nvmlDeviceGetGraphicsRunningProcesses", nvml.Device.GetGraphicsRunningProcesses},
		{gpu.ProcessMPS, "nvmlDeviceGetMPSComputeRunningProcesses", nvml.Device.GetMPSComputeRunningProcesses},
	} {
		list := get(r, "processes."+string(kind.kind), kind.list, kind.call)
		known = known || list.Known && kind.kind == gpu.ProcessCompute
		for _, info := range list.V {
			p := gpu.Process{PID: info.Pid, Kind: kind.kind, GPUInstance: instanceID(info.GpuInstanceId), ComputeInstance: instanceID(info.ComputeInstanceId)}
			if info.UsedGpuMemory != notAvailable {
				p.UsedMemory = gpu.Known(info.UsedGpuMemory)
			}
			s.Processes = append(s.Processes, p)
		}
	}
	return known
}

// processUtilization adds how much each process ran. The driver lists those alone
// that ran at all, and answers "not found" if none did.
func (r *reader) processUtilization(dev *device, processes []gpu.Process) {
	if len(processes) == 0 || !r.may("nvmlDeviceGetProcessUtilization") {
		return
	}
	list, ret := r.device.GetProcessUtilization(dev.processSeen)
	// go-nvml passes the size that NVML asks for as an error, if it is 0.
	if ret == nvml.ERROR_NOT_FOUND || ret == nvml.ERROR_INSUFFICIENT_SIZE || !r.ok("processes.sm_utilization", ret) {
		return
	}
	percent := map[uint32]uint32{}
	for _, u := range list {
		percent[u.Pid] = u.SmUtil
		dev.processSeen = max(dev.processSeen, u.TimeStamp)
	}
	for i, p := range processes {
		if v, ok := percent[p.PID]; ok {
			processes[i].SMUtilization = gpu.Known(v)
		}
	}
}
