package agentapi

import (
	"context"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/budecosystem/budcluster/hub/internal/enroll"
	"github.com/budecosystem/budcluster/internal/tunnel"
	agentv1 "github.com/budecosystem/budcluster/proto/agent/v1"
)

type enrollServer struct {
	agentv1.UnimplementedEnrollServiceServer
	s    *Server
	join bool // serves the join lane
}

// Enroll exchanges a join token for a certificate.
func (e *enrollServer) Enroll(ctx context.Context, req *agentv1.EnrollRequest) (*agentv1.EnrollResponse, error) {
	if !e.join {
		return nil, refuse(codes.FailedPrecondition, "AlreadyEnrolled", "this connection has an identity; a join token is for one without")
	}
	identity, err := e.s.cfg.Enroller.Enroll(ctx, enroll.Request{
		Token:        req.GetToken(),
		CSR:          req.GetCsr(),
		ClusterUID:   req.GetClusterUid(),
		AgentVersion: cut(req.GetAgentVersion(), 64),
		RemoteAddr:   remoteAddr(ctx),
	})
	if err != nil {
		return nil, e.s.fail(ctx, "enroll", err)
	}
	return &agentv1.EnrollResponse{Identity: identityToProto(identity)}, nil
}

// Renew issues the next certificate to the holder of the current one.
func (e *enrollServer) Renew(ctx context.Context, req *agentv1.RenewRequest) (*agentv1.RenewResponse, error) {
	cert, ok := tunnel.PeerCertificate(ctx)
	if !ok {
		return nil, refuse(codes.Unauthenticated, "CertificateMissing", "renewal needs the current certificate on the connection; join with a token if there is none")
	}
	identity, err := e.s.cfg.Enroller.Renew(ctx, cert, req.GetCsr())
	if err != nil {
		return nil, e.s.fail(ctx, "renew", err)
	}
	return &agentv1.RenewResponse{Identity: identityToProto(identity)}, nil
}

func identityToProto(i *enroll.Identity) *agentv1.Identity {
	return &agentv1.Identity{
		CertificatePem: i.CertificatePEM,
		BundlePem:      i.BundlePEM,
		ClusterId:      i.ClusterID.String(),
		ClusterName:    i.ClusterName,
		NotAfter:       timestamppb.New(i.NotAfter),
		RenewAfter:     timestamppb.New(i.RenewAfter),
		Generation:     i.Generation,
	}
}
