package run

import (
	"context"
	"time"
)

// Sleep waits for d and reports whether that was to its end: ctx did not end.
func Sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
