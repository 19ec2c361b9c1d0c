package store

import (
	"context"
	"errors"

	"github.com/google/uuid"

	"github.com/budecosystem/budcluster/hub/internal/cluster"
	"github.com/budecosystem/budcluster/hub/internal/store/sqlcgen"
)

// AgentRead returns what is wanted of a cluster's agent, and what became of it.
func (s *Store) AgentRead(ctx context.Context, id uuid.UUID) (cluster.AgentUpgrade, error) {
	r, err := s.q.ClusterAgent(ctx, s.db(ctx), id)
	if err != nil {
		return cluster.AgentUpgrade{}, notFound(err, cluster.ErrNotFound)
	}
	var u cluster.AgentUpgrade
	var errTarget error
	if len(r.AgentTarget) > 0 {
		u.Target, errTarget = decode[*cluster.AgentTarget](r.AgentTarget, "target of the agent")
	}
	var errStatus error
	u.Status, errStatus = decode[cluster.AgentStatus](r.AgentStatus, "status of the agent's upgrade")
	if u.Target != nil {
		u.Target.Generation = r.AgentGeneration
	}
	return u, errors.Join(errTarget, errStatus)
}

// AgentWrite replaces it.
func (s *Store) AgentWrite(ctx context.Context, id uuid.UUID, u cluster.AgentUpgrade) error {
	target, err := encode(u.Target, "target of the agent")
	if err != nil {
		return err
	}
	status, err := encode(u.Status, "status of the agent's upgrade")
	if err != nil {
		return err
	}
	return s.q.ClusterSetAgent(ctx, s.db(ctx), sqlcgen.ClusterSetAgentParams{
		ID: id, AgentTarget: target, AgentGeneration: u.Target.Generation, AgentStatus: status,
	})
}
