package hami

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"

	"github.com/budecosystem/budcluster/internal/facts"
)

// What is possible.
const (
	maxMemory  = 16 << 40 // more than any device has
	minMemory  = 64 << 20 // less than any GPU has: who says so counts in MiB
	maxShares  = 1 << 16  // more than HAMi counts of cores, or of containers on one device
	maxText    = 253      // bytes of a name of Kubernetes's
	maxUUID    = 128      // bytes, as in facts
	maxOrdinal = 1024     // devices of a node or a container
)

// Origin says where a text is from.
type Origin struct {
	// Node is the node of a monitor, which does not name it for containers, nor for
	// GPUs if it is old. It is empty for the scheduler.
	Node string
	At   time.Time
}

// Read reads the metrics of HAMi's scheduler or of one of its monitors, in either
// family of names. What cannot be read is left out and told of in the View.
func Read(text io.Reader, from Origin) View { return read(text, from, bounds()) }

func read(text io.Reader, from Origin, lim limits) View {
	r := newReader(from, lim)
	visit := func(l labels.Label) { r.series.take(l.Name, l.Value) }
	var l labels.Labels
	scan := scanner{limits: lim, ledger: &r.ledger, take: func(name []byte, p textparse.Parser) {
		if r.tells, r.family = meaning(name); r.tells == 0 {
			r.unread(name)
			return
		}
		p.Labels(&l)
		r.series = labelled{}
		l.Range(visit)
		r.name = name
		_, _, r.value = p.Series() // a time behind the value is the exporter's, and says nothing that ours does not
		r.sample()
	}}
	return r.view(scan.scan(text))
}

func newReader(from Origin, lim limits) *reader {
	return &reader{limits: lim, from: from, byDevice: map[deviceKey]int{}, bySlice: map[sliceKey]int{}, texts: map[string]string{}}
}

// view is what was read, when all was.
func (r *reader) view(whole bool) View {
	v := View{Devices: r.devices, Slices: r.slices, Partial: !whole || r.full}
	v.normalise(&r.ledger)
	v.sort()
	v.Problems = r.ledger.sentences()
	return v
}

// reader puts one text's series together.
type reader struct {
	limits
	from   Origin
	ledger ledger
	full   bool // there were more devices or slices than limits

	devices    []Device
	slices     []Slice
	deviceSaid [][figures]family // by which family a figure of devices[i] was told
	sliceSaid  [][figures]family
	byDevice   map[deviceKey]int
	bySlice    map[sliceKey]int
	texts      map[string]string // one copy of each text that is kept

	// the series at hand
	series labelled
	name   []byte
	tells  figure
	family family
	value  float64
}

// sliceKey names a slice as its source does.
type sliceKey struct{ namespace, pod, container, position, uuid, part, vdevice string }

// unread tells of metrics of HAMi's that this version of the agent does not know.
func (r *reader) unread(name []byte) {
	if !bytes.HasPrefix(name, []byte("hami_")) || bytes.HasPrefix(name, []byte("hami_scheduler_")) || known(name) {
		return
	}
	r.ledger.note("metrics of HAMi that are not known here were left out", quoted(string(name)))
}

// refuse tells of a series that is left out.
func (r *reader) refuse(why string) {
	r.ledger.note(fmt.Sprintf("metric %s %s, so it was left out", r.name, why), fmt.Sprintf("%v for %s", r.value, r.about()))
}

// about names what the series at hand is about.
func (r *reader) about() string {
	if r.tells.ofSlice() {
		return fmt.Sprintf("GPU %s of pod %s", quoted(r.series.uuid), quoted(r.series.namespace+"/"+r.series.pod))
	}
	return fmt.Sprintf("GPU %s of node %s", quoted(r.series.uuid), quoted(r.series.node))
}

