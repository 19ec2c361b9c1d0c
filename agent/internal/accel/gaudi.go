package accel

import (
	"cmp"
	"slices"
	"strings"

	"github.com/budecosystem/budcluster/agent/internal/sysfs"
)

// Gaudi is an accelerator that the driver habanalabs has.
type Gaudi struct {
	// PCI is its place, e.g. 0000:19:00.0.
	PCI string `json:"pci"`
	// Name is the device's, accel0 or, of older drivers, hl0.
	Name     string `json:"name"`
	NUMANode *int32 `json:"numaNode,omitempty"`
	// Model is the driver's word for it, e.g. GAUDI2.
	Model string `json:"model,omitempty"`
	// ModuleID is the place on the board, by which the links between Gaudis are
	// wired.
	ModuleID *int32 `json:"moduleId,omitempty"`
	// Driver is its version; the kernel's own habanalabs has none.
	Driver string `json:"driver,omitempty"`
	// Firmware, Management and Preboot are the versions of the device's
	// operating system, of the program that manages it, and of what starts them.
	Firmware   string `json:"firmware,omitempty"`
	Management string `json:"management,omitempty"`
	Preboot    string `json:"preboot,omitempty"`
}

// GaudiState is how a Gaudi is doing.
type GaudiState struct {
	PCI string `json:"pci"`
	// Status is Operational, or In reset, In reset after device release, Needs
	// reset, In device creation, Disabled, Malfunction. Only the first works.
	Status       string        `json:"status,omitempty"`
	Temperatures []Temperature `json:"temperatures,omitempty"`
	Watts        *float64      `json:"watts,omitempty"`
	// CapWatts is the most that it may take.
	CapWatts *float64 `json:"capWatts,omitempty"`
	ClockHz  *int64   `json:"clockHz,omitempty"`
	// Resets counts hard resets since the driver was loaded.
	Resets *int64 `json:"resets,omitempty"`
}

const (
	accelDir  = "sys/class/accel" // which other drivers use too
	habanaDir = "sys/class/habanalabs"

	// maxMHz is far above any clock, and maxResets above any count.
	maxMHz    = 100_000
	maxResets = 1 << 31
	maxModule = 255
)

// gaudi finds the devices (Documentation/ABI/testing/sysfs-driver-habanalabs,
// whose newer versions name the class accel; drivers/accel/habanalabs/common/sysfs.c).
func (r *reader) gaudi() []Gaudi {
	var found []Gaudi
	for _, class := range []struct{ dir, prefix string }{{accelDir, "accel"}, {habanaDir, "hl"}} {
		for _, name := range r.Numbered(class.dir, class.prefix) {
			dir := gaudiDir(name)
			model := r.Text(dir + "/device_type")
			if model == "" {
				continue // another driver's
			}
			pci := cmp.Or(r.Text(dir+"/pci_addr"), r.LinkName(class.dir+"/"+name+"/device"))
			if !sysfs.PCIAddress(pci) {
				r.Problem("/%s/pci_addr is %q and not a place on PCI such as 0000:19:00.0, so the device is ignored", dir, pci)
				continue
			}
			if slices.ContainsFunc(found, func(g Gaudi) bool { return g.PCI == pci }) {
				continue // in both classes
			}
			found = append(found, r.gaudiAt(name, pci, model))
		}
	}
	slices.SortFunc(found, func(a, b Gaudi) int { return strings.Compare(a.PCI, b.PCI) })
	return found
}

// gaudiDir is the folder of a device's files.
func gaudiDir(name string) string {
	if strings.HasPrefix(name, "accel") {
		return accelDir + "/" + name + "/device"
	}
	return habanaDir + "/" + name
}

// gaudiAt reads the rest. armcp is what cpucp was called before Linux 5.10;
// driver_ver is of Intel's own release of the driver.
func (r *reader) gaudiAt(name, pci, model string) Gaudi {
	dir := gaudiDir(name)
	return Gaudi{
		PCI: pci, Name: name, NUMANode: r.NUMANode(pciDir + pci + "/numa_node"), Model: model,
		ModuleID: r.Int32(dir+"/module_id", 0, maxModule),
		Driver:   cmp.Or(r.Text(dir+"/driver_ver"), r.Text("sys/module/habanalabs/version")),
		Firmware: r.Text(dir + "/fw_os_ver"), Management: cmp.Or(r.Text(dir+"/cpucp_ver"), r.Text(dir+"/armcp_ver")),
		Preboot: r.Text(dir + "/preboot_btl_ver"),
	}
}

func (r *reader) gaudiState(g Gaudi) GaudiState {
	dir := gaudiDir(g.Name)
	state := GaudiState{PCI: g.PCI, Status: r.Text(dir + "/status"), Resets: r.Int(dir+"/hard_reset_cnt", 0, maxResets)}
	s := r.hwmon(pciDir + g.PCI)
	state.Temperatures, state.Watts = s.temperatures, s.watts
	if milli := r.Int(dir+"/max_power", 0, maxMicrowatts/1000); milli != nil { // in milliwatts, unlike hwmon's
		state.CapWatts = new(float64(*milli) / 1000)
	}
	if mhz := r.Int(dir+"/clk_cur_freq_mhz", 0, maxMHz); mhz != nil {
		state.ClockHz = new(*mhz * 1e6)
	}
	return state
}
