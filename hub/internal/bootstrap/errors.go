package bootstrap

import (
	"errors"

	"github.com/budecosystem/budcluster/hub/internal/invalid"
	"github.com/budecosystem/budcluster/internal/install"
	"github.com/budecosystem/budcluster/internal/kubeconfig"
)

// ErrClosed is returned by a Run that was closed, or whose child has ended.
var ErrClosed = errors.New("the installer has ended")

// Error is why the agent could not be installed.
type Error struct {
	Reason install.Reason
	// Message is one sentence with the remedy; it holds no secret.
	Message string
}

// Error is the message.
func (e *Error) Error() string { return e.Message }

// LaterMayWork reports whether the same file may work later. The faces know
// this error by it.
func (e *Error) LaterMayWork() bool {
	switch e.Reason {
	case install.Unreachable, install.TimedOut, install.Broken:
		return true
	case install.Invalid, install.Untrusted, install.Unauthorized, install.Forbidden,
		install.NotKubernetes, install.ForeignAgent, install.NotInstalled:
		return false
	default:
		return false
	}
}

// asInvalid turns what is wrong with a file into refusals of its fields.
func asInvalid(err error) error {
	var all []error
	for _, e := range kubeconfig.Errors(err) {
		field := "kubeconfig." + e.Field
		if e.Field == "kubeconfig" {
			field = e.Field
		}
		all = append(all, invalid.New(field, "%s", e.Message))
	}
	return errors.Join(all...)
}
