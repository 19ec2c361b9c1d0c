// Package leader lets one of several agents do the work.
//
//	standby ──lease acquired──► leading ──another holds it──► standby
//	                              │  ▲
//	            renewal fails,    ▼  │ renewed again
//	         API server is away  unconfirmed: goes on leading
//
// The Lease object is authoritative for who leads. But an agent that cannot
// renew it does not stop: with the API server away nobody else can take the
// lease either, and the hub must go on hearing that this cluster lives and why
// it is degraded. It stops as soon as it *sees* another holder. Should two lead
// for a moment, because only our way to the API server is cut, then the hub
// fences the older session, and each release's own lease and Helm's storage
// keep their operations apart.
//
// The lease is released when the work has stopped, not before, so that the
// next leader does not overlap with our last words. An agent that is to be
// replaced stands aside: it releases the lease, and stays as it is.
package leader

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"

	"github.com/budecosystem/budcluster/agent/internal/health"
	"github.com/budecosystem/budcluster/internal/logkey"
)

// Defaults of Config: Kubernetes's own for its controllers.
const (
	DefaultLease = 15 * time.Second
	DefaultRenew = 10 * time.Second
	DefaultRetry = 2 * time.Second
)

// Config is what an Elector needs.
type Config struct {
	Client          kubernetes.Interface
	Namespace, Name string
	// Identity is the name of the pod.
	Identity string
	Board    *health.Board
	Logger   *slog.Logger
	// MayCreate, if set, is asked before the Lease is made: an agent that is
	// being removed must not make it again.
	MayCreate func(ctx context.Context) error
	Lease     time.Duration
	Renew     time.Duration
	Retry     time.Duration
}

// Elector waits for the lease and keeps it.
type Elector struct {
	cfg Config

	mu        sync.Mutex    // guards what follows
	confirmed bool          // the lease is ours and was renewed in its time
	other     string        // another holder that was seen since we last acquired
	aside     bool          // another is to have the lease
	working   bool          // the work has not stopped
	changed   chan struct{} // closed and replaced at each change
}

// New checks the configuration. It contacts nobody.
func New(cfg Config) (*Elector, error) {
	cfg.Lease = cmp.Or(cfg.Lease, DefaultLease)
	cfg.Renew = cmp.Or(cfg.Renew, DefaultRenew)
	cfg.Retry = cmp.Or(cfg.Retry, DefaultRetry)
	if cfg.Client == nil || cfg.Board == nil || cfg.Logger == nil || cfg.Namespace == "" || cfg.Name == "" || cfg.Identity == "" {
		return nil, errors.New("leader needs a client, a health board, a logger, a namespace, a lease name and an identity")
	}
	return &Elector{cfg: cfg, changed: make(chan struct{})}, nil
}

// Run waits until this agent leads and runs work, again and again, until ctx
// ends or work fails. The context of work ends when another leads or ctx ends.
func (e *Elector) Run(ctx context.Context, work func(context.Context) error) error {
	// The lease outlives ctx until the work has stopped.
	leaseCtx, release := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	defer wg.Wait()
	defer release()
	elector, err := e.elector()
	if err != nil {
		return err
	}
	wg.Go(func() { e.hold(leaseCtx, elector) })
	for {
		if err := e.await(ctx, e.leading); err != nil {
			return nil // ctx ended
		}
		e.cfg.Logger.InfoContext(ctx, "leading", slog.String(logkey.Lease, e.cfg.Name))
		if err := e.lead(ctx, work); err != nil || ctx.Err() != nil {
			return err
		}
		e.cfg.Logger.InfoContext(ctx, "standing by", slog.String(logkey.Lease, e.cfg.Name))
	}
}

// lead runs work until another holder is seen.
func (e *Elector) lead(ctx context.Context, work func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	e.set(func() { e.working = true })
	defer e.set(func() { e.working = false })
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() {
		defer cancel()
		_ = e.await(ctx, func() bool { return e.other != "" || e.aside })
	})
	return work(ctx)
}

// StandAside gives the lease up, once the work has stopped, and does not try
// for it until it is told that this has an end.
func (e *Elector) StandAside(aside bool) {
	e.mu.Lock()
	same := e.aside == aside
	e.mu.Unlock()
	if !same {
		e.set(func() { e.aside = aside })
	}
}

