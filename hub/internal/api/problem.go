package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"

	"github.com/budecosystem/budcluster/hub/hubapi"
	"github.com/budecosystem/budcluster/hub/internal/access"
	"github.com/budecosystem/budcluster/hub/internal/chart"
	"github.com/budecosystem/budcluster/hub/internal/cluster"
	"github.com/budecosystem/budcluster/hub/internal/component"
	"github.com/budecosystem/budcluster/hub/internal/enroll"
	"github.com/budecosystem/budcluster/hub/internal/invalid"
	"github.com/budecosystem/budcluster/hub/internal/inventory"
	"github.com/budecosystem/budcluster/hub/internal/notify"
	"github.com/budecosystem/budcluster/hub/internal/outage"
	"github.com/budecosystem/budcluster/hub/internal/release"
	"github.com/budecosystem/budcluster/hub/internal/webhook"
	"github.com/budecosystem/budcluster/hub/internal/workflow"
	"github.com/budecosystem/budcluster/internal/logkey"
)

// problemType is the media type of RFC 9457.
const problemType = "application/problem+json"

// answer is a problem on its way out: what huma needs of an error.
type answer struct{ *hubapi.Problem }

// GetStatus is huma.StatusError's.
func (a *answer) GetStatus() int { return a.Status }

// ContentType is huma.ContentTypeFilter's.
func (a *answer) ContentType(string) string { return problemType }

// GetHeaders is huma.HeadersError's.
func (a *answer) GetHeaders() http.Header { return problemHeaders(a.Problem) }

