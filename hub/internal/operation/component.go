package operation

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/budecosystem/budcluster/hub/internal/component"
	"github.com/budecosystem/budcluster/hub/internal/equip"
	"github.com/budecosystem/budcluster/hub/internal/invalid"
	"github.com/budecosystem/budcluster/hub/internal/release"
	"github.com/budecosystem/budcluster/hub/internal/workflow"
)

// componentInput is the input of workflows about one component.
type componentInput struct {
	Component string `json:"component"`
	// Wish is kept as the cluster's own once it has come true.
	Wish component.Wish `json:"wish"`
	// Version and Digest are what an upgrade goes to whose wish names no version:
	// the catalogue's of when it began. They are not kept.
	Version string `json:"version,omitempty"`
	Digest  string `json:"digest,omitempty"`
}

// wishes are those of a workflow that is about one component.
func wishes(w *workflow.Workflow) (map[string]component.Wish, error) {
	switch w.Kind {
	case workflow.InstallComponent, workflow.UpgradeComponent, workflow.RemoveComponent:
		in, err := input[componentInput](w)
		in.Wish.Version, in.Wish.Digest = cmp.Or(in.Wish.Version, in.Version), cmp.Or(in.Wish.Digest, in.Digest)
		return map[string]component.Wish{in.Component: in.Wish}, err
	default:
		return nil, nil
	}
}

// install makes a component be as the plan says, and waits until it is ready.
func (s *Service) install(ctx context.Context, t *workflow.Turn, name string) (workflow.Outcome, error) {
	own, err := wishes(t.Workflow)
	if err != nil {
		return workflow.Outcome{}, err
	}
	l, err := s.cfg.Equipment.Look(ctx, t.Workflow.ClusterID, name, own)
	if err != nil {
		return workflow.Outcome{}, err //nolint:wrapcheck // a sentence already
	}
	if _, asked := own[name]; asked { // by itself: without it this workflow has come to nothing
		l.Required = true
	}
	switch l.Action {
	case component.ActionInstall, component.ActionUpgrade, component.ActionConfigure:
		return s.put(ctx, t, l)
	case component.ActionKeep:
		if l.GivenUp() && t.Step.Evaluations == 1 { // what failed before this workflow is tried anew by it
			l.Again = true
			return s.put(ctx, t, l)
		}
		return s.follow(t, l), nil
	case component.ActionAdopt:
		return s.judge(t, l, "it was there before: "+l.Why()), nil
	case component.ActionUnknown:
		return workflow.Waiting(l.Why(), time.Time{}, "cluster", "node"), nil
	case component.ActionBlocked:
		if l.Required {
			return workflow.Failed("Blocked", l.Why()), nil
		}
		return workflow.Skipped(l.Why()), nil
	default:
		return workflow.Skipped(l.Why()), nil
	}
}

// put makes the release be as the plan says, and writes down what this run did
// to it, in one transaction: a crash leaves both or neither. The other order, the effect
// first, would be as safe against crashes alone; but while a chart is fetched,
// which may take many tries, somebody else may make that release, and the undo
// of this run would remove it. So what counts is that Put found it absent.
func (s *Service) put(ctx context.Context, t *workflow.Turn, l *equip.Look) (workflow.Outcome, error) {
	w := t.Workflow
	chart, err := s.cfg.Equipment.Chart(ctx, w.CreatedBy, l)
	if digest, ok := errors.AsType[*equip.DigestError](err); ok {
		return workflow.Failed("ChartChanged", digest.Error()), nil
	}
	if err != nil {
		return workflow.Outcome{}, err //nolint:wrapcheck // a sentence already
	}
	var r *release.Release
	err = s.cfg.Store.InTx(ctx, func(ctx context.Context) error {
		var made bool
		if r, made, err = s.cfg.Equipment.Put(ctx, w.CreatedBy, w.ClusterID, l, chart); err != nil {
			return err //nolint:wrapcheck // a sentence already
		}
		return s.recordPut(ctx, w, l.Release, r, made)
	})
	if _, refused := errors.AsType[*invalid.Error](err); refused {
		return workflow.Failed("Invalid", err.Error()), nil
	}
	if err != nil {
		return workflow.Outcome{}, err //nolint:wrapcheck // a sentence already
	}
	return workflow.Waiting(fmt.Sprintf("installing %s %s", r.Spec.Chart.Name, r.Spec.Chart.Version), time.Time{}, "release/"+r.Name), nil
}

