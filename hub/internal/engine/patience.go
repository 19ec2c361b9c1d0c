package engine

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/budecosystem/budcluster/internal/backoff"
)

// How long a call to the sidecar is repeated, and the pauses between.
const (
	patience   = 10 * time.Second
	againFirst = 10 * time.Millisecond
	againMost  = 500 * time.Millisecond
)

// passes reports whether a refusal of the sidecar is over in a moment. Both
// were met on the real one, and after neither has anything been done:
//
//   - It reads the parts of an instance one by one out of its store, while
//     whoever runs the instance, another sidecar maybe, writes them.
//   - It calls on a replica that has just died, or has not yet come.
func passes(err error) bool {
	if err == nil {
		return false
	}
	text := err.Error()
	return strings.Contains(text, "missing from state store") ||
		strings.Contains(text, "failed to create actor") && strings.Contains(text, "not registered")
}

// patiently makes a call again as long as again says so of its error.
func patiently(ctx context.Context, again func(error) bool, call func() error) error {
	limit := time.NewTimer(patience)
	defer limit.Stop()
	wait := backoff.New(againFirst, againMost)
	for {
		err := call()
		if !again(err) {
			return err
		}
		pause := time.NewTimer(wait.Next())
		select {
		case <-pause.C:
		case <-limit.C:
			pause.Stop()
			return err
		case <-ctx.Done():
			pause.Stop()
			return errors.Join(context.Cause(ctx), err)
		}
	}
}
