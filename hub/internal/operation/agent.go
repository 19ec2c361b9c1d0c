package operation

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/budecosystem/budcluster/hub/internal/cluster"
	"github.com/budecosystem/budcluster/hub/internal/workflow"
)

// agentLimit is what replacing an agent may take beside the time that the new
// one has to connect: the chart's way there, images, and the way back.
const agentLimit = 15 * time.Minute

// AgentUpgrade has a cluster's agent replaced.
type AgentUpgrade struct {
	Cluster string
	// Digest is that of a chart in the hub's store; empty is the agent of this
	// hub's own version.
	Digest  string
	RetryOf uuid.UUID
}

// agentInput is the input of the workflow.
type agentInput struct {
	Target cluster.AgentTarget `json:"target"`
}

// UpgradeAgent begins to replace a cluster's agent. The old one comes back by
// itself when the new one does not reach the hub in time; then the workflow has
// failed, and says why.
func (s *Service) UpgradeAgent(ctx context.Context, actor string, req AgentUpgrade) (*workflow.Workflow, error) {
	c, err := s.cfg.Clusters.Get(ctx, req.Cluster)
	if err != nil {
		return nil, err //nolint:wrapcheck // a sentence already
	}
	meta, err := s.cfg.AgentChart(ctx, actor, req.Digest)
	if err != nil {
		return nil, err
	}
	target := cluster.AgentTarget{Digest: meta.Digest, Name: meta.Name, Version: meta.Version, AppVersion: meta.AppVersion, ConnectWithin: cluster.DefaultConnectWithin}
	return s.cfg.Workflows.Start(ctx, actor, workflow.Request{ //nolint:wrapcheck // a sentence already
		Kind: workflow.UpgradeAgent, ClusterID: c.ID, ClusterName: c.Name, Exclusive: true, RetryOf: req.RetryOf, Input: agentInput{Target: target},
		Steps: []workflow.Step{
			{Name: stepReach, Title: "Reaching the agent", Typical: time.Second},
			{Name: stepAgent, Title: "Replacing the agent by " + meta.AppVersion, Typical: 30 * time.Second},
		},
	})
}

// agent wants the agent, and waits until it is there or the old one is back.
func (s *Service) agent(ctx context.Context, t *workflow.Turn) (workflow.Outcome, error) {
	in, err := input[agentInput](t.Workflow)
	if err != nil {
		return workflow.Outcome{}, err
	}
	u, err := s.cfg.Clusters.AgentUpgrade(ctx, t.Workflow.ClusterID)
	if err != nil {
		return workflow.Outcome{}, err //nolint:wrapcheck // a sentence already
	}
	if t.Step.Evaluations == 1 || u.Target == nil || u.Target.Digest != in.Target.Digest {
		if u, err = s.cfg.Clusters.SetAgentTarget(ctx, t.Workflow.CreatedBy, t.Workflow.ClusterID.String(), in.Target); err != nil {
			return workflow.Outcome{}, err //nolint:wrapcheck // a sentence already
		}
	}
	if u.Pending() {
		message := u.Status.Message
		if message == "" {
			message = fmt.Sprintf("waiting for the agent to begin; a new one has %s to connect", in.Target.ConnectWithin)
		}
		return workflow.Waiting(message, time.Time{}, "agent", "cluster"), nil
	}
	if u.Status.Phase == cluster.AgentCurrent {
		return workflow.Completed("agent " + u.Status.AgentVersion + " reached the hub"), nil
	}
	reason := u.Status.Reason
	if reason == "" {
		reason = string(u.Status.Phase)
	}
	return workflow.Failed(reason, u.Status.Message), nil
}
