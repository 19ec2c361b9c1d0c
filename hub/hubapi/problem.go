package hubapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Problem is how the hub says no: RFC 9457, with a code that programs may
// compare and a sentence that people can act on.
type Problem struct { //nolint:errname // the name that RFC 9457 gives it
	Type   string `json:"type" doc:"URI of the kind of problem: urn:budcluster:problem: and the code."`
	Title  string `json:"title" doc:"The kind of problem in words, the same for every problem of the code."`
	Status int    `json:"status" doc:"HTTP status."`
	Code   Code   `json:"code" doc:"CamelCase name of the kind of problem, for programs."`
	Detail string `json:"detail" doc:"What is wrong this time, and what to do about it."`
	// RequestID finds the request in the hub's log.
	RequestID string `json:"requestId,omitempty" doc:"Finds this request in the hub's log."`
	// Errors names each field that is wrong.
	Errors []FieldError `json:"errors,omitempty" doc:"One entry for each field that is wrong."`
	// RetryAfterSeconds says when trying again makes sense; 0 says nothing.
	RetryAfterSeconds int `json:"retryAfterSeconds,omitempty" doc:"When trying again makes sense."`
	// LastSeen is when the hub last heard from the cluster that is away.
	LastSeen *time.Time `json:"lastSeen,omitempty" doc:"When the hub last heard from a cluster that is away."`
	// MaxBytes is the limit that a request was over.
	MaxBytes int64 `json:"maxBytes,omitempty" doc:"The limit that the request's body was over."`
	// Generation is what a release is at when If-Match named another.
	Generation int64 `json:"generation,omitempty" doc:"The release's generation, when If-Match named another."`
}

// FieldError is one field that is wrong.
type FieldError struct {
	Field   string `json:"field" doc:"Where in the request, e.g. body.timeout or query.limit."`
	Value   any    `json:"value,omitempty" doc:"What was there; absent when it is large or may be secret."`
	Message string `json:"message" doc:"A sentence with the remedy."`
}

// Code names a kind of problem.
type Code string

// The codes of problems.
const (
	// CodeUnauthenticated: no API key, or none that is known and valid.
	CodeUnauthenticated Code = "Unauthenticated"
	// CodeForbidden: the key's role may not do this.
	CodeForbidden Code = "Forbidden"
	// CodeNotFound: there is no such thing, nor such a route.
	CodeNotFound Code = "NotFound"
	// CodeMethodNotAllowed: the route knows other methods.
	CodeMethodNotAllowed Code = "MethodNotAllowed"
	// CodeInvalid: a field has a value that it cannot have.
	CodeInvalid Code = "Invalid"
	// CodeMalformed: the body is not JSON, or the request is not HTTP as it should be.
	CodeMalformed Code = "Malformed"
	// CodeUnsupportedMediaType: the body's Content-Type is not one that the route takes.
	CodeUnsupportedMediaType Code = "UnsupportedMediaType"
	// CodeNotAcceptable: the Accept header asks for what the route cannot give.
	CodeNotAcceptable Code = "NotAcceptable"
	// CodeTooLarge: the body is over the route's limit.
	CodeTooLarge Code = "TooLarge"
	// CodeConflict: the name is taken, or the thing is in a state that forbids it.
	CodeConflict Code = "Conflict"
	// CodePreconditionFailed: If-Match names another generation.
	CodePreconditionFailed Code = "PreconditionFailed"
	// CodeClusterAway: the hub has no connection to the cluster now.
	CodeClusterAway Code = "ClusterAway"
	// CodeUpstream: a chart repository did not answer as it should.
	CodeUpstream Code = "Upstream"
	// CodeUnavailable: the hub itself cannot serve now.
	CodeUnavailable Code = "Unavailable"
	// CodeTimeout: the client took too long to send, or the hub to answer.
	CodeTimeout Code = "Timeout"
	// CodeInternal: a fault of the hub; the log has the cause.
	CodeInternal Code = "Internal"
)

// Error is the detail, which is a whole sentence, with the field errors that it
// does not already hold.
func (p *Problem) Error() string {
	if p.Detail == "" && len(p.Errors) == 0 {
		return fmt.Sprintf("the hub answered %d %s", p.Status, http.StatusText(p.Status))
	}
	out := make([]string, 0, 1+len(p.Errors))
	if p.Detail != "" {
		out = append(out, p.Detail)
	}
	for _, e := range p.Errors {
		if !strings.Contains(p.Detail, e.Message) {
			out = append(out, e.Message)
		}
	}
	return strings.Join(out, " ")
}

// UnreachableError says that there was no answer from the hub.
type UnreachableError struct {
	URL string
	Err error
}

// Error names the hub, the cause and what to check.
func (e *UnreachableError) Error() string {
	return fmt.Sprintf("hub %s cannot be reached: %v; check the address and that the hub is running", e.URL, e.Err)
}

// Unwrap gives the cause.
func (e *UnreachableError) Unwrap() error { return e.Err }

// IsNotFound reports whether the hub said that the thing does not exist.
func IsNotFound(err error) bool { return hasStatus(err, http.StatusNotFound) }

// IsConflict reports whether the hub refused because of what is there already.
func IsConflict(err error) bool { return hasStatus(err, http.StatusConflict) }

// IsUnauthorised reports whether the key is missing, unknown or not allowed to.
func IsUnauthorised(err error) bool {
	return hasStatus(err, http.StatusUnauthorized) || hasStatus(err, http.StatusForbidden)
}

// IsUnavailable reports whether trying later may help: the hub did not answer,
// or it or the cluster is away.
func IsUnavailable(err error) bool {
	if _, ok := errors.AsType[*UnreachableError](err); ok {
		return true
	}
	return hasStatus(err, http.StatusServiceUnavailable) || hasStatus(err, http.StatusBadGateway) ||
		hasStatus(err, http.StatusGatewayTimeout) || hasStatus(err, http.StatusTooManyRequests)
}

func hasStatus(err error, status int) bool {
	var p *Problem
	return errors.As(err, &p) && p.Status == status
}

// readProblem makes a Problem of any answer that is none of success: also of a
// proxy's, which is not ours.
func readProblem(resp *http.Response) *Problem {
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 256<<10))
	p := &Problem{}
	if json.Unmarshal(body, p) != nil || p.Code == "" {
		p = &Problem{
			Title:  http.StatusText(resp.StatusCode),
			Detail: foreignDetail(resp, body),
		}
	}
	p.Status = resp.StatusCode
	if n, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && p.RetryAfterSeconds == 0 {
		p.RetryAfterSeconds = n
	}
	return p
}

func foreignDetail(resp *http.Response, body []byte) string {
	out := fmt.Sprintf("%s answered %d %s, not in the form of a hub; check that the address is a hub's and what stands between.",
		resp.Request.URL.Host, resp.StatusCode, http.StatusText(resp.StatusCode))
	text := strings.Join(strings.Fields(strings.ToValidUTF8(string(body), "")), " ")
	if text == "" || strings.HasPrefix(text, "<") {
		return out
	}
	if len(text) > 200 {
		text = strings.ToValidUTF8(text[:200], "") + "…"
	}
	return out + " It said: " + text
}
