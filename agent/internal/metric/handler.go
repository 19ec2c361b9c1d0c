package metric

import (
	"bytes"
	"fmt"
	"net/http"
	"strconv"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"
)

// Handler answers scrapes: with the figures that the process has of itself, and
// then with the latest snapshot, if there is one yet. What cannot be gathered of
// the process is left out and told to failed; the devices are not held up by it.
func Handler(latest func() *Snapshot, process prometheus.Gatherer, failed func(error)) http.Handler {
	pool := sync.Pool{New: func() any { return new(bytes.Buffer) }}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		format, contentType := expfmt.NewFormat(expfmt.TypeTextPlain), TextType
		open := expfmt.NegotiateAccept(r.Header, expfmt.DefaultOpenMetricsAcceptedFormats()...).FormatType() == expfmt.TypeOpenMetrics
		if open {
			format, contentType = expfmt.NewFormat(expfmt.TypeOpenMetrics), OpenType
		}
		buf, _ := pool.Get().(*bytes.Buffer)
		defer pool.Put(buf)
		buf.Reset()
		if err := encode(buf, process, format); err != nil {
			failed(err)
		}
		if s := latest(); s != nil {
			buf.Grow(s.Size())
			if open {
				buf.Write(s.AppendOpen(buf.AvailableBuffer()))
			} else {
				buf.Write(s.AppendText(buf.AvailableBuffer()))
			}
		}
		if open {
			buf.WriteString("# EOF\n")
		}
		w.Header().Set("Content-Type", contentType)
		w.Header().Set("Content-Length", strconv.Itoa(buf.Len()))
		_, _ = w.Write(buf.Bytes()) // who asked is gone
	})
}

// encode writes what a registry has, without the end of the exposition.
func encode(buf *bytes.Buffer, from prometheus.Gatherer, format expfmt.Format) error {
	families, err := from.Gather()
	enc := expfmt.NewEncoder(buf, format)
	for _, f := range families {
		whole := buf.Len()
		if wrong := enc.Encode(f); wrong != nil {
			buf.Truncate(whole)
			err = fmt.Errorf("write metric %s: %w", f.GetName(), wrong)
		}
	}
	return err
}
