package host_test

import (
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/budecosystem/budcluster/agent/internal/sysfs/sysfstest"
)

// machine is the /proc and /sys of a node that was never built. Its files have
// the form of the kernel's, its values are those of a part that is sold.
type machine struct{ sysfstest.Tree }

func newMachine() machine { return machine{sysfstest.Tree{}} }

// layout is how CPUs are numbered on two-way machines: first one thread of each
// core, socket by socket, and then the others.
type layout struct {
	sockets, cores, smt int // cores per socket, threads per core
	// caches by index: each is told to level, type, size, and how many cores
	// share it; 0 is a whole socket.
	caches []cache
	// old names groups as kernels before 5.3 do.
	old bool
}

type cache struct {
	level, kind, size string
	cores             int
}

func (l layout) threads() int { return l.sockets * l.cores * l.smt }

// group lists the threads of n cores, from the one of that CPU down to a
// multiple of n.
func (l layout) group(cpu, n int) string {
	all := l.sockets * l.cores
	first := cpu % all / n * n
	var parts []string
	for thread := range l.smt {
		from := thread*all + first
		if n == 1 {
			parts = append(parts, strconv.Itoa(from))
		} else {
			parts = append(parts, fmt.Sprintf("%d-%d", from, from+n-1))
		}
	}
	return strings.Join(parts, ",")
}

func (m machine) topology(l layout) {
	m.File("sys/devices/system/cpu/online", fmt.Sprintf("0-%d", l.threads()-1))
	core, pkg := "core_cpus_list", "package_cpus_list"
	if l.old {
		core, pkg = "thread_siblings_list", "core_siblings_list"
	}
	for cpu := range l.threads() {
		dir := "sys/devices/system/cpu/cpu" + strconv.Itoa(cpu)
		m.Files(dir+"/topology", map[string]string{core: l.group(cpu, 1), pkg: l.group(cpu, l.cores)})
		for index, c := range l.caches {
			shared := c.cores
			if shared == 0 {
				shared = l.cores
			}
			m.Files(dir+"/cache/index"+strconv.Itoa(index), map[string]string{
				"level": c.level, "type": c.kind, "size": c.size, "shared_cpu_list": l.group(cpu, shared),
			})
		}
	}
}

func (m machine) cpuinfo(threads int, stanza func(cpu int) string) {
	var text strings.Builder
	for cpu := range threads {
		text.WriteString(stanza(cpu))
		text.WriteString("\n\n")
	}
	m.File("proc/cpuinfo", strings.TrimSuffix(text.String(), "\n\n"))
}

func (m machine) numaNode(id int, cpus string, kB int64) {
	m.Files("sys/devices/system/node/node"+strconv.Itoa(id), map[string]string{
		"cpulist": cpus, "meminfo": fmt.Sprintf("Node %d MemTotal:       %d kB\nNode %d MemFree:        %d kB", id, kB, id, kB/2),
	})
}

func (m machine) system(kernel, osRelease, meminfo string) {
	m.File("proc/sys/kernel/osrelease", kernel)
	m.File("usr/lib/os-release", osRelease)
	m.Link("etc/os-release", "../usr/lib/os-release")
	m.File("proc/meminfo", meminfo)
}

const xeonFlags = "fpu vme de pse tsc msr sse sse2 ht syscall nx ssse3 fma cx16 sse4_1 sse4_2 x2apic movbe popcnt aes xsave avx f16c rdrand " +
	"avx2 bmi2 avx512f avx512dq avx512ifma avx512cd sha_ni avx512bw avx512vl avx_vnni avx512_bf16 avx512vbmi avx512_vbmi2 avx512_vnni " +
	"avx512_bitalg amx_bf16 avx512_fp16 amx_tile amx_int8 flush_l1d arch_capabilities"

