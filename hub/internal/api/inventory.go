package api

import (
	"context"

	"github.com/google/uuid"

	"github.com/budecosystem/budcluster/hub/hubapi"
	"github.com/budecosystem/budcluster/hub/internal/inventory"
	"github.com/budecosystem/budcluster/internal/facts"
)

// NodesInput chooses nodes.
type NodesInput struct {
	PageInput
	Ready string `query:"ready" enum:"true,false" doc:"Only nodes that are, or are not, ready."`
}

func (in *NodesInput) filter(id *uuid.UUID) inventory.Filter {
	f := inventory.Filter{ClusterID: id}
	if in.Ready != "" {
		ready := in.Ready == "true"
		f.Ready = &ready
	}
	return f
}

type clusterNodesInput struct {
	ClusterInput
	NodesInput
}

func (s *Server) listNodes(ctx context.Context, in *NodesInput) (*body[hubapi.List[hubapi.Node]], error) {
	nodes, next, err := s.cfg.Inventory.Nodes(ctx, in.filter(nil), in.page())
	if err != nil {
		return nil, err
	}
	return listedIn(ctx, s, nodes, next, nodeCluster, nodeOut)
}

func (s *Server) listClusterNodes(ctx context.Context, in *clusterNodesInput) (*body[hubapi.List[hubapi.Node]], error) {
	c, err := s.cfg.Clusters.Get(ctx, in.Cluster)
	if err != nil {
		return nil, err
	}
	nodes, next, err := s.cfg.Inventory.Nodes(ctx, in.filter(&c.ID), in.page())
	if err != nil {
		return nil, err
	}
	return listedIn(ctx, s, nodes, next, nodeCluster, nodeOut)
}

// listedIn is listed for what is in clusters: each item says how old it can be.
func listedIn[F, T any](ctx context.Context, s *Server, items []F, next string,
	of func(F) uuid.UUID, convert func(F, hubapi.ClusterRef) T,
) (*body[hubapi.List[T]], error) {
	out := hubapi.List[T]{Items: make([]T, 0, len(items)), Next: next}
	known := s.refs()
	for _, item := range items {
		ref, err := known.get(ctx, of(item))
		if err != nil {
			return nil, err
		}
		out.Items = append(out.Items, convert(item, ref))
	}
	return &body[hubapi.List[T]]{Body: out}, nil
}

func nodeCluster(n inventory.Node) uuid.UUID { return n.ClusterID }

func nodeOut(n inventory.Node, ref hubapi.ClusterRef) hubapi.Node {
	return hubapi.Node{Cluster: ref, Node: n.Node, Available: n.Available(), UpdatedAt: n.UpdatedAt}
}

type nodeInput struct {
	ClusterInput
	Node string `path:"node"`
}

func (s *Server) getNode(ctx context.Context, in *nodeInput) (*body[hubapi.Node], error) {
	c, err := s.cfg.Clusters.Get(ctx, in.Cluster)
	if err != nil {
		return nil, err
	}
	n, err := s.cfg.Inventory.Node(ctx, c.ID, in.Node)
	if err != nil {
		return nil, err
	}
	return &body[hubapi.Node]{Body: nodeOut(*n, clusterRef(c, s.now()))}, nil
}

// DevicesInput chooses devices.
type DevicesInput struct {
	PageInput
	Node   string `query:"node" doc:"Only devices of the node of this name."`
	Vendor string `query:"vendor" doc:"Only devices of this vendor, e.g. nvidia."`
	Kind   string `query:"kind" doc:"Only devices of this kind, e.g. cuda, rocm, hpu or cpu."`
	Model  string `query:"model" doc:"Only devices of this model."`
}

func (in *DevicesInput) filter(id *uuid.UUID) inventory.DeviceFilter {
	return inventory.DeviceFilter{ClusterID: id, Node: in.Node, Vendor: in.Vendor, Kind: facts.Kind(in.Kind), Model: in.Model}
}

type clusterDevicesInput struct {
	ClusterInput
	DevicesInput
}

func (s *Server) listDevices(ctx context.Context, in *DevicesInput) (*body[hubapi.List[hubapi.Device]], error) {
	devices, next, err := s.cfg.Inventory.Devices(ctx, in.filter(nil), in.page())
	if err != nil {
		return nil, err
	}
	return listedIn(ctx, s, devices, next, deviceCluster, deviceOut)
}

func (s *Server) listClusterDevices(ctx context.Context, in *clusterDevicesInput) (*body[hubapi.List[hubapi.Device]], error) {
	c, err := s.cfg.Clusters.Get(ctx, in.Cluster)
	if err != nil {
		return nil, err
	}
	devices, next, err := s.cfg.Inventory.Devices(ctx, in.filter(&c.ID), in.page())
	if err != nil {
		return nil, err
	}
	return listedIn(ctx, s, devices, next, deviceCluster, deviceOut)
}

func deviceCluster(d inventory.Device) uuid.UUID { return d.ClusterID }

func deviceOut(d inventory.Device, ref hubapi.ClusterRef) hubapi.Device {
	return hubapi.Device{
		Cluster: ref, Node: d.Node, NodeReady: d.NodeReady, NodeSchedulable: d.NodeSchedulable,
		Device: d.Device, UpdatedAt: d.UpdatedAt,
	}
}
