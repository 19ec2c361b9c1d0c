package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// await tries until it works, the time is up or ctx ends. The last reason why
// not is part of the error, so a timeout explains itself.
func await(ctx context.Context, atMost time.Duration, what string, try func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, atMost, fmt.Errorf("waited %s for %s", atMost, what))
	defer cancel()
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	for {
		err := try(ctx)
		if err == nil {
			return nil
		}
		if errors.Is(err, errHopeless) {
			return err
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
	}
}

// errHopeless marks what no waiting will cure.
var errHopeless = errors.New("it ended")
