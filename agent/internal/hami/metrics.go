package hami

// figure is what a metric of HAMi's tells of a device or a slice.
type figure uint8

const (
	deviceMemoryLimit figure = iota + 1
	deviceMemoryAllocated
	deviceMemoryUsed
	deviceCoreLimit
	deviceCoreAllocated
	deviceCoreUsed
	deviceContainers
	deviceOverview // for its labels
	deviceMIG      // that there is one
	sliceMemoryAllocated
	sliceMemoryLimit
	sliceMemoryUsed
	sliceCoreAllocated
	sliceCoreUsed
	sliceAllocated // memory is the value, cores a label
	figures        = int(sliceAllocated) + 1
)

func (f figure) ofSlice() bool { return f >= sliceMemoryAllocated }

// source is the program that serves the metric.
func (f figure) source() Source {
	switch f {
	case deviceMemoryUsed, deviceCoreUsed, sliceMemoryLimit, sliceMemoryUsed, sliceCoreUsed:
		return SourceMonitor
	default:
		return SourceScheduler
	}
}

// family is the generation of a metric's name; the higher counts.
type family uint8

const (
	older   family = iota + 1 // of before 2.10, and since with --legacy-metrics
	current                   // hami_*, since 2.10
)

// meaning gives the figure that a metric tells, of those that are read: the names
// are in cmd/scheduler/metrics.go and cmd/vGPUmonitor/metrics.go of HAMi 2.10, and
// vGPUPodsDeviceAllocated in those of before 2.8.
func meaning(name []byte) (figure, family) {
	switch string(name) {
	case "hami_gpu_memory_limit_bytes":
		return deviceMemoryLimit, current
	case "GPUDeviceMemoryLimit":
		return deviceMemoryLimit, older
	case "hami_gpu_memory_allocated_bytes":
		return deviceMemoryAllocated, current
	case "GPUDeviceMemoryAllocated":
		return deviceMemoryAllocated, older
	case "hami_host_gpu_memory_used_bytes":
		return deviceMemoryUsed, current
	case "HostGPUMemoryUsage":
		return deviceMemoryUsed, older
	case "hami_gpu_core_limit_ratio":
		return deviceCoreLimit, current
	case "GPUDeviceCoreLimit":
		return deviceCoreLimit, older
	case "hami_gpu_core_allocated_ratio":
		return deviceCoreAllocated, current
	case "GPUDeviceCoreAllocated":
		return deviceCoreAllocated, older
	case "hami_host_gpu_utilization_ratio":
		return deviceCoreUsed, current
	case "HostCoreUtilization":
		return deviceCoreUsed, older
	case "hami_gpu_shared_count":
		return deviceContainers, current
	case "GPUDeviceSharedNum":
		return deviceContainers, older
	case "hami_node_gpu_overview":
		return deviceOverview, current
	case "nodeGPUOverview":
		return deviceOverview, older
	case "hami_node_gpu_mig_instance_info":
		return deviceMIG, current
	case "nodeGPUMigInstance":
		return deviceMIG, older
	case "hami_vgpu_memory_allocated_bytes":
		return sliceMemoryAllocated, current
	case "vGPUMemoryAllocated":
		return sliceMemoryAllocated, older
	case "hami_vgpu_memory_limit_bytes":
		return sliceMemoryLimit, current
	case "vGPU_device_memory_limit_in_bytes":
		return sliceMemoryLimit, older
	case "hami_vgpu_memory_used_bytes":
		return sliceMemoryUsed, current
	case "vGPU_device_memory_usage_in_bytes":
		return sliceMemoryUsed, older
	case "hami_vgpu_core_allocated_ratio":
		return sliceCoreAllocated, current
	case "vGPUCoreAllocated":
		return sliceCoreAllocated, older
	case "hami_container_device_utilization_ratio":
		return sliceCoreUsed, current
	case "Device_utilization_desc_of_container":
		return sliceCoreUsed, older
	case "vGPUPodsDeviceAllocated":
		return sliceAllocated, older
	default:
		return 0, 0
	}
}

// known reports whether a metric is one of HAMi's that are of no use here.
func known(name []byte) bool {
	switch string(name) {
	case "hami_build_info", "hami_node_gpu_memory_allocated_ratio", "hami_resource_quota_used", "hami_resource_quota_limit",
		"hami_host_gpu_memory_controller_utilization_ratio", // has no node
		"hami_host_gpu_temperature_celsius", "hami_host_gpu_power_usage_watts", "hami_host_gpu_ecc_errors_total",
		"hami_container_device_memory_bytes", // hami_vgpu_memory_used_bytes says the same
		"hami_container_last_kernel_elapsed_seconds", "hami_mig_device_info",
		"hami_vgpu_memory_context_bytes", "hami_vgpu_memory_module_bytes", "hami_vgpu_memory_buffer_bytes":
		return true
	default:
		return false
	}
}

// labelled is what the labels of a series name. The texts are parts of one that
// the parser made for the series, so what is kept of them is copied.
type labelled struct {
	node, uuid, part, index, deviceType string
	namespace, pod, container, position string
	vdevice, cores, memoryMiB           string
}

// take sorts a label in, by either family's name; nmodename is how the oldest
// spelled it.
func (l *labelled) take(name, value string) {
	switch name {
	case "node", "nodeid", "nodename", "nmodename":
		l.node = value
	case "device_uuid", "deviceuuid":
		l.uuid = value
	case "device_index", "deviceidx":
		l.index = value
	case "device_type", "devicetype":
		l.deviceType = value
	case "namespace", "podnamespace":
		l.namespace = value
	case "pod", "podname":
		l.pod = value
	case "container", "ctrname":
		l.container = value
	case "container_index", "containeridx":
		l.position = value
	case "vdevice_index", "vdeviceid":
		l.vdevice = value
	case "deviceusedcore":
		l.cores = value
	case "device_memory_limit", "devicememorylimit":
		l.memoryMiB = value
	}
}
