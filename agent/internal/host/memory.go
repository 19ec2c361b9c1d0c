package host

import (
	"bytes"
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/budecosystem/budcluster/agent/internal/sysfs"
)

// Memory is a node's main memory, in bytes.
type Memory struct {
	TotalBytes *int64 `json:"totalBytes,omitempty"`
	// SwapBytes is 0 where swap is off.
	SwapBytes *int64 `json:"swapBytes,omitempty"`
}

// MemoryState is how much of it is free, in bytes.
type MemoryState struct {
	// AvailableBytes is what programs can have before the node swaps.
	AvailableBytes *int64 `json:"availableBytes,omitempty"`
	SwapFreeBytes  *int64 `json:"swapFreeBytes,omitempty"`
	// HugePages are the pools, by size. They change by a write to /sys.
	HugePages []HugePages `json:"hugePages,omitempty"`
}

// HugePages is the pool of one size of huge page, in pages.
type HugePages struct {
	SizeBytes int64 `json:"sizeBytes"`
	Total     int64 `json:"total"`
	Free      int64 `json:"free"`
}

// NUMANode is a part of memory and the CPUs that are near to it.
type NUMANode struct {
	ID int32 `json:"id"`
	// CPUs is a list such as 0-31,64-95. A node that is only memory has none.
	CPUs        string `json:"cpus,omitempty"`
	MemoryBytes *int64 `json:"memoryBytes,omitempty"`
}

const (
	nodeDir = "sys/devices/system/node/"
	hugeDir = "sys/kernel/mm/hugepages"

	// maxPages bounds a pool: with the smallest pages more than 2^56 bytes.
	maxPages = 1 << 40
)

// memory reads /proc/meminfo (Documentation/filesystems/proc.rst), whose kB are
// KiB.
func (r *reader) memory() Memory {
	data := r.Bytes("proc/meminfo")
	return Memory{TotalBytes: r.meminfo("proc/meminfo", data, "MemTotal"), SwapBytes: r.meminfo("proc/meminfo", data, "SwapTotal")}
}

func (r *reader) memoryState() MemoryState {
	data := r.Bytes("proc/meminfo")
	state := MemoryState{
		AvailableBytes: r.meminfo("proc/meminfo", data, "MemAvailable"),
		SwapFreeBytes:  r.meminfo("proc/meminfo", data, "SwapFree"),
	}
	state.HugePages = r.hugePages()
	return state
}

// meminfo gives one line of a file in the form of /proc/meminfo, in bytes. It
// is nil when there is none. data must be what was read last.
func (r *reader) meminfo(file string, data []byte, key string) *int64 {
	value, ok := meminfoLine(data, key)
	if !ok {
		if data != nil && key == "MemTotal" { // which every kernel tells
			r.Problem("/%s has no %s, so the memory is unknown", file, key)
		}
		return nil
	}
	amount, ok := parseKB(value)
	if !ok {
		r.Problem("/%s has %s: %s, which is no amount in kB, so it is unknown", file, key, sysfs.Quote(value))
		return nil
	}
	return &amount
}

// meminfoLine finds a line. Those of a NUMA node begin with "Node 0 ".
func meminfoLine(data []byte, key string) ([]byte, bool) {
	for line := range bytes.Lines(data) {
		name, value, ok := bytes.Cut(line, []byte(":"))
		if !ok {
			continue
		}
		if at := bytes.LastIndexByte(name, ' '); at >= 0 {
			name = name[at+1:]
		}
		if string(name) == key {
			return bytes.TrimSpace(value), true
		}
	}
	return nil, false
}

func parseKB(value []byte) (int64, bool) {
	number, ok := bytes.CutSuffix(value, []byte(" kB"))
	n, err := strconv.ParseInt(string(number), 10, 64)
	if !ok || err != nil || n < 0 || n > math.MaxInt64>>10 {
		return 0, false
	}
	return n << 10, true
}

// parseSize reads a size with a suffix of K, M or G, which are binary.
func parseSize(data []byte) (int64, bool) {
	data = bytes.TrimSpace(data)
	if len(data) == 0 {
		return 0, false
	}
	unit := int64(1)
	switch data[len(data)-1] {
	case 'K':
		unit = 1 << 10
	case 'M':
		unit = 1 << 20
	case 'G':
		unit = 1 << 30
	}
	if unit > 1 {
		data = data[:len(data)-1]
	}
	n, err := strconv.ParseUint(string(data), 10, 62)
	if err != nil || n == 0 || n > uint64(maxCache/unit) {
		return 0, false
	}
	return int64(n) * unit, true
}

// hugePages reads the pools, each a folder hugepages-<size>kB
// (Documentation/ABI/testing/sysfs-kernel-mm-hugepages).
func (r *reader) hugePages() []HugePages {
	var pools []HugePages
	for _, name := range r.Names(hugeDir) {
		size, ok := strings.CutPrefix(name, "hugepages-")
		number, kb := strings.CutSuffix(size, "kB")
		if !ok || !kb {
			continue
		}
		sizeBytes, ok := parseKB([]byte(number + " kB"))
		if !ok || sizeBytes == 0 {
			r.Problem("/%s/%s names no size in kB, so these huge pages are ignored", hugeDir, name)
			continue
		}
		total := r.Int(hugeDir+"/"+name+"/nr_hugepages", 0, maxPages)
		free := r.Int(hugeDir+"/"+name+"/free_hugepages", 0, maxPages)
		if total != nil && free != nil {
			pools = append(pools, HugePages{SizeBytes: sizeBytes, Total: *total, Free: *free})
		}
	}
	slices.SortFunc(pools, func(a, b HugePages) int { return cmp.Compare(a.SizeBytes, b.SizeBytes) })
	return pools
}

// numa reads the nodes (Documentation/ABI/stable/sysfs-devices-node).
func (r *reader) numa() []NUMANode {
	var nodes []NUMANode
	for _, name := range r.Numbered(strings.TrimSuffix(nodeDir, "/"), "node") {
		id, err := strconv.ParseInt(strings.TrimPrefix(name, "node"), 10, 32)
		if err != nil || id > sysfs.MaxNUMANode {
			r.Problem("/%s%s has a number above %d, so it is ignored", nodeDir, name, sysfs.MaxNUMANode)
			continue
		}
		node := NUMANode{ID: int32(id)}
		if cpus, ok := r.cpus(nodeDir + name + "/cpulist"); ok {
			node.CPUs = cpus.String()
		}
		file := nodeDir + name + "/meminfo"
		node.MemoryBytes = r.meminfo(file, r.Bytes(file), "MemTotal")
		nodes = append(nodes, node)
	}
	return nodes
}
