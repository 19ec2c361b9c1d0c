package agenttest

import (
	"sync"

	"github.com/budecosystem/budcluster/agent/internal/newest"
	"github.com/budecosystem/budcluster/internal/facts"
	agentv1 "github.com/budecosystem/budcluster/proto/agent/v1"
)

// Presence answers probes as a test says.
type Presence struct {
	newest.Value[[]facts.Presence]

	mu    sync.Mutex // guards asked
	asked []facts.Probe
}

// Ask notes what was asked for.
func (p *Presence) Ask(probes []facts.Probe) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = probes
}

// Asked is what was asked for last.
func (p *Presence) Asked() []facts.Probe {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked
}

// Retirement notes what the hub decided, and says what a test says.
type Retirement struct {
	newest.Value[*agentv1.Retired]

	mu   sync.Mutex // guards told
	told []*agentv1.Retire
}

// Retire notes one decision.
func (r *Retirement) Retire(m *agentv1.Retire) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.told = append(r.told, m)
}

// Told is what was decided, in its order.
func (r *Retirement) Told() []*agentv1.Retire {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]*agentv1.Retire(nil), r.told...)
}

// Upgrades notes what the hub wants of the agent itself.
type Upgrades struct {
	newest.Value[*agentv1.AgentStatus]

	mu     sync.Mutex // guards wanted
	wanted []*agentv1.AgentTarget
}

// Want notes one target.
func (u *Upgrades) Want(t *agentv1.AgentTarget) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.wanted = append(u.wanted, t)
}

// Wanted is what was wanted, in its order.
func (u *Upgrades) Wanted() []*agentv1.AgentTarget {
	u.mu.Lock()
	defer u.mu.Unlock()
	return append([]*agentv1.AgentTarget(nil), u.wanted...)
}
