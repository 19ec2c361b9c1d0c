package backoff_test

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/internal/backoff"
)

func TestBackoff(t *testing.T) {
	t.Parallel()
	const base, limit = 250 * time.Millisecond, 30 * time.Second
	var highest time.Duration
	for range 200 {
		b := backoff.New(base, limit)
		bound := base
		for range 12 {
			d := b.Next()
			require.Positive(t, d)
			require.LessOrEqual(t, d, bound)
			highest = max(highest, d)
			bound = min(2*bound, limit)
		}
		b.Reset()
		require.LessOrEqual(t, b.Next(), base)
	}
	require.Greater(t, highest, limit/2, "the jitter is full")

	for _, b := range []*backoff.Backoff{backoff.New(0, 0), backoff.New(-1, -1), backoff.New(time.Hour, time.Second), backoff.New(1, math.MaxInt64)} {
		for range 100 {
			require.Positive(t, b.Next())
		}
	}
}

func TestAfter(t *testing.T) {
	t.Parallel()
	const base, limit = 250 * time.Millisecond, 30 * time.Second
	for failures, bound := range map[int]time.Duration{0: base, 1: base, 2: 2 * base, 5: 16 * base, 8: limit, 1 << 30: limit} {
		var highest time.Duration
		for range 200 {
			d := backoff.After(base, limit, failures)
			require.Positive(t, d)
			require.LessOrEqual(t, d, bound, failures)
			highest = max(highest, d)
		}
		require.Greater(t, highest, bound/2, "the jitter is full")
	}
	require.Positive(t, backoff.After(0, 0, -1))
	require.Positive(t, backoff.After(1, math.MaxInt64, 100))
}
