package host

import (
	"bytes"
	"math"
	"strconv"
	"strings"

	"github.com/budecosystem/budcluster/agent/internal/sysfs"
)

// Accelerator is a device on PCI that computes, or that NVIDIA or AMD sells as
// a display adapter. It is there whether or not a driver is.
type Accelerator struct {
	// Address is its place, e.g. 0000:17:00.0.
	Address string `json:"address"`
	// Class is class, subclass and interface, e.g. 030200 for a GPU without a
	// display and 120000 for a processing accelerator.
	Class string `json:"class"`
	// Vendor, Device and their subsystem's ids are as PCI has them, e.g. 10de.
	Vendor          string `json:"vendor,omitempty"`
	Device          string `json:"device,omitempty"`
	SubsystemVendor string `json:"subsystemVendor,omitempty"`
	SubsystemDevice string `json:"subsystemDevice,omitempty"`
	// Driver is empty when none has it.
	Driver   string `json:"driver,omitempty"`
	NUMANode *int32 `json:"numaNode,omitempty"`
	// IOMMUGroup is nil where the IOMMU is off.
	IOMMUGroup *int32 `json:"iommuGroup,omitempty"`
	// VirtualFunction is true for a slice of another device (SR-IOV).
	VirtualFunction bool `json:"virtualFunction,omitempty"`
	// MaxLink is what the device itself can do, not its slot.
	MaxLink Link `json:"maxLink,omitzero"`
}

// Link is a PCI Express link.
type Link struct {
	// MTs is megatransfers per second and lane: 16000 is PCIe 4.0.
	MTs int32 `json:"mts,omitempty"`
	// Lanes is its width.
	Lanes int32 `json:"lanes,omitempty"`
}

// LinkState is the link as it runs. An idle GPU slows it down, so that only a
// narrow one, or a slow one under load, is a fault.
type LinkState struct {
	Address string `json:"address"`
	Link
}

const (
	// maxAccelerators is more than any node has, with all virtual functions.
	maxAccelerators = 1024
	maxMTs          = 1_000_000
	// maxLanes is the widest link that PCI Express knows; the kernel gives 255
	// for a width that is unknown (drivers/pci/pci-sysfs.c).
	maxLanes = 32
	maxGroup = 1 << 20
)

// accelerators reads /sys/bus/pci/devices (Documentation/PCI/sysfs-pci.rst). A
// node has hundreds of devices, so that of the others only the class is read.
func (r *reader) accelerators() []Accelerator {
	var found []Accelerator
	for _, address := range r.Names(pciDir[:len(pciDir)-1]) {
		if !sysfs.PCIAddress(address) {
			continue
		}
		dir := pciDir + address + "/"
		class := r.Hex(dir+"class", 6)
		if !computes(class) {
			continue
		}
		vendor := r.Hex(dir+"vendor", 4)
		if strings.HasPrefix(class, "0300") && vendor != "10de" && vendor != "1002" {
			continue // the console of a board's controller
		}
		if len(found) == maxAccelerators {
			r.Problem("the node has more than %d accelerators on PCI; the others are left out", maxAccelerators)
			break
		}
		found = append(found, r.accelerator(address, class, vendor))
	}
	return found
}

// computes: displays (03), coprocessors (0b40) and processing accelerators
// (12), by the PCI Code and ID Assignment Specification 1.16.
func computes(class string) bool {
	return strings.HasPrefix(class, "03") || strings.HasPrefix(class, "0b40") || strings.HasPrefix(class, "12")
}

func (r *reader) accelerator(address, class, vendor string) Accelerator {
	dir := pciDir + address + "/"
	a := Accelerator{
		Address: address, Class: class, Vendor: vendor, Device: r.Hex(dir+"device", 4),
		SubsystemVendor: r.Hex(dir+"subsystem_vendor", 4), SubsystemDevice: r.Hex(dir+"subsystem_device", 4),
		Driver: r.LinkName(dir + "driver"), NUMANode: r.NUMANode(dir + "numa_node"),
		VirtualFunction: r.Link(dir+"physfn") != "", MaxLink: r.link(dir + "max_link_"),
	}
	// The link ends in the group's number (Documentation/ABI/testing/sysfs-kernel-iommu_groups).
	if n, err := strconv.ParseUint(r.LinkName(dir+"iommu_group"), 10, 31); err == nil && n <= maxGroup {
		a.IOMMUGroup = new(int32(n))
	}
	return a
}

func (r *reader) linkState(address string) LinkState {
	return LinkState{Address: address, Link: r.link(pciDir + address + "/current_link_")}
}

// link reads the files speed and width behind a prefix.
func (r *reader) link(prefix string) Link {
	var link Link
	if data := r.Bytes(prefix + "speed"); data != nil {
		speed, ok := parseLinkSpeed(data)
		if !ok {
			r.Problem("/%sspeed is %s and not a speed such as 16.0 GT/s PCIe, so it is unknown", prefix, sysfs.Quote(data))
		}
		link.MTs = speed
	}
	if width := r.Int32(prefix+"width", 0, 255); width != nil && *width <= maxLanes {
		link.Lanes = *width
	}
	return link
}

// parseLinkSpeed reads "16.0 GT/s PCIe", "8 GT/s" of kernels before 5.8, and
// "Unknown", which is 0 (pci_speed_string in drivers/pci/probe.c).
func parseLinkSpeed(data []byte) (int32, bool) {
	data = bytes.TrimSpace(data)
	if bytes.HasPrefix(data, []byte("Unknown")) {
		return 0, true
	}
	number, _, ok := bytes.Cut(data, []byte(" GT/s"))
	gts, err := strconv.ParseFloat(string(number), 64)
	if !ok || err != nil || math.IsNaN(gts) || gts <= 0 || gts >= maxMTs/1000 {
		return 0, false
	}
	return int32(gts*1000 + 0.5), true
}
