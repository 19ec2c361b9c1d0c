package link

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	connections prometheus.Counter
	failures    prometheus.Counter
	lastContact prometheus.Gauge
	deltas      prometheus.Counter
	summaries   prometheus.Counter
	statuses    prometheus.Counter
}

func newMetrics(r prometheus.Registerer, up func() float64) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "budcluster_agent_" + name, Help: help})
	}
	m := &metrics{
		connections: counter("connections_total", "Connections to the hub that came up; all but the first are reconnects."),
		failures:    counter("connection_failures_total", "Connections to the hub that could not be made or broke."),
		lastContact: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "budcluster_agent_last_contact_timestamp_seconds", Help: "When the hub was last heard; 0 if never.",
		}),
		deltas:    counter("inventory_deltas_total", "Changes of the inventory that were sent to the hub."),
		summaries: counter("inventory_summaries_total", "Digests of the whole inventory that were sent to the hub."),
		statuses:  counter("release_statuses_total", "Statuses of releases that were sent to the hub."),
	}
	connected := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "budcluster_agent_connected", Help: "1 while the agent is connected to the hub.",
	}, up)
	var errs []error
	for _, c := range []prometheus.Collector{m.connections, m.failures, m.lastContact, m.deltas, m.summaries, m.statuses, connected} {
		errs = append(errs, r.Register(c))
	}
	return m, errors.Join(errs...)
}
