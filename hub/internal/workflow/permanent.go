package workflow

import (
	"errors"
	"strings"
	"time"

	durable "github.com/dapr/durabletask-go/workflow"
)

// mark says in an error's text that trying again is of no use. An activity's
// error reaches the workflow as text, on both engines; what type it was and
// what it wraps is gone by then.
const mark = " [permanent]"

// permanentError is an error that trying again does not cure.
type permanentError struct{ err error }

// Permanent marks err: a policy of Retry does not try again. The mark survives
// wrapping, and the way from an activity to its workflow. A nil err stays nil.
func Permanent(err error) error {
	if err == nil || IsPermanent(err) {
		return err
	}
	return &permanentError{err: err}
}

func (e *permanentError) Error() string { return e.err.Error() + mark }

func (e *permanentError) Unwrap() error { return e.err }

// IsPermanent reports whether err, or an error that it was made from, was
// marked by Permanent.
func IsPermanent(err error) bool {
	if err == nil {
		return false
	}
	if _, ok := errors.AsType[*permanentError](err); ok {
		return true
	}
	return strings.Contains(err.Error(), mark)
}

// fromActivity is what the engine's library puts before an activity's error.
const fromActivity = "task failed with an error: "

// Reason is the text of err for people: without the mark, and without what the
// engine puts before it.
func Reason(err error) string {
	if err == nil {
		return ""
	}
	return strings.ReplaceAll(strings.ReplaceAll(err.Error(), mark, ""), fromActivity, "")
}

// The default policy of Retry: ten tries in about six minutes.
const (
	retryAttempts = 10
	retryFirst    = time.Second
	retryFactor   = 2
	retryMost     = time.Minute
)

// Retry is the default policy for activities: with growing pauses, and not
// after a permanent error. Change the copy that it returns at will.
func Retry() *durable.RetryPolicy {
	return &durable.RetryPolicy{
		MaxAttempts: retryAttempts, InitialRetryInterval: retryFirst, BackoffCoefficient: retryFactor, MaxRetryInterval: retryMost,
		Handle: func(err error) bool { return !IsPermanent(err) },
	}
}
