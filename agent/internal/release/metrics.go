package release

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	operations  *prometheus.CounterVec
	duration    *prometheus.HistogramVec
	corrections prometheus.Counter
}

// The results of an operation.
const (
	resultDone        = "done"
	resultFailed      = "failed"
	resultInterrupted = "interrupted"
)

// newMetrics registers with r, if there is one.
func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		operations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "budcluster_agent_release_operations_total", Help: "Helm operations by action and result.",
		}, []string{"action", "result"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "budcluster_agent_release_operation_seconds", Help: "How long Helm operations took, hooks included.",
			Buckets: []float64{0.5, 1, 2, 5, 10, 30, 60, 300, 1800},
		}, []string{"action"}),
		corrections: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "budcluster_agent_release_corrections_total", Help: "Objects that others had changed and that were put back.",
		}),
	}
	for _, action := range []ActionKind{ActionInstall, ActionUpgrade, ActionRollback, ActionUninstall} {
		m.duration.WithLabelValues(string(action))
		for _, result := range []string{resultDone, resultFailed, resultInterrupted} {
			m.operations.WithLabelValues(string(action), result)
		}
	}
	if r == nil {
		return m, nil
	}
	return m, errors.Join(r.Register(m.operations), r.Register(m.duration), r.Register(m.corrections))
}

// operation counts one Helm operation.
func (m *metrics) operation(a ActionKind, took time.Duration, err error, stopped bool) {
	result := resultDone
	switch {
	case err != nil && stopped:
		result = resultInterrupted
	case err != nil:
		result = resultFailed
	}
	m.operations.WithLabelValues(string(a), result).Inc()
	m.duration.WithLabelValues(string(a)).Observe(took.Seconds())
}
