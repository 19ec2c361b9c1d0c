package accel

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/budecosystem/budcluster/agent/internal/sysfs"
)

const (
	kfdDir = "sys/class/kfd/kfd/topology/nodes"

	// linkXGMI is CRAT_IOLINK_TYPE_XGMI of drivers/gpu/drm/amd/amdkfd/kfd_crat.h.
	linkXGMI = 11
)

// kfdNode is a node of AMD's compute topology that is a GPU, or a partition of
// one.
type kfdNode struct {
	name, pci, gfx, hive string
}

// addTopology adds what the compute driver knows of the GPUs. Its nodes are
// numbered folders, CPUs among them; node_show and iolink_show in
// drivers/gpu/drm/amd/amdkfd/kfd_topology.c say what is in their files. It
// refuses to tell of a GPU whose device the reader's cgroup may not use.
func (r *reader) addTopology(gpus []AMD) {
	var nodes []kfdNode
	for _, name := range r.Numbered(kfdDir, "") {
		if node, ok := r.kfdNode(name); ok {
			nodes = append(nodes, node)
		}
	}
	for i := range gpus {
		gpu := &gpus[i]
		for _, node := range nodes {
			if node.pci != gpu.PCI {
				continue
			}
			gpu.Partitions++
			gpu.GFX, gpu.Hive = node.gfx, node.hive
			gpu.Links = append(gpu.Links, r.xgmi(node, nodes)...)
		}
		slices.SortFunc(gpu.Links, compareLinks)
		gpu.Links = slices.CompactFunc(gpu.Links, func(a, b XGMI) bool { return compareLinks(a, b) == 0 })
	}
}

// kfdNode reads a node. It is none of ours when no GPU is behind it.
func (r *reader) kfdNode(name string) (kfdNode, bool) {
	p, ok := r.properties(kfdDir + "/" + name + "/properties")
	if !ok || p["gfx_target_version"] == 0 && p["simd_count"] == 0 {
		return kfdNode{}, false
	}
	node := kfdNode{name: name, pci: kfdPlace(p["domain"], p["location_id"]), gfx: gfxName(p["gfx_target_version"])}
	if hive := p["hive_id"]; hive != 0 {
		node.hive = fmt.Sprintf("%016x", hive)
	}
	return node, true
}

// kfdPlace is the place on PCI: location_id is bus, device and function, above
// which newer drivers put the number of the partition (kfd_topology_add_device).
func kfdPlace(domain, location uint64) string {
	return fmt.Sprintf("%04x:%02x:%02x.%d", domain&math.MaxUint32, location>>8&0xff, location>>3&0x1f, location&7)
}

// gfxName turns 90402 into gfx942 and 90010 into gfx90a: major, and of two
// decimal digits each minor and stepping, which are written in base 16
// (kgd2kfd_probe in drivers/gpu/drm/amd/amdkfd/kfd_device.c).
func gfxName(version uint64) string {
	if version == 0 || version > 999_999 {
		return ""
	}
	return fmt.Sprintf("gfx%d%x%x", version/10000, version/100%100, version%100)
}

// xgmi reads the links of a node to other GPUs.
func (r *reader) xgmi(from kfdNode, nodes []kfdNode) []XGMI {
	var links []XGMI
	dir := kfdDir + "/" + from.name + "/io_links"
	for _, number := range r.Numbered(dir, "") {
		p, ok := r.properties(dir + "/" + number + "/properties")
		if !ok || p["type"] != linkXGMI {
			continue
		}
		at := slices.IndexFunc(nodes, func(n kfdNode) bool { return n.name == strconv.FormatUint(p["node_to"], 10) })
		if at < 0 || nodes[at].pci == from.pci {
			continue // to a CPU, or within the GPU
		}
		link := XGMI{To: nodes[at].pci}
		if weight := p["weight"]; weight <= math.MaxInt32 {
			link.Weight = int32(weight)
		}
		// The driver's unit is MB/s, by the fields of CRAT in kfd_crat.h.
		if mbs := p["max_bandwidth"]; mbs > 0 && mbs <= math.MaxUint32 {
			link.BytesPerSecond = new(int64(mbs) * 1e6)
		}
		links = append(links, link)
	}
	return links
}

// properties reads a file of names and numbers. A value that is no number is
// passed over, since newer drivers tell a name among them.
func (r *reader) properties(file string) (map[string]uint64, bool) {
	data := r.Bytes(file)
	if data == nil {
		return nil, false
	}
	p := parseProperties(data)
	if len(p) == 0 {
		r.Problem("/%s is %s and not names with numbers, so it is ignored", file, sysfs.Quote(data))
	}
	return p, len(p) > 0
}

func parseProperties(data []byte) map[string]uint64 {
	properties := make(map[string]uint64, 40)
	for line := range bytes.Lines(data) {
		name, value, ok := bytes.Cut(bytes.TrimSpace(line), []byte(" "))
		if n, err := strconv.ParseUint(string(value), 10, 64); ok && err == nil {
			properties[string(name)] = n
		}
	}
	return properties
}
