package cluster

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/budecosystem/budcluster/hub/internal/event"
	"github.com/budecosystem/budcluster/internal/facts"
)

// Presence is what the agent found in the cluster of that which it was asked
// for, whoever put it there.
type Presence struct {
	// At is when the agent last answered; nil until it did.
	At      *time.Time
	Answers []facts.Presence
}

// The bounds of an answer: Kubernetes's own, or what a person can read.
const (
	maxAnswers   = facts.MaxProbes * facts.MaxPresences
	maxProbeName = 128
	maxObject    = 253
	maxVersion   = 128
)

// Presence returns what was last found in the cluster.
func (s *Service) Presence(ctx context.Context, clusterID uuid.UUID) (Presence, error) {
	p, err := s.store.PresenceRead(ctx, clusterID)
	if err != nil {
		return Presence{}, fmt.Errorf("read what is present in cluster %s: %w", clusterID, err)
	}
	return p, nil
}

// SetPresence records the agent's answer. The same again is no event, and only
// says that it still holds.
func (s *Service) SetPresence(ctx context.Context, clusterID uuid.UUID, answers []facts.Presence) error {
	answers = cleanPresence(answers)
	err := s.store.InTx(ctx, func(ctx context.Context) error {
		c, err := s.store.ClusterLock(ctx, clusterID)
		if err != nil {
			return err
		}
		have, err := s.store.PresenceRead(ctx, clusterID)
		if err != nil {
			return err
		}
		now := s.now().UTC()
		if err := s.store.PresenceWrite(ctx, clusterID, answers, now); err != nil {
			return err
		}
		if have.At != nil && slices.EqualFunc(have.Answers, answers, samePresence) {
			return nil
		}
		e, err := event.Record(now, event.ClusterPresence, "agent", map[string]any{"presence": answers})
		if err != nil {
			return err
		}
		e.ClusterID, e.Subject = c.ID, c.Name
		e.Message = presenceMessage(c.Name, answers)
		return s.store.AppendEvents(ctx, e)
	})
	if err != nil {
		return fmt.Errorf("record what is present in cluster %s: %w", clusterID, err)
	}
	return nil
}

func presenceMessage(cluster string, answers []facts.Presence) string {
	found := 0
	for _, a := range answers {
		if a.State == facts.PresenceFound {
			found++
		}
	}
	return fmt.Sprintf("cluster %s was looked through: %d thing(s) found of what was asked for", cluster, found)
}

// cleanPresence bounds what an agent reports and puts it in one order. A state
// that this hub does not know is unknown.
func cleanPresence(in []facts.Presence) []facts.Presence {
	out := make([]facts.Presence, 0, min(len(in), maxAnswers))
	for _, p := range in[:min(len(in), maxAnswers)] {
		if p.Probe == "" {
			continue
		}
		if p.State != facts.PresenceFound && p.State != facts.PresenceAbsent {
			p.State = facts.PresenceUnknown
		}
		p.Probe, p.Reason, p.Version = clip(p.Probe, maxProbeName), clip(p.Reason, maxMessage), clip(p.Version, maxVersion)
		p.Kind, p.Namespace, p.Object = clip(p.Kind, maxName), clip(p.Namespace, maxObject), clip(p.Object, maxObject)
		p.Release, p.ReleaseNamespace = clip(p.Release, maxObject), clip(p.ReleaseNamespace, maxObject)
		out = append(out, p)
	}
	slices.SortStableFunc(out, facts.ComparePresence)
	return slices.CompactFunc(out, samePresence)
}

func samePresence(a, b facts.Presence) bool {
	sameReady := a.Ready == b.Ready || a.Ready != nil && b.Ready != nil && *a.Ready == *b.Ready
	a.Ready, b.Ready = nil, nil
	return sameReady && a == b
}
