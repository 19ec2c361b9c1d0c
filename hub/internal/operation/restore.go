package operation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/budecosystem/budcluster/hub/internal/cluster"
	"github.com/budecosystem/budcluster/hub/internal/component"
	"github.com/budecosystem/budcluster/hub/internal/equip"
	"github.com/budecosystem/budcluster/hub/internal/release"
	"github.com/budecosystem/budcluster/hub/internal/workflow"
)

// former is what is kept of a release that a run changes. Its secret values are
// not: a run changes none, so they are still those of the release.
type former struct {
	Digest string       `json:"digest"`
	Spec   release.Spec `json:"spec"`
}

// changedSince is how the undo of a change ends that somebody else has changed
// again.
const changedSince = "somebody has changed it since, and it stays so"

// recordPut writes down what this run did to a release.
func (s *Service) recordPut(ctx context.Context, w *workflow.Workflow, before, now *release.Release, made bool) error {
	e := workflow.Effect{Kind: workflow.EffectRelease, Name: now.Name, ClusterID: w.ClusterID}
	switch {
	case made:
		return s.cfg.Workflows.RecordEffect(ctx, w.ID, e) //nolint:wrapcheck // a sentence already
	case now.Digest == before.Digest:
		return nil
	}
	return s.recordChange(ctx, w, workflow.Effect{Kind: workflow.EffectChange, Name: e.Name, ClusterID: e.ClusterID, After: now.Digest},
		former{Digest: before.Digest, Spec: before.Spec}, e)
}

// recordChange writes down what was there before a change, in the transaction of
// the change, unless this run has made the whole, which goes with the change. Of
// a removal nothing is written down: what is removed does not come back, so what
// makes up for it stays.
func (s *Service) recordChange(ctx context.Context, w *workflow.Workflow, e workflow.Effect, was any, whole workflow.Effect) error {
	if w.Kind == workflow.RemoveComponent {
		return nil
	}
	effects, err := s.cfg.Workflows.Made(ctx, w.ID)
	if err != nil {
		return err //nolint:wrapcheck // a sentence already
	}
	if slices.ContainsFunc(effects, func(m workflow.Effect) bool { return m.Kind == whole.Kind && m.Name == whole.Name }) {
		return nil
	}
	if e.Before, err = json.Marshal(was); err != nil {
		return fmt.Errorf("encode what %s %s was: %w", e.Kind, e.Name, err)
	}
	return s.cfg.Workflows.RecordEffect(ctx, w.ID, e) //nolint:wrapcheck // a sentence already
}

// undoChange makes a release be what it was, and waits until it is.
func (s *Service) undoChange(ctx context.Context, w *workflow.Workflow, e workflow.Effect) (workflow.Outcome, error) {
	was, err := before[former](e)
	if err != nil {
		return workflow.Outcome{}, err
	}
	c, err := s.home(ctx, e)
	if c == nil {
		return workflow.Completed("its cluster is gone"), err
	}
	r, err := s.cfg.Releases.Get(ctx, e.ClusterID, e.Name)
	switch {
	case errors.Is(err, release.ErrNotFound), err == nil && r.RemovedAt != nil:
		return workflow.Completed("it is gone"), nil
	case err != nil:
		return workflow.Outcome{}, err //nolint:wrapcheck // a sentence already
	case r.Digest == was.Digest:
	case r.Digest != e.After:
		return workflow.Completed(changedSince), nil
	default:
		_, _, err := s.cfg.Releases.Apply(ctx, w.CreatedBy, e.ClusterID, release.Request{Name: r.Name, Namespace: r.Namespace, Spec: was.Spec, IfGeneration: &r.Generation})
		if _, retiring := errors.AsType[*release.RetiringError](err); retiring {
			return workflow.Completed("its cluster leaves the fleet"), nil
		}
		return workflow.Waiting(fmt.Sprintf("returning to %s %s as it was", was.Spec.Chart.Name, was.Spec.Chart.Version), time.Time{}, "release/"+r.Name), err //nolint:wrapcheck // a sentence already
	}
	l := equip.Look{Release: r, Connected: c.State(s.cfg.Now()) == cluster.StateConnected}
	switch done, failed, reason, message := l.Settled(); {
	case failed:
		return workflow.Failed(reason, "it is wanted as it was, and fails: "+message), nil
	case !done:
		return workflow.Waiting("it is wanted as it was: "+message, time.Time{}, "release/"+r.Name), nil
	}
	return workflow.Completed("it is as it was"), nil
}

