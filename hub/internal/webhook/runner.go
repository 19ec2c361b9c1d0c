package webhook

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/budecosystem/budcluster/hub/internal/event"
	"github.com/budecosystem/budcluster/internal/backoff"
	"github.com/budecosystem/budcluster/internal/logkey"
	"github.com/budecosystem/budcluster/internal/run"
)

// The runner's figures.
const (
	// DefaultSweep is how often a runner looks without being woken.
	DefaultSweep = 5 * time.Second
	// DefaultHorizon is how old an event is when it is given up, if the receiver
	// has failed leastFailures times in a row.
	DefaultHorizon = 24 * time.Hour
	leastFailures  = 10
	// refusals is how often a receiver refuses an event until it is given up.
	refusals = 5
	// SentFor and DeadFor are how long deliveries are kept.
	SentFor = 3 * 24 * time.Hour
	DeadFor = 30 * 24 * time.Hour
	// lease outlives an attempt, and is renewed with each.
	lease  = time.Minute
	atOnce = 16
	// breath is the least time between two looks: what happens meanwhile is told
	// after one.
	breath     = 100 * time.Millisecond
	turnEvents = 100
	retryFirst = time.Second
	retryMost  = 10 * time.Minute
	purgeEvery = time.Hour
	purgeBatch = 5000
)

// RunnerConfig makes a Runner.
type RunnerConfig struct {
	Queue   Queue
	Feed    Feed
	Sealer  Sealer
	Poster  Poster
	Logger  *slog.Logger
	Metrics prometheus.Registerer
	// Wake is readable when there may be new events.
	Wake <-chan struct{}
	// Sweep and Horizon have their defaults when zero.
	Sweep, Horizon time.Duration
	Now            func() time.Time
}

// Runner tells webhooks of events. Every replica runs one; they share the
// webhooks.
type Runner struct {
	cfg     RunnerConfig
	log     *slog.Logger
	now     func() time.Time
	send    sender
	metrics *metrics
	purged  time.Time
}

// NewRunner checks cfg and makes the Runner.
func NewRunner(cfg RunnerConfig) (*Runner, error) {
	if cfg.Queue == nil || cfg.Feed == nil || cfg.Sealer == nil || cfg.Poster == nil || cfg.Logger == nil || cfg.Metrics == nil {
		return nil, errors.New("webhook runner: a queue, a feed, a sealer, a poster, a logger and a registerer are needed")
	}
	cfg.Sweep, cfg.Horizon = cmp.Or(cfg.Sweep, DefaultSweep), cmp.Or(cfg.Horizon, DefaultHorizon)
	r := &Runner{cfg: cfg, log: cfg.Logger, now: cfg.Now}
	if r.now == nil {
		r.now = time.Now
	}
	r.send = sender{sealer: cfg.Sealer, poster: cfg.Poster, now: r.now}
	var err error
	r.metrics, err = newMetrics(cfg.Metrics)
	return r, err
}

// Run tells until ctx ends. An attempt under way is then still brought to its
// end.
func (r *Runner) Run(ctx context.Context) error {
	sweep := time.NewTicker(r.cfg.Sweep)
	defer sweep.Stop()
	crew := run.NewCrew(atOnce)
	for {
		_, err := r.man(ctx, crew)
		r.warn(ctx, errors.Join(err, crew.Errors()))
		if !run.Sleep(ctx, breath) {
			r.warn(context.WithoutCancel(ctx), crew.Wait())
			return nil
		}
		select {
		case <-ctx.Done():
			r.warn(context.WithoutCancel(ctx), crew.Wait())
			return nil
		case <-r.cfg.Wake:
		case <-crew.Done():
		case <-sweep.C:
			r.warn(ctx, r.purge(ctx))
		}
	}
}

func (r *Runner) warn(ctx context.Context, err error) {
	if err != nil && ctx.Err() == nil {
		r.log.WarnContext(ctx, "webhooks were not served; it is tried again", slog.Any(logkey.Error, err))
	}
}

// Turn tells every webhook that is due what there is for it now.
func (r *Runner) Turn(ctx context.Context) error {
	crew := run.NewCrew(atOnce)
	for {
		more, err := r.man(ctx, crew)
		if err != nil || ctx.Err() != nil || (more == 0 && crew.Idle()) {
			return errors.Join(err, crew.Wait())
		}
		if more == 0 || crew.Free() == 0 {
			<-crew.Done()
		}
	}
}

// man has the crew serve webhooks that are due, as many as it is free for: one
// that is slow keeps one hand busy and no more.
func (r *Runner) man(ctx context.Context, crew *run.Crew) (claimed int, err error) {
	if crew.Free() == 0 || ctx.Err() != nil {
		return 0, nil //nolint:nilerr // the only error is that ctx ended
	}
	latest, err := r.cfg.Feed.Latest(ctx)
	if err != nil {
		return 0, fmt.Errorf("find the newest event: %w", err)
	}
	now := r.now().UTC()
	claims, err := r.cfg.Queue.WebhookClaim(ctx, now, now.Add(lease), latest, crew.Free())
	if err != nil {
		return 0, fmt.Errorf("claim webhooks: %w", err)
	}
	for _, c := range claims {
		crew.Go(ctx, func(ctx context.Context) error { return r.serve(ctx, c, latest) })
	}
	return len(claims), nil
}

