package operation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/budecosystem/budcluster/hub/internal/cluster"
	"github.com/budecosystem/budcluster/hub/internal/page"
	"github.com/budecosystem/budcluster/hub/internal/workflow"
)

// Remove is a cluster that is to leave the fleet.
type Remove struct {
	Cluster string
	// Force takes it out of the fleet at once, without its agent.
	Force   bool
	Reply   json.RawMessage
	RetryOf uuid.UUID
}

// removeInput is the input of the workflow.
type removeInput struct {
	Force bool `json:"force,omitempty"`
}

// Remove begins to take a cluster out of the fleet: its components in reverse
// order, then the agent. With force a workflow that is on in the cluster is
// asked to end, and nothing is waited for; should the agent come back it
// removes what is ours.
func (s *Service) Remove(ctx context.Context, actor string, req Remove) (*workflow.Workflow, error) {
	c, err := s.cfg.Clusters.Get(ctx, req.Cluster)
	if err != nil {
		return nil, err //nolint:wrapcheck // a sentence already
	}
	var w *workflow.Workflow
	err = s.cfg.Store.InTx(ctx, func(ctx context.Context) error {
		if req.Force {
			if err := s.interrupt(ctx, actor, c.ID); err != nil {
				return err
			}
		}
		// One with force waits for nobody: what is on may itself be waiting for the
		// agent that does not answer.
		w, err = s.cfg.Workflows.Start(ctx, actor, workflow.Request{
			Kind: workflow.RemoveCluster, ClusterID: c.ID, ClusterName: c.Name, Exclusive: !req.Force, Reply: req.Reply, RetryOf: req.RetryOf,
			Input: removeInput{Force: req.Force}, Steps: s.removeSteps(c, req.Force),
		})
		return err //nolint:wrapcheck // a sentence already
	})
	return w, err
}

// interrupt asks all that is on in a cluster to end, but for removals with
// force: two of them do no harm to each other.
func (s *Service) interrupt(ctx context.Context, actor string, clusterID uuid.UUID) error {
	on, _, err := s.cfg.Workflows.List(ctx, workflow.Filter{ClusterID: &clusterID, Active: true}, page.Page{Limit: page.MaxLimit})
	if err != nil {
		return err //nolint:wrapcheck // a sentence already
	}
	for _, w := range on {
		if in, err := input[removeInput](w); w.Kind == workflow.RemoveCluster && err == nil && in.Force {
			continue
		}
		if _, err := s.cfg.Workflows.Cancel(ctx, actor, w.ID.String()); err != nil && !errors.Is(err, workflow.ErrFinished) {
			return err //nolint:wrapcheck // a sentence already
		}
	}
	return nil
}

func (s *Service) removeSteps(c *cluster.Cluster, force bool) []workflow.Step {
	if force || c.JoinedAt == nil {
		return []workflow.Step{{Name: stepRetire, Title: "Taking the cluster out of the fleet", Milestone: milestoneRemove, Typical: time.Second}}
	}
	steps := []workflow.Step{
		{Name: stepReach, Title: "Reaching the agent", Milestone: milestoneRemove, Typical: time.Second},
		{Name: stepReleases, Title: "Removing what runs on the components", Milestone: milestoneRemove, Typical: 10 * time.Second},
	}
	for _, entry := range slices.Backward(s.cfg.Equipment.Catalogue().Components()) {
		steps = append(steps, workflow.Step{
			Name: stepRemove + entry.Name, Title: "Removing " + entry.Title, Milestone: milestoneRemove, Release: entry.Release, Typical: 10 * time.Second,
		})
	}
	return append(steps, workflow.Step{Name: stepRetire, Title: "Removing the agent", Milestone: milestoneRemove, Typical: 15 * time.Second})
}

// reach refuses to begin with a cluster that does not answer.
func (s *Service) reach(ctx context.Context, t *workflow.Turn) (workflow.Outcome, error) {
	c, err := s.cfg.Clusters.Get(ctx, t.Workflow.ClusterID.String())
	if err != nil {
		return workflow.Outcome{}, err //nolint:wrapcheck // a sentence already
	}
	switch c.State(s.cfg.Now()) {
	case cluster.StateConnected, cluster.StateRetired:
		return workflow.Completed("the agent is connected"), nil
	case cluster.StateRevoked:
		return workflow.Failed("Revoked", fmt.Sprintf("the certificates of cluster %s are revoked, so its agent cannot be told; remove it with force", c.Name)), nil
	default:
		return workflow.Waiting(lastSeen(c)+"; remove the cluster with force if it is gone for good", time.Time{}, "cluster"), nil
	}
}

