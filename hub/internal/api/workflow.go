package api

import (
	"context"

	"github.com/google/uuid"

	"github.com/budecosystem/budcluster/hub/hubapi"
	"github.com/budecosystem/budcluster/hub/internal/component"
	"github.com/budecosystem/budcluster/hub/internal/operation"
	"github.com/budecosystem/budcluster/hub/internal/workflow"
)

type listWorkflowsInput struct {
	PageInput
	Cluster string `query:"cluster" doc:"Only those about this cluster, by name or id."`
	Kind    string `query:"kind" doc:"Only those of this kind, e.g. register_cluster."`
	Status  string `query:"status" doc:"Only those of this status, e.g. Failed."`
	Active  bool   `query:"active" doc:"Only those that are not over."`
}

func (s *Server) listWorkflows(ctx context.Context, in *listWorkflowsInput) (*body[hubapi.List[hubapi.Workflow]], error) {
	f := workflow.Filter{Kind: workflow.Kind(in.Kind), Status: workflow.Status(in.Status), Active: in.Active}
	if in.Cluster != "" {
		c, err := s.cfg.Clusters.Get(ctx, in.Cluster)
		if err != nil {
			return nil, err
		}
		f.ClusterID = &c.ID
	}
	found, next, err := s.cfg.Workflows.List(ctx, f, in.page())
	if err != nil {
		return nil, err
	}
	return listed(found, next, func(w *workflow.Workflow) hubapi.Workflow {
		out := workflowOut(w)
		out.Input = nil
		return out
	}), nil
}

// WorkflowInput names a workflow.
type WorkflowInput struct {
	ID string `path:"id" doc:"The workflow's id."`
}

func (s *Server) getWorkflow(ctx context.Context, in *WorkflowInput) (*body[hubapi.Workflow], error) {
	return answerWorkflow(s.cfg.Workflows.Get(ctx, in.ID))
}

func (s *Server) cancelWorkflow(ctx context.Context, in *WorkflowInput) (*body[hubapi.Workflow], error) {
	return answerWorkflow(s.cfg.Workflows.Cancel(ctx, actor(ctx), in.ID))
}

func (s *Server) retryWorkflow(ctx context.Context, in *WorkflowInput) (*body[hubapi.Workflow], error) {
	return answerWorkflow(s.cfg.Operations.Retry(ctx, actor(ctx), in.ID))
}

type registerInput struct{ Body hubapi.RegisterRequest }

func (s *Server) register(ctx context.Context, in *registerInput) (*body[hubapi.Workflow], error) {
	req := operation.Register{
		Name: in.Body.Name, Labels: in.Body.Labels, IngressURL: in.Body.IngressURL, Existing: in.Body.Existing,
		Components: make(map[string]component.Wish, len(in.Body.Components)),
	}
	for name, w := range in.Body.Components {
		req.Components[name] = wishIn(w)
	}
	if in.Body.Kubeconfig != "" {
		return answerWorkflow(s.cfg.Upload(ctx, actor(ctx), req, []byte(in.Body.Kubeconfig)))
	}
	w, _, err := s.cfg.Operations.Register(ctx, actor(ctx), req)
	return answerWorkflow(w, err)
}

type removeInput struct {
	ClusterInput
	Body hubapi.RemoveRequest `required:"false"`
}

func (s *Server) removeCluster(ctx context.Context, in *removeInput) (*body[hubapi.Workflow], error) {
	return answerWorkflow(s.cfg.Operations.Remove(ctx, actor(ctx), operation.Remove{Cluster: in.Cluster, Force: in.Body.Force}))
}

type upgradeAgentInput struct {
	ClusterInput
	Body hubapi.UpgradeAgentRequest `required:"false"`
}

func (s *Server) upgradeAgent(ctx context.Context, in *upgradeAgentInput) (*body[hubapi.Workflow], error) {
	return answerWorkflow(s.cfg.Operations.UpgradeAgent(ctx, actor(ctx), operation.AgentUpgrade{Cluster: in.Cluster, Digest: in.Body.Digest}))
}

func answerWorkflow(w *workflow.Workflow, err error) (*body[hubapi.Workflow], error) {
	if err != nil {
		return nil, err
	}
	return &body[hubapi.Workflow]{Body: workflowOut(w)}, nil
}

func workflowOut(w *workflow.Workflow) hubapi.Workflow {
	out := hubapi.Workflow{
		ID: w.ID.String(), Kind: string(w.Kind), Cluster: w.ClusterName, Status: hubapi.WorkflowStatus(w.Status), Reason: w.Reason, Message: w.Message,
		Input: w.Input, Result: w.Result, ETASeconds: int64(w.ETA.Seconds()), CreatedBy: w.CreatedBy, CreatedAt: w.CreatedAt,
		CancelledAt: w.CancelledAt, CancelledBy: w.CancelledBy, FinishedAt: w.FinishedAt,
	}
	if w.ClusterID != uuid.Nil {
		out.ClusterID = w.ClusterID.String()
	}
	if w.RetryOf != uuid.Nil {
		out.RetryOf = w.RetryOf.String()
	}
	for _, step := range w.Steps {
		out.Steps = append(out.Steps, hubapi.WorkflowStep{
			Name: step.Name, Title: step.Title, Status: hubapi.StepStatus(step.Status), Reason: step.Reason, Message: step.Message, Release: step.Release,
			StartedAt: step.StartedAt, FinishedAt: step.FinishedAt, WaitedMillis: step.Waited.Milliseconds(),
			OverheadMillis: step.Overhead().Milliseconds(), Looks: step.Evaluations,
		})
	}
	return out
}
