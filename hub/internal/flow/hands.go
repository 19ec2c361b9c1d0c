package flow

import (
	"context"
	"sync"
	"time"
)

// hands bounds how many looks run at a time; one is in it for each. A hundred
// clusters that come at once share two processors and one database: all
// together each look took seconds, one after the other each takes milliseconds,
// and the last is done earlier. A look that takes long waits for somebody else,
// such as a chart's server, and then it keeps nobody from work.
type hands chan struct{}

// take waits for a free hand. The look calls done in the end.
func (h hands) take(ctx context.Context) (done func(), err error) {
	select {
	case h <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	free := sync.OnceFunc(func() { <-h })
	waits := time.AfterFunc(patience, free)
	return func() {
		waits.Stop()
		free()
	}, nil
}
