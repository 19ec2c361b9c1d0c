package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"github.com/budecosystem/budcluster/hub/internal/cluster"
	"github.com/budecosystem/budcluster/hub/internal/enroll"
	"github.com/budecosystem/budcluster/hub/internal/invalid"
	"github.com/budecosystem/budcluster/hub/internal/operation"
	"github.com/budecosystem/budcluster/hub/internal/workflow"
	"github.com/budecosystem/budcluster/internal/logkey"
	"github.com/budecosystem/budcluster/internal/secret"
)

// afterwards bounds what goes on when the caller has left: an installation that
// has begun is ended or taken back, not cut.
const afterwards = 10 * time.Minute

// Registrar begins registrations; operation.Service.
type Registrar interface {
	Register(ctx context.Context, actor string, r operation.Register) (*workflow.Workflow, *cluster.Cluster, error)
}

// Tokens makes join tokens; enroll.Service.
type Tokens interface {
	CreateToken(ctx context.Context, actor string, clusterID uuid.UUID, o enroll.TokenOptions) (enroll.Token, secret.String, error)
}

// Canceller takes back what a workflow did; workflow.Service.
type Canceller interface {
	Cancel(ctx context.Context, actor, ref string) (*workflow.Workflow, error)
}

// OnboarderConfig makes an Onboarder.
type OnboarderConfig struct {
	Installer *Installer
	Registrar Registrar
	Tokens    Tokens
	Workflows Canceller
	// Known finds the cluster of a UID; enroll.ErrNoCluster when there is none.
	Known func(ctx context.Context, uid string) (enroll.Member, error)
	// Values of the agent's chart: its registry, say. May be nil.
	Values map[string]any
	Logger *slog.Logger
}

// Onboarder registers the cluster of an uploaded kubeconfig.
type Onboarder struct{ cfg OnboarderConfig }

// NewOnboarder checks cfg and makes an Onboarder.
func NewOnboarder(cfg OnboarderConfig) (*Onboarder, error) {
	if cfg.Installer == nil || cfg.Registrar == nil || cfg.Tokens == nil || cfg.Workflows == nil || cfg.Known == nil || cfg.Logger == nil {
		return nil, errors.New("bootstrap: an installer, a registrar, tokens, workflows, a register and a logger are needed")
	}
	return &Onboarder{cfg: cfg}, nil
}

// Onboard asks the cluster who it is, enters it, begins its registration and
// installs its agent, for which the registration waits. When it fails nothing
// is left: not in the cluster, and not in the register.
func (o *Onboarder) Onboard(ctx context.Context, actor string, file Request, r operation.Register) (*workflow.Workflow, error) {
	run, err := o.cfg.Installer.Begin(ctx, file)
	if err != nil {
		return nil, err
	}
	defer run.Close()
	if err := o.admit(ctx, run.Found().UID, r); err != nil {
		return nil, err
	}
	// From here on a caller that leaves does not leave half a thing behind.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), afterwards)
	defer cancel()
	w, c, err := o.cfg.Registrar.Register(ctx, actor, r)
	if err != nil {
		return nil, err //nolint:wrapcheck // a sentence already
	}
	if err := o.install(ctx, actor, run, c); err != nil {
		return nil, errors.Join(err, o.takeBack(ctx, actor, run, w))
	}
	return w, nil
}

// admit refuses one Kubernetes cluster under two names, and two under one.
func (o *Onboarder) admit(ctx context.Context, uid string, r operation.Register) error {
	known, err := o.cfg.Known(ctx, uid)
	switch {
	case errors.Is(err, enroll.ErrNoCluster):
		return nil
	case err != nil:
		return fmt.Errorf("look for the cluster of uid %s: %w", uid, err)
	case r.Existing && (known.Name == r.Name || known.ID.String() == r.Name):
		return nil
	default:
		return invalid.New("kubeconfig", "is that of a cluster which is registered as %q already; remove that one first, or use its name", known.Name)
	}
}

func (o *Onboarder) install(ctx context.Context, actor string, run *Run, c *cluster.Cluster) error {
	_, token, err := o.cfg.Tokens.CreateToken(ctx, actor, c.ID, enroll.TokenOptions{TTL: time.Hour})
	if err != nil {
		return err //nolint:wrapcheck // a sentence already
	}
	return run.Go(ctx, Order{JoinToken: token, Values: o.cfg.Values}, nil)
}

// takeBack undoes what was done, in reverse order.
func (o *Onboarder) takeBack(ctx context.Context, actor string, run *Run, w *workflow.Workflow) error {
	left, err := run.Undo(ctx)
	for _, what := range left {
		o.cfg.Logger.WarnContext(ctx, "something of the agent stays in the cluster", slog.String(logkey.Message, what))
	}
	if err != nil && !errors.Is(err, ErrClosed) {
		err = fmt.Errorf("what was installed could not be removed: %w", err)
	} else {
		err = nil
	}
	if _, cancelErr := o.cfg.Workflows.Cancel(ctx, actor, w.ID.String()); cancelErr != nil {
		err = errors.Join(err, cancelErr)
	}
	return err
}
