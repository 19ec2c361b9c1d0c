package metric_test

import (
	"bytes"
	"errors"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/agent/internal/metric"
	"github.com/budecosystem/budcluster/internal/testutil"
)

var (
	memory = metric.Desc{Name: "budcluster_gpu_memory_used_bytes", Help: "Memory in use.", Type: metric.Gauge, Unit: "bytes", Labels: []string{"uuid", "pod"}}
	energy = metric.Desc{Name: "budcluster_gpu_energy_joules_total", Help: "Energy since the driver was loaded.", Type: metric.Counter, Unit: "joules", Labels: []string{"uuid"}}
	xid    = metric.Desc{Name: "DCGM_FI_DEV_XID_ERRORS", Help: "The last XID error.", Type: metric.Gauge, Labels: []string{"gpu", "UUID"}, Foreign: true}
	spent  = metric.Desc{Name: "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", Help: "Energy in mJ.", Type: metric.Counter, Foreign: true}
)

func sample(t *testing.T) *metric.Snapshot {
	t.Helper()
	b := metric.NewBuilder()
	slots := map[metric.Slot]float64{
		b.Series(&xid, "0", "GPU-a"):                   79,
		b.Series(&memory, "GPU-a", ""):                 80 << 30,
		b.Series(&memory, "GPU-a", "we\"ird\\\n{}pod"): 0.5,
		b.Series(&memory, "GPU-b", "\xff"):             math.Inf(1),
		b.Series(&memory, "GPU-c", ""):                 math.NaN(),
		b.Series(&energy, "GPU-a"):                     1e21,
		b.Series(&spent):                               -1,
	}
	l, err := b.Layout()
	require.NoError(t, err)
	values := l.Values()
	for slot, v := range slots {
		values[slot] = v
	}
	return l.Snapshot(values)
}

func TestForms(t *testing.T) {
	t.Parallel()
	s := sample(t)
	text, open := s.AppendText(nil), s.AppendOpen(nil)
	testutil.Golden(t, "text", text)
	testutil.Golden(t, "open", open)
	for _, out := range [][]byte{text, open} {
		require.LessOrEqual(t, len(out), s.Size())
	}
	families := parse(t, text)
	require.Len(t, families["budcluster_gpu_memory_used_bytes"].GetMetric(), 3, "what is not known is left out")
	require.Equal(t, "we\"ird\\\n{}pod", families["budcluster_gpu_memory_used_bytes"].GetMetric()[1].GetLabel()[1].GetValue())
	require.InDelta(t, 1e21, families["budcluster_gpu_energy_joules_total"].GetMetric()[0].GetCounter().GetValue(), 0)
}

func parse(t *testing.T, text []byte) map[string]*dto.MetricFamily {
	t.Helper()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(text))
	require.NoError(t, err)
	return families
}

// Prometheus's own linter has nothing to say of names that are ours.
func TestLint(t *testing.T) {
	t.Parallel()
	problems, err := promlint.New(bytes.NewReader(sample(t).AppendText(nil))).Lint()
	require.NoError(t, err)
	for _, p := range problems {
		require.True(t, strings.HasPrefix(p.Metric, "DCGM_"), "%s: %s", p.Metric, p.Text)
	}
}

func TestWrongDescriptions(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(d *metric.Desc){
		"a name has letters":                      func(d *metric.Desc) { d.Name = "a-b" },
		"an own name begins with budcluster_":     func(d *metric.Desc) { d.Name = "gpu_bytes" },
		"counters end in _total":                  func(d *metric.Desc) { d.Type = metric.Counter },
		"the name does not end in its unit":       func(d *metric.Desc) { d.Unit = "seconds" },
		"help is one line":                        func(d *metric.Desc) { d.Help = "a\nb" },
		"is neither gauge nor counter":            func(d *metric.Desc) { d.Type = "histogram" },
		`label "uuid" is no name, or there twice`: func(d *metric.Desc) { d.Labels = []string{"uuid", "uuid"} },
		`label "__x" is no name`:                  func(d *metric.Desc) { d.Labels = []string{"uuid", "__x"} },
	} {
		d := memory
		change(&d)
		b := metric.NewBuilder()
		b.Series(&d, make([]string, len(d.Labels))...)
		_, err := b.Layout()
		require.ErrorContains(t, err, want)
	}
	b := metric.NewBuilder()
	b.Series(&memory, "GPU-a", "")
	b.Series(&memory, "GPU-a", "")
	b.Series(&energy)
	_, err := b.Layout()
	require.ErrorContains(t, err, `budcluster_gpu_memory_used_bytes{uuid="GPU-a"}  twice`)
	require.ErrorContains(t, err, "0 values for 1 labels")
}

