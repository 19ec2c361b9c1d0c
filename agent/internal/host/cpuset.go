package host

import (
	"bytes"
	"fmt"
	"math/bits"
	"strconv"

	"github.com/budecosystem/budcluster/agent/internal/sysfs"
)

// maxCPU is above the 8192 CPUs that Linux can be built for (NR_CPUS).
const maxCPU = 1 << 16

// cpuSet is a set of CPUs by their numbers, one bit each.
type cpuSet []uint64

// parseCPUs reads the list format of bitmaps, e.g. "0-3,8" or nothing for none
// (Documentation/admin-guide/cputopology.rst, and bitmap_print_to_pagebuf).
func parseCPUs(list []byte) (cpuSet, error) {
	var set cpuSet
	list = bytes.TrimSpace(list)
	if len(list) == 0 {
		return set, nil
	}
	for part := range bytes.SplitSeq(list, []byte(",")) {
		low, high, isRange := bytes.Cut(part, []byte("-"))
		first, err := strconv.ParseUint(string(low), 10, 16)
		if err != nil {
			return nil, fmt.Errorf("%s is not a list of CPUs such as 0-3,8", sysfs.Quote(list))
		}
		last := first
		if isRange {
			if last, err = strconv.ParseUint(string(high), 10, 16); err != nil || last < first {
				return nil, fmt.Errorf("%s is not a list of CPUs such as 0-3,8", sysfs.Quote(list))
			}
		}
		set = set.with(int(first), int(last))
	}
	return set, nil
}

// with adds the CPUs from first to last, a word at a time.
func (s cpuSet) with(first, last int) cpuSet {
	if missing := last/64 + 1 - len(s); missing > 0 {
		s = append(s, make(cpuSet, missing)...)
	}
	for word := first / 64; word <= last/64; word++ {
		mask := ^uint64(0)
		if word == first/64 {
			mask <<= first % 64
		}
		if word == last/64 {
			mask &= ^uint64(0) >> (63 - last%64)
		}
		s[word] |= mask
	}
	return s
}

func (s cpuSet) has(cpu int) bool { return cpu >= 0 && cpu/64 < len(s) && s[cpu/64]&(1<<(cpu%64)) != 0 }

// remove takes the CPUs of another set out, in place.
func (s cpuSet) remove(other cpuSet) {
	for i := range s {
		if i < len(other) {
			s[i] &^= other[i]
		}
	}
}

// first is the lowest CPU, and -1 when there is none.
func (s cpuSet) first() int {
	for i, word := range s {
		if word != 0 {
			return i*64 + bits.TrailingZeros64(word)
		}
	}
	return -1
}

func (s cpuSet) size() int32 {
	var n int
	for _, word := range s {
		n += bits.OnesCount64(word)
	}
	return int32(n)
}

func (s cpuSet) clone() cpuSet { return append(cpuSet(nil), s...) }

// String writes the list format, shortest form.
func (s cpuSet) String() string {
	var out []byte
	for cpu := s.first(); cpu >= 0 && cpu < 64*len(s); cpu++ {
		if !s.has(cpu) {
			continue
		}
		from := cpu
		for s.has(cpu + 1) {
			cpu++
		}
		if len(out) > 0 {
			out = append(out, ',')
		}
		out = strconv.AppendInt(out, int64(from), 10)
		if cpu > from {
			out = append(out, '-')
			out = strconv.AppendInt(out, int64(cpu), 10)
		}
	}
	return string(out)
}

// cpus reads a file in the list format. It is nil and false when unknown.
func (r *reader) cpus(name string) (cpuSet, bool) {
	data := r.Bytes(name)
	if data == nil {
		return nil, false
	}
	set, err := parseCPUs(data)
	if err != nil {
		r.Problem("/%s: %v, so it is ignored", name, err)
		return nil, false
	}
	return set, true
}
