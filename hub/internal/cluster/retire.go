package cluster

import (
	"context"
	"fmt"
	"strings"

	"github.com/google/uuid"

	"github.com/budecosystem/budcluster/hub/internal/event"
)

// Retirement is what a cluster's agent is to be told. Its zero value: nothing.
type Retirement struct {
	// Generation counts the decisions.
	Generation int64
	// Recorded: the agent has said that what is ours is gone.
	Recorded bool
}

// maxLeft bounds what an agent may report that it could not remove.
const maxLeft = 100

// Retire takes a cluster out of the fleet. Its agent is told to remove what is
// ours and then itself; when it has, the row is closed (RetiredAt), which frees
// name and UID. With force, and for a cluster that has never joined, the row is
// closed at once: should the agent ever come back it is let in once more, only
// to be told the same. The same again changes nothing, but force hastens a
// retirement that waits.
//
//	(fleet) ── Retire ──► RetiringAt ── Retired by the agent ──► RetiredAt, GoneAt
//	   └────── force ───────────┴──► RetiredAt ── the agent came back ──► GoneAt
func (s *Service) Retire(ctx context.Context, actor, ref string, force bool) (*Cluster, error) {
	c, err := s.Get(ctx, ref)
	if err != nil {
		return nil, err
	}
	err = s.store.InTx(ctx, func(ctx context.Context) error {
		if c, err = s.store.RetireLock(ctx, c.ID); err != nil {
			return err
		}
		now := s.now().UTC()
		switch {
		case c.RetiredAt != nil:
			return nil
		case force || c.JoinedAt == nil:
			c.RetireGeneration++
			return s.closeRow(ctx, c, actor, force && c.JoinedAt != nil)
		case c.RevokedAt != nil:
			return &UnreachableError{Name: c.Name}
		case c.RetiringAt != nil:
			return nil
		}
		c.RetireGeneration++
		c.RetiringAt = &now
		if err := s.store.RetireWrite(ctx, c); err != nil {
			return err
		}
		s.store.WakeReleases(ctx, c.ID)
		return s.store.AppendEvents(ctx, s.event(c, event.ClusterRetiring, actor,
			"cluster "+c.Name+" is to leave the fleet; its agent removes what is ours"))
	})
	if err != nil {
		return nil, fmt.Errorf("retire cluster %s: %w", ref, err)
	}
	return c, nil
}

// Retirement says what the cluster's agent is to be told.
func (s *Service) Retirement(ctx context.Context, clusterID uuid.UUID) (Retirement, error) {
	r, err := s.store.RetirementOf(ctx, clusterID)
	if err != nil {
		return Retirement{}, fmt.Errorf("look for the retirement of cluster %s: %w", clusterID, err)
	}
	return r, nil
}

// Retired records that the agent has removed what is ours; left names what it
// could not. What it says of another decision than the current one is ignored.
func (s *Service) Retired(ctx context.Context, clusterID uuid.UUID, generation int64, left []string) error {
	err := s.store.InTx(ctx, func(ctx context.Context) error {
		c, err := s.store.RetireLock(ctx, clusterID)
		if err != nil {
			return err
		}
		if generation != c.RetireGeneration || c.RetiringAt == nil && c.RetiredAt == nil || c.GoneAt != nil {
			return nil
		}
		now := s.now().UTC()
		c.GoneAt, c.Left = &now, cleanLeft(left)
		if c.RetiredAt == nil {
			return s.closeRow(ctx, c, "agent", false)
		}
		if err := s.store.RetireWrite(ctx, c); err != nil {
			return err
		}
		s.store.WakeReleases(ctx, c.ID)
		return s.retireEvent(ctx, c, event.ClusterCleared, "agent", map[string]any{"left": c.Left},
			"the agent of cluster "+c.Name+", which was retired by force, came back and removed what was ours"+leftMessage(c.Left))
	})
	if err != nil {
		return fmt.Errorf("record that cluster %s was left: %w", clusterID, err)
	}
	return nil
}

// closeRow ends the cluster's part in the fleet. What is known of its nodes and
// releases goes; its events and its identity stay.
func (s *Service) closeRow(ctx context.Context, c *Cluster, actor string, forced bool) error {
	now := s.now().UTC()
	c.RetiredAt = &now
	if err := s.store.RetireWrite(ctx, c); err != nil {
		return err
	}
	if err := s.store.RetireDrop(ctx, c.ID, now); err != nil {
		return err
	}
	c.Nodes, c.ReadyNodes = 0, 0
	s.store.WakeReleases(ctx, c.ID)
	message := "cluster " + c.Name + " has left the fleet" + leftMessage(c.Left)
	if forced {
		message = "cluster " + c.Name + " was taken out of the fleet by force; should its agent come back, it removes what is ours"
	}
	return s.retireEvent(ctx, c, event.ClusterRetired, actor, map[string]any{"forced": forced, "left": c.Left}, message)
}

func (s *Service) retireEvent(ctx context.Context, c *Cluster, kind event.Type, actor string, data any, message string) error {
	e, err := event.Record(s.now(), kind, actor, data)
	if err != nil {
		return err
	}
	e.ClusterID, e.Subject, e.Message = c.ID, c.Name, message
	return s.store.AppendEvents(ctx, e)
}

func leftMessage(left []string) string {
	if len(left) == 0 {
		return ""
	}
	return "; this is still there: " + strings.Join(left, "; ")
}

func cleanLeft(in []string) []string {
	var out []string
	for _, text := range in[:min(len(in), maxLeft)] {
		if text = clip(text, maxMessage); text != "" {
			out = append(out, text)
		}
	}
	return out
}