// A scrape allocates nothing for a series.
//
//nolint:paralleltest // allocations of others would be counted
func TestNoAllocation(t *testing.T) {
	s := sample(t)
	buf := make([]byte, 0, s.Size())
	require.Zero(t, testing.AllocsPerRun(100, func() { buf = s.AppendText(buf[:0]) }))
	require.Zero(t, testing.AllocsPerRun(100, func() { buf = s.AppendOpen(buf[:0]) }))
}

type broken struct{ prometheus.Gatherer }

func (b broken) Gather() ([]*dto.MetricFamily, error) {
	families, _ := b.Gatherer.Gather()
	return families, errors.New("one collector is broken")
}

func TestHandler(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	own := prometheus.NewCounter(prometheus.CounterOpts{Name: "budcluster_node_samples_total", Help: "Samples."})
	registry.MustRegister(own)
	var failed []error
	var latest *metric.Snapshot
	h := metric.Handler(func() *metric.Snapshot { return latest }, broken{registry}, func(err error) { failed = append(failed, err) })
	scrape := func(accept string) (contentType, body string) {
		w := httptest.NewRecorder()
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", http.NoBody)
		r.Header.Set("Accept", accept)
		h.ServeHTTP(w, r)
		raw, err := io.ReadAll(w.Result().Body)
		require.NoError(t, err)
		return w.Header().Get("Content-Type"), string(raw)
	}
	contentType, body := scrape("")
	require.Equal(t, metric.TextType, contentType)
	require.Contains(t, body, "budcluster_node_samples_total 0\n")
	latest = sample(t)
	contentType, body = scrape("application/openmetrics-text;version=1.0.0;q=0.8,text/plain;q=0.3")
	require.Equal(t, metric.OpenType, contentType)
	require.Contains(t, body, "# TYPE budcluster_node_samples counter\n")
	require.Contains(t, body, "# UNIT budcluster_gpu_memory_used_bytes bytes\n")
	require.Equal(t, 1, strings.Count(body, "# EOF"))
	require.True(t, strings.HasSuffix(body, "# EOF\n"))
	_, body = scrape("text/plain")
	require.NotContains(t, body, "# EOF")
	require.Len(t, parse(t, []byte(body)), 5)
	require.Len(t, failed, 3)
	require.ErrorContains(t, failed[0], "one collector is broken")
}

// Whatever a label holds, Prometheus reads it back.
func FuzzLabels(f *testing.F) {
	for _, seed := range []string{"", "a", `"`, `\`, "\n", "{},=", "\xff", "é", "\x00"} {
		f.Add(seed, 1.5)
	}
	f.Fuzz(func(t *testing.T, value string, v float64) {
		if math.IsNaN(v) {
			return
		}
		b := metric.NewBuilder()
		slot := b.Series(&energy, value)
		l, err := b.Layout()
		require.NoError(t, err)
		values := l.Values()
		values[slot] = v
		m := parse(t, l.Snapshot(values).AppendText(nil))["budcluster_gpu_energy_joules_total"].GetMetric()
		require.Len(t, m, 1)
		require.InDelta(t, v, m[0].GetCounter().GetValue(), 0)
		if value != "" {
			require.Equal(t, string([]rune(value)), m[0].GetLabel()[0].GetValue(), "a byte that is no UTF-8 is U+FFFD")
		}
	})
}
