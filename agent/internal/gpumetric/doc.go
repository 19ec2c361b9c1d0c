// Package gpumetric names what package gpu reads, so that Prometheus can have it:
// under our own names in base units, and, for the dashboards that there are, under
// those of NVIDIA's dcgm-exporter with its labels and units.
//
// A figure that the driver does not tell is left out. Figures that only DCGM's own
// profiling can give (DCGM_FI_PROF_*) are left out too, never shown as zero.
//
// Which container has a device is a series of its own, budcluster_gpu_owner_info,
// to be joined by uuid: an allocation is no use. The names of dcgm-exporter carry
// namespace, pod and container themselves, as their readers expect, where a device
// or an instance belongs to one container. If several share it, its use is nobody's
// and these labels are empty.
package gpumetric
