package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"github.com/budecosystem/budcluster/hub/internal/event"
	"github.com/budecosystem/budcluster/internal/logkey"
)

// SessionInfo describes a tunnel that has just come up.
type SessionInfo struct {
	Replica, Instance, RemoteAddr, AgentVersion string
}

// OpenSession records a tunnel and gives it the next epoch, which fences every
// session before it. A revoked cluster gets ErrRevoked.
func (s *Service) OpenSession(ctx context.Context, clusterID uuid.UUID, info SessionInfo) (epoch int64, err error) {
	err = s.store.InTx(ctx, func(ctx context.Context) error {
		c, err := s.store.ClusterLock(ctx, clusterID)
		if err != nil {
			return err
		}
		if c.RevokedAt != nil {
			return &RevokedError{Name: c.Name}
		}
		now := s.now().UTC()
		epoch, err = s.store.SessionOpen(ctx, clusterID, Session{
			Replica: info.Replica, Instance: clip(info.Instance, maxReason), RemoteAddr: info.RemoteAddr,
			ConnectedAt: now, LeaseUntil: now.Add(s.lease),
		}, clip(info.AgentVersion, maxReason))
		if err != nil {
			return err
		}
		e, err := event.Record(now, event.ClusterConnected, "agent", map[string]any{
			"replica": info.Replica, "epoch": epoch, "remoteAddr": info.RemoteAddr, "agentVersion": clip(info.AgentVersion, maxReason),
		})
		if err != nil {
			return err
		}
		e.ClusterID, e.Subject, e.Message = c.ID, c.Name, "cluster "+c.Name+" is connected"
		return s.store.AppendEvents(ctx, e)
	})
	if err != nil {
		return 0, fmt.Errorf("open session of cluster %s: %w", clusterID, err)
	}
	return epoch, nil
}

// RenewSessions extends the leases of the sessions that replica holds. One that
// was fenced meanwhile stays as it is; Lost names it.
func (s *Service) RenewSessions(ctx context.Context, replica string, ids []uuid.UUID) error {
	if len(ids) == 0 {
		return nil
	}
	now := s.now().UTC()
	if err := s.store.SessionRenew(ctx, replica, ids, now, now.Add(s.lease)); err != nil {
		return fmt.Errorf("renew %d sessions of replica %s: %w", len(ids), replica, err)
	}
	return nil
}

// Lost returns those of the held sessions (cluster to epoch) that may not go
// on: fenced by a newer one, revoked, or of a cluster that was deleted.
func (s *Service) Lost(ctx context.Context, held map[uuid.UUID]int64) ([]uuid.UUID, error) {
	ids := make([]uuid.UUID, 0, len(held))
	for id := range held {
		ids = append(ids, id)
	}
	current, err := s.store.SessionEpochs(ctx, ids)
	if err != nil {
		return nil, fmt.Errorf("read epochs of %d sessions: %w", len(ids), err)
	}
	var lost []uuid.UUID
	for id, epoch := range held {
		if now, ok := current[id]; !ok || now != epoch {
			lost = append(lost, id)
		}
	}
	return lost, nil
}

// CloseSession records that a tunnel ended. Closing a session that a newer one
// has replaced changes nothing.
func (s *Service) CloseSession(ctx context.Context, clusterID uuid.UUID, epoch int64, reason string) error {
	err := s.store.InTx(ctx, func(ctx context.Context) error {
		c, err := s.store.ClusterLock(ctx, clusterID)
		if errors.Is(err, ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		closed, err := s.store.SessionClose(ctx, clusterID, epoch, s.now().UTC())
		if err != nil || !closed {
			return err
		}
		return s.disconnected(ctx, Expired{ClusterID: c.ID, Name: c.Name, Epoch: epoch}, reason)
	})
	if err != nil {
		return fmt.Errorf("close session of cluster %s: %w", clusterID, err)
	}
	return nil
}

// ExpireSessions closes the sessions of replicas that died, and returns how
// many there were.
func (s *Service) ExpireSessions(ctx context.Context) (int, error) {
	count := 0
	err := s.store.InTx(ctx, func(ctx context.Context) error {
		expired, err := s.store.SessionExpire(ctx, s.now().UTC())
		if err != nil {
			return err
		}
		count = len(expired)
		for _, e := range expired {
			if err := s.disconnected(ctx, e, "hub replica "+e.Replica+" went away"); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("expire sessions: %w", err)
	}
	return count, nil
}

// Run expires sessions until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	turn := time.NewTicker(max(s.lease/2, time.Second))
	defer turn.Stop()
	for {
		if _, err := s.ExpireSessions(ctx); err != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "sessions of lost replicas were not expired", slog.Any(logkey.Error, err))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-turn.C:
		}
	}
}

func (s *Service) disconnected(ctx context.Context, e Expired, reason string) error {
	record, err := event.Record(s.now(), event.ClusterDisconnected, "hub", map[string]any{"epoch": e.Epoch, "reason": reason})
	if err != nil {
		return err
	}
	record.ClusterID, record.Subject = e.ClusterID, e.Name
	record.Message = "cluster " + e.Name + " is not connected any more: " + reason
	return s.store.AppendEvents(ctx, record)
}
