package gpumetric

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/budecosystem/budcluster/agent/internal/gpu"
	"github.com/budecosystem/budcluster/agent/internal/metric"
)

// Owner is a container that has a device or a MIG instance of it.
type Owner struct{ Namespace, Pod, Container string }

// Reading is a device with what was read of it.
type Reading struct {
	Device gpu.Device
	// Sample is the last; nothing is known of a device that did not answer.
	Sample    gpu.Sample
	Condition gpu.Condition
}

// Options of an Exporter.
type Options struct {
	// Hostname is the node's name, for DCGM's label of that name.
	Hostname string
	// Own and DCGM are the two families of names.
	Own, DCGM bool
}

// Exporter turns readings into snapshots. It is safe for concurrent use.
type Exporter struct {
	options   Options
	own, dcgm []figure
	of        families

	mu     sync.Mutex // guards the rest
	xids   map[string]map[uint64]uint64
	last   map[string]uint64 // XID, by device
	shape  string
	layout *metric.Layout
}

// New makes an Exporter.
func New(o Options) *Exporter {
	e := &Exporter{options: o, of: newFamilies(), xids: map[string]map[uint64]uint64{}, last: map[string]uint64{}}
	if o.Own {
		e.own = own()
	}
	if o.DCGM {
		e.dcgm = dcgm()
	}
	return e
}

// maxXIDs bounds the numbers that are counted for one device.
const maxXIDs = 32

