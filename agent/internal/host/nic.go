package host

import (
	"bytes"
	"math"
	"strconv"
	"strings"

	"github.com/budecosystem/budcluster/agent/internal/sysfs"
)

// NIC is a network interface of the node that is hardware: a port of a card, or
// a virtual function of one. Bridges, bonds and the ends of pods' cables are
// not.
type NIC struct {
	Name   string `json:"name"`
	Driver string `json:"driver,omitempty"`
	// PCI is the card's address, e.g. 0000:17:00.0.
	PCI      string `json:"pci,omitempty"`
	NUMANode *int32 `json:"numaNode,omitempty"`
	// RDMA are the devices in Facts.RDMA that share the card.
	RDMA []string `json:"rdma,omitempty"`
	// VirtualFunction is true for a slice of a card (SR-IOV).
	VirtualFunction bool `json:"virtualFunction,omitempty"`
}

// NICState is how an interface is doing.
type NICState struct {
	Name string `json:"name"`
	// State is RFC 2863's: up, down, lowerlayerdown, dormant, testing,
	// notpresent or unknown.
	State string `json:"state,omitempty"`
	// BitsPerSecond is the speed of the link, and nil without a cable.
	BitsPerSecond *int64 `json:"bitsPerSecond,omitempty"`
	MTUBytes      *int32 `json:"mtuBytes,omitempty"`
}

// RDMA is a device by which memory of other nodes is reached.
type RDMA struct {
	Name     string `json:"name"`
	PCI      string `json:"pci,omitempty"`
	NUMANode *int32 `json:"numaNode,omitempty"`
	// Firmware is its version.
	Firmware string `json:"firmware,omitempty"`
	Ports    []Port `json:"ports,omitempty"`
}

// Port is one port of an RDMA device.
type Port struct {
	Number int32 `json:"number"`
	// LinkLayer is InfiniBand, or Ethernet for RoCE.
	LinkLayer string `json:"linkLayer,omitempty"`
}

// PortState is how a port is doing.
type PortState struct {
	Device string `json:"device"`
	Port   int32  `json:"port"`
	// State is the logical one: DOWN, INIT, ARMED, ACTIVE or ACTIVE_DEFER. Only
	// an active port carries data.
	State string `json:"state,omitempty"`
	// Physical is e.g. LinkUp, Polling or Disabled.
	Physical      string `json:"physical,omitempty"`
	BitsPerSecond *int64 `json:"bitsPerSecond,omitempty"`
}

const (
	netDir  = "sys/class/net/"
	rdmaDir = "sys/class/infiniband/"
	pciDir  = "sys/bus/pci/devices/"

	// maxNICs bounds interfaces: eight cards with 127 virtual functions each.
	maxNICs = 1024
	// maxMbps is 1000 times the fastest Ethernet.
	maxMbps = 1_600_000_000
	maxMTU  = 1 << 20
	// maxPort is the highest number of a port of a switch.
	maxPort = 255
)

// nics reads /sys/class/net (Documentation/ABI/testing/sysfs-class-net). What
// is hardware has a link to its device there.
func (r *reader) nics() []NIC {
	var nics []NIC
	for _, name := range r.Names(netDir[:len(netDir)-1]) {
		device := netDir + name + "/device"
		if r.Link(device) == "" {
			continue
		}
		if len(nics) == maxNICs {
			r.Problem("the node has more than %d network interfaces; the others are left out", maxNICs)
			break
		}
		nic := NIC{
			Name: sysfs.Clean([]byte(name)), Driver: r.LinkName(device + "/driver"), PCI: pciPlace(r.Link(netDir + name)),
			RDMA: r.Names(device + "/infiniband"),
		}
		if nic.PCI != "" {
			nic.NUMANode = r.NUMANode(pciDir + nic.PCI + "/numa_node")
			nic.VirtualFunction = r.Link(pciDir+nic.PCI+"/physfn") != ""
		}
		nics = append(nics, nic)
	}
	return nics
}

// pciPlace is the last PCI address in a path of /sys/devices: an interface may
// lie deeper, below virtio for example.
func pciPlace(target string) string {
	for target != "" {
		at := strings.LastIndexByte(target, '/')
		if name := target[at+1:]; sysfs.PCIAddress(name) {
			return name
		}
		target = target[:max(at, 0)]
	}
	return ""
}

func (r *reader) nicState(name string) NICState {
	state := NICState{Name: name, State: r.Text(netDir + name + "/operstate"), MTUBytes: r.Int32(netDir+name+"/mtu", 0, maxMTU)}
	// -1 is a driver's word for a speed that it does not know.
	if mbps := r.Int(netDir+name+"/speed", -1, maxMbps); mbps != nil && *mbps > 0 {
		state.BitsPerSecond = new(*mbps * 1e6)
	}
	return state
}

// rdma reads /sys/class/infiniband (Documentation/ABI/stable/sysfs-class-infiniband).
func (r *reader) rdma() []RDMA {
	var devices []RDMA
	for _, name := range r.Names(rdmaDir[:len(rdmaDir)-1]) {
		device := RDMA{Name: sysfs.Clean([]byte(name)), PCI: pciPlace(r.Link(rdmaDir + name)), Firmware: r.Text(rdmaDir + name + "/fw_ver")}
		if device.PCI != "" {
			device.NUMANode = r.NUMANode(pciDir + device.PCI + "/numa_node")
		}
		for _, number := range r.Numbered(rdmaDir+name+"/ports", "") {
			n, err := strconv.ParseInt(number, 10, 32)
			if err != nil || n > maxPort {
				r.Problem("/%s%s has a port %s, and no device has more than %d, so it is ignored", rdmaDir, name, number, maxPort)
				continue
			}
			device.Ports = append(device.Ports, Port{Number: int32(n), LinkLayer: r.Text(rdmaDir + name + "/ports/" + number + "/link_layer")})
		}
		devices = append(devices, device)
	}
	return devices
}

func (r *reader) portState(device string, port int32) PortState {
	dir := rdmaDir + device + "/ports/" + strconv.Itoa(int(port)) + "/"
	state := PortState{
		Device: device, Port: port,
		State: afterNumber(r.Text(dir + "state")), Physical: afterNumber(r.Text(dir + "phys_state")),
	}
	if data := r.Bytes(dir + "rate"); data != nil {
		rate, ok := parseRate(data)
		if !ok {
			r.Problem("/%srate is %s and not a rate such as 400 Gb/sec (4X NDR), so it is unknown", dir, sysfs.Quote(data))
			return state
		}
		state.BitsPerSecond = &rate
	}
	return state
}

// afterNumber reads "4: ACTIVE".
func afterNumber(text string) string {
	_, word, ok := strings.Cut(text, ": ")
	if !ok {
		return text
	}
	return word
}

// parseRate reads "100 Gb/sec (4X EDR)", or with a fraction "2.5 Gb/sec (1X
// SDR)" (drivers/infiniband/core/sysfs.c), in bits per second.
func parseRate(data []byte) (int64, bool) {
	number, _, ok := bytes.Cut(bytes.TrimSpace(data), []byte(" Gb/sec"))
	gbps, err := strconv.ParseFloat(string(number), 64)
	if !ok || err != nil || math.IsNaN(gbps) || gbps < 0 || gbps >= maxMbps/1000 {
		return 0, false
	}
	return int64(gbps*1000+0.5) * 1e6, true
}
