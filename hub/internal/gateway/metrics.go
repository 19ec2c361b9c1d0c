package gateway

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	opened        prometheus.Counter
	closed        *prometheus.CounterVec
	refused       prometheus.Counter
	renewFailures prometheus.Counter
}

func newMetrics(r prometheus.Registerer, sessions func() float64) *metrics {
	m := &metrics{
		opened: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "budcluster_hub_sessions_opened_total", Help: "Sessions that agents opened with this replica.",
		}),
		closed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "budcluster_hub_sessions_closed_total", Help: "Sessions that ended, by reason.",
		}, []string{"reason"}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "budcluster_hub_sessions_refused_total", Help: "Connections whose certificate was not admitted.",
		}),
		renewFailures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "budcluster_hub_session_lease_failures_total", Help: "Ticks on which the leases of the sessions could not be renewed.",
		}),
	}
	for _, reason := range reasons() {
		m.closed.WithLabelValues(reason)
	}
	r.MustRegister(m.opened, m.closed, m.refused, m.renewFailures, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "budcluster_hub_sessions", Help: "Agents that are connected to this replica.",
	}, sessions))
	return m
}
