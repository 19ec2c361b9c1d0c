package accel_test

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/budecosystem/budcluster/agent/internal/sysfs/sysfstest"
)

// machine is the /sys of a node that was never built. Its files have the form
// of the drivers', its values are those of parts that are sold.
type machine struct{ sysfstest.Tree }

func newMachine() machine { return machine{sysfstest.Tree{}} }

// card puts a GPU of AMD at a place and gives its folder.
func (m machine) card(number int, port, pci string, texts map[string]string) string {
	dir := m.PCI(port, pci, texts)
	m.Driver(dir, "amdgpu")
	name := "card" + strconv.Itoa(number)
	m.File(dir+"/drm/"+name+"/dev", "226:"+strconv.Itoa(number))
	m.Link(dir+"/drm/"+name+"/device", "../../../"+pci)
	m.Link("sys/class/drm/"+name, "../../"+strings.TrimPrefix(dir, "sys/")+"/drm/"+name)
	return dir
}

// kfd adds a node of the compute topology.
func (m machine) kfd(node int, properties map[string]uint64) {
	var text strings.Builder
	for _, name := range []string{"cpu_cores_count", "simd_count", "io_links_count", "gfx_target_version", "vendor_id", "device_id", "location_id", "domain", "hive_id"} {
		fmt.Fprintf(&text, "%s %d\n", name, properties[name])
	}
	m.File("sys/devices/virtual/kfd/kfd/topology/nodes/"+strconv.Itoa(node)+"/properties", text.String()+"drm_render_minor -1\ngpu_family gfx94X")
}

func (m machine) kfdLink(node, number, kind, to, weight, bandwidth int) {
	m.File(fmt.Sprintf("sys/devices/virtual/kfd/kfd/topology/nodes/%d/io_links/%d/properties", node, number), fmt.Sprintf(
		"type %d\nversion_major 0\nnode_from %d\nnode_to %d\nweight %d\nmin_bandwidth %d\nmax_bandwidth %d\nflags 1", kind, node, to, weight, bandwidth/2, bandwidth))
}

// instinct is two MI300X with xGMI between them, each one partition, with a
// driver of AMD's own; their cards of the display's partitions, which are not
// on PCI; and the console.
func instinct() machine {
	m := newMachine()
	for i, pci := range []string{"0000:0c:00.0", "0000:22:00.0"} {
		dir := m.card(i+1, "0000:0"+strconv.Itoa(i)+":01.1", pci, map[string]string{
			"numa_node": strconv.Itoa(i), "product_name": "AMD Instinct MI300X OAM", "serial_number": "69224900123" + strconv.Itoa(i),
			"unique_id": fmt.Sprintf("c0ffee00ab%06x", i+1), "mem_info_vram_total": "206141652992", "mem_info_vram_used": "297349120", "gpu_busy_percent": "0",
			"vbios_version": "113-M3000100-102", "current_compute_partition": "SPX", "current_memory_partition": "NPS1",
		})
		m.Files(dir+"/hwmon/hwmon"+strconv.Itoa(4+i), map[string]string{
			"name": "amdgpu", "temp2_input": "44000", "temp2_label": "junction", "temp3_input": "35500", "temp3_label": "mem",
			"power1_input": "137000000", "power1_cap": "750000000", "in0_input": "700",
		})
		m.Files(dir+"/ras", map[string]string{
			"umc_err_count": "ue: 0\nce: 3\nde: 1", "gfx_err_count": "ue: 0\nce: 0", "features": "feature mask: 0x1f",
		})
		m.File(dir+"/power/runtime_status", "active")
	}
	m.File("sys/devices/platform/amdgpu_xcp_0/drm/card3/dev", "226:3")
	m.Link("sys/devices/platform/amdgpu_xcp_0/drm/card3/device", "../../../amdgpu_xcp_0")
	m.Link("sys/class/drm/card3", "../../devices/platform/amdgpu_xcp_0/drm/card3")
	m.Link("sys/class/drm/card3-Virtual-1", "../../devices/platform/amdgpu_xcp_0/drm/card3/card3-Virtual-1")
	console := m.PCI("", "0000:c4:00.0", map[string]string{"numa_node": "0"})
	m.Driver(console, "ast")
	m.File(console+"/drm/card0/dev", "226:0")
	m.Link(console+"/drm/card0/device", "../../../0000:c4:00.0")
	m.Link("sys/class/drm/card0", "../../"+strings.TrimPrefix(console, "sys/")+"/drm/card0")
	m.File("sys/module/amdgpu/version", "6.12.12")
	m.Link("sys/class/kfd/kfd", "../../devices/virtual/kfd/kfd")
	for node := range 2 {
		m.kfd(node, map[string]uint64{"cpu_cores_count": 96})
		m.kfd(2+node, map[string]uint64{
			"simd_count": 1216, "gfx_target_version": 90402, "vendor_id": 4098, "device_id": 29857, "location_id": []uint64{0x0c00, 0x2200}[node], "hive_id": 0x9f3c1d2e4b5a6978,
		})
		m.kfdLink(2+node, 0, 2, node, 20, 64000) // PCI Express to the CPU
		m.kfdLink(2+node, 1, 11, 3-node, 15, 64000)
	}
	return m
}

