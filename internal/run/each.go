package run

import (
	"context"
	"errors"
	"sync"
)

// Each calls fn for every item, at most limit at a time (limit ≤ 0: all), and
// waits for them. The first error ends the context of the others and keeps the
// rest from starting; errors are joined, without the cancellations that it
// caused.
func Each[T any](ctx context.Context, limit int, items []T, fn func(context.Context, T) error) error {
	if limit <= 0 || limit > len(items) {
		limit = len(items)
	}
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	var (
		mu   sync.Mutex // guards errs
		errs []error
		wg   sync.WaitGroup
	)
	fail := func(err error) {
		mu.Lock()
		defer mu.Unlock()
		if len(errs) == 0 || !isCancellation(err) {
			errs = append(errs, err)
		}
		cancel()
	}
	slots := make(chan struct{}, limit)
	for _, item := range items {
		select {
		case slots <- struct{}{}:
		case <-inner.Done():
		}
		if inner.Err() != nil {
			break
		}
		wg.Go(func() {
			defer func() { <-slots }()
			if err := protect(inner, func(ctx context.Context) error { return fn(ctx, item) }); err != nil {
				fail(err)
			}
		})
	}
	wg.Wait()
	if len(errs) == 0 {
		return ctx.Err()
	}
	return errors.Join(errs...)
}
