package agentapi

import (
	"context"
	"log/slog"
	"runtime/debug"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/budecosystem/budcluster/internal/logkey"
	"github.com/budecosystem/budcluster/internal/run"
)

type metrics struct {
	calls      *prometheus.CounterVec
	heartbeats prometheus.Counter
	statuses   *prometheus.CounterVec
	upserts    prometheus.Counter
	summaries  prometheus.Counter
	deltas     prometheus.Counter
	chartBytes prometheus.Counter
}

func newMetrics(r prometheus.Registerer) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	m := &metrics{
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "budcluster_hub_agent_calls_total", Help: "Calls and streams of agents that ended, by method and gRPC code.",
		}, []string{"method", "code"}),
		heartbeats: counter("budcluster_hub_agent_heartbeats_total", "Heartbeats received from agents."),
		statuses: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "budcluster_hub_release_statuses_total", Help: "Release statuses received from agents, by result: recorded or refused.",
		}, []string{"result"}),
		upserts:    counter("budcluster_hub_release_upserts_total", "Releases sent to agents."),
		summaries:  counter("budcluster_hub_inventory_summaries_total", "Inventory summaries compared."),
		deltas:     counter("budcluster_hub_inventory_deltas_total", "Inventory deltas recorded."),
		chartBytes: counter("budcluster_hub_chart_bytes_total", "Bytes of charts sent to agents."),
	}
	m.statuses.WithLabelValues("recorded")
	m.statuses.WithLabelValues("refused")
	r.MustRegister(m.calls, m.heartbeats, m.statuses, m.upserts, m.summaries, m.deltas, m.chartBytes)
	return m
}

// countUnary counts how calls end, and turns a panic into an end of the call:
// one agent's message must not take the hub from all others.
func (s *Server) countUnary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (resp any, err error) {
	defer func() { err = s.ended(ctx, info.FullMethod, recover(), err) }()
	return next(ctx, req)
}

func (s *Server) countStream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) (err error) {
	defer func() { err = s.ended(ss.Context(), info.FullMethod, recover(), err) }()
	return next(srv, ss)
}

func (s *Server) ended(ctx context.Context, method string, panicked any, err error) error {
	if panicked != nil {
		bug := &run.PanicError{Value: panicked, Stack: debug.Stack()}
		s.log.ErrorContext(ctx, "agent call panicked", slog.String(logkey.Method, method), slog.Any(logkey.Error, bug))
		err = status.Error(codes.Internal, "the hub could not do this; its log says why")
	}
	s.metrics.calls.WithLabelValues(method[strings.LastIndexByte(method, '/')+1:], status.Code(err).String()).Inc()
	return err
}
