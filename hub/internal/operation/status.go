package operation

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/budecosystem/budcluster/hub/internal/workflow"
)

// Status begins to ask a cluster how it is: it is answered from the facts,
// which stream in by themselves.
func (s *Service) Status(ctx context.Context, actor, ref string, reply json.RawMessage) (*workflow.Workflow, error) {
	c, err := s.cfg.Clusters.Get(ctx, ref)
	if err != nil {
		return nil, err //nolint:wrapcheck // a sentence already
	}
	return s.cfg.Workflows.Start(ctx, actor, workflow.Request{ //nolint:wrapcheck // a sentence already
		Kind: workflow.UpdateStatus, ClusterID: c.ID, ClusterName: c.Name, Reply: reply, Input: struct{}{},
		Steps: []workflow.Step{{Name: stepStatus, Title: "Updating cluster status", Milestone: milestoneStatus, Typical: time.Second}},
	})
}

// status gives the facts as the result.
func (s *Service) status(ctx context.Context, t *workflow.Turn) (workflow.Outcome, error) {
	c, err := s.cfg.Clusters.Get(ctx, t.Workflow.ClusterID.String())
	if err != nil {
		return workflow.Outcome{}, err //nolint:wrapcheck // a sentence already
	}
	nodes, err := s.nodes(ctx, c.ID)
	if err != nil {
		return workflow.Outcome{}, err
	}
	result, err := s.cfg.DescribeStatus(ctx, c, nodes)
	if err != nil {
		return workflow.Outcome{}, fmt.Errorf("describe cluster %s: %w", c.Name, err)
	}
	o := workflow.Completed(fmt.Sprintf("%s, %d of %d nodes are ready", c.State(s.cfg.Now()), c.ReadyNodes, c.Nodes))
	o.Result = result
	return o, nil
}