// Happened counts an event.
func (e *Exporter) Happened(event gpu.Event) {
	if event.Kind != gpu.EventXID || event.Device == "" {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	counts := e.xids[event.Device]
	if counts == nil {
		counts = map[uint64]uint64{}
		e.xids[event.Device] = counts
	}
	if _, known := counts[event.XID]; known || len(counts) < maxXIDs {
		counts[event.XID]++
	}
	e.last[event.Device] = event.XID
}

// Snapshot is what a scrape gets of these readings. Owners are by the UUID of a
// device or of an instance.
func (e *Exporter) Snapshot(system gpu.System, readings []Reading, owners map[string][]Owner) (*metric.Snapshot, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	p := &page{exporter: e, system: system, owners: owners}
	for i := range readings {
		p.device(&readings[i])
	}
	if shape := p.shape(); shape != e.shape || e.layout == nil {
		b := metric.NewBuilder()
		for _, l := range p.lines {
			b.Series(l.desc, l.labels...)
		}
		layout, err := b.Layout()
		if err != nil {
			return nil, fmt.Errorf("lay out the metrics of GPUs: %w", err)
		}
		e.layout, e.shape = layout, shape
	}
	values := e.layout.Values()
	for i, l := range p.lines {
		if l.known {
			values[i] = l.value
		}
	}
	return e.layout.Snapshot(values), nil
}

// line is one series and its value. Their order is that of the slots.
type line struct {
	desc   *metric.Desc
	labels []string
	value  float64
	known  bool
}

// page gathers the lines of one snapshot.
type page struct {
	exporter *Exporter
	system   gpu.System
	owners   map[string][]Owner
	lines    []line
}

// shape tells two pages apart that need layouts of their own.
func (p *page) shape() string {
	var b strings.Builder
	for _, l := range p.lines {
		b.WriteString(l.desc.Name)
		for _, v := range l.labels {
			b.WriteByte(0)
			b.WriteString(v)
		}
		b.WriteByte(1)
	}
	return b.String()
}

func (p *page) add(d *metric.Desc, value float64, known bool, labels ...string) {
	p.lines = append(p.lines, line{desc: d, labels: labels, value: value, known: known})
}

func (p *page) device(r *Reading) {
	if p.exporter.options.Own {
		p.ours(r)
	}
	if p.exporter.options.DCGM {
		p.theirs(r)
	}
}

// ours are the lines of one device under our names.
func (p *page) ours(r *Reading) {
	d, s := &r.Device, &r.Sample
	id := []string{d.ID, strconv.Itoa(d.Index)}
	p.add(&p.exporter.of.info, 1, true, append(slices.Clone(id), d.Model, d.Architecture, d.ComputeCapability, d.PCIBusID, d.Serial, p.system.DriverVersion, p.system.CUDAVersion)...)
	for i := range p.exporter.own {
		f := &p.exporter.own[i]
		value, known := f.read(d, s)
		p.add(&f.desc, value, known, append(slices.Clone(id), f.more...)...)
	}
	healthy := 0.0
	if r.Condition.Health == gpu.Healthy || r.Condition.Health == gpu.Degraded {
		healthy = 1
	}
	p.add(&p.exporter.of.healthy, healthy, r.Condition.Health != gpu.Unknown, id...)
	seen := map[gpu.ReasonCode]bool{}
	for _, reason := range r.Condition.Reasons {
		if !seen[reason.Code] {
			seen[reason.Code] = true
			p.add(&p.exporter.of.condition, 1, true, append(slices.Clone(id), string(reason.Code))...)
		}
	}
	counts := p.exporter.xids[d.ID]
	for _, xid := range slices.Sorted(maps.Keys(counts)) {
		p.add(&p.exporter.of.xids, float64(counts[xid]), true, append(slices.Clone(id), strconv.FormatUint(xid, 10))...)
	}
	p.owner(id, d.UUID, "")
	for i := range s.MIG.Instances {
		m := &s.MIG.Instances[i]
		of := append(slices.Clone(id), m.UUID, m.GPUInstance.String(), m.Profile)
		p.add(&p.exporter.of.instanceTotal, float64(m.Memory.Total.V), m.Memory.Total.Known, of...)
		p.add(&p.exporter.of.instanceMemory, float64(m.Memory.Used.V), m.Memory.Used.Known, append(slices.Clone(of), "used")...)
		p.add(&p.exporter.of.instanceMemory, float64(m.Memory.Free.V), m.Memory.Free.Known, append(slices.Clone(of), "free")...)
		p.owner(id, m.UUID, m.UUID)
	}
}

func (p *page) owner(id []string, uuid, instance string) {
	seen := map[Owner]bool{}
	for _, o := range p.owners[uuid] {
		if !seen[o] {
			seen[o] = true
			p.add(&p.exporter.of.owner, 1, true, append(slices.Clone(id), instance, o.Namespace, o.Pod, o.Container)...)
		}
	}
}

// theirs are the lines of one device under dcgm-exporter's names.
func (p *page) theirs(r *Reading) {
	d, s := &r.Device, &r.Sample
	labels := func(uuid, profile, instance string) []string {
		var only Owner
		if all := p.owners[uuid]; len(all) == 1 {
			only = all[0]
		}
		return []string{
			strconv.Itoa(d.Index), d.UUID, d.PCIBusID, "nvidia" + minor(d), d.Model, profile, instance, p.exporter.options.Hostname, p.system.DriverVersion,
			only.Namespace, only.Pod, only.Container,
		}
	}
	whole := labels(d.UUID, "", "")
	for i := range p.exporter.dcgm {
		f := &p.exporter.dcgm[i]
		value, known := f.read(d, s)
		p.add(&f.desc, value, known, whole...)
	}
	p.add(&p.exporter.of.lastXID, float64(p.exporter.last[d.ID]), !s.At.IsZero() || p.exporter.last[d.ID] != 0, whole...)
	for i := range s.MIG.Instances {
		m := &s.MIG.Instances[i]
		of := labels(m.UUID, m.Profile, m.GPUInstance.String())
		part := gpu.Sample{Memory: m.Memory}
		for j := range p.exporter.dcgm[:memoryFigures] {
			f := &p.exporter.dcgm[j]
			value, known := f.read(d, &part)
			p.add(&f.desc, value, known, of...)
		}
	}
}

// minor is the number in /dev/nvidiaN, which DCGM names a device by.
func minor(d *gpu.Device) string {
	if n, known := d.Minor.Get(); known {
		return strconv.FormatUint(uint64(n), 10)
	}
	return strconv.Itoa(d.Index)
}
