package gateway

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/budecosystem/budcluster/internal/logkey"
	agentv1 "github.com/budecosystem/budcluster/proto/agent/v1"
)

const (
	// returnRate is how many agents per second a draining hub sends back. One
	// handshake costs about 2 ms of a core, so two cores keep up with ease.
	returnRate = 200
	// returnAfter is the first slot: a hub needs that long to start.
	returnAfter = time.Second
)

// drain tells every agent to leave, each with its own moment to come back, and
// waits until all have or the time is up.
func (g *Gateway) drain(ctx context.Context) {
	g.mu.Lock()
	g.draining = true
	links := make([]*Link, 0, len(g.attached))
	for _, l := range g.attached {
		links = append(links, l)
	}
	g.mu.Unlock()
	if len(links) == 0 {
		return
	}
	g.log.InfoContext(ctx, "agents are told to leave", slog.Int(logkey.Count, len(links)))
	for i, l := range links {
		l.depart(g.slot(i, len(links)))
	}
	over := time.NewTimer(g.cfg.Drain)
	defer over.Stop()
	for _, l := range links {
		select {
		case <-l.session.Done():
		case <-over.C:
			return
		}
	}
}

// slot is the place of the i-th of n agents in the queue back, with jitter
// inside the slot because several replicas may drain at once.
func (g *Gateway) slot(i, n int) departure {
	width := time.Second / returnRate
	jitter := rand.N(width * time.Duration(min(n, returnRate))) //nolint:gosec // spreads load, hides nothing
	return departure{
		reason:  agentv1.GoAway_REASON_DRAINING,
		message: "the hub is stopping",
		after:   returnAfter + width*time.Duration(i) + jitter,
		grace:   g.cfg.Drain,
		ended:   reasonDraining,
	}
}
