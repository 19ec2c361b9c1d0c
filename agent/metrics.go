package agent

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/budecosystem/budcluster/agent/internal/health"
	agentv1 "github.com/budecosystem/budcluster/proto/agent/v1"
)

// phases counts the releases by phase.
type phases struct {
	mu    sync.Mutex // guards byID
	byID  map[string]agentv1.Phase
	gauge *prometheus.GaugeVec
}

func newPhases(r prometheus.Registerer) (*phases, error) {
	p := &phases{byID: map[string]agentv1.Phase{}, gauge: prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "budcluster_agent_releases", Help: "Releases of this cluster by phase.",
	}, []string{"phase"})}
	for _, phase := range agentv1.Phases() {
		p.gauge.WithLabelValues(string(phase))
	}
	return p, r.Register(p.gauge)
}

// reset forgets all releases.
func (p *phases) reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.byID)
	for _, phase := range agentv1.Phases() {
		p.gauge.WithLabelValues(string(phase)).Set(0)
	}
}

// observe takes a status in. A release that was removed counts no more.
func (p *phases) observe(s *agentv1.ReleaseStatus) {
	p.mu.Lock()
	defer p.mu.Unlock()
	phase := agentv1.Phase(s.GetPhase())
	if was, ok := p.byID[s.GetId()]; ok {
		p.gauge.WithLabelValues(string(was)).Dec()
	}
	if phase == agentv1.PhaseRemoved {
		delete(p.byID, s.GetId())
		return
	}
	p.byID[s.GetId()] = phase
	p.gauge.WithLabelValues(string(phase)).Inc()
}

// degradations shows the health board: one series per reason, 0 or 1.
type degradations struct{ board *health.Board }

func (d *degradations) desc() *prometheus.Desc {
	return prometheus.NewDesc("budcluster_agent_degraded", "1 for each reason that keeps the agent from all of its work.", []string{"reason"}, nil)
}

// Describe is part of prometheus.Collector.
func (d *degradations) Describe(c chan<- *prometheus.Desc) { c <- d.desc() }

// Collect is part of prometheus.Collector.
func (d *degradations) Collect(c chan<- prometheus.Metric) {
	on := map[health.Reason]float64{}
	for _, line := range d.board.List() {
		on[line.Reason] = 1
	}
	for _, reason := range health.Reasons() {
		c <- prometheus.MustNewConstMetric(d.desc(), prometheus.GaugeValue, on[reason], string(reason))
	}
}