// follow waits for the agent, then for what the component brings.
func (s *Service) follow(t *workflow.Turn, l *equip.Look) workflow.Outcome {
	done, failed, reason, message := l.Settled()
	switch {
	case failed && l.Required:
		return workflow.Failed(reason, message)
	case failed:
		return workflow.Outcome{Status: workflow.StepCompleted, Reason: reason, Message: "it failed, and is not needed for models: " + message}
	case !done:
		return workflow.Waiting(message, time.Time{}, "release/"+l.Release.Name)
	}
	return s.judge(t, l, fmt.Sprintf("%s %s is ready", l.Release.Spec.Chart.Name, l.Release.Spec.Chart.Version))
}

// judge asks for more than Helm does.
func (s *Service) judge(t *workflow.Turn, l *equip.Look, ready string) workflow.Outcome {
	since := s.cfg.Now()
	if t.Step.StartedAt != nil {
		since = *t.Step.StartedAt
	}
	j := l.Judge(since)
	switch {
	case j.State == component.JudgedWaiting:
		subjects := []string{"node", "cluster"}
		if l.Release != nil {
			subjects = append(subjects, "release/"+l.Release.Name)
		}
		return workflow.Waiting(j.Message, j.Until, subjects...)
	case j.State == component.JudgedFailed && l.Required && l.Action != component.ActionAdopt:
		return workflow.Failed("NotReady", j.Message)
	case j.State == component.JudgedFailed:
		return workflow.Outcome{Status: workflow.StepCompleted, Reason: "NotReady", Message: ready + ", but " + j.Message}
	}
	return workflow.Completed(strings.Join(append([]string{ready}, j.Warnings...), "; "))
}

// remove takes a component's release away and waits until it is gone.
func (s *Service) remove(ctx context.Context, t *workflow.Turn, name string) (workflow.Outcome, error) {
	components, _, err := s.cfg.Equipment.Releases(ctx, t.Workflow.ClusterID)
	if err != nil {
		return workflow.Outcome{}, err //nolint:wrapcheck // a sentence already
	}
	r := components[name]
	if r == nil {
		if t.Step.Evaluations > 1 {
			return workflow.Completed("it is gone"), nil
		}
		return workflow.Skipped("this hub did not install it"), nil
	}
	return s.drop(ctx, t.Workflow.CreatedBy, t.Workflow.ClusterID, r)
}

// drop writes a release's tombstone, once, and says how far the agent is.
func (s *Service) drop(ctx context.Context, actor string, clusterID uuid.UUID, r *release.Release) (workflow.Outcome, error) {
	if r.RemovedAt == nil {
		gone, err := s.cfg.Releases.Delete(ctx, actor, clusterID, r.Name, false)
		if errors.Is(err, release.ErrNotFound) {
			return workflow.Completed("it is gone"), nil
		}
		if err != nil {
			return workflow.Outcome{}, err //nolint:wrapcheck // a sentence already
		}
		if gone.RemovedAt == nil { // it was never in a cluster
			return workflow.Completed("it is gone"), nil
		}
	}
	message := "removing release " + r.Name
	if r.RemovedAt != nil && r.Status.ObservedGeneration == r.Generation && r.Status.Message != "" {
		message += ": " + r.Status.Message
	}
	return workflow.Waiting(message, time.Time{}, "release/"+r.Name), nil
}

// undoRelease takes back a release that a run made.
func (s *Service) undoRelease(ctx context.Context, w *workflow.Workflow, e workflow.Effect) (workflow.Outcome, error) {
	r, err := s.cfg.Releases.Get(ctx, e.ClusterID, e.Name)
	if errors.Is(err, release.ErrNotFound) {
		return workflow.Completed("it is gone"), nil
	}
	if err != nil {
		return workflow.Outcome{}, err //nolint:wrapcheck // a sentence already
	}
	return s.drop(ctx, w.CreatedBy, e.ClusterID, r)
}

