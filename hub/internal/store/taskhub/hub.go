package taskhub

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/dapr/durabletask-go/backend"
	"github.com/dapr/durabletask-go/backend/local"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/budecosystem/budcluster/internal/id"
)

// Channel is where replicas announce work that they leave to whoever is free.
// The payload says of which sort.
const Channel = "bud_wf"

// The payloads on Channel.
const (
	payloadTurn     = "turn"
	payloadActivity = "activity"
)

// Defaults of Config.
const (
	DefaultLease       = 15 * time.Second
	DefaultPoll        = 5 * time.Second
	DefaultTurns       = 64
	DefaultActivities  = 256
	DefaultConnections = 8
	DefaultRetention   = 24 * time.Hour
)

// minLease keeps a renewal, every third of it, well above a slow commit.
const minLease = 300 * time.Millisecond

// Waker is how the Hub hears of work that others announce; pg.Listener is one.
type Waker interface {
	Subscribe(channel, payload string) (wake <-chan struct{}, cancel func())
}

// Config is what a Hub needs.
type Config struct {
	// Pool says where the database is. The Hub connects as it does, on
	// connections of its own.
	Pool *pgxpool.Pool
	// Waker is optional: without it, others' work is found by polling.
	Waker Waker
	Log   *slog.Logger

	// Lease is how long work stays with a holder that does not renew it, which
	// is also how long recovery from a crash takes.
	Lease time.Duration
	// Poll is the net under lost notifications, at most half of the lease.
	Poll time.Duration
	// Turns and Activities bound what this process holds at once.
	Turns, Activities int
	// Connections bounds the Hub's connections to the database.
	Connections int
	// CacheBytes bounds what is remembered of histories.
	CacheBytes int
	// Retention is for how long an instance is kept that has ended.
	Retention time.Duration
	// Sweep is how often those are looked for whose time is over.
	Sweep time.Duration
}

func (c *Config) check() error {
	var errs []error
	if c.Pool == nil {
		errs = append(errs, errors.New("pool: it is nil; give the database's"))
	}
	if c.Log == nil {
		errs = append(errs, errors.New("log: it is nil; give a logger"))
	}
	c.Lease = cmp.Or(c.Lease, DefaultLease)
	if c.Lease < minLease {
		errs = append(errs, fmt.Errorf("lease: %s is too short to be renewed in time; give at least %s", c.Lease, minLease))
	}
	c.Poll = min(cmp.Or(c.Poll, DefaultPoll), c.Lease/2)
	c.Turns = cmp.Or(c.Turns, DefaultTurns)
	c.Activities = cmp.Or(c.Activities, DefaultActivities)
	c.Connections = cmp.Or(c.Connections, DefaultConnections)
	c.CacheBytes = cmp.Or(c.CacheBytes, defaultCacheBytes)
	c.Retention, c.Sweep = cmp.Or(c.Retention, DefaultRetention), cmp.Or(c.Sweep, defaultSweep)
	if c.Retention < 0 || c.Sweep < 0 {
		errs = append(errs, fmt.Errorf("retention %s, sweep %s: give positive durations", c.Retention, c.Sweep))
	}
	if c.Turns < 1 || c.Activities < 1 || c.Poll <= 0 || c.Connections < 4 { //nolint:mnd // see the sentence
		errs = append(errs, fmt.Errorf("turns %d, activities %d, poll %s, connections %d: give at least 1, 1, 1ms and 4", c.Turns, c.Activities, c.Poll, c.Connections))
	}
	return errors.Join(errs...)
}

// Hub keeps workflows in Postgres and hands out the work on them.
type Hub struct {
	// What waits for a function's answer in this process is no matter of the
	// database.
	*local.TasksBackend

	cfg    Config
	log    *slog.Logger
	pool   *pgxpool.Pool
	holder string // this process, in the tables

	turns      *lane[*backend.WorkflowWorkItem]
	activities *lane[*backend.ActivityWorkItem]
	leases     leases
	cache      *cache
	ended      watchers

	creates combiner[*createOp]
	commits combiner[*turnOp]
	posts   combiner[*postOp]
}

var _ backend.Backend = (*Hub)(nil)

// Open makes a Hub on a database that pg.Migrate has brought up to date. It
// connects when it must, and claims nothing before Claim runs.
func Open(ctx context.Context, cfg Config) (*Hub, error) {
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("task hub: %w", err)
	}
	pool, err := openPool(ctx, cfg)
	if err != nil {
		return nil, err
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	h := &Hub{
		TasksBackend: local.NewTasksBackend(), cfg: cfg, log: cfg.Log, pool: pool,
		holder: host + "/" + id.New().String(), cache: newCache(cfg.CacheBytes),
	}
	h.leases.held = map[*lease]struct{}{}
	h.ended.waiting = map[string]map[chan struct{}]struct{}{}
	h.turns = newLane("turns", cfg.Turns, h.claimTurns, h.putBackTurns)
	h.activities = newLane("activities", cfg.Activities, h.claimActivities, h.putBackActivities)
	h.creates = combiner[*createOp]{flush: h.flushCreates}
	h.commits = combiner[*turnOp]{flush: h.flushTurns}
	h.posts = combiner[*postOp]{flush: h.flushPosts}
	return h, nil
}

// openPool connects as the hub's pool does, apart from it: a lease has to be
// renewed while the API keeps every connection of the other pool busy.
//
// Every statement here finds its rows by index. The planner does not know that
// when it meets a table that is still empty, and a plan that it made then
// stays for the connection's life; so the ways of reading whole tables are
// closed to it. There is nothing in these statements for the JIT compiler.
func openPool(ctx context.Context, cfg Config) (*pgxpool.Pool, error) {
	pc := cfg.Pool.Config()
	pc.MaxConns = int32(cfg.Connections) //nolint:gosec // a small number
	pc.MinConns, pc.MinIdleConns = 0, 0
	params := pc.ConnConfig.RuntimeParams
	params["application_name"] = "budcluster-hub-workflows"
	params["plan_cache_mode"] = "force_generic_plan"
	for _, off := range []string{"enable_seqscan", "enable_hashjoin", "enable_mergejoin", "jit"} {
		params[off] = "off"
	}
	pool, err := pgxpool.NewWithConfig(ctx, pc)
	if err != nil {
		return nil, fmt.Errorf("open the task hub's connections: %w", err)
	}
	return pool, nil
}

// Close ends the connections. Claim and Keep must have returned.
func (h *Hub) Close() { h.pool.Close() }

// String says which process this is.
func (h *Hub) String() string { return "postgres task hub of " + h.holder }

// Claim hands out work, at most as much as the configuration allows, until ctx
// ends. Then it gives back what nobody took yet; what was taken stays with its
// takers. Meanwhile it purges what ended long ago.
func (h *Hub) Claim(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { h.turns.run(ctx, h.subscribe(payloadTurn), h.cfg.Poll, h.log) })
	wg.Go(func() { h.activities.run(ctx, h.subscribe(payloadActivity), h.cfg.Poll, h.log) })
	wg.Go(func() { h.sweep(ctx) })
	wg.Wait()
	return nil
}

// subscription is a Waker's answer, or one that never wakes.
type subscription struct {
	wake   <-chan struct{}
	cancel func()
}

func (h *Hub) subscribe(payload string) subscription {
	if h.cfg.Waker == nil {
		return subscription{cancel: func() {}}
	}
	wake, cancel := h.cfg.Waker.Subscribe(Channel, payload)
	return subscription{wake: wake, cancel: cancel}
}
