package apitest

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/hubapi"
	"github.com/budecosystem/budcluster/hub/internal/bootstrap"
	"github.com/budecosystem/budcluster/hub/internal/cluster"
	"github.com/budecosystem/budcluster/hub/internal/component"
	"github.com/budecosystem/budcluster/hub/internal/equip"
	"github.com/budecosystem/budcluster/hub/internal/event"
	"github.com/budecosystem/budcluster/hub/internal/invalid"
	"github.com/budecosystem/budcluster/hub/internal/operation"
	"github.com/budecosystem/budcluster/hub/internal/page"
	"github.com/budecosystem/budcluster/hub/internal/workflow"
)

// works is api.Workflows, api.Operations and api.Equipment. What is begun stays
// where it is until a test moves it with Work.
type works struct {
	*Hub
	catalogue *component.Catalogue
	installer *bootstrap.Installer
}

func newWorks(t testing.TB, h *Hub) works {
	t.Helper()
	catalogue, err := component.Load(nil)
	require.NoError(t, err)
	installer, err := bootstrap.New(bootstrap.Config{
		Binary: "budcluster-agent", HubAddresses: []string{"hub.example.com:8443"}, Logger: slog.New(slog.DiscardHandler), Now: Now,
		Pin: func(context.Context) (string, error) { return "", errors.New("nothing is installed here") },
	})
	require.NoError(t, err)
	return works{h, catalogue, installer}
}

// Work moves a workflow to where now says it is, and says so to whoever follows
// it. Steps are taken in their order; fields that are empty stay.
func (h *Hub) Work(id string, now hubapi.Workflow) {
	defer h.lock()()
	for _, w := range h.workflows {
		if w.ID.String() != id {
			continue
		}
		w.Status, w.Reason, w.Message = workflow.Status(now.Status), now.Reason, now.Message
		if now.Status.Terminal() {
			at := Now()
			w.FinishedAt = &at
		}
		for i, s := range now.Steps {
			step := &w.Steps[i]
			step.Status, step.Message = workflow.StepStatus(s.Status), s.Message
			step.StartedAt, step.FinishedAt = s.StartedAt, s.FinishedAt
			step.Waited = time.Duration(s.WaitedMillis) * time.Millisecond
		}
		h.emitLocked(event.Event{Type: event.WorkflowStep, ClusterID: w.ClusterID, Subject: id, Actor: "hub"})
	}
}

func (h works) Get(_ context.Context, ref string) (*workflow.Workflow, error) {
	unlock, err := h.enter()
	defer unlock()
	if err != nil {
		return nil, err
	}
	return h.getLocked(ref)
}

func (h works) getLocked(ref string) (*workflow.Workflow, error) {
	for _, w := range h.workflows {
		if w.ID.String() == ref {
			out := *w
			out.Steps = slices.Clone(w.Steps)
			return &out, nil
		}
	}
	return nil, &workflow.NotFoundError{ID: ref}
}

func (h works) List(_ context.Context, f workflow.Filter, p page.Page) ([]*workflow.Workflow, string, error) {
	unlock, err := h.enter()
	defer unlock()
	if err != nil {
		return nil, "", err
	}
	if f.Kind != "" && !slices.Contains(workflow.Kinds(), f.Kind) {
		return nil, "", invalid.New("kind", "%q is not a kind of workflow", f.Kind)
	}
	var found []*workflow.Workflow
	for _, w := range h.workflows {
		if (f.ClusterID == nil || *f.ClusterID == w.ClusterID) && (f.Kind == "" || f.Kind == w.Kind) &&
			(f.Status == "" || f.Status == w.Status) && (!f.Active || !w.Status.Terminal()) {
			found = append(found, w)
		}
	}
	return cut(found, p, func(w *workflow.Workflow) string { return w.ID.String() })
}

func (h works) Cancel(_ context.Context, actor, ref string) (*workflow.Workflow, error) {
	unlock, err := h.enter()
	defer unlock()
	if err != nil {
		return nil, err
	}
	for _, w := range h.workflows {
		if w.ID.String() == ref {
			if w.Status.Terminal() {
				return nil, &workflow.FinishedError{ID: w.ID, Status: w.Status}
			}
			now := Now()
			w.CancelledAt, w.CancelledBy = &now, actor
		}
	}
	return h.getLocked(ref)
}

