package hub

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/budecosystem/budcluster/hub/internal/bootstrap"
	"github.com/budecosystem/budcluster/hub/internal/cluster"
	"github.com/budecosystem/budcluster/hub/internal/enroll"
	"github.com/budecosystem/budcluster/hub/internal/operation"
	"github.com/budecosystem/budcluster/hub/internal/store"
	"github.com/budecosystem/budcluster/hub/internal/workflow"
	"github.com/budecosystem/budcluster/internal/install"
	"github.com/budecosystem/budcluster/internal/logkey"
	"github.com/budecosystem/budcluster/internal/run"
)

const (
	// connectWithin is how long an agent that was installed may take to connect.
	connectWithin = 10 * time.Minute
	// beat is how often a hub says that it still is at an installation; what
	// waits for that has minutes of patience.
	beat = 20 * time.Second
)

// installs brings agents into clusters of which somebody uploads a kubeconfig.
//
//	register ── Begin: file checked, cluster asked who it is ── in the request: a bad file begins nothing
//	   └─ workflow, join token, Go ──► Run ── Installed ── Await the agent ── Close
//	                                    │ how far it is: the cluster's degradations, which the workflow's
//	                                    │ first step reads, in whichever replica
//	                                    │ that it still is at it: the cluster's InstallingAt
//	                                    └─ failed, or the workflow is to end: Undo
//
// The kubeconfig is in the child's memory only. A hub that dies leaves a child
// that ends what it has begun; the agent then joins by itself. Whoever was told
// that a registration has begun can count on that: the child had its order
// before. If no agent comes, the workflow notices that nobody is at it any more,
// and ends.
type installs struct {
	*parts
	log       *slog.Logger
	installer *bootstrap.Installer
	// values are what the chart of such an agent is given.
	values map[string]any
	jobs   chan job
}

// job is one installation that may begin.
type job struct {
	run      *bootstrap.Run
	cluster  *cluster.Cluster
	workflow uuid.UUID
}

func (h *Hub) newInstalls(p *parts) (*installs, error) {
	installer, err := h.installer(p.enroll)
	return &installs{parts: p, log: h.component("installs"), installer: installer, values: h.agentValues(), jobs: make(chan job)}, err
}

// register begins a registration with an uploaded kubeconfig, which is
// overwritten with zeros. What it says of the file are invalid.Errors of the
// field kubeconfig or of those below it.
func (i *installs) register(ctx context.Context, actor string, req operation.Register, file []byte) (w *workflow.Workflow, err error) {
	child, err := i.installer.Begin(ctx, bootstrap.Request{Kubeconfig: file})
	if err != nil {
		return nil, err //nolint:wrapcheck // a sentence already
	}
	defer func() {
		if err != nil {
			child.Close()
		}
	}()
	if err := i.unique(ctx, child.Found().UID, req); err != nil {
		return nil, err
	}
	req.Installs = true
	w, c, err := i.operation.Register(ctx, actor, req)
	if err != nil {
		return nil, err //nolint:wrapcheck // a sentence already
	}
	if err := i.begin(ctx, actor, job{run: child, cluster: c, workflow: w.ID}); err != nil {
		child.Close()
		i.say(ctx, c, operation.NotInstalled, err.Error()) // the workflow ends by that, and says so
	}
	return w, nil
}

// unique refuses a cluster that is registered under another name.
func (i *installs) unique(ctx context.Context, uid string, req operation.Register) error {
	c, err := i.known(ctx, uid)
	switch {
	case errors.Is(err, enroll.ErrNoCluster):
		return nil
	case err != nil:
		return fmt.Errorf("look for the cluster of uid %s: %w", uid, err)
	case req.Existing && (req.Name == c.ID.String() || req.Name == c.Name):
		return nil
	default:
		return &cluster.RegisteredError{Name: c.Name, ID: c.ID}
	}
}

// begin makes a join token, has the child install, and hands the rest to Run.
func (i *installs) begin(ctx context.Context, actor string, j job) error {
	if j.cluster.JoinedAt != nil && j.run.Found().AgentVersion != "" { // it is there, and the workflow waits for it
		j.run.Close()
		i.done(ctx, j.cluster)
		return nil
	}
	_, token, err := i.enroll.CreateToken(ctx, actor, j.cluster.ID, enroll.TokenOptions{})
	if err != nil {
		return fmt.Errorf("make a join token: %w", err)
	}
	if err := j.run.Go(ctx, bootstrap.Order{JoinToken: token, Values: i.values}); err != nil {
		return err //nolint:wrapcheck // a sentence already
	}
	select {
	case i.jobs <- j:
	case <-ctx.Done(): // the hub stops, and the child ends by itself what it has begun
		j.run.Close()
	}
	return nil
}