// removeReleases removes what is not a component: what people and models run on
// them.
func (s *Service) removeReleases(ctx context.Context, t *workflow.Turn) (workflow.Outcome, error) {
	_, others, err := s.cfg.Equipment.Releases(ctx, t.Workflow.ClusterID)
	if err != nil {
		return workflow.Outcome{}, err //nolint:wrapcheck // a sentence already
	}
	var left, subjects []string
	for _, r := range others {
		o, err := s.drop(ctx, t.Workflow.CreatedBy, t.Workflow.ClusterID, r)
		if err != nil {
			return workflow.Outcome{}, err
		}
		if o.Status == workflow.StepWaiting {
			left, subjects = append(left, r.Name), append(subjects, o.Subjects...)
		}
	}
	if len(left) > 0 {
		return workflow.Waiting("waiting for the end of "+some(left), time.Time{}, subjects...), nil
	}
	if len(others) == 0 && t.Step.Evaluations == 1 {
		return workflow.Skipped("there is none"), nil
	}
	return workflow.Completed("it is gone"), nil
}

// some names the first of many.
func some(names []string) string {
	const most = 5
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}

// retire takes the cluster out of the fleet.
func (s *Service) retire(ctx context.Context, t *workflow.Turn) (workflow.Outcome, error) {
	in, err := input[removeInput](t.Workflow)
	if err != nil {
		return workflow.Outcome{}, err
	}
	c, err := s.cfg.Clusters.Retire(ctx, t.Workflow.CreatedBy, t.Workflow.ClusterID.String(), in.Force)
	if errors.Is(err, cluster.ErrUnreachable) {
		return workflow.Failed("Unreachable", err.Error()), nil
	}
	if err != nil {
		return workflow.Outcome{}, err //nolint:wrapcheck // a sentence already
	}
	return retired(c, in.Force), nil
}

func retired(c *cluster.Cluster, force bool) workflow.Outcome {
	switch {
	case c.RetiredAt == nil:
		return workflow.Waiting("the agent removes what is ours, and then itself", time.Time{}, "cluster")
	case len(c.Left) > 0:
		return workflow.Completed("the agent could not remove: " + strings.Join(c.Left, "; "))
	case force && c.JoinedAt != nil && c.GoneAt == nil:
		return workflow.Completed("it is out of the fleet; should its agent come back, it removes what is ours")
	default:
		return workflow.Completed("nothing of ours is left")
	}
}

// undoCluster takes back an entry of the register. One whose agent has joined
// stays: a person installed it, and may register it again.
func (s *Service) undoCluster(ctx context.Context, w *workflow.Workflow, e workflow.Effect) (workflow.Outcome, error) {
	c, err := s.cfg.Clusters.Get(ctx, e.ClusterID.String())
	switch {
	case errors.Is(err, cluster.ErrNotFound):
		return workflow.Completed("it is gone"), nil
	case err != nil:
		return workflow.Outcome{}, err //nolint:wrapcheck // a sentence already
	case c.RetiredAt != nil:
		return workflow.Completed("it is gone"), nil
	case c.JoinedAt != nil:
		return workflow.Completed("the agent of a person stays"), nil
	}
	if _, err := s.cfg.Clusters.Retire(ctx, w.CreatedBy, c.ID.String(), true); err != nil {
		return workflow.Outcome{}, err //nolint:wrapcheck // a sentence already
	}
	return workflow.Completed("it is gone"), nil
}

// undoAgent takes back an agent that this hub installed: it removes what is
// ours, then itself. One that never connected its installer takes back.
func (s *Service) undoAgent(ctx context.Context, w *workflow.Workflow, e workflow.Effect) (workflow.Outcome, error) {
	c, err := s.cfg.Clusters.Get(ctx, e.ClusterID.String())
	switch {
	case errors.Is(err, cluster.ErrNotFound):
		return workflow.Completed("it is gone"), nil
	case err != nil:
		return workflow.Outcome{}, err //nolint:wrapcheck // a sentence already
	case c.JoinedAt == nil:
		return workflow.Completed("it never connected"), nil
	}
	c, err = s.cfg.Clusters.Retire(ctx, w.CreatedBy, c.ID.String(), false)
	if errors.Is(err, cluster.ErrUnreachable) {
		return workflow.Failed("Unreachable", err.Error()), nil
	}
	if err != nil {
		return workflow.Outcome{}, err //nolint:wrapcheck // a sentence already
	}
	return retired(c, false), nil
}