// workstation is a Radeon that tells less than a server's card, by the kernel's
// own driver, and one that sleeps, in partitions of a chip that does not.
func workstation() machine {
	m := newMachine()
	dir := m.card(0, "0000:00:01.1", "0000:03:00.0", map[string]string{
		"numa_node": "-1", "unique_id": "1a2b3c4d5e6f7081", "mem_info_vram_total": "25753026560", "mem_info_vram_used": "1048576", "gpu_busy_percent": "97", "mem_busy_percent": "41",
	})
	m.Files(dir+"/hwmon/hwmon2", map[string]string{
		"temp1_input": "61000", "temp1_label": "edge", "temp2_input": "78000", "power1_average": "305000000", "power1_cap": "355000000",
	})
	asleep := m.card(1, "0000:00:02.1", "0000:0a:00.0", map[string]string{"mem_info_vram_total": "17163091968", "mem_info_vram_used": "1", "gpu_busy_percent": "1"})
	m.File(asleep+"/power/runtime_status", "suspended")
	m.Link("sys/class/kfd/kfd", "../../devices/virtual/kfd/kfd")
	m.kfd(0, map[string]uint64{"cpu_cores_count": 16})
	m.kfd(1, map[string]uint64{"simd_count": 192, "gfx_target_version": 110000, "location_id": 0x0300})
	m.kfd(2, map[string]uint64{"simd_count": 64, "gfx_target_version": 90010, "location_id": 0x0a00})
	m.kfd(3, map[string]uint64{"simd_count": 64, "gfx_target_version": 90010, "location_id": 0x10000a00})
	for node := 2; node <= 3; node++ { // both partitions use the one link to the other GPU, and one within their own
		m.kfdLink(node, 0, 11, 1, 15, 32000)
		m.kfdLink(node, 1, 11, 5-node, 13, 64000)
	}
	return m
}

// gaudi2 is a Gaudi 2 by Intel's own driver, beside an NPU of another driver in
// the same class, and one in reset.
func gaudi2() machine {
	m := newMachine()
	for i, pci := range []string{"0000:33:00.0", "0000:34:00.0"} {
		dir := m.PCI("0000:00:0"+strconv.Itoa(i)+".0", pci, map[string]string{
			"numa_node": "0", "device_type": "GAUDI2", "pci_addr": pci, "module_id": strconv.Itoa(i), "driver_ver": "1.21.3-57a8d11",
			"fw_os_ver": "Linux gaudi2 5.10.18-hl-gaudi2-1.21.3-fw-60.3.2-sec-9 #1 SMP PREEMPT", "cpucp_ver": "hl-gaudi2-1.21.3-fw-60.3.2-sec-9", "armcp_ver": "older",
			"preboot_btl_ver": "Preboot version hl-gaudi2-1.21.3-fw-60.3.2-sec-9", "status": []string{"Operational", "In reset"}[i], "hard_reset_cnt": strconv.Itoa(i),
			"max_power": "600000", "clk_cur_freq_mhz": "1650",
		})
		m.Driver(dir, "habanalabs")
		m.Files(dir+"/hwmon/hwmon"+strconv.Itoa(i+5), map[string]string{"temp1_input": "31000", "temp10_input": "45000", "power1_input": "98000000"})
		name := "accel" + strconv.Itoa(i)
		m.Link("sys/devices/virtual/accel/"+name+"/device", "../../../pci"+pci[:7]+"/0000:00:0"+strconv.Itoa(i)+".0/"+pci)
		m.Link("sys/class/accel/"+name, "../../devices/virtual/accel/"+name)
	}
	m.File("sys/class/habanalabs/hl0/device_type", "GAUDI2") // of a driver that fills both classes
	m.File("sys/class/habanalabs/hl0/pci_addr", "0000:33:00.0")
	m.Link("sys/class/habanalabs/hl0/device", "../../../bus/pci/devices/0000:33:00.0")
	npu := m.PCI("", "0000:00:0b.0", map[string]string{"vendor": "0x8086"})
	m.Link("sys/class/accel/accel2/device", "../../../"+strings.TrimPrefix(npu, "sys/"))
	return m
}

// gaudi1 is a first Gaudi by the kernel's own driver of Linux 5.10.
func gaudi1() machine {
	m := newMachine()
	m.Files("sys/class/habanalabs/hl0", map[string]string{
		"device_type": "GAUDI", "pci_addr": "0000:19:00.0", "armcp_ver": "1.2.3", "uboot_ver": "U-Boot 2020", "status": "Malfunction", "max_power": "350000",
	})
	m.Link("sys/class/habanalabs/hl0/device", "../../../bus/pci/devices/0000:19:00.0")
	m.File("sys/class/habanalabs/hl_controlD0/dev", "240:1")
	m.File("sys/bus/pci/devices/0000:19:00.0/numa_node", "1")
	return m
}