// xeon is two sockets of a Xeon Platinum 8462Y+ with eight H100 on NVSwitch cut
// to one, an InfiniBand card, an Ethernet card with a virtual function, and the
// console of its board's controller. cores is 32 on the real one.
func xeon(cores int) machine {
	m := newMachine()
	l := layout{sockets: 2, cores: cores, smt: 2, caches: []cache{
		{"1", "Data", "48K", 1},
		{"1", "Instruction", "32K", 1},
		{"2", "Unified", "2048K", 1},
		{"3", "Unified", "61440K", 0},
	}}
	m.topology(l)
	m.cpuinfo(l.threads(), func(cpu int) string {
		return fmt.Sprintf("processor\t: %d\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 143\nmodel name\t: Intel(R) Xeon(R) Platinum 8462Y+\n"+
			"stepping\t: 8\nmicrocode\t: 0x2b000603\ncpu MHz\t\t: 2800.000\ncache size\t: 61440 KB\nphysical id\t: %d\nsiblings\t: %d\ncore id\t\t: %d\n"+
			"cpu cores\t: %d\nflags\t\t: %s\nbugs\t\t: spectre_v1 spectre_v2\nbogomips\t: 5600.00", cpu, cpu%(2*cores)/cores, 2*cores, cpu%cores, cores, xeonFlags)
	})
	m.Files("sys/devices/system/cpu/cpu0/cpufreq", map[string]string{"base_frequency": "2800000", "cpuinfo_max_freq": "4100000"})
	m.numaNode(0, l.group(0, cores), 527858124)
	m.numaNode(1, l.group(cores, cores), 528449044)
	m.system("6.8.0-71-generic", "PRETTY_NAME=\"Ubuntu 24.04.3 LTS\"\nNAME=\"Ubuntu\"\nVERSION_ID=\"24.04\"\nID=ubuntu\nID_LIKE=debian\nHOME_URL=\"https://www.ubuntu.com/\"",
		"MemTotal:       1056307168 kB\nMemFree:        900000000 kB\nMemAvailable:   1012345678 kB\nSwapTotal:             0 kB\nSwapFree:              0 kB\nHugepagesize:       2048 kB")
	m.Files("sys/kernel/mm/hugepages/hugepages-2048kB", map[string]string{"nr_hugepages": "1024", "free_hugepages": "1000"})
	m.Files("sys/kernel/mm/hugepages/hugepages-1048576kB", map[string]string{"nr_hugepages": "0", "free_hugepages": "0"})
	m.xeonCards()
	return m
}

func (m machine) xeonCards() {
	card := func(port, address string, texts map[string]string, driver, group string) string {
		dir := m.PCI(port, address, texts)
		m.Driver(dir, driver)
		m.Link(dir+"/iommu_group", "../../../../kernel/iommu_groups/"+group)
		m.File("sys/kernel/iommu_groups/"+group+"/type", "DMA-FQ")
		return dir
	}
	card("0000:15:01.0", "0000:17:00.0", map[string]string{
		"class": "0x030200", "vendor": "0x10de", "device": "0x2330", "subsystem_vendor": "0x10de", "subsystem_device": "0x16c1", "numa_node": "0",
		"max_link_speed": "32.0 GT/s PCIe", "max_link_width": "16", "current_link_speed": "32.0 GT/s PCIe", "current_link_width": "16",
	}, "nvidia", "31")
	// The console: no accelerator.
	m.PCI("0000:02:00.0", "0000:03:00.0", map[string]string{"class": "0x030000", "vendor": "0x1a03", "device": "0x2000", "numa_node": "0"})
	ib := card("0000:97:01.0", "0000:9a:00.0", map[string]string{"class": "0x020700", "vendor": "0x15b3", "device": "0x1021", "numa_node": "1"}, "mlx5_core", "80")
	m.Files(ib+"/net/ibp154s0", map[string]string{"operstate": "up", "mtu": "4092", "speed": "400000"})
	m.Files(ib+"/infiniband/mlx5_0", map[string]string{"fw_ver": "28.39.3560"})
	m.Files(ib+"/infiniband/mlx5_0/ports/1", map[string]string{
		"link_layer": "InfiniBand", "state": "4: ACTIVE", "phys_state": "5: LinkUp", "rate": "400 Gb/sec (4X NDR)",
	})
	eth := card("0000:37:01.0", "0000:38:00.0", map[string]string{"class": "0x020000", "vendor": "0x15b3", "device": "0x101d", "numa_node": "0"}, "mlx5_core", "40")
	m.Files(eth+"/net/ens1f0np0", map[string]string{"operstate": "down", "mtu": "9000", "speed": "-1"})
	m.Files(eth+"/infiniband/mlx5_1", map[string]string{"fw_ver": "22.36.1010"})
	m.Files(eth+"/infiniband/mlx5_1/ports/1", map[string]string{
		"link_layer": "Ethernet", "state": "1: DOWN", "phys_state": "3: Disabled", "rate": "40 Gb/sec (4X QDR)",
	})
	vf := card("0000:37:01.0", "0000:38:00.2", map[string]string{"class": "0x020000", "vendor": "0x15b3", "device": "0x101e", "numa_node": "0"}, "mlx5_core", "41")
	m.Files(vf+"/net/ens1f0v0", map[string]string{"operstate": "up", "mtu": "1500", "speed": "100000"})
	m.Link(vf+"/physfn", "../0000:38:00.0")
	for dir, name := range map[string]string{ib: "ibp154s0", eth: "ens1f0np0", vf: "ens1f0v0"} {
		m.Link("sys/class/net/"+name, "../../"+strings.TrimPrefix(dir, "sys/")+"/net/"+name)
		m.Link(dir+"/net/"+name+"/device", "../../../"+path.Base(dir))
	}
	m.Link("sys/class/infiniband/mlx5_0", "../../"+strings.TrimPrefix(ib, "sys/")+"/infiniband/mlx5_0")
	m.Link("sys/class/infiniband/mlx5_1", "../../"+strings.TrimPrefix(eth, "sys/")+"/infiniband/mlx5_1")
	// What is no hardware.
	m.Files("sys/devices/virtual/net/cni0", map[string]string{"operstate": "up", "mtu": "1450", "speed": "10000"})
	m.Link("sys/class/net/cni0", "../../devices/virtual/net/cni0")
	m.File("sys/class/net/bonding_masters", "")
	m.File("sys/module/nvidia/version", "580.95.05")
	m.File("sys/module/nvidia_peermem/version", "580.95.05")
	m.File("sys/module/gdrdrv/version", "2.5")
	m.File("sys/module/mlx5_core/version", "24.10-1.1.4")
	m.File("sys/module/mlx5_core/parameters/prof_sel", "2")
	m.File("sys/module/tls/refcnt", "0")
}

