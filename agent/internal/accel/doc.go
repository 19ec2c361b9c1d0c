// Package accel reads accelerators that tell of themselves in /sys, AMD's GPUs
// and Intel's Gaudi, and knows which versions of NVIDIA's driver and container
// toolkit are vulnerable.
//
//	/sys/class/drm/card*/device   amdgpu: product, VRAM, load, RAS, hwmon ──┐
//	/sys/class/kfd/kfd/topology   amdkfd: gfx version, xGMI links ──────────┤
//	/sys/class/accel/accel*       habanalabs since Linux 6.8 ───────────────┼─► Read: Devices, ReadState: State
//	/sys/class/habanalabs/hl*     habanalabs before ────────────────────────┘
//
//	advisories.yaml ──► Advisories(driver, toolkit)
//
// The drivers are authoritative. Devices stay until one is plugged in or its
// driver is loaded again; State is for every sample. What a driver does not
// tell is nil or empty, which of Gaudi is its serial number and the size of its
// memory: both come by a call on the device only. What is there and makes no
// sense is left out and told of in a sentence.
//
// Nothing here opens a device, needs a right beyond reading /sys, or wakes a
// GPU that is suspended. NVIDIA's devices are not in /sys in any detail; they
// are read through its library, elsewhere.
package accel
