package link

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/budecosystem/budcluster/agent/internal/dial"
	"github.com/budecosystem/budcluster/agent/internal/health"
	"github.com/budecosystem/budcluster/internal/backoff"
	"github.com/budecosystem/budcluster/internal/logkey"
	"github.com/budecosystem/budcluster/internal/pki"
	"github.com/budecosystem/budcluster/internal/run"
	agentv1 "github.com/budecosystem/budcluster/proto/agent/v1"
)

// errRenewed ends a connection whose certificate has been replaced: dialing
// again proves the new one while the old one still works.
var errRenewed = errors.New("the certificate was renewed")

// errRejoin ends a connection whose identity is to be replaced by one of a new
// join token.
var errRejoin = errors.New("there is a new join token")

// identityError means that there is nothing to connect with. Who looks after
// the identity has said why.
type identityError struct{ err error }

func (e *identityError) Error() string { return "no identity to connect with: " + e.err.Error() }

func (e *identityError) Unwrap() error { return e.err }

// goAwayError ends a connection because the hub asked for it.
type goAwayError struct {
	reason  agentv1.GoAway_Reason
	message string
	after   time.Duration
}

func (e *goAwayError) Error() string { return "the hub asked us to leave: " + e.message }

// suspect looks at a failure before Welcome for signs that hub and identity do
// not fit together, and tells the identity.
func (l *Link) suspect(identity Identity, err error) error {
	var refusal *dial.RefusedError
	switch {
	case err == nil:
	case errors.As(err, &refusal), errors.Is(err, pki.ErrForeign):
		identity.Distrust()
	// The hub's TLS stack answers in alerts, and crypto/tls has no exported
	// type for a received one.
	case strings.Contains(err.Error(), "tls: expired certificate"):
		identity.Outdated()
	case strings.Contains(err.Error(), "remote error: tls:"):
		identity.Distrust()
	}
	return err
}

// rest waits as long as the end of the last connection asks for.
func (l *Link) rest(ctx context.Context, end error, retry *backoff.Backoff) error {
	var (
		away    *goAwayError
		none    *identityError
		refusal *dial.RefusedError
	)
	switch {
	case errors.Is(end, errRenewed):
		l.log.InfoContext(ctx, "dialing again with the new certificate")
		return ctx.Err()
	case errors.Is(end, errRejoin):
		return ctx.Err()
	case errors.As(end, &away):
		return l.leave(ctx, away)
	case errors.As(end, &none) && errors.As(end, &refusal):
		l.cfg.Board.Set(health.HubUnreachable, "not connected, for there is no identity to connect with")
		l.cfg.Identities.Await(ctx)
		return ctx.Err()
	case errors.As(end, &refusal):
		l.refused(ctx, refusal)
		l.cfg.Identities.Await(ctx)
		return ctx.Err()
	default:
		wait := retry.Next()
		l.lost(ctx, end, wait)
		return sleep(ctx, wait)
	}
}

// lost notes a connection that could not be made or broke. A failure that
// stays the same is said once at Warn.
func (l *Link) lost(ctx context.Context, end error, wait time.Duration) {
	message := "the hub closed the connection"
	if end != nil {
		message = end.Error()
	}
	l.metrics.failures.Inc()
	l.cfg.Board.Set(health.HubUnreachable, message)
	level := slog.LevelWarn
	if message == l.said {
		level = slog.LevelDebug
	}
	l.said = message
	l.log.LogAttrs(ctx, level, "no connection to the hub", slog.String(logkey.Error, message), slog.Duration(logkey.RetryAfter, wait))
}

// refused notes a no for good, once.
func (l *Link) refused(ctx context.Context, refusal *dial.RefusedError) {
	l.cfg.Board.Set(health.HubUnreachable, refusal.Error())
	if l.said == refusal.Error() {
		return
	}
	l.said = refusal.Error()
	l.log.ErrorContext(ctx, "refused by the hub", slog.String(logkey.Reason, refusal.Reason), slog.String(logkey.Message, refusal.Message))
	l.tell(ctx, refusal.Reason, refusal.Message)
}

func (l *Link) leave(ctx context.Context, away *goAwayError) error {
	switch away.reason {
	case agentv1.GoAway_REASON_REVOKED:
		l.cfg.Board.Set(health.Revoked, "the hub revoked this cluster: "+away.message)
		l.log.ErrorContext(ctx, "revoked by the hub", slog.String(logkey.Message, away.message))
		l.tell(ctx, string(health.Revoked), away.message)
		l.cfg.Identities.Await(ctx)
		return ctx.Err()
	case agentv1.GoAway_REASON_FENCED:
		l.cfg.Board.Set(health.Fenced, "another agent holds this cluster's session: "+away.message)
		l.log.WarnContext(ctx, "fenced by another session", slog.String(logkey.Message, away.message), slog.String(logkey.Instance, l.cfg.Instance))
		if err := sleep(ctx, l.cfg.Fenced+rand.N(l.cfg.Fenced)); err != nil { //nolint:gosec // spreads load, hides nothing
			return err
		}
		return l.cfg.Confirmed(ctx)
	case agentv1.GoAway_REASON_DRAINING, agentv1.GoAway_REASON_UNSPECIFIED:
		fallthrough
	default:
		wait := min(away.after, 10*time.Minute) + rand.N(l.cfg.RetryBase) //nolint:gosec // spreads load, hides nothing
		l.cfg.Board.Set(health.HubUnreachable, fmt.Sprintf("the hub asked us to come back in %s: %s", wait.Round(time.Second), away.message))
		l.log.InfoContext(ctx, "leaving the hub as asked", slog.String(logkey.Message, away.message), slog.Duration(logkey.RetryAfter, wait))
		return sleep(ctx, wait)
	}
}

func (l *Link) tell(ctx context.Context, reason, message string) {
	if err := l.cfg.Notifier.Warn(ctx, reason, message); err != nil {
		l.log.WarnContext(ctx, "event not recorded", slog.Any(logkey.Error, err))
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	if run.Sleep(ctx, d) {
		return nil
	}
	return ctx.Err()
}
