package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"github.com/budecosystem/budcluster/hub/internal/cluster"
	"github.com/budecosystem/budcluster/internal/logkey"
	"github.com/budecosystem/budcluster/internal/run"
	agentv1 "github.com/budecosystem/budcluster/proto/agent/v1"
)

const (
	// checkEvery is the least time between two looks at the sessions' rows: a
	// fleet whose nodes change all the time stirs us all the time. Together with
	// grace it keeps revocation under the promised five seconds.
	checkEvery = time.Second
	// settles is how many lost sessions are looked into at once.
	settles = 8
)

// suspect has the loop look at a cluster's row soon.
func (g *Gateway) suspect(id uuid.UUID) {
	g.mu.Lock()
	g.suspects[id] = true
	g.mu.Unlock()
	select {
	case g.stirred <- struct{}{}:
	default:
	}
}

// keep holds on to the sessions' rows: all leases are renewed with one
// statement per tick, and what was stirred is checked with one statement.
func (g *Gateway) keep(ctx context.Context) {
	tick := time.NewTicker(g.cfg.Lease / 3)
	defer tick.Stop()
	pause := time.NewTimer(0) // runs while the rows were looked at just now
	defer pause.Stop()
	stirred, paused := false, true
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			g.renew(ctx)
			continue
		case <-g.stirred:
			stirred = true
		case <-pause.C:
			paused = false
		}
		if stirred && !paused {
			g.check(ctx, g.takeSuspects())
			stirred, paused = false, true
			pause.Reset(checkEvery)
		}
	}
}

// renew keeps the leases and, as the net below NOTIFY, checks every session.
func (g *Gateway) renew(ctx context.Context) {
	held := g.held(nil)
	if len(held) == 0 {
		return
	}
	ids := make([]uuid.UUID, 0, len(held))
	for id := range held {
		ids = append(ids, id)
	}
	bounded, cancel := g.bound(ctx)
	defer cancel()
	if err := g.cfg.Clusters.RenewSessions(bounded, g.cfg.Replica, ids); err != nil && ctx.Err() == nil {
		g.metrics.renewFailures.Inc()
		g.log.WarnContext(ctx, "session leases not renewed", slog.Int(logkey.Count, len(ids)), slog.Any(logkey.Error, err))
		return
	}
	g.check(ctx, held)
}

// bound keeps a store that hangs from holding up the loop.
func (g *Gateway) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, g.cfg.Lease/3, errors.New("keep sessions: over a third of the lease"))
}

// held returns the epochs of the attached sessions, or of those among ids.
func (g *Gateway) held(ids map[uuid.UUID]bool) map[uuid.UUID]int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.heldLocked(ids)
}

func (g *Gateway) heldLocked(ids map[uuid.UUID]bool) map[uuid.UUID]int64 {
	held := make(map[uuid.UUID]int64, len(g.attached))
	for id, l := range g.attached {
		if ids == nil || ids[id] {
			held[id] = l.Epoch()
		}
	}
	return held
}

func (g *Gateway) takeSuspects() map[uuid.UUID]int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	ids := g.suspects
	g.suspects = map[uuid.UUID]bool{}
	return g.heldLocked(ids)
}

// check finds those of the sessions that may not go on. A store that is away
// is no reason to part with anybody.
func (g *Gateway) check(ctx context.Context, held map[uuid.UUID]int64) {
	if len(held) == 0 {
		return
	}
	bounded, cancel := g.bound(ctx)
	defer cancel()
	lost, err := g.cfg.Clusters.Lost(bounded, held)
	if err != nil {
		if ctx.Err() == nil {
			g.log.WarnContext(ctx, "sessions not checked", slog.Int(logkey.Count, len(held)), slog.Any(logkey.Error, err))
		}
		return
	}
	_ = run.Each(bounded, settles, lost, func(bounded context.Context, id uuid.UUID) error {
		g.mu.Lock()
		link := g.attached[id]
		g.mu.Unlock()
		// A link that came meanwhile has another epoch and is judged next time.
		if link == nil || link.Epoch() != held[id] {
			return nil
		}
		if err := g.settle(bounded, link); err != nil && ctx.Err() == nil {
			g.log.WarnContext(ctx, "lost session not settled", slog.String(logkey.ClusterID, id.String()), slog.Any(logkey.Error, err))
		}
		return nil // one cluster's trouble must not keep the others from being settled
	})
}

// settle finds out why a session is not the cluster's any more. When nobody
// else has it, only its lease ran out while the store was away: it is opened
// again and the agent never notices.
func (g *Gateway) settle(ctx context.Context, link *Link) error {
	c, err := g.cfg.Clusters.Get(ctx, link.cluster.String())
	switch {
	case errors.Is(err, cluster.ErrNotFound):
		link.depart(departure{
			reason: agentv1.GoAway_REASON_REVOKED, grace: grace, ended: reasonRevoked,
			message: "the cluster was deleted at the hub; uninstall the agent, or create the cluster again and install the agent with its join token",
		})
	case err != nil:
		return fmt.Errorf("read cluster %s: %w", link.cluster, err)
	case c.RevokedAt != nil:
		link.depart(departure{
			reason: agentv1.GoAway_REASON_REVOKED, grace: grace, ended: reasonRevoked,
			message: (&cluster.RevokedError{Name: c.Name}).Error(),
		})
	case c.Session != nil && c.Session.Epoch > link.Epoch():
		link.depart(departFenced())
	default:
		epoch, err := g.cfg.Clusters.OpenSession(ctx, link.cluster, link.info)
		if err != nil {
			return fmt.Errorf("open session of cluster %s again: %w", link.cluster, err)
		}
		link.epoch.Store(epoch)
	}
	return nil
}

func departFenced() departure {
	return departure{reason: agentv1.GoAway_REASON_FENCED, message: "a newer session of this cluster took over", grace: grace, ended: reasonFenced}
}