func (r *reader) sample() {
	s := &r.series
	s.uuid, s.part = facts.CutHAMiPart(s.uuid)
	if s.node == "" {
		s.node = r.from.Node
	}
	switch {
	case !name(s.uuid, maxUUID) || len(s.part) > maxUUID:
		r.refuse("names no device")
	case s.node != "" && !name(s.node, maxText):
		r.refuse("names an impossible node")
	case !r.tells.ofSlice():
		if i := r.device(); i >= 0 {
			r.ofDevice(i)
		}
	case !name(s.namespace, maxText) || !name(s.pod, maxText) || s.container != "" && !name(s.container, maxText):
		r.refuse("names no pod")
	default:
		if i := r.slice(); i >= 0 {
			r.ofSlice(i)
		}
	}
}

// name reports whether a text can be the name of something.
func name(text string, most int) bool {
	return text != "" && len(text) <= most && !strings.ContainsFunc(text, unicode.IsControl)
}

// keep copies a text once, so that the parser's larger one can go.
func (r *reader) keep(text string) string {
	if kept, ok := r.texts[text]; ok {
		return kept
	}
	kept := strings.Clone(text)
	r.texts[kept] = kept
	return kept
}

// device finds or adds the device of the series at hand; negative when there are
// too many.
func (r *reader) device() int {
	i, ok := r.byDevice[deviceKey{r.series.node, r.series.uuid}]
	if !ok {
		if len(r.devices) == r.limits.devices {
			r.full = true
			r.ledger.note("there are more than "+strconv.Itoa(r.limits.devices)+" devices, and the rest was left out", "")
			return -1
		}
		i = len(r.devices)
		d := Device{Node: r.keep(r.series.node), UUID: r.keep(r.series.uuid)}
		r.devices = append(r.devices, d)
		r.deviceSaid = append(r.deviceSaid, [figures]family{})
		r.byDevice[deviceKey{d.Node, d.UUID}] = i
	}
	d := &r.devices[i]
	if index, ok := ordinal(r.series.index); ok {
		if d.Index.Known() && d.Index.Value != index {
			r.ledger.note("a GPU is listed with two indices, of which the first counts", r.about())
		} else {
			d.Index = told(r, index)
		}
	}
	if t := r.series.deviceType; !d.Type.Known() && name(t, maxUUID) {
		d.Type = told(r, r.keep(t))
	}
	return i
}

// told is a fact of the series at hand.
func told[T comparable](r *reader, value T) Fact[T] {
	return Fact[T]{Value: value, Source: r.tells.source(), At: r.from.At}
}

func (r *reader) ofDevice(i int) {
	d, said := &r.devices[i], &r.deviceSaid[i][r.tells]
	switch r.tells {
	case deviceMemoryLimit:
		if within(r.value, minMemory-1) {
			r.refuse("gives less memory than any GPU has, as if it were in MiB")
			return
		}
		r.memory(&d.MemoryLimitBytes, said)
	case deviceMemoryAllocated:
		r.memory(&d.MemoryAllocatedBytes, said)
	case deviceMemoryUsed:
		r.memory(&d.MemoryUsedBytes, said)
	case deviceCoreLimit:
		r.share(&d.CoreLimitPercent, said, maxShares)
	case deviceCoreAllocated:
		r.share(&d.CoreAllocatedPercent, said, maxShares)
	case deviceCoreUsed:
		r.share(&d.CoreUsedPercent, said, wholePercent)
	case deviceContainers:
		if !within(r.value, maxShares) || r.value != math.Trunc(r.value) {
			r.refuse("gives no number of containers")
			return
		}
		settle(r, &d.Containers, said, int64(r.value))
	case deviceOverview: // its own figures are read from the metrics that have them; devicecores is not one thing in all versions
		if mib, err := strconv.ParseInt(r.series.memoryMiB, 10, 64); err == nil && !d.MemoryLimitBytes.Known() && mib >= minMemory>>20 && mib <= maxMemory>>20 {
			d.MemoryLimitBytes = told(r, mib<<20)
		}
	case deviceMIG:
		d.Mode = told(r, ModeMIG)
	default: // the others are of slices
	}
}

