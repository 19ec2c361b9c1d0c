package metric_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"text/template"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/agent/internal/metric"
)

// What dcgm-exporter does at each scrape: a template over families and samples.
const scrapeTemplate = `{{range .}}# HELP {{.Name}} {{.Help}}
# TYPE {{.Name}} {{.Type}}
{{$name := .Name}}{{range .Samples}}{{$name}}{ {{- range $i, $l := .Labels}}{{if $i}},{{end}}{{$l.Name}}="{{$l.Value}}"{{end -}} } {{.Value}}
{{end}}{{end}}`

type (
	templateLabel  struct{ Name, Value string }
	templateSample struct {
		Labels []templateLabel
		Value  float64
	}
	templateFamily struct {
		Name, Help, Type string
		Samples          []templateSample
	}
)

// BenchmarkScrape renders 25 metrics of 8 GPUs, by turns with text/template. The
// ratio is the time of the one to that of the other.
func BenchmarkScrape(b *testing.B) {
	const gpus, families = 8, 25
	labels := []string{"gpu", "UUID", "pci_bus_id", "device", "modelName", "Hostname", "namespace", "pod", "container"}
	builder := metric.NewBuilder()
	var rendered []templateFamily
	for f := range families {
		d := metric.Desc{Name: fmt.Sprintf("DCGM_FI_DEV_%d", f), Help: "A figure of a GPU.", Type: metric.Gauge, Labels: labels, Foreign: true}
		of := templateFamily{Name: d.Name, Help: d.Help, Type: "gauge"}
		for g := range gpus {
			values := []string{
				fmt.Sprint(g), fmt.Sprintf("GPU-%08d-0000-4000-8000-000000000000", g), "00000000:07:00.0", fmt.Sprint("nvidia", g), "NVIDIA A100-SXM4-80GB", "node1",
				"models", "llama-70b-0", "vllm",
			}
			s := templateSample{Value: figure(f, g)}
			for i, name := range labels {
				s.Labels = append(s.Labels, templateLabel{name, values[i]})
			}
			builder.Series(&d, values...)
			of.Samples = append(of.Samples, s)
		}
		rendered = append(rendered, of)
	}
	layout, err := builder.Layout()
	require.NoError(b, err)
	values := layout.Values()
	for i := range values {
		values[i] = figure(i/gpus, i%gpus)
	}
	snapshot := layout.Snapshot(values)
	old := template.Must(template.New("scrape").Parse(scrapeTemplate))
	var whole bytes.Buffer
	require.NoError(b, old.Execute(&whole, rendered))
	buf := snapshot.AppendText(nil)
	require.Equal(b, strings.Count(whole.String(), "\n"), bytes.Count(buf, []byte("\n")), "both say the same")

	const turns = 10 // for each of the template's
	var templates, own time.Duration
	for b.Loop() {
		began := time.Now()
		for range turns {
			buf = snapshot.AppendText(buf[:0])
		}
		own += time.Since(began)
		began = time.Now()
		whole.Reset()
		if err := old.Execute(&whole, rendered); err != nil {
			b.Fatal(err)
		}
		templates += time.Since(began)
	}
	b.ReportMetric(float64(own.Nanoseconds())/float64(turns*b.N), "scrape-ns")
	b.ReportMetric(float64(own)/float64(turns*templates), "ratio")
}

// figure is a whole number for most, as devices have them.
func figure(family, gpu int) float64 {
	if family%5 == 0 {
		return float64(family) + float64(gpu)/8
	}
	return float64(family*1_000_000 + gpu)
}
