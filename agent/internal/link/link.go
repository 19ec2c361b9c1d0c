package link

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"github.com/budecosystem/budcluster/agent/internal/dial"
	"github.com/budecosystem/budcluster/agent/internal/health"
	"github.com/budecosystem/budcluster/internal/backoff"
	"github.com/budecosystem/budcluster/internal/facts"
	"github.com/budecosystem/budcluster/internal/tunnel"
	agentv1 "github.com/budecosystem/budcluster/proto/agent/v1"
)

// Defaults of Config.
const (
	DefaultRetryBase = 250 * time.Millisecond
	DefaultRetryCap  = 30 * time.Second
	// DefaultSteady is how long a connection must have been up for the backoff
	// to start anew: a hub that welcomes and dies is not hammered.
	DefaultSteady = 10 * time.Second
	// DefaultLiveness holds until Welcome names another.
	DefaultLiveness  = 25 * time.Second
	DefaultHeartbeat = 10 * time.Second
	// DefaultSummary is how often the digests are compared.
	DefaultSummary = 5 * time.Minute
	// DefaultDebounce gathers the changes of a moment into one delta.
	DefaultDebounce = 200 * time.Millisecond
	// DefaultFarewell is how long the last statuses may take to leave.
	DefaultFarewell = 3 * time.Second
	// DefaultFenced is the least wait after another session took over.
	DefaultFenced = 30 * time.Second
)

// ErrAway is returned while there is no connection to the hub.
var ErrAway = errors.New("there is no connection to the hub")

// Hub dials one of the hub's addresses; *dial.Hub.
type Hub interface {
	Dial(ctx context.Context, config dial.TLS) (*tls.Conn, error)
}

// Identity is one certificate with its key.
type Identity interface {
	// TLS is the configuration of the control lane.
	TLS(serverName string) (*tls.Config, error)
	// Keep renews in time, or when asked, and returns nil when that is done.
	Keep(ctx context.Context, cc grpc.ClientConnInterface, asked <-chan struct{}) error
	// Distrust says that hub and identity do not fit together.
	Distrust()
	// Outdated says that the hub found the certificate expired.
	Outdated()
	// Successor reports whether a join token lies ready that this identity did
	// not come from and that was not tried yet.
	Successor() bool
}

// Identities is where identities come from.
type Identities interface {
	// Current gets one that is good for dialing. A *dial.RefusedError means that a
	// human must act.
	Current(ctx context.Context) (Identity, error)
	// Trust stores the bundle that the hub announced.
	Trust(ctx context.Context, bundlePEM []byte) error
	// Await holds a refused attempt back until another may help.
	Await(ctx context.Context)
	// NotAfter is when the current certificate ends.
	NotAfter() time.Time
}

// Releases is the store of desired state.
type Releases interface {
	Have(ctx context.Context) ([]*agentv1.ReleaseRef, error)
	ApplySnapshot(ctx context.Context, refs []*agentv1.ReleaseRef) error
	Upsert(ctx context.Context, r *agentv1.Release) error
	Forget(ctx context.Context, id string) error
	// Statuses yields all statuses, then every change, until ctx ends; then it
	// is closed.
	Statuses(ctx context.Context) <-chan *agentv1.ReleaseStatus
}

// Inventory is what the collector knows.
type Inventory interface {
	// Await returns once everything was listed: a Summary before that would
	// tell the hub that nodes are gone.
	Await(ctx context.Context) error
	Summary() *agentv1.Summary
	// Delta holds the facts of the named nodes as they are now; those that do
	// not exist are listed as removed.
	Delta(nodes []string, cluster bool) *agentv1.Delta
	// Watch wakes when something changed; take returns what did since, and what
	// happened to nodes: the first time all that is known.
	Watch() (wake <-chan struct{}, take func() (nodes []string, cluster bool, events []*agentv1.NodeEvent), cancel func())
}

// Presence looks for what the hub asks for; *presence.Watcher.
type Presence interface {
	Ask(probes []facts.Probe)
	// Watch wakes when the answers changed; take returns them, and false when
	// they were taken already.
	Watch() (wake <-chan struct{}, take func() ([]facts.Presence, bool), cancel func())
}

// Retirement takes the agent out of its cluster; *retire.Retirer.
type Retirement interface {
	// Retire does what the hub has decided. It returns at once.
	Retire(r *agentv1.Retire)
	// Watch wakes when there is something to tell the hub about it.
	Watch() (wake <-chan struct{}, take func() (*agentv1.Retired, bool), cancel func())
}

// Upgrades replaces the agent by another; *upgrade.Keeper.
type Upgrades interface {
	// Want does what the hub wants. It returns at once.
	Want(t *agentv1.AgentTarget)
	// Watch wakes when there is something to tell the hub about it.
	Watch() (wake <-chan struct{}, take func() (*agentv1.AgentStatus, bool), cancel func())
}

// Notifier tells the people on site; *kube.Events.
type Notifier interface {
	Warn(ctx context.Context, reason, message string) error
}

