// Package host reads what a node is made of from its own /proc and /sys: CPU,
// memory, NUMA nodes, network and RDMA devices, kernel modules, and the
// accelerators on PCI.
//
//	/proc/cpuinfo, /sys/devices/system/{cpu,node}   ──► CPU, NUMA ─┐
//	/proc/meminfo, /sys/kernel/mm/hugepages         ──► Memory ────┤
//	/proc/sys/kernel/osrelease, /etc/os-release     ──► Kernel, OS ┤──► Read: Facts
//	/sys/class/{net,infiniband}                     ──► NICs, RDMA ┤
//	/sys/module, /sys/bus/pci/devices               ──► Modules, … ┘
//	                                                                   │ names of what was found
//	the few of these files that change by themselves ◄─────────────────┘──► ReadState: State
//
// The kernel is authoritative: nothing is measured, guessed or taken from a
// table of products but for the two names that no file holds, the generation
// of a CPU and the core of an ARM CPU, which follow from its numbers.
//
// Facts stay until hardware is plugged in or a driver is loaded. Reading them
// takes one file per core, per cache and per device and is for the start and
// every few minutes. State is a dozen files and is for every sample.
//
// What the kernel does not tell is nil or empty, in a container with little in
// /sys as on a machine without NUMA. What it tells and cannot be is left out,
// and a sentence names the file, its content and what would have been right.
// Nothing here panics, writes, runs a program or opens a device.
package host
