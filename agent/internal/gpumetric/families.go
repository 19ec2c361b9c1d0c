package gpumetric

import "github.com/budecosystem/budcluster/agent/internal/metric"

// families are those that are no plain figures of a device.
type families struct {
	info, healthy, condition, xids, owner, instanceTotal, instanceMemory, lastXID metric.Desc
}

func newFamilies() families {
	return families{
		info: metric.Desc{
			Name: "budcluster_gpu_info", Help: "The device, with what does not change about it.", Type: metric.Gauge,
			Labels: []string{"uuid", "index", "model", "architecture", "compute_capability", "pci_bus_id", "serial", "driver_version", "cuda_version"},
		},
		healthy: metric.Desc{
			Name: "budcluster_gpu_healthy", Help: "1 if work may be put on the device, 0 if not; absent while that is unknown.", Type: metric.Gauge,
			Labels: []string{"uuid", "index"},
		},
		condition: metric.Desc{
			Name: "budcluster_gpu_condition_info", Help: "Something that is wrong with the device.", Type: metric.Gauge,
			Labels: []string{"uuid", "index", "reason"},
		},
		xids: metric.Desc{
			Name: "budcluster_gpu_xid_errors_total", Help: "XID errors that the driver reported since this agent runs.", Type: metric.Counter,
			Labels: []string{"uuid", "index", "xid"},
		},
		owner: metric.Desc{
			Name: "budcluster_gpu_owner_info", Help: "A container that the device, or an instance of it, was given to.", Type: metric.Gauge,
			Labels: []string{"uuid", "index", "instance_uuid", "namespace", "pod", "container"},
		},
		instanceTotal: metric.Desc{
			Name: "budcluster_gpu_instance_memory_total_bytes", Help: "Memory of a MIG instance.", Type: metric.Gauge, Unit: "bytes",
			Labels: []string{"uuid", "index", "instance_uuid", "gpu_instance", "profile"},
		},
		instanceMemory: metric.Desc{
			Name: "budcluster_gpu_instance_memory_bytes", Help: "Memory of a MIG instance by state: used or free.", Type: metric.Gauge, Unit: "bytes",
			Labels: []string{"uuid", "index", "instance_uuid", "gpu_instance", "profile", "state"},
		},
		lastXID: metric.Desc{
			Name: "DCGM_FI_DEV_XID_ERRORS", Help: "Number of the last XID error, 0 while there was none.", Type: metric.Gauge, Labels: dcgmLabels(), Foreign: true,
		},
	}
}

// Catalogue lists every family that an Exporter can have, once.
func Catalogue() []metric.Desc {
	f := newFamilies()
	all := []metric.Desc{f.info, f.healthy, f.condition, f.xids, f.owner, f.instanceTotal, f.instanceMemory, f.lastXID}
	seen := map[string]bool{}
	for _, one := range append(own(), dcgm()...) {
		if !seen[one.desc.Name] {
			seen[one.desc.Name] = true
			all = append(all, one.desc)
		}
	}
	return all
}
