package enroll

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc"

	"github.com/budecosystem/budcluster/agent/internal/dial"
	"github.com/budecosystem/budcluster/agent/internal/health"
	"github.com/budecosystem/budcluster/internal/backoff"
	"github.com/budecosystem/budcluster/internal/logkey"
)

// Keep waits until the identity that the connection was made with is due, or
// the hub asks for it, and renews it. It returns nil once there is a new
// identity, so that the caller can dial again with it.
func (e *Enroller) Keep(ctx context.Context, i *Identity, cc grpc.ClientConnInterface, asked <-chan struct{}) error {
	wait := time.NewTimer(due(i, e.cfg.Now()))
	defer wait.Stop()
	retry := backoff.New(time.Second, min(e.cfg.Patience, max(i.slack()/8, time.Second)))
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-wait.C:
		case <-asked:
		}
		_, err := e.Renew(ctx, cc)
		if err == nil {
			e.cfg.Board.Clear(health.RenewalFailing)
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		e.renewalFailed(ctx, i, err)
		delay := retry.Next()
		if _, refused := errors.AsType[*dial.RefusedError](err); refused {
			delay = max(delay, retry.Next())
		}
		wait.Reset(delay)
	}
}

// due is how long to wait with the renewal: until two thirds of the lifetime
// and up to a fifth of the rest, so that clusters that joined together do not
// renew together.
func due(i *Identity, now time.Time) time.Duration {
	jitter := time.Duration(rand.Int64N(int64(i.slack())/5 + 1)) //nolint:gosec // spreads load, hides nothing
	return max(i.RenewAfter.Add(jitter).Sub(now), 0)
}

// renewalFailed is quiet while there is plenty of time: half of what is left
// after the renewal was due.
func (e *Enroller) renewalFailed(ctx context.Context, i *Identity, err error) {
	now := e.cfg.Now()
	late := i.RenewAfter.Add(i.slack() / 2)
	e.cfg.Logger.WarnContext(ctx, "certificate not renewed", slog.Any(logkey.Error, err), slog.Time(logkey.NotAfter, i.NotAfter()))
	if now.After(late) {
		e.cfg.Board.Set(health.RenewalFailing, fmt.Sprintf("the certificate ends at %s and could not be renewed: %v",
			i.NotAfter().UTC().Format(time.RFC3339), err))
	}
}