// Aside says whether this agent lets another have the lease.
func (e *Elector) Aside() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.aside
}

// Confirmed returns once the lease is known to be ours.
func (e *Elector) Confirmed(ctx context.Context) error {
	return e.await(ctx, func() bool { return e.confirmed })
}

// Leads says whether this agent does the work.
func (e *Elector) Leads() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.leading()
}

// Other names the agent that leads instead of this one; empty if this one
// leads, or nobody is known to.
func (e *Elector) Other() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.other
}

// leading is for callers that hold mu.
func (e *Elector) leading() bool { return e.confirmed && e.other == "" && !e.aside }

// await blocks until the condition holds; it is asked with mu held.
func (e *Elector) await(ctx context.Context, condition func() bool) error {
	for {
		e.mu.Lock()
		ok, changed := condition(), e.changed
		e.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

func (e *Elector) set(change func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	change()
	close(e.changed)
	e.changed = make(chan struct{})
}

// hold keeps trying for the lease: client-go's elector ends at the first lease
// that it could not renew in time.
func (e *Elector) hold(ctx context.Context, elector *leaderelection.LeaderElector) {
	for ctx.Err() == nil {
		if e.await(ctx, func() bool { return !e.aside }) == nil {
			e.try(ctx, elector)
		}
	}
}

// try has the lease, or waits for it, until this agent stands aside; then the
// lease is released, once the work has stopped.
func (e *Elector) try(ctx context.Context, elector *leaderelection.LeaderElector) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() {
		defer cancel()
		_ = e.await(ctx, func() bool { return e.aside && !e.working })
	})
	elector.Run(ctx)
}

func (e *Elector) elector() (*leaderelection.LeaderElector, error) {
	var elector *leaderelection.LeaderElector
	var err error
	elector, err = leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: &lock{mayCreate: e.cfg.MayCreate, LeaseLock: &resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Namespace: e.cfg.Namespace, Name: e.cfg.Name},
			Client:     e.cfg.Client.CoordinationV1(),
			LockConfig: resourcelock.ResourceLockConfig{Identity: e.cfg.Identity},
		}},
		LeaseDuration: e.cfg.Lease, RenewDeadline: e.cfg.Renew, RetryPeriod: e.cfg.Retry,
		ReleaseOnCancel: true,
		Name:            e.cfg.Name,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(context.Context) {
				e.cfg.Board.Clear(health.LeaseUnconfirmed)
				e.set(func() { e.confirmed, e.other = true, "" })
			},
			OnStoppedLeading: e.unconfirmed,
			// Callbacks come in goroutines of their own, so late ones lie: what
			// counts is the record as it is now.
			OnNewLeader: func(string) {
				if holder := elector.GetLeader(); holder != e.cfg.Identity && holder != "" {
					e.cfg.Board.Clear(health.LeaseUnconfirmed)
					e.set(func() { e.confirmed, e.other = false, holder })
				}
			},
		},
	})
	if err != nil {
		return nil, fmt.Errorf("set up leader election: %w", err)
	}
	return elector, nil
}

// lock is the Lease, which is not made when it should not be.
type lock struct {
	*resourcelock.LeaseLock
	mayCreate func(context.Context) error
}

// Create is resourcelock.Interface's.
func (l *lock) Create(ctx context.Context, r resourcelock.LeaderElectionRecord) error {
	if l.mayCreate != nil {
		if err := l.mayCreate(ctx); err != nil {
			return err
		}
	}
	return l.LeaseLock.Create(ctx, r) //nolint:wrapcheck // client-go looks at it
}

// unconfirmed is called when the lease could not be renewed, and also at the
// end of an attempt that never got it.
func (e *Elector) unconfirmed() {
	e.mu.Lock()
	was, aside := e.confirmed, e.aside
	e.mu.Unlock()
	if !was {
		return
	}
	if aside {
		e.set(func() { e.confirmed = false })
		return
	}
	e.cfg.Board.Set(health.LeaseUnconfirmed, fmt.Sprintf(
		"the lease %s/%s could not be renewed for %s; the agent goes on until it sees another holder", e.cfg.Namespace, e.cfg.Name, e.cfg.Renew))
	e.set(func() { e.confirmed = false })
}
