package operation

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/budecosystem/budcluster/hub/internal/cluster"
	"github.com/budecosystem/budcluster/hub/internal/component"
	"github.com/budecosystem/budcluster/hub/internal/invalid"
	"github.com/budecosystem/budcluster/hub/internal/workflow"
)

// The bounds of a rollout.
const (
	maxRollout = 1000
	// rolloutLook is how often a rollout looks at its workflows.
	rolloutLook = 2 * time.Second
)

// Rollout is the upgrade of one component in many clusters.
type Rollout struct {
	Name string
	Wish component.Wish
	// Clusters are names or ids, in the order in which they take part.
	Clusters []string
	// Size, Canary and Tolerate are component.Wave's.
	Size, Canary, Tolerate int
	RetryOf                uuid.UUID
}

// rolloutInput is the input of the workflow.
type rolloutInput struct {
	Component string         `json:"component"`
	Wish      component.Wish `json:"wish"`
	Clusters  []rolloutHome  `json:"clusters"`
	Size      int            `json:"size"`
	Canary    int            `json:"canary,omitempty"`
	Tolerate  int            `json:"tolerate,omitempty"`
}

// rolloutHome is one cluster of a rollout. Workflow is decided at the start, so
// that a look that is repeated begins no second one.
type rolloutHome struct {
	ID       uuid.UUID `json:"id"`
	Name     string    `json:"name"`
	Workflow uuid.UUID `json:"workflow"`
}

// Rollout begins to upgrade a component in waves. It stops when more fail than
// are tolerated; trying the workflow again goes on with those that are left.
func (s *Service) Rollout(ctx context.Context, actor string, req Rollout) (*workflow.Workflow, error) {
	entry, err := s.cfg.Equipment.Catalogue().Component(req.Name)
	if err != nil {
		return nil, err //nolint:wrapcheck // a sentence already
	}
	switch {
	case len(req.Clusters) == 0:
		return nil, invalid.New("clusters", "it is empty; name the clusters in which %s is to be upgraded", entry.Title)
	case len(req.Clusters) > maxRollout:
		return nil, invalid.New("clusters", "there are %d; a rollout takes at most %d, so make several", len(req.Clusters), maxRollout)
	case req.Size < 0 || req.Canary < 0 || req.Tolerate < 0:
		return nil, invalid.New("size", "size, canary and tolerate count clusters; use 0 or more")
	}
	if err := req.Wish.Check(""); err != nil {
		return nil, err //nolint:wrapcheck // a sentence already
	}
	req.Wish.Wanted = component.WantYes
	in := rolloutInput{Component: entry.Name, Wish: req.Wish, Size: max(req.Size, 1), Canary: req.Canary, Tolerate: req.Tolerate}
	seen := map[uuid.UUID]bool{}
	for _, ref := range req.Clusters {
		c, err := s.cfg.Clusters.Get(ctx, ref)
		if err != nil {
			return nil, err //nolint:wrapcheck // a sentence already
		}
		if !seen[c.ID] {
			seen[c.ID] = true
			in.Clusters = append(in.Clusters, rolloutHome{ID: c.ID, Name: c.Name, Workflow: uuid.New()})
		}
	}
	return s.cfg.Workflows.Start(ctx, actor, workflow.Request{ //nolint:wrapcheck // a sentence already
		Kind: workflow.UpgradeComponent, Input: in, RetryOf: req.RetryOf,
		Steps: []workflow.Step{{Name: stepRollout, Title: fmt.Sprintf("Upgrading %s in %d clusters", entry.Title, len(in.Clusters)), Typical: time.Duration(len(in.Clusters)) * time.Minute}},
	})
}

// rollout looks at the clusters' workflows and begins with the next wave.
func (s *Service) rollout(ctx context.Context, t *workflow.Turn) (workflow.Outcome, error) {
	in, err := input[rolloutInput](t.Workflow)
	if err != nil {
		return workflow.Outcome{}, err
	}
	wave := component.Wave{Size: in.Size, Canary: in.Canary, Tolerate: in.Tolerate}
	done := 0
	for _, home := range in.Clusters {
		target, err := s.target(ctx, in, home)
		if err != nil {
			return workflow.Outcome{}, err
		}
		if target.State == component.TargetDone || target.State == component.TargetSkipped {
			done++
		}
		wave.Targets = append(wave.Targets, target)
	}
	d := wave.Decide()
	progress := fmt.Sprintf("%d of %d clusters are done", done, len(in.Clusters))
	switch d.State {
	case component.WaveDone:
		return workflow.Completed(progress), nil
	case component.WavePaused:
		return workflow.Failed("Paused", fmt.Sprintf("%s; %s", progress, d.Reason)), nil
	case component.WaveStart:
		for _, home := range in.Clusters {
			if slices.Contains(d.Start, home.Name) {
				if err := s.startOne(ctx, t.Workflow.CreatedBy, in, home); err != nil {
					return workflow.Outcome{}, err
				}
			}
		}
		progress += "; beginning with " + some(d.Start)
	default:
		progress += "; " + d.Reason
	}
	return workflow.Waiting(progress, s.cfg.Now().Add(rolloutLook)), nil
}

// target says how far one cluster is.
func (s *Service) target(ctx context.Context, in rolloutInput, home rolloutHome) (component.Target, error) {
	target := component.Target{Cluster: home.Name, State: component.TargetWaiting}
	w, err := s.cfg.Workflows.Get(ctx, home.Workflow.String())
	switch {
	case err == nil && w.Status == workflow.StatusCompleted:
		target.State = component.TargetDone
		return target, nil
	case err == nil && w.Status.Terminal():
		target.State, target.Message = component.TargetFailed, w.Message
		return target, nil
	case err == nil:
		target.State = component.TargetRunning
		return target, nil
	case !errors.Is(err, workflow.ErrNotFound):
		return target, err //nolint:wrapcheck // a sentence already
	}
	c, err := s.cfg.Clusters.Get(ctx, home.ID.String())
	if errors.Is(err, cluster.ErrNotFound) || err == nil && c.RetiredAt != nil {
		target.State, target.Message = component.TargetSkipped, "it left the fleet"
		return target, nil
	}
	if err != nil {
		return target, err //nolint:wrapcheck // a sentence already
	}
	have, _, err := s.cfg.Equipment.Releases(ctx, home.ID)
	if err != nil {
		return target, err //nolint:wrapcheck // a sentence already
	}
	switch r := have[in.Component]; {
	case r == nil || r.RemovedAt != nil:
		target.State, target.Message = component.TargetSkipped, "this hub did not install it there"
	case c.State(s.cfg.Now()) != cluster.StateConnected:
		target.State = component.TargetAway
	}
	return target, nil
}

// startOne begins in one cluster. One that is busy is tried again at the next
// look.
func (s *Service) startOne(ctx context.Context, actor string, in rolloutInput, home rolloutHome) error {
	_, err := s.change(ctx, actor, workflow.UpgradeComponent, Component{Cluster: home.ID.String(), Name: in.Component, Wish: in.Wish, id: home.Workflow})
	if err != nil && !errors.Is(err, workflow.ErrBusy) {
		return fmt.Errorf("begin in cluster %s: %w", home.Name, err)
	}
	return nil
}
