// Package backoff spaces out retries with full jitter, so that many who lost
// the same thing at the same moment do not come back at the same moment.
package backoff

import (
	"math/rand/v2"
	"time"
)

// Backoff counts the failures in a row of one thing. It is not safe for use by
// several goroutines.
type Backoff struct {
	base, limit, next time.Duration
}

// New starts at base and doubles up to limit.
func New(base, limit time.Duration) *Backoff {
	base = max(base, time.Millisecond)
	limit = max(limit, base)
	return &Backoff{base: base, limit: limit, next: base}
}

// Next gives a random wait in (0, d], where d starts at base and doubles with
// each call up to the limit.
func (b *Backoff) Next() time.Duration {
	d := b.next
	if b.next > b.limit/2 {
		b.next = b.limit
	} else {
		b.next *= 2
	}
	return 1 + rand.N(d) //nolint:gosec // jitter is no secret
}

// Reset starts again at base: the thing worked.
func (b *Backoff) Reset() { b.next = b.base }

// After gives a random wait for something that has failed so many times in a
// row, and of which nobody kept a Backoff: in (0, d], where d is base after the
// first failure and doubles with each further one up to the limit.
func After(base, limit time.Duration, failures int) time.Duration {
	base = max(base, time.Millisecond)
	limit = max(limit, base)
	d := base
	for i := 1; i < failures && d < limit; i++ {
		d = min(d, limit/2) * 2
	}
	return 1 + rand.N(min(d, limit)) //nolint:gosec // jitter is no secret
}
