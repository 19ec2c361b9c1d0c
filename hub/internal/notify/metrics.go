package notify

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	sent, failed, dead    prometheus.Counter
	duration, lag         prometheus.Histogram
	pending, buried, wait prometheus.Gauge
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "budcluster_hub_outbox_" + name, Help: help})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: "budcluster_hub_outbox_" + name, Help: help})
	}
	m := &metrics{
		sent:   counter("messages_sent_total", "Messages that the broker took."),
		failed: counter("attempts_failed_total", "Attempts to hand a message to the broker that failed and are made again."),
		dead:   counter("messages_given_up_total", "Messages that were given up."),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "budcluster_hub_outbox_publish_seconds", Help: "How long the broker took for a message.", Buckets: prometheus.ExponentialBuckets(0.001, 4, 8),
		}),
		lag: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "budcluster_hub_outbox_lag_seconds", Help: "Age of messages when the broker took them.", Buckets: prometheus.ExponentialBuckets(0.005, 4, 10),
		}),
		pending: gauge("pending", "Messages that are not delivered, of all replicas."),
		buried:  gauge("dead", "Messages that were given up and are still kept."),
		wait:    gauge("oldest_seconds", "Age of the oldest message that is not delivered."),
	}
	for _, c := range []prometheus.Collector{m.sent, m.failed, m.dead, m.duration, m.lag, m.pending, m.buried, m.wait} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics of the outbox: %w", err)
		}
	}
	return m, nil
}

func (m *metrics) state(s State) {
	m.pending.Set(float64(s.Pending))
	m.buried.Set(float64(s.Dead))
	m.wait.Set(s.Oldest.Seconds())
}
