package upgrade

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/budecosystem/budcluster/agent/internal/helm"
	"github.com/budecosystem/budcluster/agent/internal/newest"
	"github.com/budecosystem/budcluster/internal/logkey"
	agentv1 "github.com/budecosystem/budcluster/proto/agent/v1"
)

// Defaults of Config.
const (
	// DefaultEvery is how often the record is read while an upgrade goes on.
	DefaultEvery = time.Second
	// DefaultIdle is how often otherwise: another agent may have begun one.
	DefaultIdle = 30 * time.Second
	// DefaultConnectWithin is how long the new agent may take.
	DefaultConnectWithin = time.Minute
	// chartTimeout ends waiting for a chart that does not come.
	chartTimeout = 5 * time.Minute
)

// Helm changes the agent's own release; *helm.Client.
type Helm interface {
	History(ctx context.Context, ref helm.Ref) (helm.History, error)
	Given(ctx context.Context, ref helm.Ref, revision int) (helm.Given, error)
	Upgrade(ctx context.Context, op helm.Operation) error
	Rollback(ctx context.Context, ref helm.Ref, revision int, labels helm.Labels, timeout time.Duration) error
	Unlock(ctx context.Context, ref helm.Ref, revision int, why string) error
}

// Cluster is what the agent sees of its own installation; *Installation.
type Cluster interface {
	// Hash is that of the template of this agent's pod; empty when it is none of
	// a Deployment.
	Hash(ctx context.Context) (string, error)
	// NewRuns reports whether a pod of another template has its program running.
	NewRuns(ctx context.Context, hash string) (bool, error)
	// Template is a fingerprint of the Deployment's template.
	Template(ctx context.Context) (string, error)
	// Trouble says what the Deployment's pods wait for; empty when it is not known.
	Trouble(ctx context.Context) string
	// Allowed says which right is missing; empty when none is.
	Allowed(ctx context.Context) (missing string, err error)
}

// Standing is the place of this agent among the others.
type Standing interface {
	// Leads: it holds the lease, and does the work.
	Leads() bool
	// Linked: it is connected to the hub.
	Linked() bool
	// StandAside lets another have the lease, or ends that.
	StandAside(aside bool)
}

// Config is what a Keeper needs.
type Config struct {
	Store    Store
	Helm     Helm
	Cluster  Cluster
	Standing Standing
	// FetchChart gets a chart of the hub by its digest.
	FetchChart func(ctx context.Context, digest string) ([]byte, error)
	// Ref is the agent's own release; without a name it was not installed by Helm.
	Ref    helm.Ref
	Pod    string
	Logger *slog.Logger
	Now    func() time.Time
	Every  time.Duration
	Idle   time.Duration
}

// Keeper carries upgrades of the agent on, in every agent of a cluster.
type Keeper struct {
	cfg      Config
	poke     chan struct{} // of size one
	status   newest.Value[*agentv1.AgentStatus]
	unproven atomic.Bool

	mu     sync.Mutex // guards target
	target *agentv1.AgentTarget

	// What follows belongs to Run alone.
	hash  string
	alone bool // it has a name, and is no pod of a Deployment
	told  Record
	said  string // the last complaint, until something worked
}

