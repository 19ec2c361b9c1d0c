package webhook

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	sent, failed, dead prometheus.Counter
	duration, lag      prometheus.Histogram
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "budcluster_hub_webhook_" + name, Help: help})
	}
	m := &metrics{
		sent:   counter("events_sent_total", "Events that webhooks took."),
		failed: counter("attempts_failed_total", "Attempts to tell a webhook that failed."),
		dead:   counter("events_given_up_total", "Events that were given up for a webhook."),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "budcluster_hub_webhook_post_seconds", Help: "How long webhooks took to answer.", Buckets: prometheus.ExponentialBuckets(0.005, 4, 7),
		}),
		lag: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "budcluster_hub_webhook_lag_seconds", Help: "Age of events when webhooks took them.", Buckets: prometheus.ExponentialBuckets(0.005, 4, 10),
		}),
	}
	for _, c := range []prometheus.Collector{m.sent, m.failed, m.dead, m.duration, m.lag} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics of webhooks: %w", err)
		}
	}
	return m, nil
}
