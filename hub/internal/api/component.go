package api

import (
	"cmp"
	"context"

	"github.com/budecosystem/budcluster/hub/hubapi"
	"github.com/budecosystem/budcluster/hub/internal/component"
	"github.com/budecosystem/budcluster/hub/internal/equip"
	"github.com/budecosystem/budcluster/hub/internal/operation"
)

func (s *Server) listComponents(_ context.Context, _ *struct{}) (*body[hubapi.List[hubapi.Component]], error) {
	return listed(s.cfg.Equipment.Catalogue().Components(), "", func(c *component.Component) hubapi.Component {
		return hubapi.Component{
			Name: c.Name, Title: c.Title, Description: c.Description, Version: c.Chart.Version, Digest: c.Chart.Digest,
			Source: cmp.Or(c.Chart.Repository, c.Chart.OCI), Wanted: string(c.Wanted), Required: c.Required, Requires: c.Requires,
		}
	}), nil
}

func (s *Server) listClusterComponents(ctx context.Context, in *ClusterInput) (*body[hubapi.List[hubapi.ClusterComponent]], error) {
	c, err := s.cfg.Clusters.Get(ctx, in.Cluster)
	if err != nil {
		return nil, err
	}
	all, err := s.cfg.Equipment.Overview(ctx, c.ID)
	if err != nil {
		return nil, err
	}
	return listed(all, "", componentOut), nil
}

func componentOut(o equip.Status) hubapi.ClusterComponent {
	return hubapi.ClusterComponent{
		Name: o.Component, Title: o.Title, Wanted: string(o.Wanted), Action: string(o.Action), Why: o.Why(), Present: o.Present, Owned: o.Owned,
		Version: o.Version, Available: o.Available, Health: o.Health, Message: o.Message, Release: o.Release, Namespace: o.Namespace,
	}
}

// ComponentInput names a component of a cluster.
type ComponentInput struct {
	ClusterInput
	Component string `path:"component" doc:"The component's name, as the catalogue has it."`
}

type wishInput struct {
	ComponentInput
	Body hubapi.ComponentWish `required:"false"`
}

func (in *wishInput) request() operation.Component {
	return operation.Component{Cluster: in.Cluster, Name: in.Component, Wish: wishIn(in.Body)}
}

func wishIn(w hubapi.ComponentWish) component.Wish {
	return component.Wish{Wanted: component.Wanted(w.Wanted), Version: w.Version, Digest: w.Digest, Values: w.Values}
}

func (s *Server) installComponent(ctx context.Context, in *wishInput) (*body[hubapi.Workflow], error) {
	return answerWorkflow(s.cfg.Operations.Install(ctx, actor(ctx), in.request()))
}

func (s *Server) upgradeComponent(ctx context.Context, in *wishInput) (*body[hubapi.Workflow], error) {
	return answerWorkflow(s.cfg.Operations.Upgrade(ctx, actor(ctx), in.request()))
}

func (s *Server) removeComponent(ctx context.Context, in *ComponentInput) (*body[hubapi.Workflow], error) {
	return answerWorkflow(s.cfg.Operations.Uninstall(ctx, actor(ctx), operation.Component{Cluster: in.Cluster, Name: in.Component}))
}

type rolloutInput struct {
	Component string `path:"component" doc:"The component's name, as the catalogue has it."`
	Body      hubapi.RolloutRequest
}

func (s *Server) rollout(ctx context.Context, in *rolloutInput) (*body[hubapi.Workflow], error) {
	return answerWorkflow(s.cfg.Operations.Rollout(ctx, actor(ctx), operation.Rollout{
		Name: in.Component, Wish: component.Wish{Version: in.Body.Version, Digest: in.Body.Digest}, Clusters: in.Body.Clusters,
		Size: in.Body.Size, Canary: in.Body.Canary, Tolerate: in.Body.Tolerate,
	}))
}
