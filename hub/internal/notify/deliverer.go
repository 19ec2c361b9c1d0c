package notify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/budecosystem/budcluster/hub/internal/workflow"
	"github.com/budecosystem/budcluster/internal/backoff"
	"github.com/budecosystem/budcluster/internal/logkey"
	"github.com/budecosystem/budcluster/internal/run"
)

// The deliverer's figures.
const (
	// DefaultSweep is how often a deliverer looks without being woken.
	DefaultSweep = 5 * time.Second
	// DefaultHorizon is how old a message is when it becomes a dead letter; less
	// than leastAttempts do not make one.
	DefaultHorizon = 24 * time.Hour
	leastAttempts  = 10
	// DefaultRetention is how long messages are kept that are sent or dead.
	DefaultRetention = 30 * 24 * time.Hour
	// DefaultLanes is how many lanes one replica serves at once.
	DefaultLanes = 16
	// publishTimeout ends before the lease does: an attempt that nobody waits
	// for any more must not overtake a later message.
	publishTimeout = 10 * time.Second
	lease          = 30 * time.Second
	retryFirst     = 500 * time.Millisecond
	retryMost      = time.Minute
	purgeEvery     = time.Hour
	purgeBatch     = 5000
	// maxError bounds what of an error is kept with its message.
	maxError = 500
)

// Publisher hands one message to the broker. An error that is
// workflow.Permanent is not tried again.
type Publisher interface {
	Publish(ctx context.Context, m Message) error
}

// Queue is the messages to be delivered.
type Queue interface {
	// OutboxClaim takes the first message of each lane that is due, for as long
	// as until; others do not get it before.
	OutboxClaim(ctx context.Context, now, until time.Time, limit int) ([]Claim, error)
	// OutboxDone ends a claim for good and, in the same transaction, claims the
	// next message of its lane; nil when there is none, or the claim was lost.
	OutboxDone(ctx context.Context, c Claim, o Outcome, until time.Time) (*Claim, error)
	OutboxRetry(ctx context.Context, c Claim, due time.Time, why string) error
	OutboxPurge(ctx context.Context, before time.Time, limit int) (int, error)
	OutboxState(ctx context.Context, now time.Time) (State, error)
}

// Claim is a message that this process may deliver.
type Claim struct {
	Row       int64
	Stream    uuid.UUID
	Key       string
	WrittenAt time.Time
	// Attempt counts from 1, and tells this claim from later ones.
	Attempt int
	Message
}

// Outcome is how a claim ends for good: sent, or dead with an error.
type Outcome struct {
	At    time.Time
	Dead  bool
	Error string
}

// State is what waits in the outbox.
type State struct {
	Pending, Dead int
	// Oldest is the age of the oldest that is pending.
	Oldest time.Duration
}

// DelivererConfig makes a Deliverer.
type DelivererConfig struct {
	Queue     Queue
	Publisher Publisher
	Logger    *slog.Logger
	Metrics   prometheus.Registerer
	// Wake is readable when there may be something to deliver.
	Wake <-chan struct{}
	// Sweep, Horizon, Retention and Lanes have their defaults when zero.
	Sweep, Horizon, Retention time.Duration
	Lanes                     int
	Now                       func() time.Time
}

// Deliverer brings messages to the broker. Every replica runs one; they share
// the lanes.
type Deliverer struct {
	cfg     DelivererConfig
	log     *slog.Logger
	now     func() time.Time
	metrics *metrics
	purged  time.Time
}

// NewDeliverer checks cfg and makes the Deliverer.
func NewDeliverer(cfg DelivererConfig) (*Deliverer, error) {
	if cfg.Queue == nil || cfg.Publisher == nil || cfg.Logger == nil || cfg.Metrics == nil {
		return nil, errors.New("notify deliverer: a queue, a publisher, a logger and a registerer are needed")
	}
	if cfg.Sweep < 0 || cfg.Horizon < 0 || cfg.Retention < 0 || cfg.Lanes < 0 {
		return nil, errors.New("notify deliverer: a duration or the number of lanes is negative")
	}
	cfg.Sweep, cfg.Horizon = cmp.Or(cfg.Sweep, DefaultSweep), cmp.Or(cfg.Horizon, DefaultHorizon)
	cfg.Retention, cfg.Lanes = cmp.Or(cfg.Retention, DefaultRetention), cmp.Or(cfg.Lanes, DefaultLanes)
	d := &Deliverer{cfg: cfg, log: cfg.Logger, now: cfg.Now}
	if d.now == nil {
		d.now = time.Now
	}
	var err error
	d.metrics, err = newMetrics(cfg.Metrics)
	return d, err
}

// Run delivers until ctx ends. A message under way is then still brought to
// its end.
func (d *Deliverer) Run(ctx context.Context) error {
	sweep := time.NewTicker(d.cfg.Sweep)
	defer sweep.Stop()
	crew := run.NewCrew(d.cfg.Lanes)
	for {
		_, err := d.man(ctx, crew, func(int) {})
		d.warn(ctx, errors.Join(err, crew.Errors()))
		select {
		case <-ctx.Done():
			d.warn(context.WithoutCancel(ctx), crew.Wait())
			return nil
		case <-d.cfg.Wake:
		case <-crew.Done():
		case <-sweep.C:
			d.warn(ctx, d.tidy(ctx))
		}
	}
}

func (d *Deliverer) warn(ctx context.Context, err error) {
	if err != nil && ctx.Err() == nil {
		d.log.WarnContext(ctx, "outbox was not served; it is tried again", slog.Any(logkey.Error, err))
	}
}