// Run carries installations out until ctx ends. Then it waits for none: a child
// ends by itself what it has begun.
func (i *installs) Run(ctx context.Context) error {
	crew := run.NewCrew(bootstrap.DefaultLimit) // the installer has no more children
	for {
		select {
		case <-ctx.Done():
			return crew.Wait()
		case j := <-i.jobs:
			crew.Go(ctx, func(ctx context.Context) error {
				i.carry(ctx, j)
				return nil
			})
		case <-crew.Done():
			if err := crew.Errors(); err != nil { // a fault of this program; what it was about stays as it is
				i.log.ErrorContext(ctx, "installation ended by a fault", slog.Any(logkey.Error, err))
			}
		}
	}
}

// carry installs the agent, waits until it is connected, and takes it back when
// that fails or nobody wants it any more. A hub that ends meanwhile says nothing:
// the agent may still come.
func (i *installs) carry(ctx context.Context, j job) {
	defer j.run.Close()
	defer i.beating(ctx, j.cluster)()
	began := time.Now()
	wanted, stop := i.wanted(ctx, j)
	defer stop()
	said := ""
	progress := func(s install.Stage) {
		if text := cmp.Or(s.Message, string(s.Stage)); s.Stage == install.Waiting && text != said {
			said = text
			i.say(ctx, j.cluster, operation.Installing, text)
		}
	}
	err := j.run.Installed(ctx, progress)
	if err == nil {
		err = j.run.Await(wanted, progress)
	}
	if err == nil || ctx.Err() != nil || i.came(ctx, j, began, errors.Is(wanted.Err(), context.Canceled)) {
		return
	}
	i.log.WarnContext(ctx, "agent was not installed; it is taken back", slog.String(logkey.Cluster, j.cluster.Name), slog.Any(logkey.Error, err))
	var message strings.Builder
	message.WriteString(err.Error())
	left, undo := j.run.Undo(ctx)
	for _, what := range left {
		message.WriteString("; this is still there: " + what)
	}
	switch {
	case errors.Is(undo, bootstrap.ErrClosed): // with the kubeconfig
		message.WriteString("; what it began stays in the cluster, and is taken over when the kubeconfig is uploaded again")
	case undo != nil:
		message.WriteString("; it could not be taken back: " + undo.Error())
	}
	i.say(ctx, j.cluster, operation.NotInstalled, message.String())
}

// came reports whether the agent is there after all: it was connected since a
// moment or, where nobody wants it any more, has joined, and then goes by itself.
func (i *installs) came(ctx context.Context, j job, since time.Time, unwanted bool) bool {
	c, err := i.clusters.Get(ctx, j.cluster.ID.String())
	return err == nil && (c.LastSeen != nil && c.LastSeen.After(since) || unwanted && c.JoinedAt != nil)
}

// beating says that this hub is at an installation until its end is called. A
// hub that itself ends leaves what it said last.
func (i *installs) beating(life context.Context, c *cluster.Cluster) (end func()) {
	ctx, cancel := context.WithCancel(life)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(beat)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				if err := i.clusters.SetInstalling(ctx, c.ID, true); err != nil && ctx.Err() == nil {
					i.log.WarnContext(ctx, "that an installation goes on could not be written", slog.String(logkey.Cluster, c.Name), slog.Any(logkey.Error, err))
				}
			}
		}
	}()
	return func() {
		cancel()
		<-ended
		if life.Err() == nil {
			i.done(life, c)
		}
	}
}

// done says that nobody is at an installation any more.
func (i *installs) done(ctx context.Context, c *cluster.Cluster) {
	if err := i.clusters.SetInstalling(context.WithoutCancel(ctx), c.ID, false); err != nil { // the workflow notices the silence
		i.log.WarnContext(ctx, "the end of an installation could not be written", slog.String(logkey.Cluster, c.Name), slog.Any(logkey.Error, err))
	}
}

// wanted ends when the workflow is to end, or the agent has taken too long.
func (i *installs) wanted(ctx context.Context, j job) (context.Context, context.CancelFunc) {
	ctx, end := context.WithTimeoutCause(ctx, connectWithin, fmt.Errorf("the agent was installed and did not connect within %s", connectWithin))
	wake, stop := i.wakes.Subscribe(store.ChannelEvents, j.cluster.ID.String())
	go func() {
		defer stop()
		poll := time.NewTicker(5 * time.Second) // a lost wake-up costs this
		defer poll.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-wake:
			case <-poll.C:
			}
			w, err := i.workflows.Get(ctx, j.workflow.String())
			if errors.Is(err, workflow.ErrNotFound) || err == nil && (w.CancelledAt != nil || w.Status == workflow.StatusUndoing || w.Status.Terminal()) {
				end()
				return
			}
		}
	}()
	return ctx, end
}

// say writes how far the installation is, for the workflow and for people.
func (i *installs) say(ctx context.Context, c *cluster.Cluster, reason, message string) {
	ctx = context.WithoutCancel(ctx) // the last word counts
	err := i.clusters.SetDegraded(ctx, c.ID, []cluster.Degradation{{Reason: reason, Message: message, Since: time.Now()}})
	if err != nil && !errors.Is(err, cluster.ErrNotFound) {
		i.log.ErrorContext(ctx, "the state of an installation could not be written", slog.String(logkey.Cluster, c.Name), slog.Any(logkey.Error, err))
	}
}
