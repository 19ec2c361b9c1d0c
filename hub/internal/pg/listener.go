package pg

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/budecosystem/budcluster/internal/backoff"
	"github.com/budecosystem/budcluster/internal/logkey"
)

// The listener's times. A connection that a firewall forgot looks like a quiet
// one, so it is asked now and then.
const (
	listenCheck   = 30 * time.Second
	listenAnswer  = 5 * time.Second
	listenBackoff = 100 * time.Millisecond
	listenMost    = 10 * time.Second
)

// Listener wakes subscribers when another replica, or this one, announces
// something. It holds one connection of its own.
type Listener struct {
	cfg *pgx.ConnConfig
	log *slog.Logger

	mu        sync.Mutex // guards subs, interrupt
	subs      map[string]map[*subscription]struct{}
	interrupt context.CancelFunc // ends the wait of session; nil while it does not wait
}

type subscription struct {
	payload string
	wake    chan struct{} // never closed
}

// NewListener makes a Listener that connects as pool does.
func NewListener(pool *pgxpool.Pool, log *slog.Logger) *Listener {
	return &Listener{cfg: pool.Config().ConnConfig, log: log, subs: map[string]map[*subscription]struct{}{}}
}

// Subscribe returns a channel that is readable after something was announced
// on channel with this payload, or with any if payload is empty. Many
// announcements may become one wake-up. Subscribe works before Run, too: the
// channel is readable once listening begins, and after each reconnect.
func (l *Listener) Subscribe(channel, payload string) (wake <-chan struct{}, cancel func()) {
	s := &subscription{payload: payload, wake: make(chan struct{}, 1)}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.subs[channel] == nil {
		l.subs[channel] = map[*subscription]struct{}{}
		if l.interrupt != nil {
			l.interrupt()
		}
	}
	l.subs[channel][s] = struct{}{}
	return s.wake, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.subs[channel], s)
	}
}

// Run listens until ctx ends, and reconnects as often as it must.
func (l *Listener) Run(ctx context.Context) error {
	wait := backoff.New(listenBackoff, listenMost)
	for {
		err := l.session(ctx, wait.Reset)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // asked to end, so this is why
		}
		pause := wait.Next()
		l.log.WarnContext(ctx, "listening to the database was interrupted", slog.Any(logkey.Error, err), slog.Duration(logkey.RetryAfter, pause))
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
	}
}

func (l *Listener) session(ctx context.Context, connected func()) error {
	conn, err := pgx.ConnectConfig(ctx, l.cfg)
	if err != nil {
		return fmt.Errorf("connect to listen: %w", err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), listenAnswer) // the goodbye outlives ctx
		defer cancel()
		_ = conn.Close(ctx) // nothing is lost with it
	}()
	connected()
	listening := map[string]bool{}
	for {
		waitCtx, cancel, missing := l.prepare(ctx, listening)
		for _, channel := range missing {
			if _, err := conn.Exec(ctx, "LISTEN "+pgx.Identifier{channel}.Sanitize()); err != nil {
				return fmt.Errorf("listen to %s: %w", channel, err)
			}
			listening[channel] = true
			l.wake(channel, "")
		}
		if len(missing) > 0 {
			continue
		}
		n, err := conn.WaitForNotification(waitCtx)
		timedOut, interrupted := errors.Is(waitCtx.Err(), context.DeadlineExceeded), waitCtx.Err() != nil
		cancel()
		switch {
		case err == nil:
			l.wake(n.Channel, n.Payload)
		case ctx.Err() != nil:
			return ctx.Err()
		case timedOut:
			if err := ping(ctx, conn); err != nil {
				return err
			}
		case !interrupted:
			return fmt.Errorf("wait for notification: %w", err)
		}
	}
}

// prepare returns the channels that nobody listens to yet or, if there are
// none, the context of the wait, which Subscribe can end.
func (l *Listener) prepare(ctx context.Context, listening map[string]bool) (context.Context, context.CancelFunc, []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.interrupt = nil
	var missing []string
	for channel := range l.subs {
		if !listening[channel] {
			missing = append(missing, channel)
		}
	}
	if len(missing) > 0 {
		return nil, nil, missing
	}
	waitCtx, cancel := context.WithTimeout(ctx, listenCheck)
	l.interrupt = cancel
	return waitCtx, cancel, nil
}

func ping(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeoutCause(ctx, listenAnswer, fmt.Errorf("ping: no answer in %s", listenAnswer))
	defer cancel()
	if err := conn.Ping(ctx); err != nil {
		return fmt.Errorf("check listening connection: %w", errors.Join(err, context.Cause(ctx)))
	}
	return nil
}

// wake tells the subscribers of payload and those of all; an empty payload
// concerns everybody.
func (l *Listener) wake(channel, payload string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for s := range l.subs[channel] {
		if payload != "" && s.payload != "" && s.payload != payload {
			continue
		}
		select {
		case s.wake <- struct{}{}:
		default: // it has one waiting already
		}
	}
}