// Deliver delivers what is due now and returns when nothing is left, with how
// many messages that was.
func (d *Deliverer) Deliver(ctx context.Context) (int, error) {
	var ended atomic.Int64
	crew := run.NewCrew(d.cfg.Lanes)
	for {
		more, err := d.man(ctx, crew, func(n int) { ended.Add(int64(n)) })
		if err != nil || ctx.Err() != nil || (more == 0 && crew.Idle()) {
			err = errors.Join(err, crew.Wait())
			return int(ended.Load()), err
		}
		if more == 0 || crew.Free() == 0 {
			<-crew.Done()
		}
	}
}

// man has the crew serve lanes that are due, as many as it is free for: a lane
// that is slow, or whose topic hangs, keeps one hand busy and no more.
func (d *Deliverer) man(ctx context.Context, crew *run.Crew, ended func(int)) (claimed int, err error) {
	if crew.Free() == 0 || ctx.Err() != nil {
		return 0, nil //nolint:nilerr // the only error is that ctx ended
	}
	now := d.now().UTC()
	claims, err := d.cfg.Queue.OutboxClaim(ctx, now, now.Add(lease), crew.Free())
	if err != nil {
		return 0, fmt.Errorf("claim messages: %w", err)
	}
	for _, c := range claims {
		crew.Go(ctx, func(ctx context.Context) error {
			n, err := d.lane(ctx, c)
			ended(n)
			return err
		})
	}
	return len(claims), nil
}

// lane delivers the messages of one lane in their order, until one fails, none
// is left, or ctx ends.
func (d *Deliverer) lane(ctx context.Context, c Claim) (ended int, err error) {
	// What the broker said is written down, whatever ends meanwhile.
	kept := context.WithoutCancel(ctx)
	for {
		cause := d.publish(kept, c)
		now := d.now().UTC()
		if cause != nil && !d.hopeless(c, now, cause) {
			return ended, d.later(kept, c, now, cause)
		}
		o, until := Outcome{At: now}, now.Add(lease)
		if cause != nil {
			o.Dead, o.Error = true, clip(cause)
		}
		if ctx.Err() != nil {
			until = now // the next one is for another replica
		}
		next, err := d.cfg.Queue.OutboxDone(kept, c, o, until)
		if err != nil {
			return ended, fmt.Errorf("record the end of message %s to %s: %w", c.Key, c.Topic, err)
		}
		d.ended(kept, c, o)
		ended++
		if next == nil || ctx.Err() != nil {
			return ended, nil //nolint:nilerr // the only error is that ctx ended
		}
		c = *next
	}
}

func (d *Deliverer) publish(ctx context.Context, c Claim) error {
	ctx, cancel := context.WithTimeoutCause(ctx, publishTimeout, fmt.Errorf("publish: no answer in %s", publishTimeout))
	defer cancel()
	began := time.Now()
	err := d.cfg.Publisher.Publish(ctx, c.Message)
	d.metrics.duration.Observe(time.Since(began).Seconds())
	return err
}

// hopeless reports whether a message that failed is given up.
func (d *Deliverer) hopeless(c Claim, now time.Time, err error) bool {
	return workflow.IsPermanent(err) || (now.Sub(c.WrittenAt) >= d.cfg.Horizon && c.Attempt >= leastAttempts)
}

// later gives a message back for a while. What it says is logged once, when it
// fails first; the rest is in the row and the metrics.
func (d *Deliverer) later(ctx context.Context, c Claim, now time.Time, cause error) error {
	d.metrics.failed.Inc()
	wait := backoff.After(retryFirst, retryMost, c.Attempt)
	if c.Attempt == 1 {
		d.log.WarnContext(ctx, "message was not delivered; it is tried again", slog.String(logkey.Event, c.Key), slog.String(logkey.Stream, c.Stream.String()),
			slog.String(logkey.Topic, c.Topic), slog.Duration(logkey.RetryAfter, wait), slog.Any(logkey.Error, cause))
	}
	if err := d.cfg.Queue.OutboxRetry(ctx, c, now.Add(wait), clip(cause)); err != nil {
		return fmt.Errorf("put message %s to %s back: %w", c.Key, c.Topic, err)
	}
	return nil
}

func (d *Deliverer) ended(ctx context.Context, c Claim, o Outcome) {
	if !o.Dead {
		d.metrics.sent.Inc()
		d.metrics.lag.Observe(o.At.Sub(c.WrittenAt).Seconds())
		return
	}
	d.metrics.dead.Inc()
	d.log.ErrorContext(ctx, "message is given up, and the next of its stream goes on; its row keeps it", slog.String(logkey.Event, c.Key),
		slog.String(logkey.Stream, c.Stream.String()), slog.String(logkey.Topic, c.Topic), slog.Int(logkey.Attempts, c.Attempt),
		slog.String(logkey.Error, o.Error))
}

// tidy counts what waits, and now and then deletes what is long over.
func (d *Deliverer) tidy(ctx context.Context) error {
	now := d.now().UTC()
	state, err := d.cfg.Queue.OutboxState(ctx, now)
	if err != nil {
		return fmt.Errorf("count messages: %w", err)
	}
	d.metrics.state(state)
	if now.Sub(d.purged) < purgeEvery {
		return nil
	}
	for {
		n, err := d.cfg.Queue.OutboxPurge(ctx, now.Add(-d.cfg.Retention), purgeBatch)
		if err != nil {
			return fmt.Errorf("purge messages: %w", err)
		}
		if n < purgeBatch {
			d.purged = now
			return nil
		}
	}
}

// clip makes of an error what a column of text takes.
func clip(err error) string {
	text := strings.ReplaceAll(workflow.Reason(err), "\x00", "")
	if len(text) > maxError {
		text = text[:maxError] + "…"
	}
	return strings.ToValidUTF8(text, "")
}