// Component asks for one component in one cluster.
type Component struct {
	Cluster string
	Name    string
	Wish    component.Wish
	RetryOf uuid.UUID
	// id is the workflow's, if somebody has decided on it.
	id uuid.UUID
}

// Install begins to install a component, and what it requires first.
func (s *Service) Install(ctx context.Context, actor string, req Component) (*workflow.Workflow, error) {
	req.Wish.Wanted = component.WantYes
	return s.change(ctx, actor, workflow.InstallComponent, req)
}

// Upgrade begins to bring a component that this hub installed to the version of
// the wish, or of the catalogue.
func (s *Service) Upgrade(ctx context.Context, actor string, req Component) (*workflow.Workflow, error) {
	req.Wish.Wanted = component.WantYes
	return s.change(ctx, actor, workflow.UpgradeComponent, req)
}

func (s *Service) change(ctx context.Context, actor string, kind workflow.Kind, req Component) (*workflow.Workflow, error) {
	if err := req.Wish.Check(""); err != nil {
		return nil, err //nolint:wrapcheck // a sentence already
	}
	c, err := s.cfg.Clusters.Get(ctx, req.Cluster)
	if err != nil {
		return nil, err //nolint:wrapcheck // a sentence already
	}
	entry, err := s.cfg.Equipment.Catalogue().Component(req.Name)
	if err != nil {
		return nil, err //nolint:wrapcheck // a sentence already
	}
	if v := req.Wish.Version; entry.Chart.Builtin != "" && v != "" && v != entry.Chart.Version {
		return nil, invalid.New("version", "this hub carries %s %s and no other; leave the version away", entry.Title, entry.Chart.Version)
	}
	if _, err := s.cfg.Equipment.Plan(ctx, c.ID, map[string]component.Wish{req.Name: req.Wish}); err != nil { // a version or values that cannot be
		return nil, invalid.New("wish", "%v", err)
	}
	in := componentInput{Component: req.Name, Wish: req.Wish}
	if kind == workflow.UpgradeComponent {
		if err := s.upgradable(ctx, c.ID, c.Name, entry); err != nil {
			return nil, err
		}
		if in, err = s.goal(ctx, c.ID, entry, req.Wish); err != nil {
			return nil, err
		}
	}
	var steps []workflow.Step
	for _, one := range s.chain(entry) {
		steps = append(steps, componentStep(one, ""))
	}
	steps = append(steps, workflow.Step{Name: stepSettings, Title: "Keeping the settings", Typical: time.Second})
	return s.cfg.Workflows.Start(ctx, actor, workflow.Request{ //nolint:wrapcheck // a sentence already
		Kind: kind, ClusterID: c.ID, ClusterName: c.Name, Exclusive: true, RetryOf: req.RetryOf, ID: req.id,
		Input: in, Steps: steps,
	})
}

// goal is what an upgrade goes to: the version of the wish, or the catalogue's,
// with the cluster's own values unless the wish has others.
func (s *Service) goal(ctx context.Context, clusterID uuid.UUID, entry *component.Component, wish component.Wish) (componentInput, error) {
	in := componentInput{Component: entry.Name, Wish: wish}
	if wish.Version == "" {
		in.Version, in.Digest = entry.Chart.Version, entry.Chart.Digest
	}
	if wish.Values == nil {
		own, err := s.cfg.Equipment.Wishes(ctx, clusterID)
		if err != nil {
			return in, err //nolint:wrapcheck // a sentence already
		}
		in.Wish.Values = own[entry.Name].Values
	}
	return in, nil
}

func (s *Service) upgradable(ctx context.Context, clusterID uuid.UUID, clusterName string, entry *component.Component) error {
	have, _, err := s.cfg.Equipment.Releases(ctx, clusterID)
	if err != nil {
		return err //nolint:wrapcheck // a sentence already
	}
	if r := have[entry.Name]; r == nil || r.RemovedAt != nil {
		return invalid.New("component", "%s was not installed by this hub in cluster %q, so it cannot upgrade it; install it with `budcluster component install %s --cluster %s`",
			entry.Title, clusterName, entry.Name, clusterName)
	}
	return nil
}