// Config is what a Link needs.
type Config struct {
	Hub        Hub
	Identities Identities
	Releases   Releases
	Inventory  Inventory
	Presence   Presence
	Retirement Retirement
	Upgrades   Upgrades
	Board      *health.Board
	Notifier   Notifier
	// ClusterUID reads the UID of the kube-system namespace.
	ClusterUID func(ctx context.Context) (string, error)
	// Confirmed returns once our lease was confirmed by the API server after
	// the call, or with ctx.
	Confirmed  func(ctx context.Context) error
	Logger     *slog.Logger
	Registerer prometheus.Registerer

	AgentVersion string
	// Instance is the name of the pod.
	Instance  string
	Namespace string
	StartedAt time.Time

	Tunnel    tunnel.Options
	Now       func() time.Time
	RetryBase time.Duration
	RetryCap  time.Duration
	Steady    time.Duration
	Liveness  time.Duration
	Summary   time.Duration
	Debounce  time.Duration
	Farewell  time.Duration
	Fenced    time.Duration
}

// Link keeps one connection at a time.
type Link struct {
	cfg     Config
	log     *slog.Logger
	metrics *metrics
	// up is the connection whose Welcome has come; nil between connections.
	up atomic.Pointer[connection]
	// said is the last failure that was logged at Warn; of Run alone.
	said string
}

// New checks the configuration. It dials nothing.
func New(cfg Config) (*Link, error) {
	cfg.RetryBase = cmp.Or(cfg.RetryBase, DefaultRetryBase)
	cfg.RetryCap = cmp.Or(cfg.RetryCap, DefaultRetryCap)
	cfg.Steady = cmp.Or(cfg.Steady, DefaultSteady)
	cfg.Liveness = cmp.Or(cfg.Liveness, DefaultLiveness)
	cfg.Summary = cmp.Or(cfg.Summary, DefaultSummary)
	cfg.Debounce = cmp.Or(cfg.Debounce, DefaultDebounce)
	cfg.Farewell = cmp.Or(cfg.Farewell, DefaultFarewell)
	cfg.Fenced = cmp.Or(cfg.Fenced, DefaultFenced)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	var errs []error
	for name, missing := range map[string]bool{
		"hub": cfg.Hub == nil, "identities": cfg.Identities == nil, "releases": cfg.Releases == nil,
		"inventory": cfg.Inventory == nil, "presence": cfg.Presence == nil, "retirement": cfg.Retirement == nil, "upgrades": cfg.Upgrades == nil,
		"board": cfg.Board == nil, "notifier": cfg.Notifier == nil,
		"cluster uid": cfg.ClusterUID == nil, "confirmed": cfg.Confirmed == nil,
		"logger": cfg.Logger == nil, "registerer": cfg.Registerer == nil,
	} {
		if missing {
			errs = append(errs, fmt.Errorf("link needs %s", name))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	l := &Link{cfg: cfg, log: cfg.Logger}
	var err error
	if l.metrics, err = newMetrics(cfg.Registerer, l.isUp); err != nil {
		return nil, err
	}
	return l, nil
}

func (l *Link) isUp() float64 {
	if l.up.Load() == nil {
		return 0
	}
	return 1
}

// Run keeps the agent connected until ctx ends.
func (l *Link) Run(ctx context.Context) error {
	l.cfg.Board.Set(health.HubUnreachable, "not connected to the hub yet")
	retry := backoff.New(l.cfg.RetryBase, l.cfg.RetryCap)
	for {
		upFor, err := l.live(ctx)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // that is why it ended
		}
		if upFor >= l.cfg.Steady {
			retry.Reset()
		}
		if err := l.rest(ctx, err, retry); err != nil {
			return nil //nolint:nilerr // the only error is that ctx ended
		}
	}
}

// live is one connection from its dial to its end.
func (l *Link) live(ctx context.Context) (upFor time.Duration, err error) {
	identity, err := l.cfg.Identities.Current(ctx)
	if err != nil {
		return 0, &identityError{err: err}
	}
	conn, err := l.cfg.Hub.Dial(ctx, identity.TLS)
	if err != nil {
		return 0, l.suspect(identity, err)
	}
	session, err := tunnel.Client(conn, l.cfg.Tunnel)
	if err != nil {
		_ = conn.Close()
		return 0, fmt.Errorf("open session: %w", err)
	}
	defer func() { _ = session.Close() }()
	cc, err := session.ClientConn(tunnel.LaneControl)
	if err != nil {
		return 0, err
	}
	defer func() { _ = cc.Close() }()
	c := &connection{
		link: l, identity: identity, session: session, cc: cc,
		welcomed: make(chan struct{}), renewNow: make(chan struct{}, 1), goAway: make(chan error, 1),
	}
	err = c.run(ctx)
	var away *goAwayError
	if errors.As(err, &away) && away.reason == agentv1.GoAway_REASON_REVOKED {
		identity.Distrust()
	}
	if c.welcomeAt.IsZero() {
		return 0, l.suspect(identity, err)
	}
	return l.cfg.Now().Sub(c.welcomeAt), err
}
