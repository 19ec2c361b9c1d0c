package release

import (
	"errors"
	"fmt"
)

// The errors that callers tell apart.
var (
	ErrNotFound  = errors.New("no such release")
	ErrNoCluster = errors.New("no such cluster")
	ErrConflict  = errors.New("release was changed meanwhile")
	ErrBusy      = errors.New("release is being removed")
	ErrNoChart   = errors.New("no such chart")
	// ErrRace is for the store to say: a release of that name came into being
	// since ReleaseLock found none.
	ErrRace = errors.New("release was made at the same moment")
)

// NotFoundError says which release there is not. It is ErrNotFound.
type NotFoundError struct{ Name string }

// Error names the release and the remedy.
func (e *NotFoundError) Error() string {
	return fmt.Sprintf("there is no release %q in this cluster; `budcluster release list` shows those that there are", e.Name)
}

// Is makes it ErrNotFound.
func (e *NotFoundError) Is(target error) bool { return target == ErrNotFound }

// ConflictError says that a precondition failed. Have is 0 when there is no
// such release. It is ErrConflict.
type ConflictError struct {
	Name       string
	Want, Have int64
}

// Error names both generations and the remedy.
func (e *ConflictError) Error() string {
	switch {
	case e.Want == 0:
		return fmt.Sprintf("release %q exists already, at generation %d; apply without asking that it be new", e.Name, e.Have)
	case e.Have == 0:
		return fmt.Sprintf("release %q is not there, though generation %d was expected; look at it again before you apply", e.Name, e.Want)
	default:
		return fmt.Sprintf("release %q is at generation %d, not %d; read it again and repeat your change", e.Name, e.Have, e.Want)
	}
}

// Is makes it ErrConflict.
func (e *ConflictError) Is(target error) bool { return target == ErrConflict }

// BusyError says that a release cannot come back in another namespace before
// it has left the first. It is ErrBusy.
type BusyError struct{ Name, Namespace string }

// Error names the release and the remedy.
func (e *BusyError) Error() string {
	return fmt.Sprintf("release %q is being removed from namespace %q; wait until it is gone, or use that namespace", e.Name, e.Namespace)
}

// Is makes it ErrBusy.
func (e *BusyError) Is(target error) bool { return target == ErrBusy }

// RetiringError says that nothing new goes into a cluster that is leaving the
// fleet. It is ErrBusy.
type RetiringError struct{ Name string }

// Error names the release and the remedy.
func (e *RetiringError) Error() string {
	return fmt.Sprintf("release %q cannot be applied, for its cluster is leaving the fleet; wait until that is done and register the cluster again", e.Name)
}

// Is makes it ErrBusy.
func (e *RetiringError) Is(target error) bool { return target == ErrBusy }