// chain is what a component requires, in order, and itself.
func (s *Service) chain(entry *component.Component) []*component.Component {
	needed := map[string]bool{entry.Name: true}
	all := s.cfg.Equipment.Catalogue().Components()
	for _, one := range slices.Backward(all) { // what is required comes before what requires it
		if needed[one.Name] {
			for _, name := range one.Requires {
				needed[name] = true
			}
		}
	}
	return slices.DeleteFunc(slices.Clone(all), func(one *component.Component) bool { return !needed[one.Name] })
}

// Uninstall begins to remove a component that this hub installed.
func (s *Service) Uninstall(ctx context.Context, actor string, req Component) (*workflow.Workflow, error) {
	req.Wish = component.Wish{Wanted: component.WantNo}
	c, err := s.cfg.Clusters.Get(ctx, req.Cluster)
	if err != nil {
		return nil, err //nolint:wrapcheck // a sentence already
	}
	entry, err := s.cfg.Equipment.Catalogue().Component(req.Name)
	if err != nil {
		return nil, err //nolint:wrapcheck // a sentence already
	}
	have, _, err := s.cfg.Equipment.Releases(ctx, c.ID)
	if err != nil {
		return nil, err //nolint:wrapcheck // a sentence already
	}
	for _, other := range s.cfg.Equipment.Catalogue().Components() {
		if r := have[other.Name]; r != nil && r.RemovedAt == nil && slices.Contains(other.Requires, entry.Name) {
			return nil, invalid.New("component", "%s is needed by %s, which is installed in cluster %q; remove that first", entry.Title, other.Title, c.Name)
		}
	}
	steps := []workflow.Step{
		{Name: stepRemove + entry.Name, Title: "Removing " + entry.Title, Release: entry.Release, Typical: 30 * time.Second},
		{Name: stepSettings, Title: "Keeping the settings", Typical: time.Second},
	}
	heed, err := s.heeding(ctx, c.ID, entry, req.Wish)
	if err != nil {
		return nil, err
	}
	for _, one := range heed {
		step := componentStep(one, "")
		step.Title = "Configuring " + one.Title
		steps = append(steps, step)
	}
	return s.cfg.Workflows.Start(ctx, actor, workflow.Request{ //nolint:wrapcheck // a sentence already
		Kind: workflow.RemoveComponent, ClusterID: c.ID, ClusterName: c.Name, Exclusive: true, RetryOf: req.RetryOf,
		Input: componentInput{Component: req.Name, Wish: req.Wish},
		Steps: steps,
	})
}

// heeding are the components that this hub installed whose values go by whether
// the one that is removed is there. The GPU operator gets its device plugin back
// when HAMi goes.
func (s *Service) heeding(ctx context.Context, clusterID uuid.UUID, removed *component.Component, wish component.Wish) (heed []*component.Component, err error) {
	items, err := s.cfg.Equipment.Plan(ctx, clusterID, map[string]component.Wish{removed.Name: wish})
	if err != nil {
		return nil, err //nolint:wrapcheck // a sentence already
	}
	for _, item := range items {
		switch item.Action {
		case component.ActionConfigure, component.ActionUpgrade, component.ActionKeep: // kept, it may have failed the last time
			entry, err := s.cfg.Equipment.Catalogue().Component(item.Component)
			if err == nil && entry.Heeds(removed.Name) { // else the catalogue has forgotten it
				heed = append(heed, entry)
			}
		default:
		}
	}
	return heed, nil
}

// settings keeps the wish once it has come true.
func (s *Service) settings(ctx context.Context, t *workflow.Turn) (workflow.Outcome, error) {
	in, err := input[componentInput](t.Workflow)
	if err != nil {
		return workflow.Outcome{}, err
	}
	if err := s.setWish(ctx, t.Workflow, in.Component, in.Wish); err != nil {
		return workflow.Outcome{}, err
	}
	return workflow.Completed(fmt.Sprintf("the cluster's own setting for %s is %q", in.Component, in.Wish.Wanted)), nil
}
