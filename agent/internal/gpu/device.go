package gpu

// System is what one driver serves.
type System struct {
	// DriverVersion is that of the kernel driver, such as 570.86.15.
	DriverVersion string
	// LibraryVersion is that of libnvidia-ml.so.1, such as 12.570.86.15.
	LibraryVersion string
	// CUDAVersion is the newest that the driver can run, such as 12.8.
	CUDAVersion string
}

// Inventory is what a node has. Texts are empty where they are unknown.
type Inventory struct {
	System   System
	Devices  []Device // by index
	Problems []Problem
}

// Device is what does not change about a GPU while the driver is loaded.
type Device struct {
	// ID names the device to Source: its UUID, or "index-N" if that cannot be read.
	ID string
	// Index is the driver's own, by PCI bus; it may change with a reboot.
	Index        int
	UUID, Serial string
	Model        string // such as NVIDIA H100 80GB HBM3
	Architecture string // such as Hopper
	// ComputeCapability is of the form 9.0.
	ComputeCapability string
	// PCIBusID is domain:bus:device.function, with a domain of eight hex digits as
	// the driver writes it; the kernel's has four.
	PCIBusID string
	// Minor is that of /dev/nvidiaN.
	Minor Value[uint32]
	// NUMANode is the one whose memory is nearest.
	NUMANode          Value[uint32]
	PowerLimits       PowerLimits
	MaxClocks         Clocks
	TemperatureLimits TemperatureLimits
	MaxPCIe           PCIeLink
	// Links are the NVLinks that the device has, connected or not.
	Links []Link
	// MaxInstances is how many MIG instances the device can be cut into.
	MaxInstances Value[uint32]
	// Lost: the device has fallen off the bus. The rest is what was known before.
	Lost     bool
	Problems []Problem
}

// PowerLimits are between what, and what the power limit may be set to, in mW.
type PowerLimits struct {
	MinMilliwatts, MaxMilliwatts, DefaultMilliwatts Value[uint32]
}

// TemperatureLimits are in °C.
type TemperatureLimits struct {
	// Slowdown is where the hardware throttles, Shutdown where it stops.
	Slowdown, Shutdown Value[uint32]
	// MemoryMax is where the memory throttles.
	MemoryMax Value[uint32]
}

// PCIeLink is one link's generation and number of lanes.
type PCIeLink struct {
	Generation, Width Value[uint32]
}

// Link is one NVLink.
type Link struct {
	Number int
	// Version is NVLink's generation, as the driver counts it.
	Version Value[uint32]
	Peer    Peer
	// PeerPCIBusID is that of the device at the other end.
	PeerPCIBusID string
}

// Peer is the kind of device at the other end of an NVLink.
type Peer string

// The kinds of peers; an empty one is unknown.
const (
	PeerGPU    Peer = "GPU"
	PeerSwitch Peer = "Switch" // an NVSwitch
	PeerNPU    Peer = "NPU"    // the port of an IBM POWER9
)

// Problem is why something that a driver has is not known.
type Problem struct {
	// Field is the name of what is missing, such as memory or ecc.volatile.
	Field string
	// Reason is what the driver answered, or what is wrong with the number.
	Reason string
}

func (p Problem) String() string { return p.Field + ": " + p.Reason }
