package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/budecosystem/budcluster/hub/hubapi"
)

// The exit statuses.
const (
	ExitOK            = 0
	ExitFailed        = 1
	ExitUsage         = 2
	ExitNotFound      = 3
	ExitUnauthorised  = 4
	ExitUnavailable   = 5
	ExitReleaseFailed = 6
	ExitInterrupted   = 130
)

const exitHelp = `Exit status:
  0    done
  1    failed
  2    the command line is wrong
  3    there is no such thing
  4    the API key is missing, not valid, or may not do this
  5    the hub or the cluster cannot be reached now
  6    the release or the workflow failed
  130  interrupted`

// usageError is a command line that cannot be understood.
type usageError struct{ err error }

// Error is the cause.
func (e *usageError) Error() string { return e.err.Error() }

// Unwrap gives the cause.
func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error {
	return &usageError{err: fmt.Errorf(format, args...)}
}

// exitStatus sorts an error.
func exitStatus(err error) int {
	var usage *usageError
	var failed *hubapi.ReleaseFailedError
	var work *hubapi.WorkflowFailedError
	switch {
	case err == nil:
		return ExitOK
	case errors.As(err, &usage):
		return ExitUsage
	case errors.As(err, &failed), errors.As(err, &work):
		return ExitReleaseFailed
	case hubapi.IsNotFound(err):
		return ExitNotFound
	case hubapi.IsUnauthorised(err):
		return ExitUnauthorised
	case hubapi.IsUnavailable(err):
		return ExitUnavailable
	default:
		return ExitFailed
	}
}

// explain is what is said of an error: a problem with each of its fields on a
// line of its own.
func explain(err error) string {
	var p *hubapi.Problem
	if !errors.As(err, &p) || len(p.Errors) < 2 {
		return err.Error()
	}
	var out strings.Builder
	out.WriteString(p.Detail)
	for _, f := range p.Errors {
		out.WriteString("\n  - " + f.Message)
	}
	return out.String()
}
