package cluster

import (
	"errors"
	"fmt"

	"github.com/google/uuid"
)

// The errors that callers tell apart.
var (
	ErrNotFound    = errors.New("no such cluster")
	ErrExists      = errors.New("cluster exists")
	ErrRegistered  = errors.New("cluster is registered under another name")
	ErrRevoked     = errors.New("cluster is revoked")
	ErrHasReleases = errors.New("cluster has releases")
	ErrUnreachable = errors.New("cluster cannot be told")
)

// NotFoundError says which cluster there is not. It is ErrNotFound.
type NotFoundError struct{ Ref string }

// Error names the cluster and the remedy.
func (e *NotFoundError) Error() string {
	return fmt.Sprintf("there is no cluster %q; `budcluster cluster list` shows those that there are", e.Ref)
}

// Is makes it ErrNotFound.
func (e *NotFoundError) Is(target error) bool { return target == ErrNotFound }

// ExistsError says that a name is taken. It is ErrExists.
type ExistsError struct{ Name string }

// Error names the cluster and the remedy.
func (e *ExistsError) Error() string {
	return fmt.Sprintf("a cluster named %q exists already; choose another name, or delete that cluster first", e.Name)
}

// Is makes it ErrExists.
func (e *ExistsError) Is(target error) bool { return target == ErrExists }

// RegisteredError says that a cluster is in the register under another name. It
// is ErrRegistered.
type RegisteredError struct {
	Name string
	ID   uuid.UUID
}

// Error names the entry and the remedy.
func (e *RegisteredError) Error() string {
	return fmt.Sprintf("this cluster is registered already, as %q (its id is %s); use that entry, or remove it first", e.Name, e.ID)
}

// Is makes it ErrRegistered.
func (e *RegisteredError) Is(target error) bool { return target == ErrRegistered }

// RevokedError says that a cluster is locked out. It is ErrRevoked.
type RevokedError struct{ Name string }

// Error names the cluster and the remedy.
func (e *RevokedError) Error() string {
	return fmt.Sprintf("cluster %q is revoked; create a new join token for it and install the agent again to bring it back", e.Name)
}

// Is makes it ErrRevoked.
func (e *RevokedError) Is(target error) bool { return target == ErrRevoked }

// HasReleasesError says why a cluster cannot be deleted. It is ErrHasReleases.
type HasReleasesError struct {
	Name     string
	Releases int
}

// Error names the cluster, the number and the remedy.
func (e *HasReleasesError) Error() string {
	return fmt.Sprintf("cluster %q still has %d release(s); delete them first, or use force to leave what they installed running there unmanaged",
		e.Name, e.Releases)
}

// Is makes it ErrHasReleases.
func (e *HasReleasesError) Is(target error) bool { return target == ErrHasReleases }

// UnreachableError says why a cluster cannot be told to leave. It is
// ErrUnreachable.
type UnreachableError struct{ Name string }

// Error names the cluster and the remedy.
func (e *UnreachableError) Error() string {
	return fmt.Sprintf("cluster %q is revoked, so its agent is not let in to be told to remove what is ours; "+
		"use force to retire it without its agent, or take it back with a new join token first", e.Name)
}

// Is makes it ErrUnreachable.
func (e *UnreachableError) Is(target error) bool { return target == ErrUnreachable }
