package agent

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	agentv1 "github.com/budecosystem/budcluster/proto/agent/v1"
)

// TestPhasesAreCountedAnew: a release whose record somebody deleted by hand
// never says Removed. The subscription ends instead, and the next one begins
// with all releases that are left; the gauge once kept counting the lost one,
// and then stood still.
func TestPhasesAreCountedAnew(t *testing.T) {
	t.Parallel()
	p, err := newPhases(prometheus.NewRegistry())
	require.NoError(t, err)
	ready := p.gauge.WithLabelValues(string(agentv1.PhaseReady))
	status := func(id string, phase agentv1.Phase) *agentv1.ReleaseStatus {
		return &agentv1.ReleaseStatus{Id: id, Phase: string(phase)}
	}
	p.observe(status("a", agentv1.PhaseInstalling))
	p.observe(status("a", agentv1.PhaseReady))
	p.observe(status("b", agentv1.PhaseReady))
	require.InDelta(t, 2, testutil.ToFloat64(ready), 0)
	p.reset()
	p.observe(status("b", agentv1.PhaseReady))
	require.InDelta(t, 1, testutil.ToFloat64(ready), 0)
	p.observe(status("b", agentv1.PhaseRemoved))
	require.InDelta(t, 0, testutil.ToFloat64(ready), 0)
}
