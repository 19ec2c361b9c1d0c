package agentapi

import (
	"context"
	"errors"
	"log/slog"
	"unicode/utf8"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/budecosystem/budcluster/hub/internal/chart"
	"github.com/budecosystem/budcluster/hub/internal/cluster"
	"github.com/budecosystem/budcluster/hub/internal/enroll"
	"github.com/budecosystem/budcluster/hub/internal/invalid"
	"github.com/budecosystem/budcluster/hub/internal/release"
	"github.com/budecosystem/budcluster/internal/logkey"
)

// Domain is that of the reasons attached to refusals (errdetails.ErrorInfo). A
// status that carries one is final: the same request will be refused again
// until somebody acts on its message. One without is the hub's trouble or the
// network's, and worth another try.
const Domain = "budcluster"

// maxSentence bounds what travels: a gRPC status is a header.
const maxSentence = 1 << 10

// refuse makes a final refusal.
func refuse(code codes.Code, reason, message string) error {
	if !utf8.ValidString(message) {
		message = string([]rune(message))
	}
	st := status.New(code, cut(message, maxSentence))
	detailed, err := st.WithDetails(&errdetails.ErrorInfo{Reason: reason, Domain: Domain})
	if err != nil {
		return st.Err()
	}
	return detailed.Err()
}

// Status makes an error of a rule fit to travel. What the caller can act on
// goes as the rule said it; anything else is logged here, once, and the caller
// learns only that it is not its fault.
func (s *Server) Status(ctx context.Context, doing string, err error) error {
	return s.fail(ctx, doing, err)
}

func (s *Server) fail(ctx context.Context, doing string, err error) error {
	if refused := refusal(err); refused != nil {
		s.log.InfoContext(ctx, "agent refused", slog.String(logkey.Operation, doing), slog.Any(logkey.Error, err))
		return refused
	}
	if ctx.Err() != nil {
		return status.FromContextError(ctx.Err()).Err()
	}
	s.log.WarnContext(ctx, "agent not served", slog.String(logkey.Operation, doing), slog.Any(logkey.Error, err))
	return status.Error(codes.Unavailable, "the hub could not "+doing+"; its log says why, and another try may succeed")
}

func isRefusal(err error) bool { return refusal(err) != nil }

// refusal is the status of an error that the caller can act on, or nil.
func refusal(err error) error {
	var (
		denied *enroll.RefusedError
		known  interface{ GRPCStatus() *status.Status }
	)
	switch {
	case errors.As(err, &known):
		return known.GRPCStatus().Err()
	case errors.As(err, &denied):
		return refuse(codeOf(denied.Reason), string(denied.Reason), denied.Error())
	case errors.Is(err, cluster.ErrRevoked):
		return refuse(codes.PermissionDenied, string(enroll.CertificateRevoked), sentenceOf[*cluster.RevokedError](err))
	case errors.Is(err, cluster.ErrNotFound), errors.Is(err, release.ErrNoCluster):
		return refuse(codes.PermissionDenied, "ClusterUnknown",
			"the hub has no such cluster any more; uninstall the agent, or create the cluster again and install the agent with its join token")
	case errors.Is(err, chart.ErrNotFound), errors.Is(err, release.ErrNotFound):
		return refuse(codes.NotFound, "NotFound", "there is no such thing in this cluster")
	case len(invalid.Of(err)) > 0:
		return refuse(codes.InvalidArgument, "Invalid", invalid.Of(err)[0].Error())
	default:
		return nil
	}
}

func codeOf(r enroll.Reason) codes.Code {
	switch r {
	case enroll.TokenMalformed, enroll.CSRInvalid, enroll.ClusterUIDInvalid:
		return codes.InvalidArgument
	case enroll.TokenUnknown, enroll.CertificateForeign, enroll.CertificateExpired:
		return codes.Unauthenticated
	case enroll.TokenExpired, enroll.TokenUsed, enroll.TokenRevoked, enroll.ClusterUIDMismatch,
		enroll.CertificateRevoked, enroll.CertificateSuperseded:
		return codes.PermissionDenied
	default:
		return codes.PermissionDenied
	}
}

// sentenceOf is the message of the typed error within err, without what was
// wrapped around it: that is for the hub's own log.
func sentenceOf[T error](err error) string {
	if typed, ok := errors.AsType[T](err); ok {
		return typed.Error()
	}
	return "the hub refused this"
}
