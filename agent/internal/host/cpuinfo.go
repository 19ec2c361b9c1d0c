package host

import (
	"bytes"
	"strconv"

	"github.com/budecosystem/budcluster/agent/internal/sysfs"
)

// cpuInfo is what /proc/cpuinfo says. x86 and arm64 use different keys
// (arch/x86/kernel/cpu/proc.c, arch/arm64/kernel/cpuinfo.c); what describes a
// model is taken of the first processor.
type cpuInfo struct {
	vendor, model            string
	family, number, stepping *int32
	implementer, part        string // arm64: MIDR_EL1's fields, e.g. 0x41 and 0xd4f
	flags                    []byte // x86: flags; arm64: Features
	processors               int32
	packages, cores          int32 // x86 only; 0 when not told
}

// parseCPUInfo never fails: what it cannot read stays unknown, and bad tells of
// it as key and value.
func parseCPUInfo(data []byte) (info cpuInfo, bad [][2]string) {
	type core struct{ pkg, id string }
	packages, cores := map[string]struct{}{}, map[core]struct{}{}
	pkg := ""
	for line := range bytes.Lines(data) {
		name, value, ok := bytes.Cut(line, []byte(":"))
		if !ok {
			continue
		}
		key := string(bytes.TrimSpace(name))
		value = bytes.TrimSpace(value)
		switch key {
		case "processor":
			info.processors = min(info.processors+1, maxCPU)
			pkg = ""
			continue
		case "physical id":
			pkg = sysfs.Clean(value)
			packages[pkg] = struct{}{}
			continue
		case "core id":
			cores[core{pkg, sysfs.Clean(value)}] = struct{}{}
			continue
		}
		if info.processors > 1 {
			continue
		}
		if !info.describe(key, value) {
			bad = append(bad, [2]string{key, sysfs.Quote(value)})
		}
	}
	info.packages, info.cores = int32(min(len(packages), maxCPU)), int32(min(len(cores), maxCPU))
	return info, bad
}

// describe takes one line of the first processor, and reports whether its
// value made sense.
func (i *cpuInfo) describe(key string, value []byte) bool {
	number := func(to **int32) bool {
		n, err := strconv.ParseUint(string(value), 0, 16)
		if err != nil {
			return string(value) == "unknown" // the kernel's own word for it
		}
		*to = new(int32(n))
		return true
	}
	switch key {
	case "vendor_id":
		i.vendor = sysfs.Clean(value)
	case "model name":
		i.model = sysfs.Clean(value)
	case "cpu family":
		return number(&i.family)
	case "model":
		return number(&i.number)
	case "stepping":
		return number(&i.stepping)
	case "CPU implementer":
		i.implementer = sysfs.Clean(bytes.ToLower(value))
	case "CPU part":
		i.part = sysfs.Clean(bytes.ToLower(value))
	case "flags", "Features":
		i.flags = value
	}
	return true
}
