package agentapi

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/budecosystem/budcluster/hub/internal/inventory"
	"github.com/budecosystem/budcluster/internal/facts"
	agentv1 "github.com/budecosystem/budcluster/proto/agent/v1"
)

// maxNodes bounds one cluster: Kubernetes itself supports 5,000 nodes.
const maxNodes = 20_000

// maxNodeName is Kubernetes's own bound of a node's name.
const maxNodeName = 253

// maxNodeEvents bounds the events of one delta: an agent sends some hundred, and
// no more than some hundred are kept of a cluster.
const maxNodeEvents = 1000

type inventoryServer struct {
	agentv1.UnimplementedInventoryServiceServer
	s *Server
}

// Report takes summaries and deltas, one at a time: while the store is slow
// the stream's flow control slows the agent.
func (i *inventoryServer) Report(stream grpc.BidiStreamingServer[agentv1.ReportRequest, agentv1.ReportResponse]) error {
	ctx := stream.Context()
	id, err := caller(ctx)
	if err != nil {
		return err
	}
	for first := true; ; first = false {
		req, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		var resp *agentv1.ReportResponse
		switch m := req.GetMessage().(type) {
		case *agentv1.ReportRequest_Summary:
			resp, err = i.summary(ctx, id, m.Summary)
		case *agentv1.ReportRequest_Delta:
			if first {
				return refuse(codes.FailedPrecondition, "SummaryMissing", "the first message on the report stream must be Summary")
			}
			resp, err = i.delta(ctx, id, m.Delta)
		default:
			continue // a later protocol's message
		}
		if err != nil {
			return err
		}
		if err := stream.Send(resp); err != nil {
			return err
		}
	}
}

func (i *inventoryServer) summary(ctx context.Context, id uuid.UUID, m *agentv1.Summary) (*agentv1.ReportResponse, error) {
	if err := checkCount(len(m.GetNodes())); err != nil {
		return nil, err
	}
	for name := range m.GetNodes() {
		if err := checkNodeName(name); err != nil {
			return nil, err
		}
	}
	need, needCluster, err := i.s.cfg.Inventory.Summary(ctx, id, m.GetClusterDigest(), m.GetNodes())
	if err != nil {
		return nil, i.s.fail(ctx, "compare inventory", err)
	}
	i.s.metrics.summaries.Inc()
	return &agentv1.ReportResponse{Message: &agentv1.ReportResponse_Need{
		Need: &agentv1.Need{Nodes: need, Cluster: needCluster},
	}}, nil
}

func (i *inventoryServer) delta(ctx context.Context, id uuid.UUID, m *agentv1.Delta) (*agentv1.ReportResponse, error) {
	if err := checkCount(len(m.GetNodes()) + len(m.GetRemoved())); err != nil {
		return nil, err
	}
	d := inventory.Delta{Removed: m.GetRemoved(), ObservedAt: i.s.cfg.Now()}
	if t := timeFromProto(m.GetObservedAt()); t != nil && t.Before(d.ObservedAt) {
		d.ObservedAt = *t
	}
	for _, n := range m.GetNodes() {
		if err := checkNodeName(n.GetName()); err != nil {
			return nil, err
		}
		d.Nodes = append(d.Nodes, facts.NodeFromProto(n))
	}
	for _, e := range m.GetNodeEvents()[:min(len(m.GetNodeEvents()), maxNodeEvents)] {
		d.Events = append(d.Events, facts.NodeEventFromProto(e))
	}
	if m.GetCluster() != nil {
		c := facts.ClusterFromProto(m.GetCluster())
		d.Cluster = &c
	}
	if err := i.s.cfg.Inventory.Apply(ctx, id, d); err != nil {
		return nil, i.s.fail(ctx, "record inventory", err)
	}
	i.s.metrics.deltas.Inc()
	return &agentv1.ReportResponse{Message: &agentv1.ReportResponse_Ack{Ack: &agentv1.Ack{Sequence: m.GetSequence()}}}, nil
}

func checkCount(n int) error {
	if n <= maxNodes {
		return nil
	}
	return refuse(codes.InvalidArgument, "TooManyNodes", fmt.Sprintf("the report names %d nodes; the hub keeps %d of a cluster at most", n, maxNodes))
}

func checkNodeName(name string) error {
	if name != "" && len(name) <= maxNodeName {
		return nil
	}
	return refuse(codes.InvalidArgument, "NodeNameInvalid", fmt.Sprintf("a node's name has 1 to %d characters, and one in the report has %d", maxNodeName, len(name)))
}