// slice finds or adds the slice of the series at hand; negative when there are
// too many.
func (r *reader) slice() int {
	s := &r.series
	if i, ok := r.bySlice[sliceKey{s.namespace, s.pod, s.container, s.position, s.uuid, s.part, s.vdevice}]; ok {
		return i
	}
	if len(r.slices) == r.limits.slices {
		r.full = true
		r.ledger.note("there are more than "+strconv.Itoa(r.limits.slices)+" slices, and the rest was left out", "")
		return -1
	}
	if len(s.position) > maxText || len(s.vdevice) > maxText {
		r.refuse("names an impossible container")
		return -1
	}
	added := Slice{
		Namespace: r.keep(s.namespace), Pod: r.keep(s.pod), Container: r.keep(s.container), Node: r.keep(s.node),
		DeviceUUID: r.keep(s.uuid), Part: r.keep(s.part), ContainerIndex: -1, VDevice: -1,
	}
	if at, ok := ordinal(s.position); ok {
		added.ContainerIndex = at
	}
	if at, ok := ordinal(s.vdevice); ok {
		added.VDevice = at
	}
	key := sliceKey{added.Namespace, added.Pod, added.Container, r.keep(s.position), added.DeviceUUID, added.Part, r.keep(s.vdevice)}
	r.bySlice[key] = len(r.slices)
	r.slices = append(r.slices, added)
	r.sliceSaid = append(r.sliceSaid, [figures]family{})
	return len(r.slices) - 1
}

func (r *reader) ofSlice(i int) {
	s, said := &r.slices[i], &r.sliceSaid[i]
	switch r.tells {
	case sliceMemoryLimit:
		if r.value != 0 { // 0 is no limit
			r.memory(&s.MemoryLimitBytes, &said[r.tells])
		}
	case sliceMemoryAllocated:
		r.memory(&s.MemoryLimitBytes, &said[r.tells])
	case sliceMemoryUsed:
		r.memory(&s.MemoryUsedBytes, &said[r.tells])
	case sliceCoreAllocated:
		r.share(&s.CoreAllocatedPercent, &said[r.tells], maxShares)
	case sliceCoreUsed:
		r.share(&s.CoreUsedPercent, &said[r.tells], wholePercent)
	case sliceAllocated: // the names that followed it say the same
		if said[sliceMemoryAllocated] == 0 {
			r.memory(&s.MemoryLimitBytes, &said[r.tells])
		}
		if cores, err := strconv.ParseFloat(r.series.cores, 64); err == nil && said[sliceCoreAllocated] == 0 && within(cores, maxShares) {
			s.CoreAllocatedPercent = told(r, cores)
		}
	default: // the others are of devices
	}
}

// settle takes a value unless a newer family has told it. A second one of the
// same family is a device or slice that is listed twice: the first counts.
func settle[T comparable](r *reader, into *Fact[T], said *family, value T) {
	switch {
	case *said > r.family:
	case *said == r.family:
		r.ledger.note(fmt.Sprintf("metric %s is there twice for one thing, and the first counts", r.name), r.about())
	default:
		*into, *said = told(r, value), r.family
	}
}

func (r *reader) memory(into *Fact[int64], said *family) {
	if !within(r.value, maxMemory) || r.value != math.Trunc(r.value) {
		r.refuse("gives no amount of memory")
		return
	}
	settle(r, into, said, int64(r.value))
}

func (r *reader) share(into *Fact[float64], said *family, most float64) {
	if !within(r.value, most) {
		r.refuse("gives no share of cores")
		return
	}
	settle(r, into, said, r.value)
}

// within is false for what is not a number.
func within(value, most float64) bool { return value >= 0 && value <= most }

// ordinal reads an index or a place.
func ordinal(text string) (int32, bool) {
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil || n < 0 || n >= maxOrdinal {
		return 0, false
	}
	return int32(n), true
}
