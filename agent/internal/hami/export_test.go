package hami

import (
	"io"

	dto "github.com/prometheus/client_model/go"
)

// ReadWithin is Read with bounds so small that a test can reach them.
func ReadWithin(text io.Reader, from Origin, bytes, series, devices, slices int) View {
	return read(text, from, limits{bytes: bytes, line: 1 << 10, series: series, devices: devices, slices: slices, badLines: 5})
}

// MaxProblems is how many sentences there are at most.
const MaxProblems = maxProblems

// ReadFamilies is Read of a text that another parser has read: the same figures
// are taken from it by the same code.
func ReadFamilies(families map[string]*dto.MetricFamily, from Origin) View {
	r := newReader(from, bounds())
	for name, metrics := range families {
		r.name = []byte(name)
		if r.tells, r.family = meaning(r.name); r.tells == 0 {
			r.unread(r.name)
			continue
		}
		for _, m := range metrics.GetMetric() {
			r.series = labelled{}
			for _, l := range m.GetLabel() {
				r.series.take(l.GetName(), l.GetValue())
			}
			r.value = m.GetGauge().GetValue()
			r.sample()
		}
	}
	return r.view(true)
}
