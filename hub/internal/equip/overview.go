package equip

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"github.com/budecosystem/budcluster/hub/internal/component"
	"github.com/budecosystem/budcluster/hub/internal/release"
	agentv1 "github.com/budecosystem/budcluster/proto/agent/v1"
)

// Status is one component of a cluster for people.
type Status struct {
	component.Item
	// Wanted is the cluster's own wish; auto when it has none.
	Wanted component.Wanted
	// Present: it is in the cluster. Owned: this hub put it there.
	Present, Owned bool
	// Version is the one that is in the cluster, where it is known.
	Version string
	// Health is Ready, Progressing, Failed, Removing or Unknown; empty when it is
	// not present.
	Health string
	// Message says why the health is as it is.
	Message string
}

// The healths.
const (
	HealthReady       = "Ready"
	HealthProgressing = "Progressing"
	HealthFailed      = "Failed"
	HealthRemoving    = "Removing"
	HealthUnknown     = "Unknown"
)

// Overview says how a cluster stands with every component of the catalogue, in
// the order in which they are installed.
func (s *Service) Overview(ctx context.Context, clusterID uuid.UUID) ([]Status, error) {
	st, err := s.read(ctx, clusterID, nil)
	if err != nil {
		return nil, err
	}
	out := make([]Status, 0, len(st.items))
	for _, item := range st.items {
		out = append(out, overview(st, item))
	}
	return out, nil
}

func overview(st *state, item component.Item) Status {
	o := Status{Item: item, Wanted: component.WantAuto}
	if w := st.input.Wishes[item.Component].Wanted; w != "" {
		o.Wanted = w
	}
	if r := st.releases[item.Component]; r != nil {
		o.Owned, o.Present, o.Version = true, r.Status.Revision > 0 || r.Status.ChartVersion != "", r.Status.ChartVersion
		o.Health, o.Message = health(r)
		return o
	}
	if item.Action == component.ActionAdopt && len(item.Found) > 0 {
		o.Present, o.Health = true, HealthUnknown
		for _, f := range item.Found {
			if o.Version == "" {
				o.Version = f.Version
			}
			if f.Ready == nil {
				continue
			}
			o.Health = HealthReady
			if !*f.Ready {
				o.Health, o.Message = HealthProgressing, fmt.Sprintf("%s is not ready", f)
				break
			}
		}
	}
	return o
}

func health(r *release.Release) (word, message string) {
	st := r.Status
	switch {
	case r.RemovedAt != nil:
		return HealthRemoving, st.Message
	case st.Phase == "":
		return HealthUnknown, "the agent has said nothing of it yet"
	case st.Phase == agentv1.PhaseFailed:
		return HealthFailed, failure(st)
	case st.Phase == agentv1.PhaseReady, st.Phase == agentv1.PhaseDrifted, st.Phase == agentv1.PhaseAdopted:
		return HealthReady, st.Message
	default:
		return HealthProgressing, progress(st)
	}
}

// SetWish keeps a cluster's wish for a component.
func (s *Service) SetWish(ctx context.Context, actor string, clusterID uuid.UUID, name string, w component.Wish) error {
	if _, err := s.cfg.Catalogue.Component(name); err != nil {
		return err //nolint:wrapcheck // a sentence already
	}
	if err := s.cfg.Store.WishPut(ctx, clusterID, name, w, actor, s.cfg.Now().UTC()); err != nil {
		return fmt.Errorf("keep settings of component %s: %w", name, err)
	}
	return nil
}

// ForgetWish takes a cluster's wish for a component away: it has it as the
// catalogue says.
func (s *Service) ForgetWish(ctx context.Context, clusterID uuid.UUID, name string) error {
	if err := s.cfg.Store.WishDelete(ctx, clusterID, name); err != nil {
		return fmt.Errorf("forget settings of component %s: %w", name, err)
	}
	return nil
}

// Wishes are a cluster's wishes by component.
func (s *Service) Wishes(ctx context.Context, clusterID uuid.UUID) (map[string]component.Wish, error) {
	w, err := s.cfg.Store.WishList(ctx, clusterID)
	if err != nil {
		return nil, fmt.Errorf("read component settings: %w", err)
	}
	return w, nil
}

// Plan is what the plan says now, with wishes that replace those stored.
func (s *Service) Plan(ctx context.Context, clusterID uuid.UUID, wishes map[string]component.Wish) ([]component.Item, error) {
	st, err := s.read(ctx, clusterID, wishes)
	if err != nil {
		return nil, err
	}
	return st.items, nil
}

// Releases are all releases of a cluster, those of components by their names.
func (s *Service) Releases(ctx context.Context, clusterID uuid.UUID) (components map[string]*release.Release, others []*release.Release, err error) {
	all, err := s.all(ctx, clusterID)
	if err != nil {
		return nil, nil, err
	}
	components = map[string]*release.Release{}
	for _, r := range all {
		if r.Spec.Component != "" {
			components[r.Spec.Component] = r
		} else {
			others = append(others, r)
		}
	}
	return components, others, nil
}