// epyc is one socket of an EPYC 7502 under a kernel of 2019: eight caches of
// the third level, four NUMA nodes, and an MI210 that no driver has.
func epyc() machine {
	m := newMachine()
	l := layout{sockets: 1, cores: 32, smt: 2, old: true, caches: []cache{
		{"1", "Data", "32K", 1},
		{"1", "Instruction", "32K", 1},
		{"2", "Unified", "512K", 1},
		{"3", "Unified", "16384K", 4},
	}}
	m.topology(l)
	m.cpuinfo(l.threads(), func(cpu int) string {
		return fmt.Sprintf("processor\t: %d\nvendor_id\t: AuthenticAMD\ncpu family\t: 23\nmodel\t\t: 49\nmodel name\t: AMD EPYC 7502 32-Core Processor\n"+
			"stepping\t: 0\nphysical id\t: 0\ncore id\t\t: %d\nflags\t\t: fpu sse4_1 sse4_2 fma avx f16c avx2 sha_ni", cpu, cpu%32)
	})
	m.File("sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq", "2500000")
	m.File("sys/devices/system/cpu/cpu0/acpi_cppc/nominal_freq", "2500")
	for node := range 4 {
		m.numaNode(node, l.group(8*node, 8), 65871028)
	}
	m.numaNode(4, "", 134217728) // memory on CXL, with no CPU
	m.system("5.4.17-2136.el8uek.x86_64", "NAME='Oracle Linux Server'\nID=\"ol\"\nVERSION_ID=\"8.9\"\nPRETTY_NAME='Oracle Linux Server 8.9'\n# a comment",
		"MemTotal:       397701840 kB\nMemAvailable:   380000000 kB\nSwapTotal:       4194300 kB\nSwapFree:        4000000 kB")
	m.PCI("0000:40:01.1", "0000:43:00.0", map[string]string{
		"class": "0x038000", "vendor": "0x1002", "device": "0x740f", "subsystem_vendor": "0x1002", "subsystem_device": "0x0c34", "numa_node": "-1",
		"max_link_speed": "16 GT/s", "max_link_width": "16", "current_link_speed": "2.5 GT/s", "current_link_width": "8",
	})
	m.PCI("0000:40:01.1", "0000:44:00.0", map[string]string{
		"class": "0x120000", "vendor": "0x1da3", "device": "0x1020", "max_link_speed": "Unknown", "max_link_width": "255",
	})
	return m
}