// setWish keeps a cluster's own setting, and writes down what it was.
func (s *Service) setWish(ctx context.Context, w *workflow.Workflow, name string, wish component.Wish) error {
	return s.cfg.Store.InTx(ctx, func(ctx context.Context) error {
		was, _, err := s.wish(ctx, w, name)
		if err != nil {
			return err
		}
		if err := s.cfg.Equipment.SetWish(ctx, w.CreatedBy, w.ClusterID, name, wish); err != nil {
			return err //nolint:wrapcheck // a sentence already
		}
		_, now, err := s.wish(ctx, w, name)
		if err != nil {
			return err
		}
		e := workflow.Effect{Kind: workflow.EffectSetting, Name: name, ClusterID: w.ClusterID, After: string(now)}
		return s.recordChange(ctx, w, e, was, workflow.Effect{Kind: workflow.EffectCluster, Name: w.ClusterName})
	})
}

// wish is a cluster's own setting for a component, nil when it has none, and its
// text, by which two are compared.
func (s *Service) wish(ctx context.Context, w *workflow.Workflow, name string) (*component.Wish, json.RawMessage, error) {
	all, err := s.cfg.Equipment.Wishes(ctx, w.ClusterID)
	if err != nil {
		return nil, nil, err //nolint:wrapcheck // a sentence already
	}
	var found *component.Wish
	if one, ok := all[name]; ok {
		found = &one
	}
	text, err := json.Marshal(found)
	if err != nil {
		return nil, nil, fmt.Errorf("encode the setting of component %s: %w", name, err)
	}
	return found, text, nil
}

// undoSetting gives a cluster the setting back that it had.
func (s *Service) undoSetting(ctx context.Context, w *workflow.Workflow, e workflow.Effect) (workflow.Outcome, error) {
	was, err := before[*component.Wish](e)
	if err != nil {
		return workflow.Outcome{}, err
	}
	_, now, err := s.wish(ctx, w, e.Name)
	switch {
	case err != nil:
		return workflow.Outcome{}, err
	case string(now) != e.After:
		return workflow.Completed(changedSince), nil
	case was == nil:
		err = s.cfg.Equipment.ForgetWish(ctx, e.ClusterID, e.Name)
	default:
		err = s.cfg.Equipment.SetWish(ctx, w.CreatedBy, e.ClusterID, e.Name, *was)
	}
	return workflow.Completed("it is as it was"), err
}

// setIngressURL keeps where a cluster's models are reached, and writes down what
// it was.
func (s *Service) setIngressURL(ctx context.Context, w *workflow.Workflow, c *cluster.Cluster, ingressURL string) (*cluster.Cluster, error) {
	was := c.IngressURL
	c, err := s.cfg.Clusters.SetIngressURL(ctx, w.CreatedBy, c.ID.String(), ingressURL)
	if err != nil {
		return nil, err //nolint:wrapcheck // a sentence already
	}
	e := workflow.Effect{Kind: workflow.EffectIngress, Name: c.Name, ClusterID: c.ID, After: c.IngressURL}
	return c, s.recordChange(ctx, w, e, was, workflow.Effect{Kind: workflow.EffectCluster, Name: c.Name})
}

// undoIngress gives a cluster the URL back that it had.
func (s *Service) undoIngress(ctx context.Context, w *workflow.Workflow, e workflow.Effect) (workflow.Outcome, error) {
	was, err := before[string](e)
	if err != nil {
		return workflow.Outcome{}, err
	}
	c, err := s.home(ctx, e)
	if c == nil {
		return workflow.Completed("its cluster is gone"), err
	}
	if c.IngressURL != e.After {
		return workflow.Completed(changedSince), nil
	}
	_, err = s.cfg.Clusters.SetIngressURL(ctx, w.CreatedBy, c.ID.String(), was)
	return workflow.Completed("it is as it was"), err //nolint:wrapcheck // a sentence already
}

// home is the cluster of an effect, nil when it has left the fleet.
func (s *Service) home(ctx context.Context, e workflow.Effect) (*cluster.Cluster, error) {
	c, err := s.cfg.Clusters.Get(ctx, e.ClusterID.String())
	switch {
	case errors.Is(err, cluster.ErrNotFound), err == nil && c.RetiredAt != nil:
		return nil, nil //nolint:nilnil // it has
	case err != nil:
		return nil, err //nolint:wrapcheck // a sentence already
	}
	return c, nil
}

// before decodes what was there before an effect.
func before[T any](e workflow.Effect) (was T, err error) {
	if err := json.Unmarshal(e.Before, &was); err != nil {
		return was, fmt.Errorf("read what %s %s was: %w", e.Kind, e.Name, err)
	}
	return was, nil
}
