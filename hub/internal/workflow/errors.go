package workflow

import (
	"errors"
	"fmt"

	"github.com/google/uuid"
)

// The errors that callers tell apart.
var (
	ErrNotFound = errors.New("no such workflow")
	ErrBusy     = errors.New("another workflow is on in the cluster")
	ErrFinished = errors.New("workflow is finished")
	// ErrLost is for the engine to say: it has no such workflow.
	ErrLost = errors.New("the engine has lost the workflow")
	// ErrNotRetryable: only what failed or was cancelled can be tried again.
	ErrNotRetryable = errors.New("workflow cannot be retried")
)

// NotFoundError says which workflow there is not. It is ErrNotFound.
type NotFoundError struct{ ID string }

// Error names the workflow and the remedy.
func (e *NotFoundError) Error() string {
	return fmt.Sprintf("there is no workflow %q; `budcluster workflow list` shows those that there are", e.ID)
}

// Is makes it ErrNotFound.
func (e *NotFoundError) Is(target error) bool { return target == ErrNotFound }

// BusyError says which workflow is in the way. It is ErrBusy.
type BusyError struct {
	Cluster string
	Kind    Kind
	Other   uuid.UUID
	Running Kind
}

// Error names both workflows and the remedy.
func (e *BusyError) Error() string {
	if e.Other == uuid.Nil {
		return fmt.Sprintf("another workflow is on in cluster %q; wait for its end, or cancel it, then ask for %s again", e.Cluster, e.Kind)
	}
	return fmt.Sprintf("cluster %q is busy with workflow %s (%s); wait for its end, or cancel it with `budcluster workflow cancel %s`, then ask for %s again",
		e.Cluster, e.Other, e.Running, e.Other, e.Kind)
}

// Is makes it ErrBusy.
func (e *BusyError) Is(target error) bool { return target == ErrBusy }

// FinishedError says that it is too late. It is ErrFinished.
type FinishedError struct {
	ID     uuid.UUID
	Status Status
}

// Error names the workflow and how it ended.
func (e *FinishedError) Error() string {
	return fmt.Sprintf("workflow %s is over already: %s", e.ID, e.Status)
}

// Is makes it ErrFinished.
func (e *FinishedError) Is(target error) bool { return target == ErrFinished }

// NotRetryableError says why a workflow is not tried again. It is
// ErrNotRetryable.
type NotRetryableError struct {
	ID     uuid.UUID
	Reason string
}

// Error names the workflow and the reason.
func (e *NotRetryableError) Error() string {
	return fmt.Sprintf("workflow %s cannot be retried: %s", e.ID, e.Reason)
}

// Is makes it ErrNotRetryable.
func (e *NotRetryableError) Is(target error) bool { return target == ErrNotRetryable }
