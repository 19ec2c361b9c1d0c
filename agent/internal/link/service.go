package link

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strconv"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/budecosystem/budcluster/agent/internal/dial"
	"github.com/budecosystem/budcluster/internal/run"
	"github.com/budecosystem/budcluster/internal/tunnel"
	agentv1 "github.com/budecosystem/budcluster/proto/agent/v1"
)

// maxChart bounds a chart in memory; the hub keeps none above 20 MiB.
const maxChart = 32 << 20

// serve answers the hub's calls on the streams that it opens. The server stops
// before the control stream does, so it must not close the session with its
// listener: a FanIn stands between.
func (c *connection) serve(ctx context.Context) error {
	server := grpc.NewServer(tunnel.GRPCServerOptions()...)
	agentv1.RegisterAgentServiceServer(server, &service{link: c.link})
	fan := tunnel.NewFanIn()
	g := &run.Group{}
	g.Add("grpc", func(ctx context.Context) error {
		stop := context.AfterFunc(ctx, server.Stop)
		defer stop()
		if err := server.Serve(fan); err != nil && ctx.Err() == nil && !errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("serve the hub: %w", err)
		}
		return nil
	})
	g.Add("accept", func(ctx context.Context) error {
		defer func() { _ = fan.Close() }()
		// The session's end is watchSession's to report.
		_ = fan.Serve(ctx, c.session)
		return nil
	})
	return g.Run(ctx)
}

// service is what the hub may call.
type service struct {
	agentv1.UnimplementedAgentServiceServer
	link *Link
}

// Inspect describes the running agent.
func (s *service) Inspect(ctx context.Context, _ *agentv1.InspectRequest) (*agentv1.InspectResponse, error) {
	cfg := &s.link.cfg
	resp := &agentv1.InspectResponse{
		AgentVersion:  cfg.AgentVersion,
		Instance:      cfg.Instance,
		Namespace:     cfg.Namespace,
		StartedAt:     timestamppb.New(cfg.StartedAt),
		ResidentBytes: residentBytes(),
		Goroutines:    int32(min(runtime.NumGoroutine(), 1<<30)), //nolint:gosec // bounded
		Degraded:      cfg.Board.ToProto(),
		Nodes:         int32(min(len(cfg.Inventory.Summary().GetNodes()), 1<<30)),
	}
	if end := cfg.Identities.NotAfter(); !end.IsZero() {
		resp.CertificateNotAfter = timestamppb.New(end)
	}
	// With the API server away the rest is still worth an answer.
	if have, err := cfg.Releases.Have(ctx); err == nil {
		resp.Releases = int32(min(len(have), 1<<30))
	}
	return resp, nil
}

// residentBytes is what the kernel counts as ours; 0 where it does not say.
func residentBytes() int64 {
	data, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	fields := bytes.Fields(data)
	if len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseInt(string(fields[1]), 10, 64)
	if err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}

// Linked reports whether there is a connection on which the hub said welcome.
func (l *Link) Linked() bool { return l.up.Load() != nil }

// FetchChart gets the bytes of a chart by digest. It returns ErrAway while
// there is no connection, and a *dial.RefusedError when the hub will not give it.
func (l *Link) FetchChart(ctx context.Context, digest string) ([]byte, error) {
	c := l.up.Load()
	if c == nil {
		return nil, ErrAway
	}
	stream, err := agentv1.NewReleaseServiceClient(c.cc).FetchChart(ctx, &agentv1.FetchChartRequest{Digest: digest})
	if err != nil {
		return nil, fmt.Errorf("fetch chart %s: %w", digest, dial.Judge(err))
	}
	var chart []byte
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return chart, nil
		}
		if err != nil {
			return nil, fmt.Errorf("fetch chart %s: %w", digest, dial.Judge(err))
		}
		if chart == nil && m.GetSize() > 0 && m.GetSize() <= maxChart {
			chart = make([]byte, 0, m.GetSize())
		}
		if len(chart)+len(m.GetData()) > maxChart {
			return nil, fmt.Errorf("fetch chart %s: it has more than %d bytes", digest, maxChart)
		}
		chart = append(chart, m.GetData()...)
	}
}
