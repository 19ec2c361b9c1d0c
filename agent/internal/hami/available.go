package hami

import (
	"fmt"
	"strconv"
)

// DefaultThreshold is the threshold of Available in percent where
// HAMI_UTILIZATION_THRESHOLD sets none.
const DefaultThreshold = 80

// Available says whether more work may be put on a device: it is healthy, on one
// node only, and of its memory and its cores less than threshold percent are
// allocated, and less are really used. What is used counts beside what is
// allocated since HAMi hinders nobody from using a GPU without it. A device of
// which no source says what is allocated is not available. The reason is a
// sentence, empty for a device that is.
func (d *Device) Available(threshold float64) (ok bool, reason string) {
	switch {
	case d.Elsewhere:
		return false, "another node lists a GPU of the same UUID"
	case d.Healthy.Known() && !d.Healthy.Value:
		return false, "HAMi says that the GPU is unhealthy"
	case !d.MemoryAllocatedBytes.Known() || !d.MemoryLimitBytes.Known():
		return false, "nothing says how much of the GPU's memory is allocated"
	}
	for _, part := range []struct {
		of      string
		known   bool
		percent float64
	}{
		{"memory is allocated", true, percentOf(d.MemoryAllocatedBytes.Value, d.MemoryLimitBytes.Value)},
		{"cores are allocated", d.CoreAllocatedPercent.Known(), d.CoreAllocatedPercent.Value},
		{"memory is used", d.MemoryUsedBytes.Known(), percentOf(d.MemoryUsedBytes.Value, d.MemoryLimitBytes.Value)},
		{"cores are used", d.CoreUsedPercent.Known(), d.CoreUsedPercent.Value},
	} {
		if part.known && part.percent >= threshold {
			return false, fmt.Sprintf("%s percent of the GPU's %s, and the threshold is %s",
				strconv.FormatFloat(part.percent, 'f', 0, 64), part.of, strconv.FormatFloat(threshold, 'f', -1, 64))
		}
	}
	return true, ""
}

func percentOf(part, whole int64) float64 {
	if whole <= 0 {
		return wholePercent
	}
	return float64(part) / float64(whole) * wholePercent
}
