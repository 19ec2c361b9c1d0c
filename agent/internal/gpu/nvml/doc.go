// Package nvml reads NVIDIA's GPUs by the NVIDIA Management Library, through
// github.com/NVIDIA/go-nvml, and is the only importer of it. What the numbers mean
// is in NVML's header, nvml.h.
//
//	Open ─ dlopen libnvidia-ml.so.1 ─► driver, a gpu.Driver
//	List      the number of devices, of each the handle and the UUID
//	Describe  what does not change: 22 calls, and 3 for each NVLink
//	Sample    23 calls, one of which brings all counters; of MIG, 8 for each instance
//	Wait      one call: XID and ECC errors as they happen
//
// The library belongs to the driver of the node, is not there at build time and
// may be older or newer than the header. Three things follow.
//
// A function that the library lacks must not be called: the call is bound when it
// is made first, and then the dynamic linker ends the process. So Open looks up
// every function that is used, and a missing one is something that is not known.
//
// The library cannot be loaded again in the same process: what has been bound
// stays bound, whatever dlclose and dlopen do afterwards. So a replaced driver is
// gpu.ErrReplaced.
//
// A program with this package must be linked dynamically, against glibc, and
// lazily (-Wl,-z,lazy): a static one crashes where there is a GPU.
//
// Without cgo the package builds and answers gpu.NotBuilt.
package nvml
