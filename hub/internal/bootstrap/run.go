package bootstrap

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/budecosystem/budcluster/internal/install"
	"github.com/budecosystem/budcluster/internal/secret"
)

// Found is what a cluster said of itself.
type Found struct {
	// Server is the URL of its API server.
	Server string
	// UID is that of the namespace kube-system.
	UID     string
	Version string
	// AgentVersion is that of an agent of this hub which is there already;
	// empty when there is none.
	AgentVersion string
}

// Run is one installation. Its methods are called by one caller, one after
// the other; Close at any time.
type Run struct {
	child *child
	cfg   *Config
	found Found
	// seen is how many stages were looked at.
	seen int
	// began is set by Go: from then on the child is not killed in the middle.
	began bool
}

// Found says which cluster it is.
func (r *Run) Found() Found { return r.found }

// begin sends the request and waits for the cluster's answer.
func (r *Run) begin(ctx context.Context, req install.Request) error {
	ctx, cancel := context.WithTimeoutCause(ctx, r.cfg.CheckTimeout, &Error{
		Reason:  install.TimedOut,
		Message: fmt.Sprintf("the cluster did not answer within %s; check that the hub reaches the server of the kubeconfig", r.cfg.CheckTimeout),
	})
	defer cancel()
	if err := r.child.send(ctx, req); err != nil {
		return err
	}
	return r.until(ctx, install.Ready, func(s install.Stage) {
		switch s.Stage { //nolint:exhaustive // the others say nothing about the cluster
		case install.Checked:
			r.found.Server = s.Server
		case install.Ready:
			r.found.UID, r.found.Version, r.found.AgentVersion = s.ClusterUID, s.ServerVersion, s.AgentVersion
		}
	})
}

// Order is what Go installs.
type Order struct {
	// JoinToken is what the agent enrolls with.
	JoinToken secret.String
	// Values of the agent's chart, beside the hub and the token: its image,
	// mirrors, resources.
	Values map[string]any
}

// Go has the child install the agent. When it returns the child has what it
// needs, and ends the installation though this process may die.
func (r *Run) Go(ctx context.Context, o Order) error {
	values, err := json.Marshal(o.Values)
	if err != nil {
		return fmt.Errorf("encode values of the agent's chart: %w", err)
	}
	r.child.hide(o.JoinToken.Reveal())
	r.began = true
	return r.child.send(ctx, install.Order{Go: true, JoinToken: o.JoinToken.Reveal(), Values: values})
}

// Installed returns when the agent's objects are in the cluster. An error is an
// *Error; what came about until then Undo takes back.
func (r *Run) Installed(ctx context.Context, progress func(install.Stage)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, r.cfg.InstallTimeout, &Error{
		Reason: install.TimedOut, Message: fmt.Sprintf("installing the agent took longer than %s", r.cfg.InstallTimeout),
	})
	defer cancel()
	return r.until(ctx, install.Installed, progress)
}

// Await returns when the agent that Go installed says that it is connected.
// When ctx ends before, the error says what its pod waits for.
func (r *Run) Await(ctx context.Context, progress func(install.Stage)) error {
	waiting := ""
	err := r.until(ctx, install.Connected, func(s install.Stage) {
		if s.Stage == install.Waiting {
			waiting = s.Message
		}
		if progress != nil {
			progress(s)
		}
	})
	if err != nil && ctx.Err() != nil && waiting != "" {
		return &Error{Reason: install.TimedOut, Message: "the agent is installed and does not connect: " + waiting}
	}
	return err
}

// Undo takes back what Go did, in the reverse order, and says what is left.
func (r *Run) Undo(ctx context.Context) (left []string, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, r.cfg.InstallTimeout, &Error{
		Reason: install.TimedOut, Message: fmt.Sprintf("removing the agent took longer than %s", r.cfg.InstallTimeout),
	})
	defer cancel()
	r.seen = r.child.count() // an old failure is not that of undoing
	if err := r.child.send(ctx, install.Order{Undo: true}); err != nil {
		return nil, err
	}
	err = r.until(ctx, install.Undone, func(s install.Stage) {
		if s.Stage == install.Undone {
			left = s.Left
		}
	})
	return left, err
}

// Close ends the child, and with it the last copy of the kubeconfig. A child
// in the middle of an installation is left to end it. It may be called twice.
func (r *Run) Close() { r.child.close(!r.began) }

// until reads stages up to the wanted one.
func (r *Run) until(ctx context.Context, want install.Name, progress func(install.Stage)) error {
	for {
		s, err := r.child.stage(ctx, r.seen)
		if err != nil {
			return err
		}
		r.seen++
		if progress != nil {
			progress(s)
		}
		switch s.Stage { //nolint:exhaustive // the others are on the way
		case want:
			return nil
		case install.Failed:
			return &Error{Reason: s.Reason, Message: s.Message}
		}
	}
}
