package operation

import (
	"context"
	"strings"

	"github.com/google/uuid"

	"github.com/budecosystem/budcluster/hub/internal/workflow"
)

// Retry begins the work of a workflow that failed or was cancelled anew, as a
// workflow of its own.
func (s *Service) Retry(ctx context.Context, actor, ref string) (*workflow.Workflow, error) {
	w, err := s.cfg.Workflows.Get(ctx, ref)
	if err != nil {
		return nil, err //nolint:wrapcheck // a sentence already
	}
	if w.Status != workflow.StatusFailed && w.Status != workflow.StatusCancelled {
		return nil, &workflow.NotRetryableError{ID: w.ID, Reason: "it is " + strings.ToLower(string(w.Status)) + ", and only what failed or was cancelled is tried again"}
	}
	switch w.Kind {
	case workflow.RegisterCluster:
		return s.retryRegister(ctx, actor, w)
	case workflow.RemoveCluster:
		in, err := input[removeInput](w)
		if err != nil {
			return nil, err
		}
		return s.Remove(ctx, actor, Remove{Cluster: w.ClusterID.String(), Force: in.Force, Reply: w.Reply, RetryOf: w.ID})
	case workflow.InstallComponent, workflow.RemoveComponent, workflow.UpgradeComponent:
		return s.retryComponent(ctx, actor, w)
	case workflow.UpgradeAgent:
		in, err := input[agentInput](w)
		if err != nil {
			return nil, err
		}
		return s.UpgradeAgent(ctx, actor, AgentUpgrade{Cluster: w.ClusterID.String(), Digest: in.Target.Digest, RetryOf: w.ID})
	default:
		return nil, &workflow.NotRetryableError{ID: w.ID, Reason: "ask for it anew"}
	}
}

// retryRegister registers the cluster again if it is still in the register, and
// else enters it anew.
func (s *Service) retryRegister(ctx context.Context, actor string, w *workflow.Workflow) (*workflow.Workflow, error) {
	in, err := input[registerInput](w)
	if err != nil {
		return nil, err
	}
	req := Register{Name: in.Name, Labels: in.Labels, IngressURL: in.IngressURL, Components: in.Components, Reply: w.Reply, RetryOf: w.ID}
	c, err := s.cfg.Clusters.Get(ctx, w.ClusterID.String())
	here := err == nil && c.RetiredAt == nil
	if in.Installs && (!here || c.JoinedAt == nil) {
		return nil, &workflow.NotRetryableError{ID: w.ID, Reason: "the kubeconfig that it had was used once and is not kept; upload it again"}
	}
	if here {
		req.Name, req.Existing = c.ID.String(), true
	}
	next, _, err := s.Register(ctx, actor, req)
	return next, err
}

func (s *Service) retryComponent(ctx context.Context, actor string, w *workflow.Workflow) (*workflow.Workflow, error) {
	if w.ClusterID == uuid.Nil {
		in, err := input[rolloutInput](w)
		if err != nil {
			return nil, err
		}
		req := Rollout{Name: in.Component, Wish: in.Wish, Size: in.Size, Canary: in.Canary, Tolerate: in.Tolerate, RetryOf: w.ID}
		for _, home := range in.Clusters {
			req.Clusters = append(req.Clusters, home.ID.String())
		}
		return s.Rollout(ctx, actor, req)
	}
	in, err := input[componentInput](w)
	if err != nil {
		return nil, err
	}
	req := Component{Cluster: w.ClusterID.String(), Name: in.Component, Wish: in.Wish, RetryOf: w.ID}
	switch w.Kind {
	case workflow.RemoveComponent:
		return s.Uninstall(ctx, actor, req)
	case workflow.UpgradeComponent:
		return s.Upgrade(ctx, actor, req)
	default:
		return s.Install(ctx, actor, req)
	}
}