// New checks the configuration. It contacts nobody.
func New(cfg Config) (*Keeper, error) {
	if cfg.Store == nil || cfg.Helm == nil || cfg.Cluster == nil || cfg.Standing == nil || cfg.FetchChart == nil || cfg.Logger == nil {
		return nil, errors.New("upgrade: a store, helm, the cluster, a standing, charts and a logger are needed")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	cfg.Every, cfg.Idle = cmp.Or(cfg.Every, DefaultEvery), cmp.Or(cfg.Idle, DefaultIdle)
	k := &Keeper{cfg: cfg, poke: make(chan struct{}, 1)}
	k.unproven.Store(k.installed()) // until the record was read
	return k, nil
}

// installed reports whether this agent can be replaced at all.
func (k *Keeper) installed() bool { return k.cfg.Pod != "" && k.cfg.Ref.Name != "" && !k.alone }

// Want takes in what the hub wants. It returns at once.
func (k *Keeper) Want(t *agentv1.AgentTarget) {
	k.mu.Lock()
	k.target = t
	k.mu.Unlock()
	k.Look()
}

// Look has Run look at once: this agent has just become the leader, say.
func (k *Keeper) Look() {
	select {
	case k.poke <- struct{}{}:
	default:
	}
}

// Watch wakes when there is something to tell the hub.
func (k *Keeper) Watch() (wake <-chan struct{}, take func() (*agentv1.AgentStatus, bool), cancel func()) {
	return k.status.Watch()
}

// Unproven reports whether this agent must not count as ready yet: it is new,
// and has not reached the hub.
func (k *Keeper) Unproven() bool { return k.unproven.Load() }

// Run carries on until ctx ends.
func (k *Keeper) Run(ctx context.Context) error {
	for {
		wait := k.cfg.Every
		active, err := k.step(ctx)
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // that is why it ended
		case errors.Is(err, ErrConflict):
		case err != nil:
			wait = 5 * k.cfg.Every
			k.complain(ctx, err, wait)
		case !active:
			wait = k.cfg.Idle
		}
		if err == nil {
			k.said = ""
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-k.poke:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// complain says the same thing once.
func (k *Keeper) complain(ctx context.Context, err error, wait time.Duration) {
	level := slog.LevelWarn
	if err.Error() == k.said {
		level = slog.LevelDebug
	}
	k.said = err.Error()
	k.cfg.Logger.LogAttrs(ctx, level, "upgrade of the agent does not get on, trying again", slog.Any(logkey.Error, err), slog.Duration(logkey.RetryAfter, wait))
}

// step looks once and does one thing.
func (k *Keeper) step(ctx context.Context) (active bool, err error) {
	r, version, err := k.cfg.Store.Load(ctx)
	if err != nil {
		return true, err
	}
	if k.installed() && k.hash == "" {
		if k.hash, err = k.cfg.Cluster.Hash(ctx); err != nil {
			return true, err
		}
		k.alone = k.hash == ""
	}
	k.note(ctx, r)
	if !r.Active() {
		if fresh := k.wanted(r.Generation); fresh != nil && k.cfg.Standing.Leads() {
			return true, k.begin(ctx, fresh, version)
		}
		return false, nil
	}
	s := Sight{Pod: k.cfg.Pod, Hash: k.hash, Leads: k.cfg.Standing.Leads(), Linked: k.cfg.Standing.Linked()}
	if r.Applied && k.hash == r.FromHash && s.Leads {
		if s.NewRuns, err = k.cfg.Cluster.NewRuns(ctx, k.hash); err != nil {
			return true, err
		}
	}
	return true, k.do(ctx, Decide(r, s, k.cfg.Now()), r, version)
}

// note makes known what the record says.
func (k *Keeper) note(ctx context.Context, r Record) {
	k.unproven.Store(k.installed() && Unproven(r, k.hash))
	if !r.Active() || k.hash != r.FromHash {
		k.cfg.Standing.StandAside(false)
	}
	if r == k.told {
		return
	}
	if r.Generation > 0 && (r.Phase != k.told.Phase || r.Generation != k.told.Generation) {
		k.cfg.Logger.InfoContext(ctx, "upgrade of the agent", slog.String(logkey.Phase, string(r.Phase)), slog.String(logkey.Version, r.AppVersion),
			slog.Int64(logkey.Generation, r.Generation), slog.String(logkey.Message, r.Message))
	}
	k.told = r
	if r.Generation > 0 {
		k.status.Set(r.ToProto())
	}
}

// wanted is what the hub wants beyond a generation.
func (k *Keeper) wanted(beyond int64) *agentv1.AgentTarget {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.target.GetGeneration() > beyond {
		return k.target
	}
	return nil
}

func (k *Keeper) do(ctx context.Context, a Action, r Record, version string) error {
	switch a {
	case Apply:
		return k.apply(ctx, r, version)
	case StandAside:
		k.cfg.Standing.StandAside(true)
		return nil
	case Prove:
		r.Phase, r.Reason, r.Message = Current, Connected, "agent "+r.AppVersion+" reached the hub"
		return k.save(ctx, r, version)
	case Return:
		return k.giveBack(ctx, r, version)
	case Rest, Wait:
		return nil
	default:
		return nil
	}
}

// save writes the record and makes it known, and has Run look again at once.
func (k *Keeper) save(ctx context.Context, r Record, version string) error {
	if err := k.cfg.Store.Save(ctx, r, version); err != nil {
		return err
	}
	k.note(ctx, r)
	k.Look()
	return nil
}