func problemHeaders(p *hubapi.Problem) http.Header {
	h := http.Header{}
	if p.RetryAfterSeconds > 0 {
		h.Set("Retry-After", strconv.Itoa(p.RetryAfterSeconds))
	}
	if p.Status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Bearer realm="budcluster"`)
	}
	return h
}

// titles say each code in words.
func title(c hubapi.Code) string {
	switch c {
	case hubapi.CodeUnauthenticated:
		return "No valid API key"
	case hubapi.CodeForbidden:
		return "The key's role does not suffice"
	case hubapi.CodeNotFound:
		return "There is no such thing"
	case hubapi.CodeMethodNotAllowed:
		return "The route does not know this method"
	case hubapi.CodeInvalid:
		return "A value cannot be used"
	case hubapi.CodeMalformed:
		return "The request cannot be read"
	case hubapi.CodeUnsupportedMediaType:
		return "The body's type cannot be read here"
	case hubapi.CodeNotAcceptable:
		return "No answer of the wanted type"
	case hubapi.CodeTooLarge:
		return "The body is too large"
	case hubapi.CodeConflict:
		return "What is there stands against it"
	case hubapi.CodePreconditionFailed:
		return "It was changed meanwhile"
	case hubapi.CodeClusterAway:
		return "The cluster is away"
	case hubapi.CodeUpstream:
		return "Another system did not answer as it should"
	case hubapi.CodeUnavailable:
		return "The hub cannot serve now"
	case hubapi.CodeTimeout:
		return "It took too long"
	default:
		return "The hub is at fault"
	}
}

// problem makes what a user sees of an error, and logs what a user does not.
func (s *Server) problem(ctx context.Context, err error) *answer {
	p := problemOf(err)
	p.Title, p.Type = title(p.Code), "urn:budcluster:problem:"+string(p.Code)
	p.RequestID = requestID(ctx)
	if p.Status >= http.StatusInternalServerError && p.Code != hubapi.CodeClusterAway && ctx.Err() == nil {
		level := slog.LevelError
		if p.Code != hubapi.CodeInternal {
			level = slog.LevelWarn
		}
		s.log.LogAttrs(ctx, level, "request failed", slog.String(logkey.Code, string(p.Code)), slog.Any(logkey.Error, err))
	}
	return &answer{p}
}

// problemOf is the one place that turns an error into a status.
func problemOf(err error) *hubapi.Problem {
	if ready, ok := errors.AsType[*hubapi.Problem](err); ok {
		out := *ready
		return &out
	}
	if bad := invalid.Of(err); len(bad) > 0 {
		return invalidProblem(bad)
	}
	for _, kind := range []func(error) *hubapi.Problem{notFound, conflict, elsewhere, uploaded} {
		if p := kind(err); p != nil {
			return p
		}
	}
	return &hubapi.Problem{
		Status: http.StatusInternalServerError, Code: hubapi.CodeInternal,
		Detail: "The hub could not do this because of a fault of its own; its log has the cause under this request's id.",
	}
}

func notFound(err error) *hubapi.Problem {
	var detail string
	var (
		noCluster *cluster.NotFoundError
		noRelease *release.NotFoundError
		noNode    *inventory.NotFoundError
		noChart   *chart.NotFoundError
		noWebhook *webhook.NotFoundError
		notSent   *webhook.NoDeliveryError
		noWork    *workflow.NotFoundError
		noPart    *component.NotFoundError
		noLetter  *notify.NoLetterError
	)
	switch {
	case errors.As(err, &noCluster):
		detail = noCluster.Error()
	case errors.As(err, &noRelease):
		detail = noRelease.Error()
	case errors.As(err, &noNode):
		detail = noNode.Error()
	case errors.As(err, &noChart):
		detail = noChart.Error()
	case errors.As(err, &noWebhook):
		detail = noWebhook.Error()
	case errors.As(err, &notSent):
		detail = notSent.Error()
	case errors.As(err, &noWork):
		detail = noWork.Error()
	case errors.As(err, &noPart):
		detail = noPart.Error()
	case errors.As(err, &noLetter):
		detail = noLetter.Error()
	case errors.Is(err, enroll.ErrNoToken):
		detail = "This cluster has no such join token; `budcluster token list` shows those that it has."
	case errors.Is(err, access.ErrNotFound):
		detail = "There is no such API key, or it was revoked already; `budcluster api-key list` shows those that there are."
	case errors.Is(err, cluster.ErrNotFound), errors.Is(err, enroll.ErrNoCluster),
		errors.Is(err, inventory.ErrNoCluster), errors.Is(err, release.ErrNoCluster):
		detail = "There is no such cluster; `budcluster cluster list` shows those that there are."
	default:
		return nil
	}
	return &hubapi.Problem{Status: http.StatusNotFound, Code: hubapi.CodeNotFound, Detail: sentence(detail)}
}

func conflict(err error) *hubapi.Problem {
	if stale, ok := errors.AsType[*release.ConflictError](err); ok {
		return &hubapi.Problem{
			Status: http.StatusPreconditionFailed, Code: hubapi.CodePreconditionFailed,
			Detail: sentence(stale.Error()), Generation: stale.Have,
		}
	}
	var (
		exists   *cluster.ExistsError
		entered  *cluster.RegisteredError
		releases *cluster.HasReleasesError
		revoked  *cluster.RevokedError
		silent   *cluster.UnreachableError
		retiring *release.RetiringError
		key      *access.ExistsError
		hook     *webhook.ExistsError
		busy     *release.BusyError
		working  *workflow.BusyError
		over     *workflow.FinishedError
		once     *workflow.NotRetryableError
		detail   string
	)
	switch {
	case errors.As(err, &exists):
		detail = exists.Error()
	case errors.As(err, &entered):
		detail = entered.Error()
	case errors.As(err, &releases):
		detail = releases.Error()
	case errors.As(err, &revoked):
		detail = revoked.Error()
	case errors.As(err, &silent):
		detail = silent.Error()
	case errors.As(err, &retiring):
		detail = retiring.Error()
	case errors.As(err, &key):
		detail = key.Error()
	case errors.As(err, &hook):
		detail = hook.Error()
	case errors.As(err, &busy):
		detail = busy.Error()
	case errors.As(err, &working):
		detail = working.Error()
	case errors.As(err, &over):
		detail = over.Error()
	case errors.As(err, &once):
		detail = once.Error()
	default:
		return nil
	}
	return &hubapi.Problem{Status: http.StatusConflict, Code: hubapi.CodeConflict, Detail: sentence(detail)}
}

// elsewhere is what others are at fault for: a repository, the database, time.
func elsewhere(err error) *hubapi.Problem {
	var upstream *chart.UpstreamError
	switch {
	case errors.As(err, &upstream):
		return &hubapi.Problem{Status: http.StatusBadGateway, Code: hubapi.CodeUpstream, Detail: sentence(upstream.Error())}
	case outage.OfDatabase(err):
		return &hubapi.Problem{
			Status: http.StatusServiceUnavailable, Code: hubapi.CodeUnavailable, RetryAfterSeconds: 5,
			Detail: "The hub has lost its database for the moment; try again.",
		}
	case errors.Is(err, context.DeadlineExceeded):
		return &hubapi.Problem{
			Status: http.StatusGatewayTimeout, Code: hubapi.CodeTimeout, RetryAfterSeconds: 5,
			Detail: "This took longer than the hub waits; try again.",
		}
	case errors.Is(err, context.Canceled):
		return &hubapi.Problem{
			Status: http.StatusServiceUnavailable, Code: hubapi.CodeUnavailable, RetryAfterSeconds: 5,
			Detail: "The request was given up before it was done; try again.",
		}
	default:
		return nil
	}
}

// uploaded is what is wrong with the cluster of a kubeconfig. It is asked last,
// since others say too whether they are temporary.
func uploaded(err error) *hubapi.Problem {
	foreign, is := errors.AsType[interface {
		error
		LaterMayWork() bool
	}](err)
	switch {
	case !is:
		return nil
	case foreign.LaterMayWork():
		return &hubapi.Problem{Status: http.StatusBadGateway, Code: hubapi.CodeUpstream, Detail: sentence(foreign.Error())}
	default:
		return withFields([]hubapi.FieldError{{Field: "kubeconfig", Message: sentence(foreign.Error())}})
	}
}

func invalidProblem(bad []*invalid.Error) *hubapi.Problem {
	fields := make([]hubapi.FieldError, 0, len(bad))
	for _, b := range bad {
		fields = append(fields, hubapi.FieldError{Field: b.Field, Message: fieldSentence(b.Field, b.Message)})
	}
	return withFields(fields)
}

func withFields(fields []hubapi.FieldError) *hubapi.Problem {
	p := &hubapi.Problem{Status: http.StatusUnprocessableEntity, Code: hubapi.CodeInvalid, Errors: fields}
	if len(fields) == 1 {
		p.Detail = fields[0].Message
		return p
	}
	p.Detail = fmt.Sprintf("%d values cannot be used.", len(fields))
	return p
}

// fieldSentence puts the field's name in front, unless the message is a
// sentence of its own.
func fieldSentence(field, message string) string {
	first, _ := utf8.DecodeRuneInString(message)
	if unicode.IsUpper(first) {
		return sentence(message)
	}
	return period(field + ": " + message)
}

// sentence begins with a capital and ends with a period.
func sentence(s string) string {
	r, n := utf8.DecodeRuneInString(s)
	return period(string(unicode.ToUpper(r)) + s[n:])
}

func period(s string) string {
	if strings.HasSuffix(s, ".") || strings.HasSuffix(s, "…") {
		return s
	}
	return s + "."
}

// writeProblem answers outside of huma.
func (s *Server) writeProblem(w http.ResponseWriter, r *http.Request, a *answer) {
	maps.Copy(w.Header(), a.GetHeaders())
	w.Header().Set("Content-Type", problemType)
	w.WriteHeader(a.Status)
	if r.Method != http.MethodHead {
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		_ = enc.Encode(a.Problem)
	}
}

// shapeProblem gives huma's own errors the form of all others.
func (s *Server) shapeProblem(hc huma.Context, _ string, v any) (any, error) {
	switch e := v.(type) {
	case *answer:
		return e.Problem, nil
	case *huma.ErrorModel:
		return s.problem(hc.Context(), problemOfHuma(e, hc.Operation())).Problem, nil
	default:
		return v, nil
	}
}

func problemResponse(about string) *huma.Response {
	return &huma.Response{
		Description: about,
		Content:     map[string]*huma.MediaType{problemType: {Schema: &huma.Schema{Ref: "#/components/schemas/Problem"}}},
	}
}