// grace is NVIDIA's Grace: ARM cores, which give no name, and pages of 64 KiB.
func grace() machine {
	m := newMachine()
	l := layout{sockets: 1, cores: 72, smt: 1, caches: []cache{
		{"1", "Data", "64K", 1},
		{"1", "Instruction", "64K", 1},
		{"2", "Unified", "1024K", 1},
		{"3", "Unified", "116736K", 0},
	}}
	m.topology(l)
	m.cpuinfo(l.threads(), func(cpu int) string {
		return fmt.Sprintf("processor\t: %d\nBogoMIPS\t: 2000.00\nFeatures\t: fp asimd evtstrm aes sha2 crc32 atomics fphp asimdhp cpuid asimdrdm jscvt fcma lrcpc "+
			"dcpop sha3 asimddp sha512 sve asimdfhm dit uscat ilrcpc flagm ssbs sb paca pacg dcpodp sve2 sveaes svebitperm svesha3 svesm4 flagm2 frint svei8mm svebf16 i8mm bf16 dgh bti\n"+
			"CPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: 0xd4f\nCPU revision\t: 0", cpu)
	})
	m.File("sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq", "3402000")
	m.numaNode(0, "0-71", 502456832)
	m.numaNode(1, "", 99614720) // the memory of the GPU beside it
	m.system("6.8.0-1013-nvidia-64k", "ID=ubuntu\nVERSION_ID=22.04\nPRETTY_NAME=\"Ubuntu 22.04.5 LTS\"",
		"MemTotal:       602071552 kB\nMemAvailable:   590000000 kB\nSwapTotal:             0 kB\nSwapFree:              0 kB")
	m.Files("sys/kernel/mm/hugepages/hugepages-524288kB", map[string]string{"nr_hugepages": "0", "free_hugepages": "0"})
	return m
}

// small is a virtual machine: no caches, no clocks, no NUMA nodes, a card of
// virtio, and a console that is no accelerator.
func small() machine {
	m := newMachine()
	m.topology(layout{sockets: 1, cores: 2, smt: 1})
	m.cpuinfo(2, func(cpu int) string {
		return fmt.Sprintf("processor\t: %d\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 85\nmodel name\t: Intel(R) Xeon(R) Gold 6248R CPU @ 3.00GHz\n"+
			"stepping\t: unknown\nphysical id\t: 0\ncore id\t\t: %d\nflags\t\t: sse4_2 avx avx2 fma avx512f hypervisor", cpu, cpu)
	})
	m.system("6.1.0-31-cloud-amd64", "ID=debian\nVERSION_ID=\"12\"\nPRETTY_NAME=\"Debian \\\"bookworm\\\"\"",
		"MemTotal:        8148408 kB\nMemFree:         1000000 kB\nSwapTotal:             0 kB\nSwapFree:              0 kB") // no MemAvailable
	virtio := m.PCI("", "0000:00:03.0", map[string]string{"class": "0x020000", "vendor": "0x1af4", "device": "0x1041", "numa_node": "-1"})
	m.Files(virtio+"/virtio0/net/eth0", map[string]string{"operstate": "up", "mtu": "1500"})
	m.Link(virtio+"/virtio0/driver", "../../../../bus/virtio/drivers/virtio_net")
	m.Link(virtio+"/virtio0/net/eth0/device", "../../../virtio0")
	m.Link("sys/class/net/eth0", "../../devices/pci0000:00/0000:00:03.0/virtio0/net/eth0")
	return m
}

// container is what a container without the node's /sys sees.
func container() machine {
	m := newMachine()
	m.cpuinfo(4, func(cpu int) string {
		return fmt.Sprintf("processor\t: %d\nvendor_id\t: AuthenticAMD\ncpu family\t: 25\nmodel\t\t: 17\nmodel name\t: AMD EPYC 9354 32-Core Processor\n"+
			"stepping\t: 1\nphysical id\t: %d\ncore id\t\t: %d\nflags\t\t: sse4_2 avx2 avx512f avx512_vnni avx512_bf16", cpu, cpu/2, cpu%2)
	})
	m.File("proc/meminfo", "MemTotal:        8148408 kB\nMemAvailable:    4000000 kB")
	return m
}
