package metric

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Content types of the two forms, as Prometheus asks for them.
const (
	TextType = "text/plain; version=0.0.4; charset=utf-8"
	OpenType = "application/openmetrics-text; version=1.0.0; charset=utf-8"
)

// maxSeries bounds a layout: a node has some hundred.
const maxSeries = 100_000

// Slot is the place of a series's value in a Snapshot.
type Slot int

// Builder gathers the series of a Layout.
type Builder struct {
	families map[string]*family
	order    []*family
	seen     map[string]bool
	slots    int
	errs     []error
}

// family is one family with the heads of its lines, in the order of their slots.
type family struct {
	desc       Desc
	text, open []byte // the lines before the samples
	heads      [][]byte
	slots      []Slot
}

// NewBuilder begins a Layout.
func NewBuilder() *Builder {
	return &Builder{families: map[string]*family{}, seen: map[string]bool{}}
}

// Series adds one with the values of d's labels, in their order, and gives the
// place of its value. What cannot be added is told by Layout.
func (b *Builder) Series(d *Desc, values ...string) Slot {
	f, ok := b.families[d.Name]
	if !ok {
		if err := d.Check(); err != nil {
			b.errs = append(b.errs, err)
		}
		f = &family{desc: *d}
		b.families[d.Name], b.order = f, append(b.order, f)
	}
	slot := Slot(b.slots)
	switch {
	case len(values) != len(d.Labels):
		b.errs = append(b.errs, fmt.Errorf("metric %s: %d values for %d labels", d.Name, len(values), len(d.Labels)))
		return slot
	case b.slots >= maxSeries:
		b.errs = append(b.errs, fmt.Errorf("metric %s: there are more than %d series", d.Name, maxSeries))
		return slot
	}
	head := appendHead(nil, d, values)
	if b.seen[string(head)] {
		b.errs = append(b.errs, fmt.Errorf("metric %s: there is %s twice", d.Name, head))
		return slot
	}
	b.seen[string(head)] = true
	b.slots++
	f.heads, f.slots = append(f.heads, head), append(f.slots, slot)
	return slot
}

// Layout is what was gathered, families in the order of their names.
func (b *Builder) Layout() (*Layout, error) {
	if len(b.errs) > 0 {
		return nil, errors.Join(b.errs...)
	}
	l := &Layout{families: slices.Clone(b.order), slots: b.slots}
	slices.SortFunc(l.families, func(x, y *family) int { return strings.Compare(x.desc.Name, y.desc.Name) })
	for _, f := range l.families {
		f.text = fmt.Appendf(nil, "# HELP %s %s\n# TYPE %s %s\n", f.desc.Name, f.desc.Help, f.desc.Name, f.desc.Type)
		name, t := f.desc.openName()
		f.open = fmt.Appendf(nil, "# HELP %s %s\n# TYPE %s %s\n", name, strings.ReplaceAll(f.desc.Help, `"`, `\"`), name, t)
		if f.desc.Unit != "" && !f.desc.Foreign {
			f.open = fmt.Appendf(f.open, "# UNIT %s %s\n", name, f.desc.Unit)
		}
		l.size += max(len(f.text), len(f.open))
		for _, head := range f.heads {
			l.size += len(head) + maxNumber
		}
	}
	return l, nil
}

// Layout is every line but for its value.
type Layout struct {
	families []*family
	slots    int
	size     int // bytes that a rendering takes at most
}

// Len is how many values a Snapshot of it has.
func (l *Layout) Len() int { return l.slots }

// Values gives a slice for a Snapshot in which nothing is known yet.
func (l *Layout) Values() []float64 {
	v := make([]float64, l.slots)
	for i := range v {
		v[i] = math.NaN()
	}
	return v
}

// Snapshot is a Layout with values. It keeps the slice, which has l.Len values
// and must not be changed any more.
func (l *Layout) Snapshot(values []float64) *Snapshot {
	if len(values) != l.slots {
		panic(fmt.Sprintf("metric: a snapshot of %d values for %d series", len(values), l.slots))
	}
	return &Snapshot{layout: l, values: values}
}

// Snapshot is what a scrape is answered with.
type Snapshot struct {
	layout *Layout
	values []float64
}

// Size is how many bytes a rendering takes at most.
func (s *Snapshot) Size() int { return s.layout.size }

// AppendText appends the text format.
func (s *Snapshot) AppendText(dst []byte) []byte {
	for _, f := range s.layout.families {
		dst = s.append(dst, f, f.text)
	}
	return dst
}

// AppendOpen appends the OpenMetrics format, but for the line that ends it.
func (s *Snapshot) AppendOpen(dst []byte) []byte {
	for _, f := range s.layout.families {
		dst = s.append(dst, f, f.open)
	}
	return dst
}

// append appends a family, if any of its values is known.
func (s *Snapshot) append(dst []byte, f *family, before []byte) []byte {
	empty := len(dst)
	dst = append(dst, before...)
	lines := len(dst)
	for i, slot := range f.slots {
		if v := s.values[slot]; !math.IsNaN(v) {
			dst = append(dst, f.heads[i]...)
			dst = append(appendNumber(dst, v), '\n')
		}
	}
	if len(dst) == lines {
		return dst[:empty]
	}
	return dst
}

// maxNumber is more than any number takes, with the end of its line.
const maxNumber = 32

// exact is the first whole number that a float64 may not be able to tell from
// the next.
const exact = 1 << 53

func appendNumber(dst []byte, v float64) []byte {
	switch {
	case math.IsInf(v, 1):
		return append(dst, "+Inf"...)
	case math.IsInf(v, -1):
		return append(dst, "-Inf"...)
	case v == math.Trunc(v) && math.Abs(v) < exact:
		return strconv.AppendInt(dst, int64(v), 10)
	default:
		return strconv.AppendFloat(dst, v, 'g', -1, 64)
	}
}

// appendHead appends a line up to its value.
func appendHead(dst []byte, d *Desc, values []string) []byte {
	dst = append(dst, d.Name...)
	open := byte('{')
	for i, name := range d.Labels {
		if values[i] == "" {
			continue
		}
		dst = append(append(append(dst, open), name...), '=', '"')
		dst = append(appendEscaped(dst, values[i]), '"')
		open = ','
	}
	if open == ',' {
		dst = append(dst, '}')
	}
	return append(dst, ' ')
}

// appendEscaped appends the value of a label. What is no UTF-8 becomes U+FFFD.
func appendEscaped(dst []byte, value string) []byte {
	for _, r := range value {
		switch r {
		case '\\':
			dst = append(dst, `\\`...)
		case '"':
			dst = append(dst, `\"`...)
		case '\n':
			dst = append(dst, `\n`...)
		default:
			dst = append(dst, string(r)...)
		}
	}
	return dst
}
