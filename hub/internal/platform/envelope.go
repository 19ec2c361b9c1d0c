package platform

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"

	"github.com/budecosystem/budcluster/hub/internal/cluster"
	"github.com/budecosystem/budcluster/hub/internal/invalid"
	"github.com/budecosystem/budcluster/hub/internal/inventory"
	"github.com/budecosystem/budcluster/hub/internal/outage"
	"github.com/budecosystem/budcluster/hub/internal/workflow"
	"github.com/budecosystem/budcluster/internal/logkey"
)

// answer is what a route gives: a status and the body of one of the envelopes.
type answer struct {
	status int
	body   any
}

// success is the platform's SuccessResponse.
type success struct {
	Object  string `json:"object"`
	Message string `json:"message"`
	Param   any    `json:"param"`
}

// failure is the platform's ErrorResponse.
type failure struct {
	Object  string `json:"object"`
	Message string `json:"message"`
	Type    string `json:"type"`
	Param   any    `json:"param"`
	Code    int    `json:"code"`
}

// detail is what the platform's framework answers outside of its envelopes: a
// sentence, or a list of faults.
type detail struct {
	Detail any `json:"detail"`
	// Message says what is wrong where the detail is a fixed text of the contract.
	Message string `json:"message,omitempty"`
}

// fault is one thing that is wrong with a request.
type fault struct {
	Type string   `json:"type"`
	Loc  []string `json:"loc"`
	Msg  string   `json:"msg"`
	// Input is always null: what was sent may be a secret, and the sender has it.
	Input any `json:"input"`
}

// empty is the param of answers that have none.
type empty struct{}

// Objects of envelopes.
const (
	objectInfo  = "info"
	objectError = "error"
)

func ok(message string, param any) answer { return okAs(objectInfo, message, param) }

func okAs(object, message string, param any) answer {
	if param == nil {
		param = empty{}
	}
	return answer{http.StatusOK, success{Object: object, Message: message, Param: param}}
}

// failed is an ErrorResponse of a status.
func failed(status int, format string, args ...any) answer {
	return answer{status, failure{Object: objectError, Message: fmt.Sprintf(format, args...), Type: typeOf(status), Code: status}}
}

// typeOf is the words of a status in one, as BadRequestError.
func typeOf(status int) string {
	words := http.StatusText(status)
	return strings.TrimSuffix(strings.ReplaceAll(strings.ReplaceAll(words, " ", ""), "-", ""), "Error") + "Error"
}

// refused is a detail with one sentence.
func refused(status int, sentence string) answer {
	return answer{status, detail{Detail: sentence}}
}

// explained is a detail of the contract's own words, and what is wrong beside it.
func explained(status int, words, message string) answer {
	return answer{status, detail{words, message}}
}

// unprocessable lists what is wrong with a request.
func unprocessable(faults []fault) answer {
	return answer{http.StatusUnprocessableEntity, detail{Detail: faults}}
}

// uploaded is what may be wrong with an uploaded file's cluster.
type uploaded interface {
	error
	LaterMayWork() bool
}

// problem chooses the envelope for what a rule says. at is where in the request
// its fields are.
func (s *Server) problem(ctx context.Context, at []string, err error) answer {
	if fields := invalid.Of(err); len(fields) > 0 {
		return refusal(at, fields)
	}
	if foreign, is := errors.AsType[uploaded](err); is {
		if foreign.LaterMayWork() {
			return failed(http.StatusServiceUnavailable, "%s", foreign)
		}
		return failed(http.StatusBadRequest, "%s", foreign)
	}
	switch {
	case errors.Is(err, cluster.ErrNotFound), errors.Is(err, workflow.ErrNotFound), errors.Is(err, inventory.ErrNotFound), errors.Is(err, inventory.ErrNoCluster):
		return failed(http.StatusNotFound, "%s", sentence(err))
	case errors.Is(err, cluster.ErrExists), errors.Is(err, workflow.ErrBusy), errors.Is(err, workflow.ErrFinished), errors.Is(err, workflow.ErrNotRetryable),
		errors.Is(err, cluster.ErrRegistered), errors.Is(err, cluster.ErrUnreachable), errors.Is(err, cluster.ErrRevoked):
		return failed(http.StatusConflict, "%s", sentence(err))
	case outage.OfDatabase(err):
		return failed(http.StatusServiceUnavailable, "The hub has lost its database for the moment; ask again.")
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return failed(http.StatusServiceUnavailable, "The hub could not finish in time; ask again.")
	}
	s.log.ErrorContext(ctx, "request failed", slog.Any(logkey.Error, err))
	return failed(http.StatusInternalServerError, "The hub failed; its log says why.")
}

// refusal is the framework's answer to fields that cannot be used. What is wrong
// with the file has an answer of its own.
func refusal(at []string, fields []*invalid.Error) answer {
	var faults []fault
	var file []string
	for _, f := range fields {
		if f.Field == partFile || strings.HasPrefix(f.Field, "kubeconfig") {
			file = append(file, f.Error())
			continue
		}
		faults = append(faults, fault{Type: "value_error", Loc: slices.Concat(at, strings.Split(f.Field, ".")), Msg: f.Error()})
	}
	if len(file) > 0 {
		return explained(http.StatusBadRequest, "Invalid configuration file", strings.Join(file, "; "))
	}
	return unprocessable(faults)
}

// sentence is the error of a rule without what was being done, which says
// nothing to another program.
func sentence(err error) string {
	for _, find := range []func() (error, bool){
		func() (error, bool) { e, is := errors.AsType[*cluster.NotFoundError](err); return e, is },
		func() (error, bool) { e, is := errors.AsType[*cluster.ExistsError](err); return e, is },
		func() (error, bool) { e, is := errors.AsType[*cluster.RegisteredError](err); return e, is },
		func() (error, bool) { e, is := errors.AsType[*cluster.UnreachableError](err); return e, is },
		func() (error, bool) { e, is := errors.AsType[*workflow.NotFoundError](err); return e, is },
		func() (error, bool) { e, is := errors.AsType[*workflow.BusyError](err); return e, is },
		func() (error, bool) { e, is := errors.AsType[*workflow.FinishedError](err); return e, is },
		func() (error, bool) { e, is := errors.AsType[*workflow.NotRetryableError](err); return e, is },
		func() (error, bool) { e, is := errors.AsType[*inventory.NotFoundError](err); return e, is },
	} {
		if e, is := find(); is {
			return e.Error()
		}
	}
	return err.Error()
}

func (s *Server) write(ctx context.Context, w http.ResponseWriter, a answer) {
	raw, err := json.Marshal(a.body)
	if err != nil {
		s.log.ErrorContext(ctx, "answer cannot be encoded", slog.Any(logkey.Error, err))
		a.status, raw = http.StatusInternalServerError, []byte(`{"object":"error","message":"The hub failed; its log says why.","type":"InternalServerError","param":null,"code":500}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(a.status)
	_, _ = w.Write(raw) // a caller that went away needs no answer
}
