package gateway

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	agentv1 "github.com/budecosystem/budcluster/proto/agent/v1"
)

// Options put the gate before every handler of the one grpc.Server: a refused
// connection gets its sentence on Control and nothing else.
func (g *Gateway) Options() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(g.unary),
		grpc.ChainStreamInterceptor(g.stream),
	}
}

func (g *Gateway) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	link, err := g.pass(ctx, info.FullMethod)
	if err != nil {
		return nil, err
	}
	resp, err := next(ctx, req)
	if err == nil && info.FullMethod == agentv1.EnrollService_Renew_FullMethodName {
		link.renewed.Store(true)
	}
	return resp, err
}

func (g *Gateway) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	if _, err := g.pass(ss.Context(), info.FullMethod); err != nil {
		return err
	}
	return next(srv, ss)
}

func (g *Gateway) pass(ctx context.Context, method string) (*Link, error) {
	link := g.linkOf(ctx)
	switch {
	case link == nil:
		return nil, status.Error(codes.Unavailable, "the connection is being closed")
	case link.refused == nil:
		return link, nil
	case method == agentv1.LinkService_Control_FullMethodName:
		link.once.answered.Do(func() { close(link.answered) })
		return nil, link.refused
	default:
		return nil, status.Error(codes.PermissionDenied, "the connection was refused; the control stream says why")
	}
}