// serve tells one webhook up to turnEvents events, and gives the claim back.
func (r *Runner) serve(ctx context.Context, c Claim, latest int64) error {
	f := event.Filter{After: c.After, Types: c.Types, Limit: turnEvents}
	if c.ClusterID != uuid.Nil {
		f.ClusterID = &c.ClusterID
	}
	events, err := r.cfg.Feed.List(ctx, f)
	if err != nil {
		return errors.Join(fmt.Errorf("read events for webhook %s: %w", c.Name, err), r.release(ctx, c))
	}
	for _, e := range events {
		if ctx.Err() != nil {
			return r.release(ctx, c)
		}
		if e.Transient { // progress, of use only to those who watch
			c.After = e.ID
			continue
		}
		d, err := r.tell(ctx, &c, e)
		if err != nil {
			return errors.Join(err, r.release(ctx, c))
		}
		held, err := r.advance(ctx, c, d)
		if err != nil || !held || d.Status == StatusFailing {
			return err
		}
	}
	if len(events) < turnEvents { // what is not among them is not for it
		c.After = max(c.After, latest)
	}
	return r.release(ctx, c)
}

// release gives a claim back with what has been reached. It is done for one
// who stops, too.
func (r *Runner) release(ctx context.Context, c Claim) error {
	if _, err := r.cfg.Queue.WebhookAdvance(context.WithoutCancel(ctx), c, r.now().UTC(), nil); err != nil {
		return fmt.Errorf("give webhook %s back: %w", c.Name, err)
	}
	return nil
}

// advance records an attempt. A webhook that fails is given back.
func (r *Runner) advance(ctx context.Context, c Claim, d *Delivery) (held bool, err error) {
	until := r.now().UTC().Add(lease)
	if d.Status == StatusFailing {
		until = r.now().UTC()
	}
	held, err = r.cfg.Queue.WebhookAdvance(context.WithoutCancel(ctx), c, until, d)
	if err != nil {
		return false, fmt.Errorf("record delivery of event %d to webhook %s: %w", d.EventID, c.Name, err)
	}
	return held, nil
}

// tell makes one attempt and moves c's position as the outcome says. An
// attempt that was begun is brought to its end.
func (r *Runner) tell(ctx context.Context, c *Claim, e event.Event) (*Delivery, error) {
	body, err := encode(e)
	if err != nil {
		return nil, err
	}
	d := &Delivery{WebhookID: c.ID, EventID: e.ID, Type: string(e.Type), Body: body}
	r.send.attempt(context.WithoutCancel(ctx), c.Sealed, messageID(e.ID), d)
	r.metrics.duration.Observe(d.Took.Seconds())
	if d.Status == StatusSent {
		r.metrics.sent.Inc()
		r.metrics.lag.Observe(max(d.LastAt.Sub(e.At).Seconds(), 0))
		if c.Failures > 0 {
			r.log.InfoContext(ctx, "webhook works again", slog.String(logkey.Name, c.Name), slog.Int(logkey.Attempts, c.Failures+1))
		}
		c.Position = Position{After: e.ID, DueAt: d.LastAt, LastSentAt: &d.LastAt}
		return d, nil
	}
	r.metrics.failed.Inc()
	if c.Failures == 0 {
		r.log.WarnContext(ctx, "webhook fails; it is tried again", slog.String(logkey.Name, c.Name), slog.String(logkey.Error, d.Error))
	}
	c.Attempts, c.Failures, c.Error = c.Attempts+1, c.Failures+1, d.Error
	c.DueAt = d.LastAt.Add(backoff.After(retryFirst, retryMost, c.Failures))
	if !r.hopeless(c, d, e) {
		return d, nil
	}
	r.metrics.dead.Inc()
	r.log.WarnContext(ctx, "event is given up for a webhook; it can be sent again", slog.String(logkey.Name, c.Name), slog.Int64(logkey.Event, e.ID),
		slog.Int(logkey.Attempts, c.Attempts), slog.String(logkey.Error, d.Error))
	d.Status, c.After, c.Attempts = StatusDead, e.ID, 0
	return d, nil
}

func (r *Runner) hopeless(c *Claim, d *Delivery, e event.Event) bool {
	return d.refused() && c.Attempts >= refusals || c.Failures >= leastFailures && d.LastAt.Sub(e.At) >= r.cfg.Horizon
}

func (r *Runner) purge(ctx context.Context) error {
	now := r.now().UTC()
	if now.Sub(r.purged) < purgeEvery {
		return nil
	}
	for {
		n, err := r.cfg.Queue.DeliveryPurge(ctx, now.Add(-SentFor), now.Add(-DeadFor), purgeBatch)
		if err != nil {
			return fmt.Errorf("purge deliveries: %w", err)
		}
		if n < purgeBatch {
			r.purged = now
			return nil
		}
	}
}