func (h works) begin(ref, actor string, kind workflow.Kind, steps ...workflow.Step) (*workflow.Workflow, error) {
	unlock, err := h.enter()
	defer unlock()
	if err != nil {
		return nil, err
	}
	w := &workflow.Workflow{ID: h.idLocked(), Kind: kind, Status: workflow.StatusPending, CreatedBy: actor, CreatedAt: Now(), Input: []byte("{}"), Steps: steps}
	if ref != "" {
		c, err := clusters{h.Hub}.findLocked(ref)
		if err != nil {
			return nil, err
		}
		w.ClusterID, w.ClusterName = c.ID, c.Name
		for _, other := range h.workflows {
			if other.ClusterID == c.ID && !other.Status.Terminal() {
				return nil, &workflow.BusyError{Cluster: c.Name, Kind: kind, Other: other.ID, Running: other.Kind}
			}
		}
	}
	for i := range w.Steps {
		w.Steps[i].Status = workflow.StepPending
	}
	h.workflows = append(h.workflows, w)
	return h.getLocked(w.ID.String())
}

func (h works) Register(ctx context.Context, actor string, req operation.Register) (*workflow.Workflow, *cluster.Cluster, error) {
	c, err := clusters{h.Hub}.Create(ctx, actor, req.Name, req.Labels)
	if err != nil {
		return nil, nil, err
	}
	w, err := h.begin(c.Name, actor, workflow.RegisterCluster,
		workflow.Step{Name: "connect", Title: "Waiting for the agent"}, workflow.Step{Name: "inventory", Title: "Reading the inventory"})
	return w, c, err
}

// upload is api.Config.Upload: the file is checked as a hub does, and nobody is
// dialed.
func (h works) upload(ctx context.Context, actor string, req operation.Register, kubeconfig []byte) (*workflow.Workflow, error) {
	if err := h.installer.Check(bootstrap.Request{Kubeconfig: kubeconfig}); err != nil {
		return nil, err
	}
	clear(kubeconfig)
	unlock, err := h.enter()
	err = errors.Join(err, h.foreign)
	unlock()
	if err != nil {
		return nil, err
	}
	w, _, err := h.Register(ctx, actor, req)
	return w, err
}

func (h works) Remove(_ context.Context, actor string, req operation.Remove) (*workflow.Workflow, error) {
	return h.begin(req.Cluster, actor, workflow.RemoveCluster, workflow.Step{Name: "retire", Title: "Removing the agent"})
}

func (h works) component(actor string, kind workflow.Kind, req operation.Component) (*workflow.Workflow, error) {
	entry, err := h.catalogue.Component(req.Name)
	if err != nil {
		return nil, err
	}
	return h.begin(req.Cluster, actor, kind, workflow.Step{Name: "component/" + entry.Name, Title: "Installing " + entry.Title})
}

func (h works) Install(_ context.Context, actor string, req operation.Component) (*workflow.Workflow, error) {
	return h.component(actor, workflow.InstallComponent, req)
}

func (h works) Upgrade(_ context.Context, actor string, req operation.Component) (*workflow.Workflow, error) {
	return h.component(actor, workflow.UpgradeComponent, req)
}

func (h works) Uninstall(_ context.Context, actor string, req operation.Component) (*workflow.Workflow, error) {
	return h.component(actor, workflow.RemoveComponent, req)
}

func (h works) Rollout(_ context.Context, actor string, req operation.Rollout) (*workflow.Workflow, error) {
	if _, err := h.catalogue.Component(req.Name); err != nil {
		return nil, err
	}
	return h.begin("", actor, workflow.UpgradeComponent, workflow.Step{Name: "rollout", Title: "Upgrading"})
}

func (h works) Retry(ctx context.Context, actor, ref string) (*workflow.Workflow, error) {
	w, err := h.Get(ctx, ref)
	if err != nil {
		return nil, err
	}
	if w.Status != workflow.StatusFailed && w.Status != workflow.StatusCancelled {
		return nil, &workflow.NotRetryableError{ID: w.ID, Reason: "it has not failed"}
	}
	return h.begin(w.ClusterName, actor, w.Kind, w.Steps...)
}

func (h works) UpgradeAgent(_ context.Context, actor string, req operation.AgentUpgrade) (*workflow.Workflow, error) {
	return h.begin(req.Cluster, actor, workflow.UpgradeAgent, workflow.Step{Name: "agent", Title: "Replacing the agent"})
}

func (h works) Catalogue() *component.Catalogue { return h.catalogue }

func (h works) Overview(_ context.Context, clusterID uuid.UUID) ([]equip.Status, error) {
	unlock, err := h.enter()
	defer unlock()
	if err != nil {
		return nil, err
	}
	items, err := h.catalogue.Plan(component.Input{ClusterID: clusterID.String()})
	out := make([]equip.Status, 0, len(items))
	for _, item := range items {
		out = append(out, equip.Status{Item: item, Wanted: component.WantAuto})
	}
	return out, err
}
